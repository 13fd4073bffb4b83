"""Capture in a store: its journal of written keys, its write state and its barrier.

The journal holds keys only; whoever applies a key reads the record itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
from collections.abc import Iterator, Sequence

import psycopg2
import psycopg2.errors

from hal9mig import errors, model
from hal9mig.stores import lock_holders
from hal9mig.stores.connection import Connection, speaking

#: What the triggers raise: a writer of an epoch that is over, and a store that takes no writes now.
STALE_EPOCH = "HL001"
STORE_CLOSED = "HL002"

#: Seconds without a word from whoever keeps the writers out, after which they are let in.
SILENCE = 16.0
#: Rows of a journal that are read at once, at most, for each key that is asked for.
_MOST_ROWS_A_KEY = 64
_WRITERS = "hashtextextended('hal9cap writers', 0)"
#: Marks the open transaction as this system's own, so that its writes are neither captured nor refused.
APPLY = "SELECT set_config('hal9.apply', token, true) FROM hal9cap.pass"
#: Has the open transaction's writes captured whatever the write mode is; it is to be rolled back.
REHEARSE = "SELECT set_config('hal9.rehearse', token, true) FROM hal9cap.pass"


class Mode(enum.StrEnum):
    """Where writes go. ``CLOSED`` only during a switch, on the side that is being left or entered."""

    FLAT_ONLY = "flat-only"
    DUAL_WRITE = "dual-write"
    HIERARCHICAL_ONLY = "hierarchical-only"
    CLOSED = "closed"

    @property
    def ruling(self) -> model.StoreName:
        """The store whose state counts."""
        return model.StoreName.HIERARCHICAL if self is Mode.HIERARCHICAL_ONLY else model.StoreName.FLAT


_MODES = tuple(Mode)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WriteState:
    """A store's write mode and its epoch."""

    mode: Mode
    epoch: int


#: What a store begins with.
INITIAL = WriteState(mode=Mode.FLAT_ONLY, epoch=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """A journalled key; the ids of all its rows that were visible."""

    key: model.Key
    ids: Sequence[int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lag:
    """What waits in a journal: rows, and the seconds the oldest has waited."""

    records: int
    seconds: float


def state(connection: Connection) -> WriteState:
    """Return the store's write state as it is at this instant, whatever the transaction's snapshot."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT last_value FROM hal9cap.state")
        row = cursor.fetchone()
    number = int(row[0]) if row else 4
    return WriteState(mode=_MODES[number % 4], epoch=number // 4)


def set_state(connection: Connection, new: WriteState) -> None:
    """Set the store's write state; it acts at once and is not undone by a rollback."""
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT setval('hal9cap.state', %s)", (new.epoch * 4 + _MODES.index(new.mode),))


@contextlib.contextmanager
def barrier(connection: Connection, *, patience: float) -> Iterator[None]:
    """Keep every captured writer out for the length of a block, after those in flight have ended.

    While it waits, new writers wait behind it; so it gives up after ``patience`` seconds, and lets them go on.

    Raises:
        errors.WritersInFlight: a transaction that has written is still open; its pid is named.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, false)", (f"{int(patience * 1000)}ms",))
        connection.commit()
        try:
            cursor.execute(f"SELECT pg_advisory_lock({_WRITERS})")
            connection.commit()
        except psycopg2.errors.LockNotAvailable:
            connection.rollback()
            raise errors.WritersInFlight(_writers(connection)) from None
        try:
            with _spoken_for(connection):
                yield
        finally:
            # Where the session is gone its lock is gone too, and what has failed because of that is raised.
            if not connection.closed:
                connection.rollback()
                cursor.execute(f"SELECT pg_advisory_unlock({_WRITERS}), set_config('lock_timeout', '0', false)")
                connection.commit()


@contextlib.contextmanager
def _spoken_for(connection: Connection) -> Iterator[None]:
    """Have the server end the session when this process is silent: stopped, it would keep writers out for ever.

    What it does next on this connection then fails, so that it cannot go on as if it had kept them out.
    """
    timeouts = ("idle_session_timeout", "idle_in_transaction_session_timeout")
    with connection, connection.cursor() as cursor:
        for name in timeouts:
            cursor.execute("SELECT set_config(%s, %s, false)", (name, f"{round(SILENCE * 1000)}ms"))
    try:
        with speaking(connection, every=SILENCE / 8):
            yield
    finally:
        if not connection.closed:
            connection.rollback()
            with connection, connection.cursor() as cursor:
                for name in timeouts:
                    cursor.execute(f"RESET {name}")


def _writers(connection: Connection) -> str:
    held = "; ".join(map(str, lock_holders.of_advisory(connection, _WRITERS)))
    return f"A transaction that has written is still open: {held or 'it has ended just now; try again'}."


def hold(connection: Connection, reason: str) -> None:
    """Have nothing applied to this store, in the open transaction; the reason is told to whoever tries."""
    let_go(connection)
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO hal9cap.hold (reason) VALUES (%s)", (reason,))


def let_go(connection: Connection) -> None:
    """Have this store applied to again, in the open transaction."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM hal9cap.hold")


def held(connection: Connection) -> str | None:
    """Return why nothing is applied to this store; None where it is."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT reason FROM hal9cap.hold LIMIT 1")
        row = cursor.fetchone()
    return None if row is None else str(row[0])


def entries(connection: Connection, category: str, *, limit: int, lane: int = 0, lanes: int = 1) -> list[Entry]:
    """Return journalled keys that are visible now, oldest first, each once with the ids of its rows.

    ``lane`` of ``lanes`` parts the keys between appliers that work side by side. Where few keys are
    written again and again, rows are taken from further up: applying a key once does for all of them.
    """
    rows = limit
    while True:
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT key, array_agg(id) FROM (SELECT id, key FROM hal9cap.journal WHERE category = %s "
                "AND abs(hashtextextended(key::text, 0) %% %s) = %s ORDER BY id LIMIT %s) j "
                "GROUP BY key ORDER BY min(id) LIMIT %s",
                (category, lanes, lane, rows, limit),
            )
            found = [Entry(key=tuple(key), ids=ids) for key, ids in cursor.fetchall()]
        read = sum(len(entry.ids) for entry in found)
        if read < rows or len(found) > limit // 4 or rows >= limit * _MOST_ROWS_A_KEY:
            return found
        rows *= 8


def prune(connection: Connection, applied: Sequence[Entry]) -> None:
    """Delete the rows of keys that have been applied."""
    ids = [number for entry in applied for number in entry.ids]
    with connection, connection.cursor() as cursor:
        cursor.execute("DELETE FROM hal9cap.journal WHERE id = ANY(%s::bigint[])", (ids,))


def waiting(connection: Connection, category: str, keys: Sequence[model.Key]) -> set[model.Key]:
    """Return which of these keys wait in the journal to be applied."""
    texts = json.dumps([list(key) for key in keys])
    with connection, connection.cursor() as cursor:
        # Materialised, so that a long journal is joined by hashing and not once for each key.
        cursor.execute(
            "WITH wanted AS MATERIALIZED (SELECT ARRAY(SELECT jsonb_array_elements_text(k)) AS key "
            "FROM jsonb_array_elements(%s::jsonb) AS k) "
            "SELECT DISTINCT j.key FROM hal9cap.journal j JOIN wanted USING (key) WHERE j.category = %s",
            (texts, category),
        )
        return {tuple(key) for (key,) in cursor.fetchall()}


def compact(connection: Connection) -> int:
    """Leave one row of each key, and return how many are gone; so a paused journal stays bounded.

    The row that is left is a new one. An applier may have read the key already and be about to prune
    the rows it saw: were one of those kept for the others, a write among the others would go with it.
    """
    with connection, connection.cursor() as cursor:
        # One at a time: two would wait for each other's rows.
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('hal9cap compact', 0))")
        cursor.execute(
            "WITH gone AS (DELETE FROM hal9cap.journal j USING (SELECT category, key FROM hal9cap.journal "
            "GROUP BY category, key HAVING count(*) > 1) k WHERE j.category = k.category AND j.key = k.key "
            "RETURNING j.id, j.category, j.key, j.at), "
            "kept AS (INSERT INTO hal9cap.journal (category, key, at) SELECT category, key, min(at) FROM gone "
            "GROUP BY category, key RETURNING id) "
            "SELECT (SELECT count(*) FROM gone) - (SELECT count(*) FROM kept)"
        )
        row = cursor.fetchone()
    return int(row[0]) if row else 0


def records(connection: Connection) -> int:
    """Return how many records wait in the journal, each once however often it was written."""
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM (SELECT DISTINCT category, key FROM hal9cap.journal) k")
        row = cursor.fetchone()
    return int(row[0]) if row else 0


def discard(connection: Connection) -> None:
    """Empty the journal: what it held will not be applied."""
    with connection, connection.cursor() as cursor:
        cursor.execute("DELETE FROM hal9cap.journal")


def lag(connection: Connection) -> dict[str, Lag]:
    """Return what waits in the journal, by category."""
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT category, count(*), extract(epoch FROM clock_timestamp() - min(at)) "
            "FROM hal9cap.journal GROUP BY category"
        )
        return {
            category: Lag(records=records, seconds=max(0.0, float(seconds)))
            for category, records, seconds in cursor.fetchall()
        }
