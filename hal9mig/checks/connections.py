"""Whether units are connected alike in both stores, and how well the graph that they form holds together.

A range of units at a time, both servers count and digest its connections; only where that differs, units
are compared one by one, and what differs still is put before the judge. So live traffic is no difference,
and this process holds a range at most.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from hal9mig import model
from hal9mig.checks import layers, neuron_graph
from hal9mig.checks.connection_findings import MOST_KEPT, MOST_LISTED, ConnectionDifference, ConnectionFindings
from hal9mig.checks.neuron_graph import GraphSide
from hal9mig.engine.compare import hash_probe, judge
from hal9mig.engine.compare.judge import Judgement, Sides, Verdict
from hal9mig.stores import projection

_LOOK = 1_000  # units put before the judge together
#: Called with the number of units that have been looked at so far.
Progress = Callable[[int], None]
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class _Counts:
    """What one store says of a range; digests are of all connections and of those that lead nowhere yet."""

    figures: Sequence[int]
    unit_digest: int
    digest: int
    open_digest: int
    pending: int


@dataclasses.dataclass(frozen=True)
class _Unit:
    covered: bool
    known: bool
    digest: int
    open_digest: int
    pending: int


_AGGREGATES = """
count(d.ordinal), count(*) FILTER (WHERE d.target = d.unit),
count(d.pair) - count(DISTINCT d.pair), count(d.whole) - count(DISTINCT d.whole),
count(*) FILTER (WHERE d.target IS NOT NULL AND d.there IS NULL),
count(*) FILTER (WHERE d.ordinal IS NOT NULL AND d.target IS NULL),
count(*) FILTER (WHERE NOT d.known)
"""
_DIGESTS = "coalesce(sum(d.mark), 0), coalesce(sum(d.mark) FILTER (WHERE d.there IS NOT TRUE), 0)"


class ConnectionCheck:
    """Looks at the connections of all units, or of one layer's.

    Args:
        deep: compare type and weight of each connection too, list those that differ, and find what is unreachable.
    """

    def __init__(self, both: Sides, *, layer: str | None = None, deep: bool = False):
        self._both = both
        self._ruler, self._follower = neuron_graph.parts(both)
        self._flat, self._hier = sorted((self._ruler, self._follower), key=lambda side: not side.flat)
        self._layer = layer
        self._deep = deep
        self._found = ConnectionFindings(ruling=self._ruler.store, layer=layer, deep=deep)

    def run(self, progress: Progress = lambda units: None) -> ConnectionFindings:
        """Look at everything and return what was found.

        Raises:
            errors.StaleEpoch: the write mode was switched meanwhile, and nothing can be said.
            errors.ServersIncomparable: the two servers do not hash alike.
            psycopg2.Error: a store failed.
        """
        hash_probe.require_alike(self._both.flat, self._both.hier)
        for scope in self._ranges():
            self._look(scope)
            progress(self._found.ruled.units)
        if self._deep and self._layer is None:
            self._reach()
        self._both.require_same()
        return self._found

    def _ranges(self) -> Iterator[projection.Bounds]:
        after: model.Key | None = None
        while True:
            # Of both stores the nearer one: the range is small in the other, too.
            ends = [end for side in (self._ruler, self._follower) if (end := neuron_graph.bound(side, after))]
            upto = min(ends) if ends else None
            yield projection.Bounds(after=after, upto=upto)
            if upto is None:
                return
            after = upto

    # One range

    def _look(self, scope: projection.Bounds) -> None:
        ruling, follower = self._at_once(lambda side: self._counts(side, scope))
        everything, migrated = ruling
        whole, _ = follower
        flat, hier = (everything, whole) if self._ruler.flat else (whole, everything)
        self._found.flat.add(flat.figures)
        self._found.hier.add(hier.figures)
        rootless = self._both.forward and hier.figures[-1]
        for mine in (everything, migrated):
            if (mine.unit_digest, mine.digest, mine.open_digest) == (
                whole.unit_digest, whole.digest, whole.open_digest
            ) and not rootless:  # fmt: skip
                self._found.pending += migrated.pending
                self._found.pending_units += everything.figures[0] - mine.figures[0]
                return
        self._unit_by_unit(scope)

    def _counts(self, side: GraphSide, scope: projection.Bounds) -> tuple[_Counts, _Counts]:
        """Return what a store says of all units of a range, and of those that count as migrated."""
        found: dict[bool, list[int]] = {True: [0] * 12, False: [0] * 12}
        rows = neuron_graph.hashed(neuron_graph.connections(side, scope, self._layer), deep=self._deep)
        units = neuron_graph.units(side, scope, self._layer)
        with side.connection, side.connection.cursor() as cursor:
            neuron_graph.execute(
                cursor,
                (
                    f"SELECT d.covered, {_AGGREGATES}, {_DIGESTS}, "
                    f"count(*) FILTER (WHERE NOT d.there) FROM {rows[0]} d GROUP BY 1",
                    rows[1],
                ),
            )
            for covered, *values in cursor.fetchall():
                found[covered][1:8], found[covered][9:12] = map(int, values[:7]), map(int, values[7:])
            cursor.execute(
                "SELECT d.covered, count(*), coalesce(sum(hash_record_extended(row(d.unit), 0)), 0) "
                f"FROM {units[0]} d GROUP BY 1",
                units[1],
            )
            for covered, count, total in cursor.fetchall():
                found[covered][0], found[covered][8] = count, int(total)
        everything = [sum(pair) for pair in zip(found[True], found[False], strict=True)]
        return _made(everything), _made(found[True])

    # Where a range differs

    def _unit_by_unit(self, scope: projection.Bounds) -> None:
        ruling, follower = self._at_once(lambda side: self._units(side, scope))
        suspects: list[model.Key] = []
        leading: list[model.Key] = []
        for unit in sorted(ruling.keys() | follower.keys()):
            mine, other = ruling.get(unit), follower.get(unit)
            if mine is not None and mine.known and not mine.covered and other is None:
                self._found.pending_units += 1
            elif mine is None or other is None or not (mine.known and other.known) or mine.digest != other.digest:
                # Where the hierarchical store rules, connections without a unit are its own affair.
                if not (other is None and mine is not None and not mine.known):
                    suspects.append((unit,))
            elif other.open_digest == mine.open_digest:
                self._found.pending += mine.pending
            elif other.open_digest:
                leading.append((unit,))
        for start in range(0, len(suspects), _LOOK):
            for verdict in judge.judge(self._both, suspects[start : start + _LOOK]):
                self._note(verdict)
                if verdict.state is Judgement.AGREES and verdict.flat is not None:
                    leading.append(verdict.key)
        for start in range(0, len(leading), _LOOK):
            self._follow(leading[start : start + _LOOK])

    def _units(self, side: GraphSide, scope: projection.Bounds) -> dict[str, _Unit]:
        rows = neuron_graph.hashed(neuron_graph.connections(side, scope, self._layer), deep=self._deep)
        with side.connection, side.connection.cursor() as cursor:
            neuron_graph.execute(
                cursor,
                (
                    f"SELECT d.unit::text, bool_or(d.covered), bool_or(d.known), {_DIGESTS}, "
                    f"count(*) FILTER (WHERE NOT d.there) FROM {rows[0]} d GROUP BY d.unit",
                    rows[1],
                ),
            )
            return {unit: _Unit(*values) for unit, *values in cursor.fetchall()}

    def _at_once(self, look: Callable[[GraphSide], T]) -> tuple[T, T]:
        """Return what the store that rules and the one that follows say, asked at the same time."""
        with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="ruling store") as pool:
            ruling = pool.submit(look, self._ruler)
            try:
                following = look(self._follower)
            except BaseException:
                self._ruler.connection.cancel()
                raise
            return ruling.result(), following

    def _note(self, verdict: Verdict) -> None:
        found = self._found
        if verdict.state is Judgement.PENDING:
            found.pending_units += 1
        elif verdict.state is Judgement.LAGS:
            found.moving_units += 1
        elif verdict.state is Judgement.DRIFTS and verdict.flat is None and not verdict.hier:
            found.rootless_units += 1
            if len(found.rootless) < MOST_KEPT:
                found.rootless[verdict.key] = len(self._texts(self._hier, verdict.key))
        elif verdict.state is Judgement.DRIFTS:
            self._note_drift(verdict)

    def _note_drift(self, verdict: Verdict) -> None:
        found = self._found
        both_there = verdict.flat is not None and bool(verdict.hier)
        flat, hier = self._texts(self._flat, verdict.key), self._texts(self._hier, verdict.key)
        differing = [at for at in sorted({*flat, *hier}) if flat.get(at) != hier.get(at)]
        if both_there and not differing:
            return  # it differs in something else, which is for `state verify` to say
        if verdict.held:
            found.quarantined_units += 1
            return
        found.differing_units += 1
        if self._lost(verdict) and (left := hier if self._both.forward else flat):
            self._orphan(verdict.key, len(left))
        unit = verdict.key[0]
        if self._deep and differing:
            listed = [
                ConnectionDifference(unit=unit, ordinal=at, flat=flat.get(at), hier=hier.get(at)) for at in differing
            ]
        else:
            texts = [
                f"{len(part):,} connections" if there else None
                for part, there in ((flat, verdict.flat is not None), (hier, bool(verdict.hier)))
            ]
            listed = [ConnectionDifference(unit=unit, ordinal=None, flat=texts[0], hier=texts[1])]
        found.differences += listed[: max(0, MOST_LISTED - len(found.differences))]

    def _lost(self, verdict: Verdict) -> bool:
        """Whether the store that follows does not have a unit."""
        return not verdict.hier if self._both.forward else verdict.flat is None

    def _orphan(self, key: model.Key, count: int) -> None:
        self._found.orphaned += count
        if key in self._found.lost or len(self._found.lost) < MOST_KEPT:
            self._found.lost[key] = self._found.lost.get(key, 0) + count

    def _texts(self, side: GraphSide, key: model.Key) -> dict[int, str]:
        query, values = neuron_graph.connections(side, projection.Keys(keys=[key]), None)
        with side.connection, side.connection.cursor() as cursor:
            cursor.execute(
                "SELECT d.ordinal, concat_ws(' ', coalesce(d.target::text, '?'), d.kind, d.weight) "
                f"FROM {query} d WHERE d.ordinal IS NOT NULL LIMIT %s",
                [*values, neuron_graph.CONNECTIONS],
            )
            return dict(cursor.fetchall())

    def _follow(self, keys: Sequence[model.Key]) -> None:
        """Find out of connections that lead nowhere in the store that follows why they do."""
        query, values = neuron_graph.connections(self._follower, projection.Keys(keys=keys), None)
        with self._follower.connection, self._follower.connection.cursor() as cursor:
            neuron_graph.execute(
                cursor,
                (
                    f"SELECT d.target::text, count(*) FROM {query} d "
                    "WHERE d.target IS NOT NULL AND d.there IS NOT TRUE GROUP BY 1",
                    values,
                ),
            )
            times: dict[model.Key, int] = {(target,): int(count) for target, count in cursor.fetchall()}
        targets = list(times)
        for start in range(0, len(targets), _LOOK):
            for verdict in judge.judge(self._both, targets[start : start + _LOOK]):
                if verdict.state is Judgement.PENDING:
                    self._found.pending += times[verdict.key]
                elif verdict.state is Judgement.DRIFTS and self._lost(verdict) and verdict.held:
                    self._found.held_back += times[verdict.key]
                elif verdict.state is Judgement.DRIFTS and self._lost(verdict):
                    self._orphan(verdict.key, times[verdict.key])

    def _reach(self) -> None:
        """Count the units that no signal reaches from the lowest layer that there is."""
        side = self._ruler
        table = neuron_graph.FLAT if side.flat else neuron_graph.UNIT_TABLE
        with side.connection, side.connection.cursor() as cursor:
            cursor.execute(f"SELECT DISTINCT layer FROM {table}")
            there = sorted((layer for (layer,) in cursor.fetchall()), key=layers.place)
            if not there:
                return
            neuron_graph.execute(cursor, neuron_graph.reachable(side, there[0]))
            row = cursor.fetchone()
            cursor.execute(f"SELECT count(*) FROM {table}")
            total = cursor.fetchone()
        self._found.entrance = there[0]
        self._found.unreachable_units = max(0, (total[0] if total else 0) - (row[0] if row else 0))


def _made(values: Sequence[int]) -> _Counts:
    return _Counts(values[:8], *values[8:12])
