"""Records held back: each with its key, its error, what it looked like, and the transform's version."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence

from hal9mig import errors, model
from hal9mig.ledger import database


@dataclasses.dataclass(frozen=True, kw_only=True)
class Held:
    """A record in quarantine; ``payload`` is its flat row as JSON text, None when it was gone already.

    ``origin`` is ``recover`` where a damaged checkpoint did not give it back; then ``payload`` is what the other
    store has of it.
    """

    id: int
    category: str
    key: model.Key
    status: str
    error: str
    payload: str | None
    transform_version: int
    run_id: int | None
    attempts: int
    found_at: datetime.datetime
    changed_at: datetime.datetime
    origin: str = ""


def hold(
    session: database.Session,
    *,
    category: str,
    key: model.Key,
    error: str,
    payload: str | None,
    transform_version: int,
    run_id: int | None,
    origin: str = "",
) -> int:
    """Hold a record back, or note that it failed again; return its number."""
    row = database.run(
        session, "quarantine", "hold", category=category, key=key, error=error, payload=payload,
        transform_version=transform_version, run_id=run_id, origin=origin,
    ).one()  # fmt: skip
    return int(row.id)


def find(
    session: database.Session,
    *,
    id: int | None = None,
    category: str | None = None,
    status: str | None = "held",
    limit: int = 1000,
) -> Sequence[Held]:
    """Return quarantined records, oldest first."""
    rows = database.run(session, "quarantine", "select", id=id, category=category, status=status, limit=limit)
    return [Held(**{**row._asdict(), "key": tuple(row.key)}) for row in rows]


def held_keys(session: database.Session, category: str) -> set[model.Key]:
    """Return the keys of a category's held records, without their payloads, which may be large."""
    return {tuple(row.key) for row in database.run(session, "quarantine", "held_keys", category=category)}


def get(session: database.Session, id: int) -> Held:
    """Return one record.

    Raises:
        errors.NotFound: there is none of this number.
    """
    found = find(session, id=id, status=None)
    if not found:
        raise errors.NotFound(f"There is no quarantined record {id}.", hint="hal9-migrate quarantine list")
    return found[0]


def settle(session: database.Session, id: int, status: str) -> bool:
    """Mark a held record ``released`` or ``dropped``; False when it was not held any more."""
    return database.run(session, "quarantine", "settle", id=id, status=status).first() is not None


def release(session: database.Session, category: str, keys: Sequence[model.Key]) -> None:
    """Release the records of these keys, which have been written after all."""
    if keys:
        database.run(session, "quarantine", "release_keys", category=category, keys=database.key_texts(keys))


def counts(session: database.Session) -> dict[str, int]:
    """Return how many records each category holds back."""
    return {row.category: row.held for row in database.run(session, "quarantine", "counts")}
