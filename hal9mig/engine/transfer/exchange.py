"""Writes records between which unique values pass: all that take part are taken out, then they are put in.

A value may be held by a record that is not to be written, and has given it up where the records come from. It
is brought along, up to a number of times; holders beyond that are set apart: they are only taken out, and a line
in the journal brings them again. So a chain of values through a whole table needs no transaction of its length.

A value that is taken is the fault of a record only if it is taken by one that holds it at the source too, as of
one moment. Read at two moments, both may have held it. ``tests/convergence/exchange_model.py`` tries every order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

import psycopg2.errors
from psycopg2.extensions import TransactionRollbackError

from hal9mig import model
from hal9mig.categories import identifiers
from hal9mig.stores.connection import Cursor

#: How often the set of keys may grow by records that hold a unique value one of them needs.
_MOST_GROWTHS = 8
#: How often holders are looked for in one attempt.
_MOST_LOOKS = 16
#: How often it is begun anew because others came in between: the server broke a circle of two who wait for each
#: other's values, say.
_MOST_UNDONE = 20

R = TypeVar("R")
T = TypeVar("T")


class Side(Protocol[R]):
    """The store that is written, and what it is written from; inside the caller's transaction."""

    def lock(self, cursor: Cursor, keys: Sequence[model.Key]) -> None:
        """Lock keys against whoever else applies them."""

    def read(self, keys: Sequence[model.Key]) -> Mapping[model.Key, R]:
        """Return what the source has of these keys now, all as of one moment."""

    def delete(self, cursor: Cursor, keys: Sequence[model.Key]) -> None:
        """Take records out of the target."""

    def insert(self, cursor: Cursor, records: Mapping[model.Key, R]) -> None:
        """Put records in that are not there.

        Raises:
            psycopg2.errors.UniqueViolation: one of their values is taken.
        """

    def holders(self, cursor: Cursor, records: Mapping[model.Key, R]) -> Iterable[model.Key]:
        """Return the keys of the target's records that hold a unique value of these."""

    def waiting(self, keys: Sequence[model.Key]) -> set[model.Key]:
        """Return which keys wait in the source's journal."""


class NeedsMoreError(Exception):
    """Records hold unique values that those to be written need, and have to be brought along."""

    def __init__(self, keys: set[model.Key]):
        super().__init__()
        self.keys = keys


class Exchange(Generic[R]):
    """One call's worth of keys: what is locked, and how often it was begun anew."""

    def __init__(self, side: Side[R]):
        self._side = side
        self._locked: set[model.Key] = set()
        self._grown = 0
        self._undone = 0

    def settle(self, wanted: set[model.Key], attempt: Callable[[Sequence[model.Key]], T]) -> T:
        """Call ``attempt`` with the keys in order until it neither needs more of them nor is undone by others.

        It begins anew each time, so that all are locked in one order: two who need each other's keys then wait
        for one another and not in a circle. Who waits for a value that another has not committed may still.
        """
        while True:
            try:
                return attempt(sorted(wanted))
            except NeedsMoreError as needs:
                wanted = wanted | needs.keys
                self._grown += 1
            except TransactionRollbackError:
                self._undone += 1
                if self._undone > _MOST_UNDONE:
                    raise

    def lock(self, cursor: Cursor, keys: Sequence[model.Key]) -> None:
        """Lock the keys of one attempt against others until the transaction ends."""
        self._locked = set(keys)
        self._side.lock(cursor, keys)

    def write(self, cursor: Cursor, records: Mapping[model.Key, R]) -> dict[model.Key, R]:
        """Write records and those they exchange values with, and return all that were written.

        Raises:
            NeedsMoreError: ``settle`` begins anew with more keys.
            psycopg2.errors.UniqueViolation: one value belongs to two of the source's records.
        """
        side, together, apart, calm = self._side, dict(records), set[model.Key](), False
        for _ in range(_MOST_LOOKS):
            cursor.execute("SAVEPOINT exchange")
            side.delete(cursor, list(together))
            found = [key for key in side.holders(cursor, together) if key not in together]
            # One that is apart holds what another has at the source, read after its lock was taken: so it is
            # older here than there. The line in the journal that says so is not taken yet, or nobody would have
            # left it as it is, and nobody brings it while its lock is held. One that holds nothing which is needed
            # stays: its line may be one that was applied, and is about to be pruned.
            side.delete(cursor, [key for key in found if key in apart])
            strangers = [key for key in found if key not in apart]
            if not strangers:
                try:
                    side.insert(cursor, together)
                except psycopg2.errors.UniqueViolation:
                    if calm:
                        raise
                else:
                    return together
            cursor.execute("ROLLBACK TO SAVEPOINT exchange")
            more = sorted(set(strangers) - self._locked)
            if more and self._grown < _MOST_GROWTHS:
                raise NeedsMoreError(set(more))
            side.lock(cursor, more)
            self._locked.update(more)
            if self._grown >= _MOST_GROWTHS:
                apart |= side.waiting(strangers)
            # All of them again, not the new ones alone: what was read before may have passed its value on to them.
            # And where there are no new ones, somebody may have committed the value after the look for holders.
            wanted = [*together, *(key for key in strangers if key not in apart)]
            fresh = side.read(wanted)
            calm = not strangers and fresh == together
            side.delete(cursor, [key for key in wanted if key not in fresh])
            together = dict(fresh)
        raise TransactionRollbackError("Others write the values of these records faster than they can be read.")


def holders(cursor: Cursor, table: str, stage: str, owner: str) -> list[model.Key]:
    """Return the keys of a table's rows that hold a unique value of the rows in a table like it.

    Args:
        owner: the select list of the key's texts, of a row named ``t``.
    """
    cursor.execute(
        "SELECT array_agg(pg_get_indexdef(i.indexrelid, n, false) ORDER BY n) "
        "FROM pg_index i, generate_series(1, i.indnkeyatts) n "
        "WHERE i.indrelid = %s::regclass AND i.indisunique AND NOT i.indisprimary GROUP BY i.indexrelid",
        (table,),
    )
    found: list[model.Key] = []
    for (terms,) in cursor.fetchall():
        names = [f"u{at}" for at in range(len(terms))]
        values = ", ".join(f"({term}) AS {name}" for term, name in zip(terms, names, strict=True))
        cursor.execute(
            f"SELECT DISTINCT {owner} FROM (SELECT *, {values} FROM {table}) t "
            f"JOIN (SELECT {values} FROM {stage}) s ON {identifiers.same('t', names, 's', names)}"
        )
        found.extend(tuple(row) for row in cursor.fetchall())
    return found
