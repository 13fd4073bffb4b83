"""A range's digest in one store: how many records, and the sum of their hashes, all and migrated ones."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

from hal9mig import model
from hal9mig.categories import filters, identifiers
from hal9mig.categories.declaration import Category
from hal9mig.engine.compare.keystream import Query
from hal9mig.ledger import runs
from hal9mig.stores import projection
from hal9mig.stores.connection import Cursor

#: For a transaction that reads: compiling takes longer than reading a narrow range, and sorts of keys
#: should not touch the disk.
SESSION = "SET LOCAL jit = off; SET LOCAL work_mem = '64MB'; SET LOCAL max_parallel_workers_per_gather = 0"
#: For one that reads ranges. Of a range within one bucket of its histogram, and of one in a table without
#: statistics, the planner expects a single record, and would read the parts of all records for each of them.
RANGE = f"{SESSION}; SET LOCAL enable_nestloop = off"
#: Predicates that need no rows.
FALSE: Query = ("FALSE", [])
TRUE: Query = ("TRUE", [])


@dataclasses.dataclass(frozen=True)
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
        within, more = bounds.sql(category, identifiers.each(category.key, "s"))
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
    return parted(cursor, category, rows, cover, ())[0]


def parted(
    cursor: Cursor, category: Category, rows: Query, cover: Query, edges: Sequence[model.Key]
) -> Sequence[Digest]:
    """Return the digests of the parts into which keys in bytewise order cut rows, all of one pass.

    Args:
        edges: the first keys of all parts but the first one.
    """
    part, more = projection.bucket(category, "s", edges)
    # A rebuilt record without a key is of no part, and must be counted all the same: as one of the first.
    # The hash is selected first and summed outside, so that two sums do not compute it twice.
    inner = f"SELECT {projection.record_hash(category, 's')} AS h, {cover[0]} AS c, {part} AS part {rows[0]}"
    cursor.execute(
        f"SELECT coalesce(part, 0), count(*), coalesce(sum(h), 0), count(*) FILTER (WHERE c), "
        f"coalesce(sum(h) FILTER (WHERE c), 0) FROM ({inner} OFFSET 0) d GROUP BY 1",
        [*cover[1], *more, *rows[1]],
    )
    found = {part: tuple(map(int, numbers)) for part, *numbers in cursor.fetchall()}
    return [Digest(*found.get(at, (0, 0, 0, 0))) for at in range(len(edges) + 1)]
