"""``--watch``: a page that is shown again and again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from hal9mig import errors, units

if TYPE_CHECKING:
    from hal9mig.cli.invocation import Invocation


def repeated(call: Invocation, show: Callable[[], None], watch: str | None) -> None:
    """Show once, or with ``--watch`` over and over; a terminal is cleared in between."""
    if watch is None:
        show()
        return
    pause = units.parse_duration(watch)
    try:
        while True:
            if call.console.out_is_terminal and not call.json:
                call.console.clear()
            try:
                show()
            except errors.Unreachable as error:
                call.console.say(f"error: {error.message}")
            time.sleep(pause)
    except KeyboardInterrupt:
        raise errors.Interrupted("Interrupted; nothing was stopped but the watching.", hint="") from None
