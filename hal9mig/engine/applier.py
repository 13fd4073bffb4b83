"""Brings single records of the target to what the source says now: lock first, read after, then write.

Whoever applies a key last has read the source last, because reading happens under the key's lock. So
the order in which copies, retries and repairs of one key arrive does not matter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import psycopg2

from hal9mig import errors, model
from hal9mig.categories import wire
from hal9mig.categories.filters import Filter
from hal9mig.categories.transform import Transform
from hal9mig.engine import reader
from hal9mig.engine.writer import Cursor, Writer
from hal9mig.stores import projection
from hal9mig.stores.connection import Connection

#: SQLSTATE classes that blame the record: data exception, integrity, program limit.
_RECORD_FAULTS = ("22", "23", "54")
_EVERYTHING = Filter(text="")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Applied:
    """What became of each key; ``written`` has the hash field of what the source held."""

    written: Mapping[model.Key, bytes]
    deleted: Sequence[model.Key]
    rejected: Sequence[tuple[model.Key, str]]


def blames_record(error: psycopg2.Error) -> bool:
    """Whether an error is the record's own, and not the server's or the connection's."""
    return (error.pgcode or "")[:2] in _RECORD_FAULTS


def sentence(error: BaseException) -> str:
    """Return an error as one line, without the statement it came from."""
    if isinstance(error, psycopg2.Error):
        diagnosis = error.diag
        parts = [diagnosis.message_primary, diagnosis.message_detail]
        text = "; ".join(part for part in parts if part) or str(error)
        return f"{type(error).__name__}: {' '.join(text.split())}"
    if isinstance(error, errors.HAL9Error):
        return error.message
    return f"{type(error).__name__}: {error}"


class Applier:
    """Applies keys of one category inside the caller's transaction on the target."""

    def __init__(self, transform: Transform, writer: Writer):
        self._transform = transform
        self._writer = writer
        self._category = transform.category

    def apply(self, cursor: Cursor, flat: Connection, keys: Sequence[model.Key]) -> Applied:
        """Make the target's records of these keys equal to the source's present ones.

        A key that the source has no more is deleted. A record that cannot be written is reported,
        and leaves what the target had.

        Raises:
            psycopg2.Error: a server failed; the caller's transaction is of no use any more.
        """
        ordered = sorted(set(keys))
        # Sorted, so that two appliers cannot wait for each other in a circle.
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(k, 0)) FROM unnest(%s::text[]) WITH ORDINALITY u(k, n) "
            "ORDER BY n",
            ([f"{self._category.slug}/{key!r}" for key in ordered],),
        )
        found = reader.read(flat, self._category, list(ordered), _EVERYTHING)
        present = {self._transform.key(fields): fields for fields in found}
        gone = [key for key in ordered if key not in present]
        rejected: list[tuple[model.Key, str]] = []
        self._writer.delete(cursor, gone)
        written = self._write(cursor, list(present.items()), rejected)
        return Applied(written=written, deleted=gone, rejected=rejected)

    def _write(
        self, cursor: Cursor, records: list[tuple[model.Key, list[bytes]]], rejected: list[tuple[model.Key, str]]
    ) -> dict[model.Key, bytes]:
        if not records:
            return {}
        output = self._transform.apply([fields for _, fields in records])
        refused = {rejection.index: rejection.error for rejection in output.rejections}
        rejected.extend((records[index][0], error.message) for index, error in refused.items())
        good = [record for index, record in enumerate(records) if index not in refused]
        cursor.execute("SAVEPOINT apply")
        try:
            self._writer.merge(cursor, output, newer_only=False)
        except psycopg2.Error as error:
            if not blames_record(error):
                raise
            cursor.execute("ROLLBACK TO SAVEPOINT apply")
            if len(good) == 1:
                rejected.append((good[0][0], sentence(error)))
                return {}
            middle = len(good) // 2
            return self._write(cursor, good[:middle], rejected) | self._write(cursor, good[middle:], rejected)
        cursor.execute("RELEASE SAVEPOINT apply")
        return {key: fields[-1] for key, fields in good}


def digest(cursor: Cursor, transform: Transform, scope: projection.Scope) -> tuple[int, int]:
    """Return the number of records that the target holds in a scope, and the sum of their hashes."""
    rows, params = projection.rebuilt_rows(transform.category, scope)
    fingerprint = projection.record_hash(transform.category, "s")
    cursor.execute(f"SELECT count(*), coalesce(sum({fingerprint}), 0) {rows}", params)
    row = cursor.fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def hashes(cursor: Cursor, transform: Transform, scope: projection.Scope) -> dict[tuple[bytes, ...], bytes]:
    """Return the hash field of each record that the target holds in a scope, by its key fields."""
    category = transform.category
    rows, params = projection.rebuilt_rows(category, scope)
    keys = ", ".join(f"s.{name}" for name in category.key)
    sql = f"SELECT {keys}, {projection.record_hash(category, 's')} {rows}"
    count = len(category.key) + 1
    found: dict[tuple[bytes, ...], bytes] = {}

    class _Collector:
        def write(self, message: bytes) -> None:
            row = wire.rows_of(message)
            if row is not None:
                *key, value = wire.split(row, count)
                found[tuple(key)] = value

    cursor.copy_expert(f"COPY ({cursor.mogrify(sql, params).decode()}) TO STDOUT (FORMAT binary)", _Collector())
    return found
