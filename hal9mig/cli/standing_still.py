"""What stands still, said before all else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hal9mig import errors

if TYPE_CHECKING:
    from hal9mig.cli.invocation import Invocation
    from hal9mig.engine.standstill import Problem


def look(call: Invocation) -> list[Problem]:
    """Find what stands still, and for people say it first, in red.

    Raises:
        errors.Unreachable: a store does not answer.
    """
    from hal9mig.engine import standstill

    found = standstill.look(call.settings, call.ledger)
    if not call.json:
        for one in found:
            since = "" if one.since is None else f" Since {call.console.when(one.since)}."
            call.console.verdict(False, f"{one.message}{since} -> {one.next_command}")
    return found


def problem(found: Sequence[Problem]) -> errors.HAL9Error | None:
    """Return the error that it amounts to, None where everything goes on."""
    if not found:
        return None
    from hal9mig.engine import standstill

    return errors.StandsStill(
        f"Something stands still: {', '.join(one.name for one in found)}.", hint=standstill.commands(found)[0]
    )
