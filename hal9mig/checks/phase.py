"""A phase: validated, completed, and void again when the write mode changes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

from hal9mig import errors
from hal9mig.checks import configuration, gradients, phase_lines, recall, single, validation
from hal9mig.checks.subject import Subject
from hal9mig.engine.compare.verify_report import CategoryVerdict
from hal9mig.engine.system import System
from hal9mig.ledger import audit, database, mode, phases
from hal9mig.ledger.check_results import CheckOutcome
from hal9mig.ledger.mode import ModeLine
from hal9mig.ledger.phases import Attestation, Completion, PhaseValidation
from hal9mig.stores.write_mode import Mode

#: Checks of one category that only read, and the commands that they are.
_READING: Sequence[tuple[str, str, Callable[[Subject], CheckOutcome]]] = (
    ("learning-data", "learning test", functools.partial(recall.check, noise=0.2)),
    ("learning-data", "learning verify-gradients", gradients.check),
    ("configuration", "config compare", lambda subject: configuration.compare(subject)[0]),
)
_VALIDATE = "hal9-migrate validate --phase state-migration --comprehensive"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhaseStanding:
    """Where a phase stands.

    Attributes:
        validation: the newest one; ``completion``: the newest one.
        complete: it was completed, and the write mode has not changed since.
        obstacles: why it cannot be completed now, each as a sentence; none where it can.
    """

    phase: str
    line: ModeLine
    validation: PhaseValidation | None
    completion: Completion | None
    attestations: Mapping[str, Attestation]
    complete: bool
    obstacles: Sequence[str]


def known(phase: str) -> str:
    """Return a phase's name.

    Raises:
        errors.NotFound: it is not one that this program moves through.
    """
    if phase != phases.STATE_MIGRATION:
        raise errors.NotFound(
            f"There is no phase {phase!r} here; {phases.STATE_MIGRATION} is the one this program moves through.",
            hint="hal9-migrate phase list",
        )
    return phase


def look(system: System, *, actor: str) -> Iterator[CheckOutcome]:
    """Run the checks that only read, and yield what each found, kept already.

    What changes something or takes long, such as the benchmark, somebody has to have asked for.

    Raises:
        errors.GateClosed: the write mode is being switched, or a restore is under way.
        errors.Unreachable: a store does not answer.
    """
    heads = (validation.Head.CONTINUITY, validation.Head.INTEGRITY)
    categories = system.registry.ordered()
    names = {(one.slug, name) for one in categories for name in ("continuity", "integrity:chain")}
    yield from validation.validate(system, categories, heads, effort=validation.Effort(), actor=actor, only=names)
    for slug, command, check in _READING:
        if slug in system.registry.categories:
            yield single.run(system, slug, check, command=command, actor=actor)


def keep(system: System, phase: str, verdicts: Sequence[CategoryVerdict], *, actor: str) -> PhaseValidation:
    """Judge a phase by a comparison that was just made and by what checks have found, and keep what came of it."""
    with system.ledger.begin() as session:
        before = mode.read(session)
    lines = phase_lines.judge(system, verdicts)
    with system.ledger.begin() as session:
        # Of the mode in which it was looked at: a switch since then makes it count for nothing.
        found = phases.add_validation(session, phase, epoch=before.epoch, lines=lines, actor=actor)
        detail = {"phase": phase, "validation": found.id, "passed": found.passed}
        audit.log(session, "phase validated", actor=actor, detail=detail)
    return found


def standing(system: System, phase: str) -> PhaseStanding:
    """Return where a phase stands."""
    with system.ledger.begin() as session:
        return _standing(session, phase)


def _standing(session: database.Session, phase: str) -> PhaseStanding:
    line = mode.read(session)
    validation = next(iter(phases.validations(session, phase, limit=1)), None)
    completion = next(iter(phases.completions(session, phase, limit=1)), None)
    obstacles = []
    if line.mode != Mode.HIERARCHICAL_ONLY or line.target is not None:
        obstacles.append(f"the write mode is {line.mode}" + (", and a switch is under way" if line.target else ""))
    if validation is None:
        obstacles.append("no comprehensive validation was made")
    elif validation.epoch != line.epoch or validation.at < line.since:
        obstacles.append(f"the write mode has changed since the newest validation ({validation.at:%Y-%m-%d %H:%M} UTC)")
    elif not validation.passed:
        bad = ", ".join(str(one) for one in validation.lines if not one.good)
        obstacles.append(f"the newest validation did not pass: {bad}")
    return PhaseStanding(
        phase=phase,
        line=line,
        validation=validation,
        completion=completion,
        attestations=phases.attestations(session, phase),
        complete=completion is not None and completion.at >= line.since and line.target is None,
        obstacles=obstacles,
    )


def complete(system: System, phase: str, *, actor: str, force: str = "") -> bool:
    """Complete a phase; False where it is complete already.

    Args:
        force: why it is completed in spite of what stands against it.

    Raises:
        errors.Refused: something stands against it.
    """
    with system.ledger.begin() as session:
        # Two who complete at once: the second sees the first one's.
        phases.lock(session, phase)
        now = _standing(session, phase)
        if now.complete:
            return False
        if now.obstacles and not force:
            raise errors.Refused(f"{phase} cannot be completed: {'; '.join(now.obstacles)}.", hint=_next(now))
        sound = now.validation if not now.obstacles else None
        phases.complete(session, phase, validation=sound.id if sound else None, reason=force, actor=actor)
        detail = {"phase": phase, "reason": force, "overridden": list(now.obstacles)}
        audit.log(session, "phase completed", actor=actor, detail=detail)
    return True


def _next(now: PhaseStanding) -> str:
    if now.line.mode != Mode.HIERARCHICAL_ONLY:
        return "hal9-migrate mode migration --disable-dual-write"
    return f"{_VALIDATE}; or complete it with --validate"
