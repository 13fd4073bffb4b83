"""``--watch``: a page that is shown again and again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from hal9mig import errors

if TYPE_CHECKING:
    from hal9mig.cli.invocation import Invocation


def repeated(call: Invocation, show: Callable[[], None], every: float | None) -> None:
    """Show once, or every so many seconds; a terminal is cleared in between."""
    if every is None:
        show()
        return
    try:
        while True:
            if call.console.out_is_terminal and not call.json:
                call.console.clear()
            try:
                show()
            except errors.Unreachable as error:
                call.console.say(f"error: {error.message}")
            time.sleep(every)
    except KeyboardInterrupt:
        raise errors.Interrupted("Interrupted; nothing was stopped but the watching.", hint="") from None
