"""How fast each store is for the application: reads, writes and updates in rounds that take turns.

A write is made as the client makes it in that store, in a transaction of which all but the log is undone before it
commits: it pays for every row, every index and the flush of the log, and nobody ever sees it. So no scratch record
is left behind by whatever happens, nothing is captured, and no round can take it for drift.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import psycopg2
import psycopg2.errors

from hal9mig import client as application
from hal9mig import errors, model
from hal9mig.categories.declaration import Category
from hal9mig.checks import scratch
from hal9mig.checks.performance import percentile
from hal9mig.checks.subject import Subject
from hal9mig.client import Client, connections, sides
from hal9mig.client.hierarchical import HierarchicalSide
from hal9mig.client.sides import FlatSide, Side
from hal9mig.client.transaction import Transaction
from hal9mig.client.values import Record
from hal9mig.engine.compare.judge import Judgement
from hal9mig.engine.desk import Desk
from hal9mig.engine.system import System
from hal9mig.ledger import check_results
from hal9mig.ledger.check_results import CheckOutcome, CheckVerdict
from hal9mig.stores import capture

OPERATIONS = ("read", "write", "update")
COMMAND = "benchmark"
_FLAT, _HIER = model.StoreName.FLAT, model.StoreName.HIERARCHICAL
#: The narrowest band of noise, as a share: two runs of the same thing differ by as much.
_LEAST_BAND = 0.10
#: Median absolute deviation to standard deviation, of a normal distribution; two of them are the band.
_MAD, _WIDE = 1.4826, 2.0
#: Milliseconds that a lock is waited for: a real record is locked while it is updated, and only then.
_PATIENCE = 1000
#: Times that one update is tried, if the application moves its record's unique values each time.
_TRIES = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarkOrder:
    """What is measured.

    Attributes:
        rounds: in each of which both stores have their turn; samples: operations of a turn.
        sla: milliseconds; an operation whose p95 is within them is fast enough, even where flat is faster.
        seed: which records.
    """

    operations: Sequence[str]
    rounds: int = 5
    samples: int = 30
    sla: float = 50.0
    seed: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timings:
    """One operation of one store: its seconds, a sequence for each round."""

    rounds: Sequence[Sequence[float]]

    def figures(self) -> dict[str, float]:
        """Return percentiles in milliseconds over all rounds, and operations a second of one connection."""
        values = [value for turn in self.rounds for value in turn]
        shown = {f"p{percent}_ms": round(percentile(values, percent) * 1000, 3) for percent in (50, 95, 99)}
        return shown | {"per_second": round(len(values) / sum(values), 1)}


def operations(text: str) -> list[str]:
    """Return the operations that a list names, each once.

    Raises:
        errors.UsageError: there is none of a name.
    """
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    wrong = [name for name in names if name not in OPERATIONS]
    if wrong or not names:
        raise errors.UsageError(
            f"There is no operation {(wrong or [text])[0]!r}.", hint=f"the operations are {', '.join(OPERATIONS)}"
        )
    return names


def run(system: System, categories: Sequence[Category], order: BenchmarkOrder, *, actor: str) -> Iterator[CheckOutcome]:
    """Measure categories and yield what each operation took, kept already.

    Raises:
        errors.Unreachable: a store does not answer.
    """
    with application.connect(system.settings, application_name="hal9-migrate benchmark") as client:
        for category in categories:
            for outcome in _Bench(system, client, category, order).outcomes():
                with system.ledger.begin() as session:
                    check_results.add(session, outcome, command=COMMAND, actor=actor)
                yield outcome


class _Bench:
    """Measures one category."""

    def __init__(self, system: System, client: Client, category: Category, order: BenchmarkOrder):
        self._system, self._client, self._category, self._order = system, client, category, order
        self._sides: Mapping[model.StoreName, Side] = {
            _FLAT: FlatSide(), _HIER: HierarchicalSide(system.transform)
        }  # fmt: skip
        urls = {_FLAT: system.settings.require_flat(), _HIER: system.settings.require_hier()}
        self._pools = {
            store: connections.pool(
                str(store), url, application_name="hal9-migrate benchmark",
                connect_timeout=system.settings.connect_timeout, idle=1,
            )
            for store, url in urls.items()
        }  # fmt: skip

    def outcomes(self) -> Iterator[CheckOutcome]:
        desk = Desk(self._system)
        try:
            subject = Subject(
                system=self._system, client=self._client, desk=desk, category=self._category,
                sample=self._order.samples, seed=self._order.seed,
            )  # fmt: skip
            drawn = subject.judged(subject.drawn(self._order.samples)[: self._order.samples])
            keys = [key for key, one in drawn.items() if one.state is Judgement.AGREES and one.flat is not None]
            unique = scratch.unique_columns(self._category, subject.flat, subject.hier)
        finally:
            desk.clear()
        try:
            for operation in self._order.operations:
                yield self._outcome(operation, keys, unique)
        finally:
            for pool in self._pools.values():
                pool.clear()

    def _outcome(self, operation: str, keys: Sequence[model.Key], unique: frozenset[str]) -> CheckOutcome:
        if not keys:
            return self._skipped(operation, "no record is in both stores")
        real = self._client.fetch(_FLAT, self._category.slug, keys)
        try:
            acts = self._acts(operation, keys, real, unique)
        except scratch.Unmade as problem:
            return self._skipped(operation, str(problem))
        found: dict[model.StoreName, list[list[float]]] = {_FLAT: [], _HIER: []}
        try:
            for turn in range(-1, self._order.rounds):
                # The one that comes first warms what both use: they take turns in that too.
                for store in (_FLAT, _HIER) if turn % 2 else (_HIER, _FLAT):
                    seconds = [_timed(act) for act in acts[store]]
                    if turn >= 0:  # the one before the first opens connections and fills caches
                        found[store].append(seconds)
        except (psycopg2.Error, errors.RecordRejected, scratch.Unmade) as problem:
            return self._skipped(operation, str(problem).strip().splitlines()[0])
        return _judged(self._category, operation, {store: Timings(rounds=one) for store, one in found.items()},
                       self._order)  # fmt: skip

    def _skipped(self, operation: str, why: str) -> CheckOutcome:
        return CheckOutcome(
            category=self._category.slug, name=f"benchmark:{operation}", verdict=CheckVerdict.SKIPPED, detail=why
        )

    def _acts(
        self, operation: str, keys: Sequence[model.Key], real: Sequence[Record], unique: frozenset[str]
    ) -> Mapping[model.StoreName, Sequence[Callable[[], object]]]:
        """Return what a turn of each store does.

        Raises:
            scratch.Unmade: no record to write can be made.
        """
        slug, both = self._category.slug, (_FLAT, _HIER)
        if operation == "read":
            return {store: [partial(self._client.fetch, store, slug, [key]) for key in keys] for store in both}
        if operation == "write":
            own = [scratch.record(self._category, one, unique, number) for number, one in enumerate(real)]
        else:
            own = [self._unversioned(one) for one in real]
        if operation == "update":
            return {store: [_Update(self, store, keys, one) for one in own] for store in both}
        return {store: [partial(self.unseen, store, one) for one in own] for store in both}

    def current(self, store: model.StoreName, keys: Sequence[model.Key], key: model.Key) -> Record:
        """Return a record as a store has it now, without its version; another of the keys' if it is gone.

        Raises:
            scratch.Unmade: none of them is there any more.
        """
        slug = self._category.slug
        found = self._client.fetch(store, slug, [key]) or self._client.fetch(store, slug, keys)
        if not found:
            raise scratch.Unmade("the records that were drawn are gone")
        return self._unversioned(found[0])

    def _unversioned(self, record: Record) -> Record:
        return {name: value for name, value in record.items() if name != self._category.source.version}

    def key(self, record: Record) -> model.Key:
        """Return a record's key as texts."""
        return tuple(str(record[name]) for name in self._category.key)

    def unseen(self, store: model.StoreName, record: Record) -> None:
        """Write a record as the client does in this store, undo it, and commit what the log has of it."""
        transaction = Transaction(self._client.registry)
        transaction.put(self._category.slug, record)
        with self._pools[store].taken() as connection, connection.cursor() as cursor:
            cursor.execute(
                f"BEGIN; SET LOCAL lock_timeout = {_PATIENCE}; {capture.APPLY}; SET CONSTRAINTS ALL IMMEDIATE; "
                "SAVEPOINT unseen"
            )
            sides.resolve_keys(cursor, transaction.writes)
            self._sides[store].lock(cursor, transaction.writes)
            for write in transaction.writes:
                self._sides[store].write(cursor, write)
            # The log of what is undone is flushed by the commit all the same, as the transaction has a number.
            cursor.execute("ROLLBACK TO SAVEPOINT unseen; COMMIT")


class _Update:
    """The update of a record that the application may be changing: what is written has to be its state now."""

    def __init__(self, bench: _Bench, store: model.StoreName, keys: Sequence[model.Key], record: Record):
        self._bench, self._store, self._keys, self._record = bench, store, keys, record

    def __call__(self) -> None:
        self._bench.unseen(self._store, self._record)

    def renew(self) -> None:
        """Look at the record again."""
        self._record = self._bench.current(self._store, self._keys, self._bench.key(self._record))


def _timed(act: Callable[[], object]) -> float:
    for _ in range(_TRIES):
        began = time.perf_counter()
        try:
            act()
        except psycopg2.errors.UniqueViolation:
            # Since it was looked at the application has given one of its unique values to another record.
            if not isinstance(act, _Update):
                raise
            act.renew()
            continue
        return time.perf_counter() - began
    raise scratch.Unmade("unique values move too fast between the records that were drawn")


def band(ratios: Sequence[float]) -> float:
    """Return the width of the noise of ratios as a share: twice their deviation from round to round, at least 10%.

    The deviation is the median absolute deviation scaled to a standard deviation, which one bad round does not move;
    see Rousseeuw and Croux, Alternatives to the Median Absolute Deviation, 1993.
    """
    middle = statistics.median(ratios)
    deviation = statistics.median(abs(ratio - middle) for ratio in ratios) * _MAD
    return max(_LEAST_BAND, _WIDE * deviation / middle if middle else 0.0)


def _judged(
    category: Category, operation: str, found: Mapping[model.StoreName, Timings], order: BenchmarkOrder
) -> CheckOutcome:
    figures = {store: timings.figures() for store, timings in found.items()}
    worst, width, slower = 0.0, 0.0, []
    measured: dict[str, Any] = {}
    for name, of in (("p50", lambda turn: percentile(turn, 50)), ("p95", lambda turn: percentile(turn, 95)),
                     ("mean", statistics.fmean)):  # fmt: skip
        ratios = [
            of(hier) / of(flat) for flat, hier in zip(found[_FLAT].rounds, found[_HIER].rounds, strict=True)
        ]  # fmt: skip
        ratio, noise = statistics.median(ratios), band(ratios)
        measured |= {f"ratio_{name}": round(ratio, 3), f"band_{name}": round(noise, 3)}
        worst, width = max((worst, width), (ratio, noise))
        if ratio > 1 + noise:
            slower.append("throughput" if name == "mean" else name)
    for store, one in figures.items():
        measured |= {f"{store}_{name}": value for name, value in one.items()}
    within = figures[_HIER]["p95_ms"] <= order.sla
    measured |= {"rounds": order.rounds, "sla_ms": order.sla}
    detail = (
        f"p95 flat {figures[_FLAT]['p95_ms']:.2f} ms, hierarchical {figures[_HIER]['p95_ms']:.2f} ms; "
        f"at worst {worst:.2f} times flat, noise {width:.0%}"
    )
    if slower:
        detail += f"; slower than flat in {', '.join(slower)}" + (
            f", within the SLA of {order.sla:g} ms" if within else f", and over the SLA of {order.sla:g} ms"
        )
    failed = bool(slower) and not within
    return CheckOutcome(
        category=category.slug, name=f"benchmark:{operation}", measured=measured, detail=detail,
        verdict=CheckVerdict.FAILED if failed else CheckVerdict.PASSED,
        next_command=f"hal9-migrate benchmark --categories {category.slug} --rounds 15" if failed else "",
    )  # fmt: skip
