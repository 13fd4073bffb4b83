"""The rolling comparison: a range of keys of both stores at a time, down to the keys that look different.

What looks different may be on its way; ``compare.judge`` decides. The two stores are asked one after
the other, so that the time a range takes is what it costs: at most one core is busy with it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from hal9mig import model
from hal9mig.categories import identifiers
from hal9mig.categories.filters import EVERYTHING
from hal9mig.engine.compare import digest, keystream, orphans
from hal9mig.engine.compare.judge import Sides
from hal9mig.engine.compare.keystream import Query, Row
from hal9mig.stores import projection
from hal9mig.stores.connection import Connection

#: Keys of either store that are compared at once.
SPAN = 5000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
    """A range that was compared: up to which key (None: all of it), how many records, and which look different."""

    upto: model.Key | None
    records: int
    suspects: Sequence[model.Key]


def look(both: Sides, after: model.Key | None, *, until: model.Key | None = None) -> Look:
    """Compare the range that follows a key.

    Args:
        until: the key, inclusive, behind which nothing is looked at; None is the end.

    Raises:
        psycopg2.Error: a store failed.
        errors.HAL9Error: a store gives its keys out of order.
    """
    upto = _bound(both, after, until, SPAN)
    scope = projection.Bounds(after=after, upto=upto or until, bytewise=True)
    flat_rows = projection.flat_rows(both.category, scope, EVERYTHING)
    hier_rows = projection.rebuilt_rows(both.category, scope, hashed=True)
    flat = _digest(both.flat, both, flat_rows, both.covered)
    hier = _digest(both.hier, both, hier_rows, digest.FALSE)
    suspects: list[model.Key] = []
    if (hier.count, hier.total) not in ((flat.count, flat.total), (flat.covered, flat.covered_total)):
        left = _rows(both.flat, both, flat_rows, both.covered)
        right = _rows(both.hier, both, hier_rows, digest.FALSE)
        for pair in keystream.merge(iter(left), iter(right), lambda row: None):
            if pair.hier or (pair.flat is not None and pair.flat.covered):
                suspects.append(pair.row.text)
    if both.forward:
        suspects += _rootless(both, scope)
    return Look(upto=upto, records=max(flat.count, hier.count), suspects=list(dict.fromkeys(suspects)))


def _bound(both: Sides, after: model.Key | None, until: model.Key | None, span: int) -> model.Key | None:
    """Return the key with which the next range ends, None where the rest is shorter than one."""
    category = both.category
    scope = projection.Bounds(after=after, upto=until, bytewise=True)
    rows = projection.flat_rows(category, scope, EVERYTHING)
    found = _nth(both.flat, both, rows, span)
    for root in category.roots:
        names = identifiers.each(root.owner, "r")
        where, params = scope.sql(category, names)
        aliased = projection.as_key(category, root.owner, "r")
        rows = f"FROM (SELECT {aliased} FROM {root.qualified} r WHERE {where}) s", params
        found += _nth(both.hier, both, rows, span)
    return min(found, key=lambda row: row.key).text if found else None


def _nth(connection: Connection, both: Sides, rows: Query, span: int) -> list[Row]:
    category = both.category
    keys = identifiers.listed(category.key, "s")
    order = projection.key_order(category, "s", bytewise=True)
    sql = (
        f"SELECT {keys}, {projection.key_texts(category)}, 0::bigint, false, false {rows[0]} "
        f"ORDER BY {order} OFFSET %s LIMIT 1"
    )
    with connection, connection.cursor() as cursor:
        return keystream.collect(cursor, category, (sql, [*rows[1], span - 1]))


def _digest(connection: Connection, both: Sides, rows: Query, covered: Query) -> digest.Digest:
    with connection, connection.cursor() as cursor:
        cursor.execute(digest.RANGE)
        return digest.read(cursor, both.category, rows, covered)


def _rows(connection: Connection, both: Sides, rows: Query, covered: Query) -> list[Row]:
    query = keystream.select(both.category, rows, covered=covered, chosen=digest.TRUE, ordered=True)
    with connection, connection.cursor() as cursor:
        cursor.execute(digest.RANGE)
        return keystream.collect(cursor, both.category, query)


def _rootless(both: Sides, scope: projection.Bounds) -> list[model.Key]:
    query = orphans.query(both.category, scope)
    if query is None:
        return []
    with both.hier, both.hier.cursor() as cursor:
        cursor.execute(digest.RANGE)
        return [row.text for row in keystream.collect(cursor, both.category, query)]
