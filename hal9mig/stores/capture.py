"""Capture in a store: its journal of written keys, and what keeps them from being applied.

The journal holds keys only; whoever applies a key reads the record itself.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Sequence

from hal9mig import model
from hal9mig.stores.connection import Connection

#: What the triggers raise: a writer of an epoch that is over, and a store that takes no writes now.
STALE_EPOCH = "HL001"
STORE_CLOSED = "HL002"

#: Rows of a journal that are read at once, at most, for each key that is asked for.
_MOST_ROWS_A_KEY = 64
#: Rows of a journal that are shortened in one transaction, about.
_PART = 200_000
#: Marks the open transaction as this system's own, so that its writes are neither captured nor refused.
APPLY = "SELECT set_config('hal9.apply', token, true) FROM hal9cap.pass"
#: Has the open transaction's writes captured whatever the write mode is; it is to be rolled back.
REHEARSE = "SELECT set_config('hal9.rehearse', token, true) FROM hal9cap.pass"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """A journalled key; the ids of all its rows that were visible."""

    category: str
    key: model.Key
    ids: Sequence[int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lag:
    """What waits in a journal: rows, and the seconds the oldest has waited."""

    records: int
    seconds: float


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


def entries(
    connection: Connection, categories: Collection[str], *, limit: int, lane: int = 0, lanes: int = 1, after: int = 0
) -> list[Entry]:
    """Return journalled keys that are visible now, oldest first, each once with the ids of its rows.

    ``lane`` of ``lanes`` parts the keys between appliers that work side by side. Where few keys are
    written again and again, rows are taken from further up: applying a key once does for all of them.
    Rows with ids up to ``after``, which were refused, are passed over. However long the journal is, no
    more of it is read than what is returned lies in.
    """
    rows = limit
    while True:
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT category, key, array_agg(id) FROM (SELECT id, category, key FROM hal9cap.journal "
                "WHERE category = ANY(%s) AND id > %s AND abs(hashtextextended(key::text, 0) %% %s) = %s "
                "ORDER BY id LIMIT %s) j GROUP BY category, key ORDER BY min(id) LIMIT %s",
                (list(categories), after, lanes, lane, rows, limit),
            )
            # An array in an array is nobody's key, and cannot be looked up as one.
            found = [
                Entry(
                    category=category,
                    key=tuple(str(part) if isinstance(part, list) else part for part in key),
                    ids=ids,
                )
                for category, key, ids in cursor.fetchall()
            ]
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

    A long journal is shortened part by part, since appliers that prune wait for one that is under way. It waits for
    none of them, or the two would wait for each other: what is being pruned is left alone.
    """
    parts, gone = 1 + sum(one.records for one in lag(connection).values()) // _PART, 0
    for part in range(parts):
        with connection, connection.cursor() as cursor:
            # One at a time: two would wait for each other's rows.
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('hal9cap compact', 0))")
            cursor.execute(
                "WITH part AS MATERIALIZED (SELECT id, category, key FROM hal9cap.journal "
                "WHERE abs(hashtextextended(key::text, 0) %% %s) = %s), "
                "many AS (SELECT category, key FROM part GROUP BY category, key HAVING count(*) > 1), "
                "free AS (SELECT id FROM hal9cap.journal "
                "WHERE id IN (SELECT id FROM part JOIN many USING (category, key)) FOR UPDATE SKIP LOCKED), "
                "gone AS (DELETE FROM hal9cap.journal j USING free f WHERE j.id = f.id "
                "RETURNING j.category, j.key, j.at), "
                "kept AS (INSERT INTO hal9cap.journal (category, key, at) SELECT category, key, min(at) FROM gone "
                "GROUP BY category, key RETURNING id) "
                "SELECT (SELECT count(*) FROM gone) - (SELECT count(*) FROM kept)",
                (parts, part),
            )
            (fewer,) = cursor.fetchone() or (0,)
            gone += fewer
    return gone


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


def journal_bytes(connection: Connection) -> int:
    """Return the journal's size on the disk, its indexes with it."""
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_total_relation_size('hal9cap.journal')")
        (size,) = cursor.fetchone() or (0,)
    return int(size)


def rows(connection: Connection, *, most: int) -> int:
    """Return how many rows wait in the journal, counted up to ``most``: all of a long one would take seconds."""
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM (SELECT FROM hal9cap.journal ORDER BY id LIMIT %s) j", (most,))
        (count,) = cursor.fetchone() or (0,)
    return int(count)


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
