"""The reading half of a copy: streams a range of the flat store in key order, one step ahead of the writer."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import threading
from collections.abc import Iterator, Sequence

import psycopg2

from hal9mig.categories import identifiers, wire
from hal9mig.categories.declaration import Category
from hal9mig.categories.filters import Filter
from hal9mig.categories.transform import FINGERPRINT_FIELDS
from hal9mig.stores import binary_copy, projection
from hal9mig.stores.connection import Connection

#: Bytes a fingerprint adds to a row: it is no part of the record.
_FINGERPRINT_BYTES = 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """Records that are written in one transaction.

    Attributes:
        records: each record's fields, the source's columns in declared order and then its hash, if it was asked for.
        bytes: what the records measure as binary COPY.
        last: whether the range ends with it.
    """

    records: list[list[bytes]]
    bytes: int
    last: bool


class _Stopped(Exception):
    """The writer wants no more."""


class Reader:
    """Reads a scope of a category and cuts it into steps by records and by bytes.

    At most one step waits and one is being read, so memory is bounded by three steps' bytes, whatever
    the table's size. A single record may be larger than a step; it is then a step of its own.

    Args:
        records, size: where a step is cut, in records and in bytes.
        first: records of the first step; each following one may be twice as large, up to ``records``.
        hashed: whether the source hashes each record, which takes it about as long as to read it.
        columns: those that are read; all of the source's by default.
    """

    def __init__(
        self,
        connection: Connection,
        category: Category,
        scope: projection.Scope,
        chosen: Filter,
        *,
        records: int,
        size: int,
        first: int | None = None,
        hashed: bool = True,
        columns: Sequence[str] | None = None,
    ):
        self._connection = connection
        columns = columns or category.source.names
        self._fields = len(columns) + FINGERPRINT_FIELDS * hashed
        self._added = _FINGERPRINT_BYTES * hashed
        self._sql, self._params = select(category, scope, chosen, columns, hashed=hashed)
        self._records = records
        self._limit = min(first or records, records)
        self._most = size
        self._waiting: queue.Queue[Step | BaseException] = queue.Queue(maxsize=1)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)
        self._rows: list[bytes] = []
        self._size = 0

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            # The server may be waiting on a lock: without this the thread would wait with it.
            # A server that is gone cannot be asked, and needs not be.
            with contextlib.suppress(psycopg2.Error):
                self._connection.cancel()
        while self._thread.is_alive():
            try:
                self._waiting.get(timeout=0.05)
            except queue.Empty:
                continue
        self._connection.rollback()

    def steps(self) -> Iterator[Step]:
        """Yield the steps in key order; an empty range yields one empty step, the last.

        Raises:
            psycopg2.Error: reading failed.
        """
        while True:
            item = self._waiting.get()
            if isinstance(item, BaseException):
                raise item
            yield item
            if item.last:
                return

    def cut(self, records: int) -> None:
        """Have the steps to come hold no more records than this; one is read already."""
        self._records = records
        self._limit = min(self._limit, records)

    def write(self, message: bytes) -> None:
        """Take one message of the COPY; the driver calls this."""
        # A row begins with its number of columns, so with zero unless there are very many of them.
        row = message if message[:1] == b"\0" else wire.rows_of(message)
        if row is None:
            return
        rows = self._rows
        if rows and (len(rows) >= self._limit or self._size + len(row) > self._most):
            self._hand_over(last=False)
            self._limit = min(self._limit * 2, self._records)
            rows = self._rows
        rows.append(row)
        self._size += len(row) - self._added

    def _hand_over(self, *, last: bool) -> None:
        rows, size = self._rows, self._size
        self._rows, self._size = [], 0
        self._put(Step(records=[wire.split(row, self._fields) for row in rows], bytes=size, last=last))

    def _put(self, item: Step | BaseException) -> None:
        while not self._stop.is_set():
            try:
                self._waiting.put(item, timeout=0.1)
                return
            except queue.Full:
                continue
        raise _Stopped

    def _run(self) -> None:
        try:
            with self._connection.cursor() as cursor:
                query = cursor.mogrify(self._sql, self._params).decode()
                cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT binary)", self)
            self._hand_over(last=True)
        except _Stopped:
            return
        except BaseException as error:
            if not self._stop.is_set():
                try:
                    self._put(error)
                except _Stopped:
                    return


def select(
    category: Category, scope: projection.Scope, chosen: Filter, names: Sequence[str], *, hashed: bool = True
) -> tuple[str, projection.Params]:
    """Return the query of a scope's flat rows in key order, each followed by its hash where it is ``hashed``."""
    rows, params = projection.flat_rows(category, scope, chosen)
    columns = identifiers.each(names, "s")
    if hashed:
        columns.append(projection.record_hash(category, "s"))
    return f"SELECT {', '.join(columns)} {rows} ORDER BY {projection.key_order(category, 's')}", params


def read(connection: Connection, category: Category, keys: list[tuple[str, ...]], chosen: Filter) -> list[list[bytes]]:
    """Return the present flat rows of some keys at once, as fields with their hash."""
    collected: list[list[bytes]] = []
    fields = len(category.source.columns) + FINGERPRINT_FIELDS

    sql, params = select(category, projection.Keys(keys=keys), chosen, category.source.names)
    with connection.cursor() as cursor:
        binary_copy.each(cursor, sql, params, lambda row: collected.append(wire.split(row, fields)))
    connection.rollback()  # the next look needs a new snapshot, and an idle transaction holds back vacuum
    return collected
