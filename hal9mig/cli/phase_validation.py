"""Validating a phase: the comparison that it rests on, and its lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hal9mig import errors
from hal9mig.cli import comparison

if TYPE_CHECKING:
    from hal9mig.cli.invocation import Invocation
    from hal9mig.ledger.phases import PhaseValidation


def make(call: Invocation, phase: str, *, timeout: float | None) -> PhaseValidation:
    """Compare every category on the workers, judge the phase, and keep what came of it.

    Raises: as ``comparison.compare``.
    """
    from hal9mig.checks import phase as phase_checks
    from hal9mig.ledger import database

    phase_checks.known(phase)
    actor = database.actor()
    call.console.say("comparing every category, record by record, and running the checks that only read")
    verdicts = comparison.compare(call, call.registry.ordered(), filter="", deep=True, timeout=timeout)
    for outcome in phase_checks.look(call.system, actor=actor):
        call.console.say(f"{outcome.category}, {outcome.name}: {outcome.verdict}")
    return phase_checks.keep(call.system, phase, verdicts, actor=actor)


def show(call: Invocation, found: PhaseValidation, *, evidence: bool = True) -> None:
    """Print the lines, and under each that is not good, or under all, what shows it."""
    for line in found.lines:
        call.console.verdict(line.good, str(line))
        for text in line.evidence if evidence or not line.good else ():
            call.console.line(f"   {text}")
        call.console.suggest(*line.next_commands)


def document(found: PhaseValidation) -> dict[str, object]:
    """Return it as it stands in a JSON document."""
    return {
        "validation": found.id,
        "at": found.at,
        "by": found.actor,
        "epoch": found.epoch,
        "passed": found.passed,
        "lines": [
            {
                "line": line.title,
                "good": line.good,
                "words": line.words,
                "evidence": list(line.evidence),
                "next_commands": list(line.next_commands),
            }
            for line in found.lines
        ],
    }


def next_steps(found: PhaseValidation) -> list[str]:
    """Return the commands to go on with, each once."""
    if found.passed:
        return [f"hal9-migrate phase complete {found.phase}"]
    return list(dict.fromkeys(command for line in found.lines for command in line.next_commands))


def problem(found: PhaseValidation) -> errors.HAL9Error | None:
    """Return the error that a validation amounts to, None where every line is good."""
    bad = [line for line in found.lines if not line.good]
    if not bad:
        return None
    return errors.ChecksFailed(
        f"{found.phase}: {len(bad)} of {len(found.lines)} lines are not good: {', '.join(map(str, bad))}.",
        hint=next(iter(next_steps(found)), ""),
    )
