"""Marks on keys that are being applied, and the locks that order applying and copying.

A copy reads the source long before it writes. Whoever applies a key marks it first, in a transaction
of its own; a copy looks for marks made since it began to read, after writing and before committing,
and leaves marked keys to their applier. See docs/correctness.md for why that is enough.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from hal9mig import model
from hal9mig.ledger import database


def mark(session: database.Session, category: str, keys: Sequence[model.Key]) -> None:
    """Mark keys; it has to commit before any of them is read."""
    database.run(session, "live", "mark", category=category, keys=database.json_text([list(key) for key in keys]))


def since(session: database.Session, category: str, moment: datetime.datetime) -> set[model.Key]:
    """Return the keys that were marked at or after a moment of the ledger's clock."""
    return {tuple(row.key) for row in database.run(session, "live", "marked_since", category=category, since=moment)}


def prune(session: database.Session) -> int:
    """Delete the marks that no copy under way can need."""
    return database.run(session, "live", "prune_marks").rowcount


def share_copy(session: database.Session, category: str) -> None:
    """Hold the copy lock of a category, shared, until the transaction ends."""
    database.run(session, "live", "share_copy", category=category)


def wait_for_copies(session: database.Session, category: str) -> None:
    """Wait, outside a transaction, until the copying transactions in flight have ended.

    New ones begin only after it, but nobody is kept waiting longer than that: many who delete would else
    stand in line in front of a copy, each until it has its keys' locks.
    """
    with session.begin():
        database.run(session, "live", "wait_for_copies", category=category)


def lock_keys(session: database.Session, category: str, keys: Sequence[model.Key]) -> None:
    """Lock keys against other appliers until the transaction ends."""
    names = [f"{category}/{database.json_text(list(key))}" for key in sorted(keys)]
    database.run(session, "live", "lock_keys", names=names)
