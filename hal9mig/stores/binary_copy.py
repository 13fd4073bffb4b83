"""Rows of a query as binary COPY sends them: a tuple at a time, and nothing kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hal9mig.categories import wire
from hal9mig.stores.connection import Cursor


def each(cursor: Cursor, sql: str, params: Sequence[object] | None, take: Callable[[bytes], object]) -> None:
    """Give every row of a query to ``take``, as a tuple of a binary COPY.

    Raises:
        psycopg2.Error: the query failed.
    """
    query = cursor.mogrify(sql, params).decode()
    cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT binary)", _Taker(take))


class _Taker:
    def __init__(self, take: Callable[[bytes], object]):
        self._take = take

    def write(self, message: bytes) -> None:
        row = wire.rows_of(message)
        if row is not None:
            self._take(row)
