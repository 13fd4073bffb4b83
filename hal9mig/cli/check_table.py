"""What checks found, as lines, as a document, and as an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hal9mig import errors

if TYPE_CHECKING:
    from hal9mig.cli.invocation import Invocation
    from hal9mig.ledger.check_results import CheckOutcome


def show(call: Invocation, outcome: CheckOutcome, *, figures: bool = False, suggestions: bool = False) -> None:
    """Print what a check found on a line.

    Args:
        figures: what was measured, too; suggestions: the next command, too.
    """
    text = f"{outcome.category}, {outcome.name}: {outcome.verdict}: {outcome.detail}"
    if str(outcome.verdict) == "skipped":
        call.console.line(f"-- {text}")
    else:
        call.console.verdict(str(outcome.verdict) == "passed", text)
    if figures and outcome.measured:
        call.console.line("   " + ", ".join(f"{name}={value}" for name, value in outcome.measured.items()))
    if suggestions and outcome.next_command:
        call.console.line(f"   -> {outcome.next_command}")


def conclude(call: Invocation, outcome: CheckOutcome) -> None:
    """Show a check that was run by itself, and end the command."""
    if not call.json:
        show(call, outcome, suggestions=True)
    call.conclude({"checks": document([outcome]), "next_steps": next_steps([outcome])}, problem([outcome]))


def document(outcomes: Sequence[CheckOutcome]) -> list[Mapping[str, object]]:
    """Return them as they stand in a JSON document."""
    return [
        {
            "category": one.category,
            "check": one.name,
            "verdict": str(one.verdict),
            "detail": one.detail,
            "measured": dict(one.measured),
            "next_command": one.next_command or None,
        }
        for one in outcomes
    ]


def next_steps(outcomes: Sequence[CheckOutcome]) -> list[str]:
    """Return the commands that the failed ones, or else the skipped ones, name, each once."""
    for verdict in ("failed", "skipped"):
        found = [one.next_command for one in outcomes if str(one.verdict) == verdict and one.next_command]
        if found:
            return list(dict.fromkeys(found))
    return []


def problem(outcomes: Sequence[CheckOutcome]) -> errors.HAL9Error | None:
    """Return the error that failed checks amount to, None without one."""
    failed = [one for one in outcomes if str(one.verdict) == "failed"]
    if not failed:
        return None
    return errors.ChecksFailed(
        f"{len(failed)} of {len(outcomes)} checks failed: {', '.join(f'{one.category} {one.name}' for one in failed)}.",
        hint=next(iter(next_steps(failed)), ""),
    )
