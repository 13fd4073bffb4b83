"""Plans verify runs and works their batches in this process, on small stores that are easy to damage."""

from __future__ import annotations

import contextlib
import json
import unittest.mock
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg2

from hal9mig import model, settings
from hal9mig.categories.declaration import Category, Column, FilterField, Pass, Role, Source, Target
from hal9mig.categories.registry import Registry
from hal9mig.engine import work
from hal9mig.engine.compare import verifier, verify_report
from hal9mig.engine.compare.verify_report import CategoryVerdict
from hal9mig.engine.desk import Desk
from hal9mig.engine.system import System
from hal9mig.ledger import batches, dispatch, runs, tuning
from tests.support import servers

NEURONS = "neuron-states"


def nothing(_: float) -> None:
    """Do not wait."""


class Bench:
    """Plans runs and works their batches in this process, without waiting between looks."""

    def __init__(self, flat_url: str, hier_url: str, redis_url: str, *, categories: Sequence[Category] = ()) -> None:
        environ = {"HAL9_FLAT_URL": flat_url, "HAL9_HIER_URL": hier_url, "HAL9_REDIS_URL": redis_url}
        self.flat_url, self.hier_url = flat_url, hier_url
        self.system = System(settings.load(environ=environ), role="worker")
        if categories:
            known = self.system.registry
            self.system.registry = Registry(  # type: ignore[misc]
                categories={**known.categories, **{one.slug: one for one in categories}},
                origins={**known.origins, **{one.slug: "test" for one in categories}},
            )
        self.desk = Desk(self.system)
        self.connections = [psycopg2.connect(flat_url), psycopg2.connect(hier_url)]
        for one in self.connections:
            one.autocommit = True

    def close(self) -> None:
        self.desk.clear()
        for one in self.connections:
            one.close()
        self.system.ledger.close()

    def flat(self, sql: str, *values: Any) -> list[Any]:
        return self._run(0, sql, values)

    def hier(self, sql: str, *values: Any) -> list[Any]:
        return self._run(1, sql, values)

    def _run(self, side: int, sql: str, values: tuple[Any, ...]) -> list[Any]:
        with self.connections[side].cursor() as cursor:
            cursor.execute(sql, values or None)
            return cursor.fetchall() if cursor.description else []

    def start(self, kind: model.RunKind, category: str, *, filter: str = "", **options: object) -> int:
        with self.system.ledger.begin() as session:
            return runs.create(
                session, kind=kind, category=category, priority=model.Priority.NORMAL, filter=filter,
                options=options, serial=False, actor="test",
            )  # fmt: skip

    def next(self, run_id: int) -> tuple[int, int] | None:
        """Publish a run's next batch: its number and attempt."""
        with self.system.ledger.begin() as session:
            runs.settle(session)
            seqs = [batch.seq for batch in dispatch.planned(session, run_id, 1)]
            return next(iter(dispatch.queue(session, run_id, seqs).items())) if seqs else None

    def perform(self, run_id: int, seq: int, attempt: int) -> None:
        became = work.perform(self.system, self.desk, run_id=run_id, seq=seq, attempt=attempt, owner="test/1")
        assert became == "done", self.hier("SELECT error FROM hal9mig.batches WHERE run_id = %s", run_id)

    def migrate(self, category: str, filter: str = "", **options: object) -> int:
        run_id = self.start(model.RunKind.MIGRATE, category, filter=filter, **options)
        while batch := self.next(run_id):
            self.perform(run_id, *batch)
        return run_id

    def covered(self, category: str, filter: str = "") -> None:
        """Let a category count as migrated, whatever the stores hold."""
        run_id = self.start(model.RunKind.MIGRATE, category, filter=filter)
        self.hier("UPDATE hal9mig.runs SET status = 'succeeded', planned = true WHERE id = %s", run_id)

    def planned(self, category: str, *, filter: str = "", batch: int = 25_000, deep: bool = True) -> int:
        run_id = self.start(model.RunKind.VERIFY, category, filter=filter, verify=True, deep=deep, batch=batch)
        found = self.next(run_id)
        assert found is not None
        self.perform(run_id, *found)
        return run_id

    def work(self, run_id: int, sleep: Callable[[float], None] = nothing) -> bool | None:
        """Compare a run's next batch: whether it came to its end, None when there is none."""
        batch = self.next(run_id)
        if batch is None:
            return None
        with self.system.ledger.begin() as session:
            held = batches.claim(session, run_id=run_id, seq=batch[0], attempt=batch[1], owner="test/1", lease=60)
            tuned = tuning.resolve(session)
        assert held is not None
        with self.system.ledger.connection() as session:
            done = verifier.verify_batch(
                self.system, held, tuned, flat=self.desk.flat("read"), session=session, settle=0.25, sleep=sleep
            )
        if not done:
            with self.system.ledger.begin() as session:
                assert batches.hand_back(session, held, seconds=0)
        return done

    def verify(
        self,
        category: str,
        *,
        filter: str = "",
        batch: int = 25_000,
        deep: bool = True,
        sleep: Callable[[float], None] = nothing,
    ) -> CategoryVerdict:
        run_id = self.planned(category, filter=filter, batch=batch, deep=deep)
        while self.work(run_id, sleep) is not None:
            pass
        return self.verdict(category, run_id)

    def verdict(self, category: str, run_id: int) -> CategoryVerdict:
        with self.system.ledger.begin() as session:
            return verify_report.collect(session, self.system.category(category), run_id)


@contextlib.contextmanager
def opener(stores: servers.Stores) -> Iterator[Callable[..., Bench]]:
    """Give a function that opens benches on these stores, with further categories; they close with the block."""
    opened: list[Bench] = []

    def opens(*categories: Category) -> Bench:
        opened.append(Bench(stores.flat_url, stores.hier_url, stores.redis_url, categories=categories))
        return opened[-1]

    try:
        # Small stores have many parts too.
        with unittest.mock.patch.object(verifier, "_PART", 2):
            yield opens
    finally:
        for bench in opened:
            bench.close()


def unit(number: int) -> str:
    """The key of a neuron; keys sort as their numbers do."""
    return f"00000000-0000-4000-8000-{number:012x}"


def add_neurons(bench: Bench, numbers: Sequence[int], *, layer: str = "substrate") -> None:
    connections = [{"target": unit(number), "weight": number / 4, "conn_type": "forward"} for number in (1, 2, 3)]
    for number in numbers:
        bench.flat(
            "INSERT INTO flat.neuron_states VALUES (%s, %s, 'relay', 0.5, %s, '{0.125,0.5}', 0.01, 0.9, %s, %s, NULL, "
            "NULL, true, '2025-01-01', '2025-01-02', 1)",
            unit(number), layer, [0.25] * 20, json.dumps(connections), json.dumps({"facts": {"one": [1, 2, 3]}}),
        )  # fmt: skip


def summary(found: CategoryVerdict) -> dict[str, set[str]]:
    """The keys of each kind of difference."""
    assert found.unlisted == 0
    kinds: dict[str, set[str]] = {}
    for difference in found.differences:
        key, keys = "/".join(difference.key), kinds.setdefault(str(difference.kind), set())
        assert key not in keys
        keys.add(key)
    assert {kind: len(keys) for kind, keys in kinds.items()} == {
        kind: count
        for kind, count in (
            ("mismatch", found.mismatches),
            ("missing", found.missing),
            ("extra", found.extra),
            ("quarantined", found.quarantined),
        )
        if count
    }
    return kinds


def keys(*numbers: int) -> set[str]:
    return {unit(number) for number in numbers}


def keyed(*parts: tuple[str, str]) -> Category:
    """A category whose key has these columns, each with its type."""
    columns = (*(Column(name, kind) for name, kind in parts), Column("value", "text"))
    names = tuple(name for name, _ in parts)
    return Category(
        slug="keyed",
        title="Keyed",
        source=Source(schema="public", table="keyed", columns=columns, key=names),
        targets=(
            Target(schema="public", table="keyed", role=Role.ROOT, key=names, owner=names,
                   columns=tuple(Pass(column.name, column.name) for column in columns)),
        ),
        rebuild=f"SELECT k.* FROM public.keyed AS k WHERE RANGE({', '.join(f'k.{name}' for name in names)})",
        filters={"value": FilterField("value", "text")},
    )  # fmt: skip
