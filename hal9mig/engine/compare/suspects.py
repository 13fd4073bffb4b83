"""Records that differed at a comparison's first look: judged, counted, and listed with their fields."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from hal9mig import model
from hal9mig.categories.filters import Filter
from hal9mig.engine.compare import digest, field_diff, judge, orphans
from hal9mig.engine.compare.judge import Judgement, Sides
from hal9mig.engine.compare.keystream import Pair, Stream
from hal9mig.engine.compare.tally import Tally
from hal9mig.ledger.verify_results import Difference, DifferenceKind, FieldDifference
from hal9mig.stores import projection

#: Differences of each kind that a batch lists; it counts them all.
MOST_LISTED = 1000
_LOOK = 1000  # records looked at in one query
_ORPHANED = (FieldDifference(field="root", flat=None, hier="only parts without their root are left"),)
T = TypeVar("T")


@dataclasses.dataclass(kw_only=True)
class DifferenceListing:
    """The differences a step lists, and how many of each kind its batch has listed by now."""

    listed: dict[DifferenceKind, int]
    found: list[Difference] = dataclasses.field(default_factory=list)

    def admit(self, kind: DifferenceKind, tally: Tally) -> bool:
        """Whether one more of a kind is listed; it is counted either way."""
        if self.listed[kind] >= MOST_LISTED:
            tally.unlisted += 1
            return False
        self.listed[kind] += 1
        return True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Suspects:
    """Has the records of a step that differed judged, counts them, and lists what differs.

    Attributes:
        chosen: the run's filter.
        deep: find out which fields of a mismatch differ.
    """

    both: Sides
    chosen: Filter
    deep: bool

    def unhidden(self, suspects: Iterable[Pair]) -> Iterator[Pair]:
        """Yield the suspects with what the filter hides on the side that rules: it may differ in just that."""
        forward = self.both.forward
        for some in _portions(suspects):
            hidden = [pair.row.text for pair in some if not (pair.flat if forward else pair.hier)]
            if not self.chosen.conditions or not hidden:
                yield from some
                continue
            found = self.both.look(hidden, flat=forward, chosen=self.chosen)
            for pair in some:
                if forward and pair.flat is None:
                    yield Pair(next(iter(found.get(pair.row.key, ())), None), pair.hier)
                elif not forward and not pair.hier:
                    yield Pair(pair.flat, found.get(pair.row.key, ()))
                else:
                    yield pair

    def decide(self, suspects: Sequence[Pair], tally: Tally, listing: DifferenceListing) -> None:
        """Have records that differed at the first look judged, count them, and list what differs.

        Raises:
            errors.StaleEpoch: the write mode was switched meanwhile.
            psycopg2.Error: a server failed.
        """
        forward = self.both.forward
        for some in _portions(suspects):
            before = {pair.row.key: [pair.flat] if forward and pair.flat else pair.hier if not forward else ()
                      for pair in some}  # fmt: skip
            mismatched: list[model.Key] = []
            for verdict in judge.judge(self.both, [pair.row.text for pair in some], before=before, chosen=self.chosen):
                kind = tally.count(verdict)
                if kind is None or not listing.admit(kind, tally):
                    continue
                if kind is DifferenceKind.MISMATCH and self.deep:
                    mismatched.append(verdict.key)
                else:
                    listing.found.append(Difference(key=verdict.key, kind=kind))
            if mismatched:
                details = self._details(mismatched)
                listing.found += [
                    Difference(key=key, kind=DifferenceKind.MISMATCH, fields=details.get(key, ())) for key in mismatched
                ]

    def _details(self, keys: Sequence[model.Key]) -> dict[model.Key, Sequence[FieldDifference]]:
        both = self.both
        with both.flat, both.hier, both.flat.cursor() as flat, both.hier.cursor() as hier:
            for cursor in (flat, hier):
                cursor.execute(digest.SESSION)
            return dict(field_diff.differing(flat, hier, both.category, keys))

    def orphans(self, scope: projection.Bounds, tally: Tally, listing: DifferenceListing) -> None:
        """Count as extra what is left in the hierarchical store of records that neither store has.

        Raises:
            errors.StaleEpoch: the write mode was switched meanwhile.
            psycopg2.Error: a server failed.
        """
        both = self.both
        query = orphans.query(both.category, scope)
        # Without a root nothing tells whether a filter would take a record; and where the hierarchical
        # store rules, what it holds is its own affair.
        if query is None or self.chosen.conditions or not both.forward:
            return
        with both.hier:
            with both.hier.cursor() as cursor:
                cursor.execute(digest.RANGE)
            with Stream(both.hier, both.category, query, name="hierarchical") as stream:
                left = list(stream)
        for verdict in judge.judge(both, [row.text for row in left]):
            # Where the source has the record the target lacks it, and that has been counted.
            if verdict.state is Judgement.DRIFTS and verdict.kind is DifferenceKind.EXTRA and not verdict.hier:
                tally.orphan()
                if listing.admit(DifferenceKind.EXTRA, tally):
                    listing.found.append(Difference(key=verdict.key, kind=DifferenceKind.EXTRA, fields=_ORPHANED))


def _portions(items: Iterable[T]) -> Iterator[Sequence[T]]:
    remaining = iter(items)
    while some := list(itertools.islice(remaining, _LOOK)):
        yield some
