"""A range's digest in one store: how many records, and the sum of their hashes, all and migrated ones."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable

from hal9mig import errors
from hal9mig.categories import filters
from hal9mig.categories.declaration import Category
from hal9mig.engine.keystream import Cursor, Query
from hal9mig.ledger import runs
from hal9mig.stores import projection

#: For a transaction that reads: compiling takes longer than reading a narrow range, and sorts of keys
#: should not touch the disk.
SESSION = "SET LOCAL jit = off; SET LOCAL work_mem = '64MB'; SET LOCAL max_parallel_workers_per_gather = 0"
#: For one that reads ranges. Of a range within one bucket of its histogram, and of one in a table without
#: statistics, the planner expects a single record, and would read the parts of all records for each of them.
RANGE = f"{SESSION}; SET LOCAL enable_nestloop = off"
#: Predicates that need no rows.
FALSE: Query = ("FALSE", [])
TRUE: Query = ("TRUE", [])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Digest:
    """Counts and sums of hashes, the latter of any size."""

    count: int
    total: int
    covered: int
    covered_total: int


def covered(category: Category, covers: Iterable[runs.Cover]) -> Query:
    """Return the predicate over alias ``s`` of the flat table that says whether a record counts as migrated."""
    parts: dict[str, Query] = {}
    for cover in covers:
        condition, values = filters.parse(category, cover.filter).sql("s")
        # Copies are planned in the flat server's own order of keys, so their ranges are read in it.
        bounds = projection.Bounds(after=cover.after, upto=cover.upto)
        within, more = bounds.sql(category, [f"s.{name}" for name in category.key])
        if condition == within == "TRUE":
            return TRUE
        parts[f"{condition} {within} {values + more}"] = (f"({condition} AND {within})", values + more)
    if not parts:
        return FALSE
    return (
        f"({' OR '.join(text for text, _ in parts.values())})",
        list(itertools.chain.from_iterable(values for _, values in parts.values())),
    )


def read(cursor: Cursor, category: Category, rows: Query, cover: Query) -> Digest:
    """Return the digest of rows, given as ``FROM`` and ``WHERE`` over alias ``s``.

    Args:
        cover: the predicate of those that count as migrated.
    """
    # The hash is selected first and summed outside, so that two sums do not compute it twice.
    inner = f"SELECT {projection.record_hash(category, 's')} AS h, {cover[0]} AS c {rows[0]}"
    cursor.execute(
        f"SELECT count(*), coalesce(sum(h), 0), count(*) FILTER (WHERE c), coalesce(sum(h) FILTER (WHERE c), 0) "
        f"FROM ({inner} OFFSET 0) d",
        [*cover[1], *rows[1]],
    )
    row = cursor.fetchone()
    if row is None:
        raise errors.HAL9Error("A digest gave no row.")
    count, total, covered_count, covered_total = map(int, row)
    return Digest(count=count, total=total, covered=covered_count, covered_total=covered_total)
