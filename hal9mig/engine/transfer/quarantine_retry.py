"""Quarantined records at an operator's word: tried again, or given up."""

from __future__ import annotations

import dataclasses
import enum

import psycopg2

from hal9mig import errors, model
from hal9mig.categories import identifiers
from hal9mig.categories.filters import EVERYTHING
from hal9mig.categories.transform import Transform
from hal9mig.engine import foreign_errors
from hal9mig.engine.system import System
from hal9mig.engine.transfer import applier, reader
from hal9mig.engine.transfer.writer import OVERRIDING, BatchWriter
from hal9mig.ledger import audit, database, quarantine
from hal9mig.stores import write_mode
from hal9mig.stores.connection import Connection, Cursor


class RetryOutcome(enum.StrEnum):
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
    outcome: RetryOutcome
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
        found = _tried(system, flat, transform, record)
    finally:
        flat.close()
    error = found.error
    with system.ledger.begin() as session:
        detail = {"id": record.id, "category": record.category, "key": list(record.key), "outcome": str(found.outcome)}
        audit.log(
            session, "quarantine retry", actor=actor or database.actor(), run_id=record.run_id,
            detail=detail | ({"error": error} if error else {}),
        )  # fmt: skip
    return found


def _tried(system: System, flat: Connection, transform: Transform, record: quarantine.Held) -> Retrial:
    """Bring a record over."""
    if record.origin == "recover":
        if record.payload is None:
            reason = "The checkpoint has lost it, and the other store's part does not have it either."
            return Retrial(record=record, outcome=RetryOutcome.HELD, error=reason)
        now = write_mode.state(flat)
        flat.rollback()
        if now.mode.ruling is model.StoreName.HIERARCHICAL:
            return _offered_to_hier(system, flat, transform, record)
        try:
            _offered_to_flat(flat, transform, record)
        except psycopg2.Error as error:
            if not foreign_errors.blames_record(error):
                raise
            return Retrial(record=record, outcome=RetryOutcome.HELD, error=foreign_errors.sentence(error))
    applied = applier.apply(system.ledger, flat, transform, [record.key], run_id=record.run_id)
    key = transform.canonical(record.key)
    if key in applied.rejected:
        return Retrial(record=record, outcome=RetryOutcome.HELD, error=applied.rejected[key])
    return Retrial(record=record, outcome=RetryOutcome.GONE if key in applied.deleted else RetryOutcome.RELEASED)


def _offered_to_flat(flat: Connection, transform: Transform, record: quarantine.Held) -> None:
    """Write a record that only the hierarchical store had, as the application would, where it is not there."""
    source = transform.category.source
    names = identifiers.listed(source.names)
    with flat, flat.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {source.qualified} ({names}) {OVERRIDING} SELECT {names} "
            f"FROM json_populate_record(NULL::{source.qualified}, %s::json) "
            # Only of its key: were another's unique value in its way, it must not pass for one that is there.
            f"ON CONFLICT ({identifiers.listed(source.key)}) DO NOTHING",
            (record.payload,),
        )


def _offered_to_hier(system: System, flat: Connection, transform: Transform, record: quarantine.Held) -> Retrial:
    """Write a record that only the flat store had into the hierarchical one, which rules: captured, too."""
    found = reader.read(flat, transform.category, [record.key], EVERYTHING)
    output = transform.apply(found)
    if output.rejections:
        return Retrial(record=record, outcome=RetryOutcome.HELD, error=output.rejections[0].error.message)
    with system.ledger.begin() as session:
        cursor: Cursor = session.connection.cursor()
        BatchWriter(transform).merge(cursor, output, newer_only=False)
        quarantine.release(session, transform.category.slug, [record.key])
    return Retrial(record=record, outcome=RetryOutcome.RELEASED if found else RetryOutcome.GONE)


def drop(system: System, record: quarantine.Held, *, actor: str | None = None) -> None:
    """Give a held record up: the target does without it, and it is not held back any more.

    Raises:
        errors.NotFound: it is not held any more; nothing was changed.
    """
    with system.ledger.begin() as session:
        _require_held(quarantine.settle(session, record.id, "dropped"), record)
        detail = {"id": record.id, "category": record.category, "key": list(record.key), "error": record.error}
        audit.log(
            session, "quarantine drop", actor=actor or database.actor(), run_id=record.run_id, detail=detail
        )  # fmt: skip


def _require_held(held: bool, record: quarantine.Held) -> None:
    if not held:
        raise errors.NotFound(
            f"Record {record.id} is not in quarantine any more.", hint=f"hal9-migrate quarantine show {record.id}"
        )
