"""Quarantined records at an operator's word: tried again, or given up."""

from __future__ import annotations

import dataclasses
import enum

from hal9mig import errors
from hal9mig.engine import applier
from hal9mig.engine.system import System
from hal9mig.ledger import database, presence, quarantine


class Outcome(enum.StrEnum):
    """What became of a record that was tried again."""

    #: The target holds it now.
    RELEASED = "released"
    #: The source has it no more, so the target has not either, and nothing is held back.
    GONE = "gone"
    #: It was rejected again.
    HELD = "held"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retrial:
    """What became of a record, and why it is held still."""

    record: quarantine.Held
    outcome: Outcome
    error: str | None = None


def retry(system: System, record: quarantine.Held, *, actor: str | None = None) -> Retrial:
    """Bring a held record to what the source says now, under its key's lock.

    Raises:
        errors.NotFound: it is not held any more; nothing was changed.
        errors.UnknownCategory: its category is not declared here.
        errors.Unreachable: a store does not answer.
    """
    transform = system.transform(system.category(record.category).slug)
    with system.ledger.begin() as session:
        _require_held(quarantine.get(session, record.id).status == "held", record)
    flat = system.flat()
    try:
        applied = applier.apply(system.ledger, flat, transform, [record.key], run_id=record.run_id)
    finally:
        flat.close()
    error = applied.rejected.get(record.key)
    if error is not None:
        found = Retrial(record=record, outcome=Outcome.HELD, error=error)
    else:
        found = Retrial(record=record, outcome=Outcome.GONE if record.key in applied.deleted else Outcome.RELEASED)
    with system.ledger.begin() as session:
        detail = {"id": record.id, "category": record.category, "key": list(record.key), "outcome": str(found.outcome)}
        presence.log(
            session, "quarantine retry", actor=actor or database.actor(), run_id=record.run_id,
            detail=detail | ({"error": error} if error else {}),
        )  # fmt: skip
    return found


def drop(system: System, record: quarantine.Held, *, actor: str | None = None) -> None:
    """Give a held record up: the target does without it, and it is not held back any more.

    Raises:
        errors.NotFound: it is not held any more; nothing was changed.
    """
    with system.ledger.begin() as session:
        _require_held(quarantine.settle(session, record.id, "dropped"), record)
        detail = {"id": record.id, "category": record.category, "key": list(record.key), "error": record.error}
        presence.log(
            session, "quarantine drop", actor=actor or database.actor(), run_id=record.run_id, detail=detail
        )  # fmt: skip


def _require_held(held: bool, record: quarantine.Held) -> None:
    if not held:
        raise errors.NotFound(
            f"Record {record.id} is not in quarantine any more.", hint=f"hal9-migrate quarantine show {record.id}"
        )
