"""A declaration held against both stores, and a sample of its category's records taken there and back.

The sample is written into the hierarchical tables, read back through the rebuild query and compared with what the
flat store holds, in one transaction that is rolled back: nothing is left of it, and nobody sees it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence

import psycopg2

from hal9mig import errors, model
from hal9mig.categories.declaration import Category
from hal9mig.categories.filters import EVERYTHING
from hal9mig.categories.transform import Transform
from hal9mig.engine import foreign_errors
from hal9mig.engine.compare import field_diff
from hal9mig.engine.system import System
from hal9mig.engine.transfer import applier, reader
from hal9mig.engine.transfer.writer import BatchWriter
from hal9mig.ledger.verify_results import FieldDifference
from hal9mig.stores import capture, category_check, projection, rights, store_size, write_mode
from hal9mig.stores.connection import Connection, Cursor

#: Seconds that the sample waits for a lock of somebody else's.
_PATIENCE = 2
#: Records that are told of one by one.
_TOLD = 5
#: Indexes by whose first columns a record's rows are found.
_INDEXES = """
SELECT array_agg(a.attname::text ORDER BY k.position)
  FROM pg_index AS i
 CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(attnum, position)
  JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
 WHERE i.indrelid = to_regclass(%s) AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
 GROUP BY i.indexrelid
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoundTrip:
    """What a category's check has shown.

    Attributes:
        problems: what keeps the category from being migrated, as sentences.
        records: in the flat table, about; sampled: of them, those that were taken there and back.
        refused: of the sample, records that cannot be transformed or written, each with why; at most a few.
        differing: those that do not come back as they were, each with its fields; at most a few.
        bad: how many were refused or differ.
        seconds: that one worker needs for all records at the sample's speed; None where nothing was sampled.
    """

    category: Category
    problems: Sequence[str]
    records: int
    sampled: int = 0
    refused: Mapping[model.Key, str] = dataclasses.field(default_factory=dict)
    differing: Mapping[model.Key, Sequence[FieldDifference]] = dataclasses.field(default_factory=dict)
    bad: int = 0
    seconds: float | None = None

    @property
    def good(self) -> bool:
        """Whether nothing was found."""
        return not self.problems and not self.bad


def take(system: System, category: Category, *, sample: int) -> RoundTrip:
    """Check a category; nothing is written.

    Args:
        sample: records that are taken there and back, at most.

    Raises:
        errors.Unreachable: a store does not answer.
        errors.TimedOut: somebody else holds rows or tables of it.
        errors.Refused: the application writes the hierarchical store, and would have to wait for the sample.
    """
    with contextlib.closing(system.flat()) as flat, contextlib.closing(system.hier()) as hier:
        if write_mode.state(hier).mode.ruling is model.StoreName.HIERARCHICAL:
            raise errors.Refused(
                "The application writes the hierarchical store, and would have to wait for the sample.",
                hint="hal9-migrate mode",
            )
        problems = [*category_check.problems(category, flat, hier)]
        if not problems:
            problems += _unindexed(category, hier)
            for store, opened in ((model.StoreName.FLAT, flat), (model.StoreName.HIERARCHICAL, hier)):
                problems += [
                    f"{one.what} on the {store} store is missing: {one.grant}"
                    for one in rights.missing(opened, store, [category], "operator")
                ]
        known = store_size.records(flat, [category]).get(category.slug) if not problems else None
        flat.rollback()
        hier.rollback()
        made = RoundTrip(category=category, problems=problems, records=0 if known is None else known.count)
        return made if problems else _there_and_back(made, flat, hier, sample)


def _unindexed(category: Category, hier: Connection) -> Iterator[str]:
    for target in category.owned:
        with hier.cursor() as cursor:
            cursor.execute(_INDEXES, (target.qualified,))
            led = [tuple(columns)[: len(target.owner)] for (columns,) in cursor.fetchall()]
        if target.owner not in led:
            columns = ", ".join(target.owner)
            yield (
                f"hierarchical store: {target.qualified} has no index that begins with ({columns}), so that each "
                f"record would be looked for in all of it: CREATE INDEX ON {target.qualified} ({columns})"
            )


def _there_and_back(made: RoundTrip, flat: Connection, hier: Connection, sample: int) -> RoundTrip:
    category = made.category
    keys = _drawn(category, flat, made.records, sample)
    if not keys:
        return made
    began = time.monotonic()
    transform = Transform(category)
    records = {transform.key(fields): fields for fields in reader.read(flat, category, keys, EVERYTHING)}
    flat.rollback()
    if not records:
        return made  # all that were drawn were deleted meanwhile
    refused: dict[model.Key, str] = {}
    try:
        with hier.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{_PATIENCE}s'; {capture.APPLY}; SAVEPOINT before")
            written = _written(cursor, transform, records, refused)
            took = time.monotonic() - began
            found = applier.hashes(cursor, transform, projection.Keys(keys=list(written))) if written else {}
            back = {transform.key_of(parts): value for parts, value in found.items()}
            wrong = [key for key, fields in written.items() if back.get(key) != fields[-1]]
            with flat.cursor() as source:
                differing = dict(field_diff.differing(source, cursor, category, wrong[:_TOLD]))
            lost = {key: () for key in wrong[:_TOLD] if key not in back}
    except psycopg2.errors.LockNotAvailable:
        raise errors.TimedOut(
            f"Somebody holds rows of {category.slug} in the hierarchical store, so that the sample had to wait.",
            hint="try it again",
        ) from None
    finally:
        flat.rollback()
        hier.rollback()
    return dataclasses.replace(
        made,
        sampled=len(records),
        refused=dict(list(refused.items())[:_TOLD]),
        differing=differing | lost,
        bad=len(refused) + len(wrong),
        seconds=took / len(records) * made.records,
    )


def _drawn(category: Category, flat: Connection, records: int, sample: int) -> list[model.Key]:
    """Return keys from all over the flat table."""
    # Somewhat more than is wanted, as a share of rows is drawn and not a number.
    share = min(100.0, 130.0 * sample / records) if records else 100.0
    query = f"SELECT {projection.key_texts(category)} FROM {category.source.qualified} AS s"
    with flat.cursor() as cursor:
        drawn = f" TABLESAMPLE BERNOULLI ({share:f})" if share < 100 else ""
        cursor.execute(f"{query}{drawn} LIMIT %s", (sample,))
        found = [tuple(row) for row in cursor.fetchall()]
        if not found and drawn:
            # A small share may draw nothing at all, which must not pass for an empty table.
            cursor.execute(f"{query} LIMIT %s", (sample,))
            found = [tuple(row) for row in cursor.fetchall()]
    flat.rollback()
    return found


def _written(
    cursor: Cursor,
    transform: Transform,
    records: Mapping[model.Key, list[bytes]],
    refused: dict[model.Key, str],
) -> dict[model.Key, list[bytes]]:
    """Write records as a copy would, halving those that fail, and return what is written."""
    keys = list(records)
    output = transform.apply(list(records.values()))
    refused.update({keys[one.index]: one.error.message for one in output.rejections})
    good = {key: fields for key, fields in records.items() if key not in refused}
    if not good:
        return {}
    cursor.execute("SAVEPOINT sample")
    try:
        BatchWriter(transform).merge(cursor, output, newer_only=False)
    except psycopg2.Error as error:
        if not foreign_errors.blames_record(error):
            raise
        cursor.execute("ROLLBACK TO SAVEPOINT sample; RELEASE SAVEPOINT sample")
        if len(good) == 1:
            refused.update(dict.fromkeys(good, foreign_errors.sentence(error)))
            return {}
        middle = len(good) // 2
        parts = (list(good)[:middle], list(good)[middle:])
        return {
            key: fields
            for part in parts
            for key, fields in _written(cursor, transform, {key: good[key] for key in part}, refused).items()
        }
    cursor.execute("RELEASE SAVEPOINT sample")
    return good
