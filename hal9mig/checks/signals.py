"""Signals sent along real connections in both stores: the same path, in the same order, with the same values?

From each sampled unit a signal starts with the unit's activation. At each step it takes one of the unit's
connections, drawn by the seed, the start and the step, and the unit it leads to receives

    tanh(signal * weight + its own activation)

in doubles, computed here for both stores, so that equal state gives equal bits. A path ends where a unit has no
connections, where there is no unit, or after a number of steps. Each store finds its way by itself: the
next unit is the one that *its* connection names.

Both stores are read while the application writes. Where two paths part, the judge is asked about the units on
them; what is on its way is walked again, and only what stays is a difference.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence

from hal9mig import model
from hal9mig.categories import neurons
from hal9mig.checks import neuron_graph
from hal9mig.checks.neuron_graph import GraphSide
from hal9mig.engine.compare import hash_probe, judge
from hal9mig.engine.compare.judge import Judgement, Sides
from hal9mig.ledger.check_results import CheckOutcome, CheckVerdict

#: Signals that are carried together, and differences that are listed.
TOGETHER, MOST_LISTED = 500, 1_000
MOST_SAMPLES = 1_000_000
#: How often a path that parts while its units are written is walked again, and the seconds between.
_AGAIN, _PAUSE = 5, 0.5


class PathEnd(enum.StrEnum):
    """Why a signal went no further."""

    STEPS = "as far as asked"
    SINK = "no connections"
    NOWHERE = "no such unit"
    #: The ruling store has the unit, and no migration has taken it yet.
    PENDING = "not migrated yet"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SignalStep:
    """A unit that a signal has come to, what it had become there, and by which connection it went on.

    Attributes:
        value: as ``repr`` has it, so that NaN equals itself and -0.0 is not 0.0.
        place, connections: the connection's place from 1, and of how many.
        target, kind, weight: the connection; empty at a path's end, as place and connections are None.
    """

    unit: str
    layer: str
    value: str
    place: int | None = None
    connections: int | None = None
    target: str = ""
    kind: str = ""
    weight: str = ""


@dataclasses.dataclass(kw_only=True)
class SignalPath:
    """Where a signal went in one store, from its start on."""

    start: str
    steps: list[SignalStep] = dataclasses.field(default_factory=list)
    end: PathEnd | None = None

    @property
    def units(self) -> list[str]:
        """Every unit on it, and the one it wanted to go to."""
        return [self.start, *(step.unit for step in self.steps), *(s.target for s in self.steps[-1:] if s.target)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SignalDifference:
    """The first step at which two paths part, counted from 0 at the start, and what is unlike there."""

    start: str
    step: int
    what: str
    flat: str
    hier: str


@dataclasses.dataclass(kw_only=True)
class SignalFindings:
    """What became of the signals; ``pending`` ones ended at a unit that is not migrated yet, alike until there."""

    ruling: model.StoreName
    seed: int
    whole_paths: bool
    signals: int = 0
    steps: int = 0
    alike: int = 0
    pending: int = 0
    moving: int = 0
    differing: int = 0
    differences: list[SignalDifference] = dataclasses.field(default_factory=list)


class SignalCheck:
    """Sends signals through both stores.

    Args:
        samples: how many signals; all units that have connections where there are fewer.
        seed: draws the starts and the ways.
        steps: how far a signal goes at most.
        whole_paths: compare each step; otherwise only where a signal ends, and with which value.
    """

    def __init__(
        self,
        both: Sides,
        *,
        samples: int,
        seed: int,
        steps: int,
        whole_paths: bool,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._both = both
        self._ruler, self._follower = neuron_graph.parts(both)
        self._samples = samples
        self._seed = seed
        self._steps = steps
        self._whole = whole_paths
        self._sleep = sleep
        self._found = SignalFindings(ruling=self._ruler.store, seed=seed, whole_paths=whole_paths)

    def run(self, progress: Callable[[int], None] = lambda signals: None) -> SignalFindings:
        """Send all signals and return what became of them.

        Raises:
            errors.StaleEpoch: the write mode was switched meanwhile, and nothing can be said.
            errors.ServersIncomparable: the two servers do not hash alike.
            psycopg2.Error: a store failed.
        """
        hash_probe.require_alike(self._both.flat, self._both.hier)
        starts = self.starts()
        for first in range(0, len(starts), TOGETHER):
            self._send(starts[first : first + TOGETHER])
            progress(self._found.signals)
        self._both.require_same()
        return self._found

    def starts(self) -> list[str]:
        """Draw migrated units with connections; the same of the same state, wherever its rows lie."""
        side, (covered, values) = self._ruler, self._ruler.covered
        if side.flat:
            table, name = neuron_graph.FLAT, "neuron_id"
            linked = f"jsonb_array_length({neuron_graph.LISTED}) > 0"
        else:
            table, name = neuron_graph.UNIT_TABLE, "unit_id"
            linked = f"EXISTS (SELECT FROM {neuron_graph.CONNECTION_TABLE} c WHERE c.unit_id = s.unit_id)"
        with side.connection, side.connection.cursor() as cursor:
            cursor.execute(
                f"SELECT s.{name}::text FROM {table} s WHERE {covered} AND {linked} "
                f"ORDER BY uuid_hash_extended(s.{name}, %s), s.{name} LIMIT %s",
                [*values, self._seed, self._samples],
            )
            return [unit for (unit,) in cursor.fetchall()]

    def _send(self, starts: Sequence[str]) -> None:
        left: Sequence[str] = starts
        counted = self._found
        for turn in range(_AGAIN + 1):
            if turn:
                self._sleep(_PAUSE)
            parting: dict[str, tuple[SignalPath, SignalPath]] = {}
            for mine, other in zip(self.walk(self._ruler, left), self.walk(self._follower, left), strict=True):
                if self._parts(mine, other) is None:
                    counted.steps += max(0, len(mine.steps) - 1)
                    counted.signals += 1
                    ahead = mine.end is PathEnd.PENDING
                    counted.pending += ahead
                    counted.alike += not ahead
                else:
                    parting[mine.start] = mine, other
            drifting = self._drifting(parting)
            for start in drifting:
                self._differ(*parting.pop(start))
            left = list(parting)
            if not left:
                return
        counted.signals += len(left)
        counted.moving += len(left)

    def _drifting(self, parting: dict[str, tuple[SignalPath, SignalPath]]) -> list[str]:
        """Return the starts whose paths hold a unit that differs for good."""
        wanted = {unit for paths in parting.values() for path in paths for unit in path.units}
        verdicts = judge.judge(self._both, [(unit,) for unit in sorted(wanted)]) if wanted else []
        drifts = {verdict.key[0] for verdict in verdicts if verdict.state is Judgement.DRIFTS}
        return [
            start for start, paths in parting.items() if any(unit in drifts for path in paths for unit in path.units)
        ]

    def _differ(self, mine: SignalPath, other: SignalPath) -> None:
        counted = self._found
        counted.signals += 1
        counted.differing += 1
        step = self._parts(mine, other)
        if step is not None and len(counted.differences) < MOST_LISTED:
            flat, hier = (mine, other) if self._both.forward else (other, mine)
            counted.differences.append(_described(flat, hier, step))

    # The way of a signal in one store

    def walk(self, side: GraphSide, starts: Sequence[str]) -> list[SignalPath]:
        """Return the ways that signals from these units take in one store."""
        paths = [SignalPath(start=start) for start in starts]
        heads = {place: (start, 0.0, 0.0) for place, start in enumerate(starts)}
        for step in range(self._steps + 1):
            if not heads:
                break
            draws = {place: _draw(self._seed, paths[place].start, step) for place in heads}
            found = dict(self._read(side, {place: head[0] for place, head in heads.items()}, draws))
            onwards: dict[int, tuple[str, float, float]] = {}
            for place, (_, signal, weight) in heads.items():
                ahead = _arrive(paths[place], found.get(place), signal, weight, last=step == self._steps)
                if ahead is not None:
                    onwards[place] = ahead
            heads = onwards
        return paths

    def _read(
        self, side: GraphSide, units: dict[int, str], draws: dict[int, int]
    ) -> Iterator[tuple[int, tuple[float, bool, SignalStep]]]:
        """Yield of each unit that is there its activation, whether it counts as migrated, and the connection drawn."""
        covered, more = side.covered
        if side.flat:
            table, name = neuron_graph.FLAT, "neuron_id"
            listed = (
                f"CROSS JOIN LATERAL (SELECT {neuron_graph.LISTED} AS all) l "
                "CROSS JOIN LATERAL (SELECT jsonb_array_length(l.all) AS count) n "
                "LEFT JOIN LATERAL (SELECT mod(w.draw, greatest(n.count, 1)) + 1 AS place, "
                "l.all->mod(w.draw, greatest(n.count, 1))::int AS value WHERE n.count > 0) e ON true"
            )
            chosen = f"e.place, ({neuron_graph.target('e.value')})::text, e.value->>'conn_type', e.value->>'weight'"
        else:
            table, name, links = neuron_graph.UNIT_TABLE, "unit_id", neuron_graph.CONNECTION_TABLE
            listed = (
                f"CROSS JOIN LATERAL (SELECT count(*) FROM {links} c WHERE c.unit_id = w.unit) n "
                f"LEFT JOIN LATERAL (SELECT c.ordinal AS place, c.target_id, c.connection_type, "
                f"{neuron_graph.WEIGHT} AS weight FROM {links} c WHERE c.unit_id = w.unit AND n.count > 0 "
                "ORDER BY c.ordinal OFFSET mod(w.draw, greatest(n.count, 1)) LIMIT 1) e ON true"
            )
            chosen = "e.place, e.target_id::text, e.connection_type, e.weight"
        places = list(units)
        query = (
            f"SELECT w.at, s.{name}::text, s.layer, s.activation, coalesce({covered}, false), n.count, {chosen} "
            "FROM unnest(%s::int[], %s::uuid[], %s::bigint[]) w (at, unit, draw) "
            f"JOIN {table} s ON s.{name} = w.unit {listed}"
        )
        values = [*more, places, [units[at] for at in places], [draws[at] for at in places]]
        with side.connection, side.connection.cursor() as cursor:
            neuron_graph.execute(cursor, (query, values))
            for at, unit, layer, activation, ready, count, place, target, kind, weight in cursor.fetchall():
                step = SignalStep(
                    unit=unit, layer=layer, value="", place=place, connections=count, target=target or "",
                    kind=kind or "", weight=weight or "",
                )  # fmt: skip
                yield at, (activation, ready, step)

    # Two ways compared

    def _parts(self, mine: SignalPath, other: SignalPath) -> int | None:
        """Return the first step at which two paths are unlike, None where they are alike.

        Where the ruling store's ends at a unit that is not migrated yet, it is compared as far as it goes.
        """
        ahead = mine.end is PathEnd.PENDING
        if not self._whole:
            same = ahead or (_last(mine) == _last(other) and mine.end is other.end)
            return None if same else _parting(mine, other)
        step = _parting(mine, other)
        return None if step is None or (ahead and step >= len(mine.steps)) else step


def _parting(mine: SignalPath, other: SignalPath) -> int | None:
    """Return the first step that is not the same in both, which may be the one that only the longer has."""
    for at, (one, two) in enumerate(zip(mine.steps, other.steps, strict=False)):
        if one != two:
            return at
    alike = len(mine.steps) == len(other.steps) and mine.end is other.end
    return None if alike else min(len(mine.steps), len(other.steps))


def _last(path: SignalPath) -> tuple[str, str] | None:
    return (path.steps[-1].unit, path.steps[-1].value) if path.steps else None


def _arrive(
    path: SignalPath, found: tuple[float, bool, SignalStep] | None, signal: float, weight: float, *, last: bool
) -> tuple[str, float, float] | None:
    """Note where a signal has come to and return where it goes from there, with its value and the weight."""
    if found is None or not found[1]:
        path.end = PathEnd.NOWHERE if found is None else PathEnd.PENDING
        return None
    activation, _, step = found
    value = math.tanh(signal * weight + activation) if path.steps else activation
    step = dataclasses.replace(step, value=repr(value))
    if last or step.place is None:
        path.end = PathEnd.SINK if step.place is None else PathEnd.STEPS
    path.steps.append(step)
    if path.end is not None:
        return None
    if not step.target:
        path.end = PathEnd.NOWHERE
        return None
    return step.target, value, _number(step.weight)


def _number(weight: str) -> float:
    try:
        return float(weight)
    except ValueError:
        return math.nan  # the flat store may hold anything; its record is in quarantine then


def _draw(seed: int, start: str, step: int) -> int:
    drawn = hashlib.blake2b(f"{seed}/{start}/{step}".encode(), digest_size=8).digest()
    return int.from_bytes(drawn) >> 1


def _described(flat: SignalPath, hier: SignalPath, step: int) -> SignalDifference:
    one = flat.steps[step] if step < len(flat.steps) else None
    two = hier.steps[step] if step < len(hier.steps) else None
    if one is None or two is None:
        texts = [str(path.end) if at is None else f"goes on at {at.unit}" for path, at in ((flat, one), (hier, two))]
        return SignalDifference(start=flat.start, step=step, what="end", flat=texts[0], hier=texts[1])
    unlike = [
        field.name
        for field in dataclasses.fields(SignalStep)
        if getattr(one, field.name) != getattr(two, field.name)
    ]  # fmt: skip
    words = {"unit": "path", "place": "order", "connections": "number of connections", "target": "path"}
    what = ", ".join(dict.fromkeys(words.get(name, name) for name in unlike))
    sides = [", ".join(f"{name} {getattr(at, name)}" for name in unlike) for at in (one, two)]
    return SignalDifference(start=flat.start, step=step, what=what, flat=sides[0], hier=sides[1])


def outcome(found: SignalFindings) -> CheckOutcome:
    """Return the finding that is kept."""
    verdict = CheckVerdict.FAILED if found.differing else CheckVerdict.PASSED
    if not found.alike and not found.differing:
        verdict = CheckVerdict.SKIPPED
    measured = {name: value for name, value in vars(found).items() if name != "differences"}
    return CheckOutcome(
        category=neurons.CATEGORY.slug,
        name="signals",
        verdict=verdict,
        detail=sentence(found),
        next_command=next(iter(next_steps(found)), ""),
        measured=measured,
    )


def sentence(found: SignalFindings) -> str:
    """Return the verdict's words."""
    how = "the same paths and values" if found.whole_paths else "the same ends and values"
    if not found.signals:
        return "Signals: no migrated unit has connections, so none was sent"
    text = f"Signals: {found.alike + found.pending:,} of {found.signals:,} have {how} in both stores"
    parts = [f"{found.steps:,} steps"]
    if found.pending:
        parts.append(f"{found.pending:,} as far as units are migrated")
    if found.moving:
        parts.append(f"{found.moving:,} through units that are changing")
    return f"{text}  ({'; '.join([*parts, f'seed {found.seed}'])})"


def next_steps(found: SignalFindings) -> list[str]:
    """Return the commands to go on with."""
    steps = ["hal9-migrate state fix --auto --safe-only --category neuron-states"] if found.differing else []
    if found.pending or not found.signals:
        steps.append("hal9-migrate state migrate --category neuron-states")
    return steps
