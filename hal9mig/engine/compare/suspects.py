"""The second look at records that differed: what stands is a difference, what is on its way is not.

The side that rules is looked at first and last, its journal and the other side in between. A record
that is the same at both looks was last written before the first; where that write is no longer in the
journal it has been applied, so the look at the other side had to find it. What changed between the
looks, or waits in the journal, proves nothing, and is counted as moving.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from hal9mig import model
from hal9mig.categories.declaration import Category
from hal9mig.categories.filters import Filter
from hal9mig.engine.compare import digest, field_diff, keystream, orphans
from hal9mig.engine.compare.keystream import Pair, Query, Row, Stream
from hal9mig.engine.compare.tally import Tally
from hal9mig.ledger.verify_results import Difference, FieldDifference, Kind
from hal9mig.stores import capture, projection
from hal9mig.stores.connection import Connection

#: Differences of each kind that a batch lists; it counts them all.
MOST_LISTED = 1000
_LOOK = 1000  # records looked at in one query
_EVERYTHING = Filter(text="")
_ORPHANED = (FieldDifference(field="root", flat=None, hier="only parts without their root are left"),)
T = TypeVar("T")


@dataclasses.dataclass(kw_only=True)
class Listing:
    """The differences a step lists, and how many of each kind its batch has listed by now."""

    listed: dict[Kind, int]
    found: list[Difference] = dataclasses.field(default_factory=list)

    def admit(self, kind: Kind, tally: Tally) -> bool:
        """Whether one more of a kind is listed; it is counted either way."""
        if self.listed[kind] >= MOST_LISTED:
            tally.unlisted += 1
            return False
        self.listed[kind] += 1
        return True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Suspects:
    """Decides the records of a step that differed.

    Attributes:
        chosen: the run's filter.
        covered: over the flat table, whether a record counts as migrated.
        forward: whether the flat store rules.
        deep: find out which fields of a mismatch differ.
        flat, hier: connections, each outside a transaction.
    """

    category: Category
    chosen: Filter
    covered: Query
    forward: bool
    deep: bool
    flat: Connection
    hier: Connection

    def unhidden(self, suspects: Iterable[Pair]) -> Iterator[Pair]:
        """Yield the suspects with what the filter hides on the side that rules: it may differ in just that."""
        for some in _portions(suspects):
            hidden = [pair.row.text for pair in some if not (pair.flat if self.forward else pair.hier)]
            if not self.chosen.conditions or not hidden:
                yield from some
                continue
            found = self._look(projection.Keys(keys=hidden), flat=self.forward)
            for pair in some:
                if self.forward and pair.flat is None:
                    yield Pair(next(iter(found.get(pair.row.key, ())), None), pair.hier)
                elif not self.forward and not pair.hier:
                    yield Pair(pair.flat, found.get(pair.row.key, ()))
                else:
                    yield pair

    def decide(self, suspects: Sequence[Pair], tally: Tally, listing: Listing) -> None:
        """Look again at records that differed, by their keys alone, count them, and list what differs.

        Raises:
            psycopg2.Error: a server failed.
        """
        for some in _portions(suspects):
            self._decide(some, tally, listing)

    def _decide(self, some: Sequence[Pair], tally: Tally, listing: Listing) -> None:
        keys = [pair.row.text for pair in some]
        scope = projection.Keys(keys=keys)
        waiting = capture.waiting(self.flat if self.forward else self.hier, self.category.slug, keys)
        other = self._look(scope, flat=not self.forward)
        ruling = self._look(scope, flat=self.forward)
        flat, hier = (ruling, other) if self.forward else (other, ruling)
        held = self._held(scope)
        mismatched: list[model.Key] = []
        for pair in some:
            key, text = pair.row.key, pair.row.text
            now = Pair(next(iter(flat.get(key, ())), None), hier.get(key, ()))
            changed = text in waiting or self._ruling(pair) != self._ruling(now)
            kind = tally.judge(now, changed=changed, held=key in held)
            if kind is None or not listing.admit(kind, tally):
                continue
            if kind is Kind.MISMATCH and self.deep:
                mismatched.append(text)
            else:
                listing.found.append(Difference(key=text, kind=kind))
        if mismatched:
            details = self._details(mismatched)
            listing.found += [
                Difference(key=key, kind=Kind.MISMATCH, fields=details.get(key, ())) for key in mismatched
            ]

    def _ruling(self, pair: Pair) -> list[int]:
        """What the side that rules has of a record."""
        if self.forward:
            return [] if pair.flat is None else [pair.flat.hash]
        return sorted(row.hash for row in pair.hier)

    def _look(self, scope: projection.Keys, *, flat: bool) -> dict[tuple[Any, ...], list[Row]]:
        rows = (
            projection.flat_rows(self.category, scope, _EVERYTHING)
            if flat
            else projection.rebuilt_rows(self.category, scope)
        )
        query = keystream.select(
            self.category, rows, covered=self.covered if flat else digest.FALSE, chosen=self.chosen.sql("s"),
            ordered=False,
        )  # fmt: skip
        connection = self.flat if flat else self.hier
        found: dict[tuple[Any, ...], list[Row]] = {}
        with connection, connection.cursor() as cursor:
            cursor.execute(digest.SESSION)
            for row in keystream.collect(cursor, self.category, query):
                found.setdefault(row.key, []).append(row)
        return found

    def _details(self, keys: Sequence[model.Key]) -> dict[model.Key, Sequence[FieldDifference]]:
        with self.flat, self.hier, self.flat.cursor() as flat, self.hier.cursor() as hier:
            for cursor in (flat, hier):
                cursor.execute(digest.SESSION)
            return dict(field_diff.differing(flat, hier, self.category, keys))

    def _held(self, scope: projection.Keys) -> set[tuple[Any, ...]]:
        """Return which of these keys are in quarantine, compared as values and not as the texts they were noted in."""
        columns = ", ".join(
            f"(q.key->>{at})::{column.type} AS {column.name}"
            for at, column in enumerate(self.category.source.key_columns)
        )
        where, params = scope.sql(self.category, [f"s.{name}" for name in self.category.key])
        keys = ", ".join(f"s.{name}" for name in self.category.key)
        # Materialised: keys of other categories must not be cast to this one's types.
        query = (
            f"WITH q AS MATERIALIZED (SELECT key FROM hal9mig.quarantine WHERE status = 'held' AND category = %s) "
            f"SELECT {keys}, {projection.key_texts(self.category)}, 0::bigint, false, false "
            f"FROM (SELECT {columns} FROM q) s WHERE {where}",
            [self.category.slug, *params],
        )
        with self.hier, self.hier.cursor() as cursor:
            return {row.key for row in keystream.collect(cursor, self.category, query)}

    def orphans(self, scope: projection.Bounds, tally: Tally, listing: Listing) -> None:
        """Count as extra what is left in the hierarchical store of records that neither store has.

        Raises:
            psycopg2.Error: a server failed.
        """
        query = orphans.query(self.category, scope)
        # Without a root nothing tells whether a filter would take a record; and where the hierarchical
        # store rules, what it holds is its own affair.
        if query is None or self.chosen.conditions or not self.forward:
            return
        with self.hier:
            with self.hier.cursor() as cursor:
                cursor.execute(digest.RANGE)
            with Stream(self.hier, self.category, query, name="hierarchical") as stream:
                for some in _portions(stream):
                    texts = [row.text for row in some]
                    waiting = capture.waiting(self.flat, self.category.slug, texts)
                    # Where the source has the record the target lacks it, and that has been counted.
                    there = self._look(projection.Keys(keys=texts), flat=True)
                    for row in some:
                        if row.key not in there and row.text not in waiting:
                            tally.orphan()
                            if listing.admit(Kind.EXTRA, tally):
                                listing.found.append(Difference(key=row.text, kind=Kind.EXTRA, fields=_ORPHANED))


def _portions(items: Iterable[T]) -> Iterator[Sequence[T]]:
    remaining = iter(items)
    while some := list(itertools.islice(remaining, _LOOK)):
        yield some
