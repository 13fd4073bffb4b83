"""Keys and hashes of both stores as two streams in one order, merged into what differs.

The servers sort, each by its own index or on its own disk; here one row of each side is in hand at a
time, and a bounded number waits. Python's comparison of a decoded key must equal the servers' bytewise
order, or a merge would take equal records for a missing and an extra one; a stream that is not in
order is therefore an error and never a result.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from hal9mig import errors, model
from hal9mig.categories import identifiers, wire
from hal9mig.categories.declaration import Category
from hal9mig.stores import binary_copy, projection
from hal9mig.stores.connection import Connection, Cursor

_BLOCK = 500  # rows handed over at a time
_WAITING = 4  # blocks that may wait
_TRUE = wire.field(b"\x01")
_NAN = (1, 0)
Query = tuple[str, projection.Params]


class Row(NamedTuple):
    """A record in one store.

    Attributes:
        key: comparable with other rows' in the servers' order.
        text: the key as texts.
        hash: the record's hash, signed.
        covered: whether it counts as migrated; only the flat store knows.
        chosen: whether the run's filter takes it.
    """

    key: tuple[Any, ...]
    text: model.Key
    hash: int
    covered: bool
    chosen: bool


class Pair(NamedTuple):
    """A record that is not alike in both stores; the hierarchical one may hold it twice."""

    flat: Row | None
    hier: Sequence[Row]

    @property
    def row(self) -> Row:
        """A row that has its key."""
        return self.flat if self.flat is not None else self.hier[0]


def select(category: Category, rows: Query, *, covered: Query, chosen: Query, ordered: bool) -> Query:
    """Return the query of a stream's rows.

    Args:
        rows: ``FROM`` and ``WHERE`` over alias ``s``.
        covered, chosen: predicates over ``s``.
        ordered: in bytewise order of the key.
    """
    source, params = rows
    keys = identifiers.listed(category.key, "s")
    sql = (
        f"SELECT {keys}, {projection.key_texts(category)}, {projection.record_hash(category, 's')}, "
        f"coalesce({covered[0]}, false), coalesce({chosen[0]}, false) {source}"
    )
    if ordered:
        sql += f" ORDER BY {projection.key_order(category, 's', bytewise=True)}"
    return sql, [*covered[1], *chosen[1], *params]


class Decoder:
    """Reads the tuples of ``select``."""

    def __init__(self, category: Category):
        self._parts = [_comparable(column.type) for column in category.source.key_columns]
        self._count = len(self._parts)

    def row(self, message: bytes) -> Row | None:
        """Return the row in one message of a COPY; None for the trailer.

        Raises:
            errors.HAL9Error: a record without a key.
        """
        data = wire.rows_of(message)
        return None if data is None else self.row_of(data)

    def row_of(self, data: bytes) -> Row:
        """Return the row in a tuple.

        Raises:
            errors.HAL9Error: a record without a key.
        """
        count = self._count
        fields = wire.split(data, 2 * count + 3)
        if wire.NULL in fields[:count]:
            raise errors.HAL9Error("The rebuild query gave a record without a key.")
        return Row(
            tuple([part(field[4:]) for part, field in zip(self._parts, fields, strict=False)]),
            tuple([field[4:].decode() for field in fields[count : 2 * count]]),
            int.from_bytes(fields[-3][4:], signed=True),
            fields[-2] == _TRUE,
            fields[-1] == _TRUE,
        )


def _comparable(type_name: str) -> Callable[[bytes], Any]:
    """Return what makes a key's data into a value that sorts as the servers sort it."""
    name = wire.canonical_type(type_name)
    if name == "character":
        return lambda data: data.rstrip(b" ")  # as its comparison ignores them
    if name == "numeric":
        return _number
    if name in ("uuid", "text", "character varying", "boolean"):
        return bytes
    # Integers, and dates and times as the days and microseconds they are; infinities are the extremes.
    return lambda data: int.from_bytes(data, signed=True)


def _number(data: bytes) -> tuple[int, Any]:
    value = wire.codec("numeric").decode(data)
    return _NAN if value.is_nan() else (0, value)  # NaN equals itself and is above all others


def collect(cursor: Cursor, category: Category, query: Query) -> list[Row]:
    """Return all rows of a query at once."""
    decode = Decoder(category).row_of
    found: list[Row] = []

    binary_copy.each(cursor, *query, lambda data: found.append(decode(data)))
    return found


def _copy(cursor: Cursor, query: Query) -> str:
    return f"COPY ({cursor.mogrify(*query).decode()}) TO STDOUT (FORMAT binary)"


class _Stopped(Exception):
    """The consumer wants no more."""


class Stream:
    """Rows of a query, read by a thread of its own a few blocks ahead; a context manager.

    The connection is the thread's until the block ends; its transaction is the caller's.
    """

    def __init__(self, connection: Connection, category: Category, query: Query, *, name: str):
        self._connection = connection
        self._name = name
        self._query = query
        self._decode = Decoder(category).row
        self._waiting: queue.Queue[list[Row] | BaseException | None] = queue.Queue(maxsize=_WAITING)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._block: list[Row] = []
        self._ended = False

    def __enter__(self) -> Stream:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if not self._ended:
            # The server may be sorting still: without this the thread would wait for it.
            self._connection.cancel()
        self._thread.join()

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows.

        Raises:
            psycopg2.Error: reading failed.
            errors.HAL9Error: the rows are not in order.
        """
        last: tuple[Any, ...] | None = None
        while True:
            block = self._waiting.get()
            self._ended = not isinstance(block, list)
            if block is None:
                return
            if isinstance(block, BaseException):
                raise block
            for row in block:
                if last is not None and row.key < last:
                    raise errors.HAL9Error(
                        f"The {self._name} store's keys are not in bytewise order at {row.text!r}, so they cannot "
                        "be compared."
                    )
                last = row.key
                yield row

    def write(self, message: bytes) -> None:
        """Take one message of the COPY; the driver calls this."""
        row = self._decode(message)
        if row is not None:
            self._block.append(row)
            if len(self._block) >= _BLOCK:
                self._hand_over()

    def _hand_over(self) -> None:
        block, self._block = self._block, []
        self._put(block)

    def _put(self, item: list[Row] | BaseException | None) -> None:
        while not self._stop.is_set():
            try:
                self._waiting.put(item, timeout=0.1)
                return
            except queue.Full:
                continue
        raise _Stopped

    def _run(self) -> None:
        try:
            try:
                with self._connection.cursor() as cursor:
                    cursor.copy_expert(_copy(cursor, self._query), self)
                self._hand_over()
                self._put(None)
            except _Stopped:
                return
            except BaseException as error:
                self._put(error)
        except _Stopped:
            return


def merge(flat: Iterator[Row], hier: Iterator[Row], alike: Callable[[Row], None]) -> Iterator[Pair]:
    """Yield the records that differ, in key order, and hand every other to ``alike``.

    Both iterators must be in key order; the hierarchical one may repeat a key.
    """
    left, right = next(flat, None), next(hier, None)
    while left is not None or right is not None:
        if right is None or (left is not None and left.key < right.key):
            yield Pair(left, ())
            left = next(flat, None)
            continue
        same = [right]
        right = next(hier, None)
        while right is not None and right.key == same[0].key:
            same.append(right)
            right = next(hier, None)
        if left is None or same[0].key < left.key:
            yield Pair(None, same)
            continue
        if len(same) == 1 and same[0].hash == left.hash:
            alike(left)
        else:
            yield Pair(left, same)
        left = next(flat, None)
