"""Phases in the ledger: what a validation has shown, who completed a phase, and what people attest."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence

from hal9mig.ledger import database

#: The phase that this program moves through; those before and after it are other tools'.
STATE_MIGRATION = "state-migration"
#: What only people can know, by the word that attests it.
ITEMS: Mapping[str, str] = {
    "canary": "the canary deployment has been stable at 50% for 24 hours",
    "team": "all team members are present",
    "backup": "a database backup was completed within the hour",
    "spot-check-sessions": "10 random user sessions were looked at",
    "neuron-activation": "neuron activation patterns were verified",
    "known-patterns": "learning was tested on known patterns",
    "configuration-applies": "configuration changes apply",
    "audit-continuity": "the audit log is continuous",
    "metrics-collection": "metrics are collected",
    "no-user-impact": "no user impact was detected",
    "team-confidence": "the team's confidence is high",
}
#: Those of them that are asked for before the migration.
PREREQUISITES = ("canary", "backup", "team")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhaseLine:
    """One line of a validation: whether it is good, its words, what shows it, and the commands that mend it."""

    title: str
    good: bool
    words: str
    evidence: Sequence[str] = ()
    next_commands: Sequence[str] = ()

    def __str__(self) -> str:
        return f"{self.title}: {self.words}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhaseValidation:
    """A validation of a phase as it was kept; ``epoch`` is that of the write mode it judged."""

    id: int
    at: datetime.datetime
    phase: str
    epoch: int
    passed: bool
    lines: Sequence[PhaseLine]
    actor: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Completion:
    """That a phase was completed; ``validation`` is None and ``reason`` says why where it was forced."""

    id: int
    at: datetime.datetime
    phase: str
    validation: int | None
    reason: str
    actor: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attestation:
    """What somebody attests."""

    id: int
    at: datetime.datetime
    phase: str
    item: str
    note: str
    actor: str


def add_validation(
    session: database.Session, phase: str, *, epoch: int, lines: Sequence[PhaseLine], actor: str
) -> PhaseValidation:
    """Keep a validation; it has passed where every line is good."""
    text = database.json_text([dataclasses.asdict(line) for line in lines])
    passed = bool(lines) and all(line.good for line in lines)
    database.run(session, "phases", "add_validation", phase=phase, epoch=epoch, passed=passed, lines=text, actor=actor)
    return validations(session, phase, limit=1)[0]


def validations(session: database.Session, phase: str, *, limit: int = 10) -> Sequence[PhaseValidation]:
    """Return the newest validations first."""
    return [
        PhaseValidation(**{**row._asdict(), "lines": tuple(PhaseLine(**line) for line in row.lines)})
        for row in database.run(session, "phases", "validations", phase=phase, limit=limit)
    ]


def lock(session: database.Session, phase: str) -> None:
    """Be the only one who completes a phase, until the transaction ends."""
    database.run(session, "phases", "lock_phase", phase=phase)


def complete(session: database.Session, phase: str, *, validation: int | None, reason: str, actor: str) -> None:
    """Note that a phase is complete."""
    database.run(session, "phases", "complete", phase=phase, validation=validation, reason=reason, actor=actor)


def completions(session: database.Session, phase: str, *, limit: int = 10) -> Sequence[Completion]:
    """Return the newest first; a later change of the write mode makes one void."""
    rows = database.run(session, "phases", "completions", phase=phase, limit=limit)
    return [Completion(**row._asdict()) for row in rows]


def attest(session: database.Session, phase: str, item: str, *, note: str, actor: str) -> None:
    """Keep what somebody attests."""
    database.run(session, "phases", "attest", phase=phase, item=item, note=note, actor=actor)


def attestations(session: database.Session, phase: str) -> Mapping[str, Attestation]:
    """Return the newest attestation of each item, by item."""
    rows = database.run(session, "phases", "attestations", phase=phase)
    return {row.item: Attestation(**row._asdict()) for row in rows}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finish:
    """That capture was taken out of the stores, or is being taken out; ``keep`` is the store that goes on."""

    over: bool
    at: datetime.datetime
    actor: str
    keep: str


def finished(session: database.Session) -> Finish | None:
    """Return whether the migration is finished, or about to be; enabling it anew ends that."""
    row = database.run(session, "phases", "finished").first()
    if row is None:
        return None
    return Finish(over=row.phase == "finished", at=row.at, actor=row.actor, keep=row.reason)


def finish(session: database.Session, *, keep: str, over: bool, actor: str) -> None:
    """Note that capture is being taken out, or is out."""
    complete(session, "finished" if over else "finishing", validation=None, reason=keep, actor=actor)


def forget_work(session: database.Session) -> None:
    """Note that what was migrated is kept in step no more: a migration begun anew has to take all of it again."""
    for name in ("forget_work", "forget_covers", "forget_passes"):
        database.run(session, "phases", name)
