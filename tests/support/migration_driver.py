"""Drives migrations from a test: gives orders in-process, looks into the ledger, waits for conditions."""

from __future__ import annotations

import contextlib
import json
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import psycopg2
import psycopg2.extensions

from hal9mig import errors, model, settings
from hal9mig.categories import registry
from hal9mig.categories.declaration import Category
from hal9mig.categories.filters import Filter
from hal9mig.engine import dispatcher, work
from hal9mig.engine.coordinator import Coordinator, MigrateOrder
from hal9mig.engine.desk import Desk
from hal9mig.engine.system import System
from hal9mig.ledger import batches, quarantine, tuning, workers
from hal9mig.sample import loading, shape
from hal9mig.stores import projection
from tests.support import comparison
from tests.support.servers import Stores

Value = TypeVar("Value")
NEURONS = "neuron-states"
#: Seconds to wait for what has to happen; only a hung system needs them.
PATIENCE = 90.0
#: Small batches of smaller transactions, so that a short run has many of both.
SMALL = {"batch-size": "500", "checkpoint-interval": "100"}
OBSTACLES = pathlib.Path(__file__).parent.parent / "acceptance" / "obstacles.py"


def until(condition: Callable[[], Value], what: str, timeout: float = PATIENCE) -> Value:
    """Wait until a condition holds and return its value; an unreachable server only means later."""
    deadline = time.monotonic() + timeout
    while True:
        with contextlib.suppress(errors.Unreachable):
            value = condition()
            if value:
                return value
        assert time.monotonic() < deadline, f"this never came: {what}"
        time.sleep(0.02)


@contextlib.contextmanager
def connected(url: str) -> Iterator[psycopg2.extensions.cursor]:
    """Open a cursor that commits each statement."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


def obstacles(folder: pathlib.Path, points: Mapping[str, str], *, pause: float = 0.0) -> dict[str, str]:
    """Return a worker's environment in which it meets obstacles: see ``tests/acceptance/obstacles.py``."""
    spec = {"folder": str(folder), "points": dict(points), "pause": pause}
    return {"HAL9_CATEGORIES": str(OBSTACLES), "OBSTACLES": json.dumps(spec)}


def met(folder: pathlib.Path) -> set[str]:
    """Return the names of the obstacles that a worker has met."""
    return {path.suffix[1:] for path in folder.glob("met.*")}


class Driver:
    """One test's migrations: the coordinator in this process, on the test's own stores."""

    def __init__(self, stores: Stores, env: Mapping[str, str], *, categories: Sequence[Category] = ()):
        self.stores = stores
        self.system = System(settings.load(environ=env), role="test")
        if categories:
            # As if they had been declared in a file; what loads files has its own tests.
            known = {category.slug: category for category in categories}
            vars(self.system)["registry"] = registry.Registry(categories=known, origins=dict.fromkeys(known, "test"))
        self.coordinator = Coordinator(self.system, actor="test")
        self.desk = Desk(self.system)

    def close(self) -> None:
        """Close the connections."""
        self.desk.clear()
        self.system.ledger.close()

    def work(self, run_id: int, *, until: Callable[[], bool] = lambda: False) -> model.Run:
        """Work a run's batches in this process, as a worker would, until it has ended or stands still.

        Args:
            until: asked after each batch; True leaves the rest, queued batches included.
        """
        while True:
            with self.system.ledger.begin() as session:
                workers.report(
                    session, name="here", host="here", pid=1, slots=8, draining=False, memory_bytes=0, cpu_percent=0
                )
            dispatcher.tick(self.system)
            with self.system.ledger.begin() as session:
                queued = [batch for batch in batches.listing(session, run_id) if batch["status"] == "queued"]
            for batch in queued:
                seq, attempt = batch["seq"], batch["attempt"]
                work.perform(self.system, self.desk, run_id=run_id, seq=seq, attempt=attempt, owner="here/1")
                if until():
                    break
            run = self.run(run_id)
            if run.ended or run.status is model.RunStatus.PAUSED or until():
                return run

    def copy(self, category: str = NEURONS, **order: Any) -> model.Run:
        """Start a migration, work it in this process, and return the run, which has succeeded."""
        run = self.work(self.start(category, **order))
        assert run.status is model.RunStatus.SUCCEEDED, run.reason
        return run

    def load(self, category: str, records: int, *, seed: int = 7, edge_cases: bool = False) -> int:
        """Fill the flat store with sample records and return how many there are."""
        scale = records / shape.FULL[category]
        (done,) = loading.load(
            self.stores.flat_url, scale=scale, seed=seed, categories=[category], edge_cases=edge_cases
        )
        return done.rows

    def start(self, category: str = NEURONS, *, tuned: Mapping[str, str] = SMALL, **order: Any) -> int:
        """Start a migration and return its run's number."""
        return self.coordinator.migrate(MigrateOrder(category=category, tuning=tuned, **order))[0].id

    def run(self, run_id: int) -> model.Run:
        """Return a run as it stands."""
        return self.coordinator.run(run_id)

    def reach(self, run_id: int, records: int) -> None:
        """Wait until a run that is still under way has done a number of records."""
        until(lambda: self.run(run_id).done_records >= records or self.run(run_id).ended, f"{records} records")
        assert not self.run(run_id).ended, "it was over too soon for what the test wants to do to it"

    def finish(self, run_id: int, timeout: float = PATIENCE) -> model.Run:
        """Wait until a run has succeeded and return it."""
        ended = until(lambda: (run := self.run(run_id)).ended and run, f"the end of run {run_id}", timeout)
        assert ended.status is model.RunStatus.SUCCEEDED, ended.reason
        return ended

    def migrate(self, category: str = NEURONS, **order: Any) -> model.Run:
        """Start a migration and wait until it has succeeded."""
        return self.finish(self.start(category, **order))

    def batches(self, run_id: int) -> list[dict[str, Any]]:
        """Return a run's batches as the ledger has them, without the one that planned them."""
        with self.system.ledger.begin() as session:
            return [dict(batch) for batch in batches.listing(session, run_id) if batch["kind"] != "plan"]

    def held(self, category: str = NEURONS) -> dict[model.Key, quarantine.Held]:
        """Return what is in quarantine, by key."""
        with self.system.ledger.begin() as session:
            return {record.key: record for record in quarantine.find(session, category=category)}

    def configure(self, **values: str) -> None:
        """Set tuning of the cluster."""
        with self.system.ledger.begin() as session:
            tuning.change(session, {name.replace("_", "-"): value for name, value in values.items()}, actor="test")

    def missing(self, category: str = NEURONS) -> frozenset[model.Key]:
        """Return the keys that only the flat store has."""
        return comparison.differences(self.stores, self.system.category(category)).missing

    def assert_equal(
        self, category: str = NEURONS, *, records: int | None = None, missing: Sequence[model.Key] = ()
    ) -> None:
        """Assert that both stores hold the same, but for the keys that the hierarchical one lacks."""
        comparison.assert_equal(self.stores, self.system.category(category), records=records, missing=missing)

    def assert_once(self, run_id: int) -> None:
        """Assert that the ledger counts each record of the flat store exactly once, in the batch of its range."""
        run = self.run(run_id)
        category = self.system.category(run.category)
        found = self.batches(run_id)
        assert [batch["seq"] for batch in found] == list(range(1, len(found) + 1))
        bounds = [(batch["after_key"], batch["upto_key"]) for batch in found]
        assert [low for low, _ in bounds] == [None, *(high for _, high in bounds[:-1])]
        assert bounds[-1][1] is None
        for batch in found:
            scope = projection.Bounds(after=_key(batch["after_key"]), upto=_key(batch["upto_key"]))
            assert batch["status"] == "done"
            counted, digest = _digest(self.stores.flat_url, category, scope)
            assert (batch["records"] + batch["quarantined"], batch["digest"]) == (counted, digest), batch
        assert run.done_records == run.total_records == sum(batch["records"] + batch["quarantined"] for batch in found)


@contextlib.contextmanager
def drivers(stores: Stores, env: Mapping[str, str]) -> Iterator[Callable[..., Driver]]:
    """Yield ``make(*categories)``, a driver that knows only these, or HAL9's own."""
    made: list[Driver] = []

    def make(*categories: Category) -> Driver:
        made.append(Driver(stores, env, categories=categories))
        return made[-1]

    try:
        yield make
    finally:
        for driver in made:
            driver.close()


def _key(value: Sequence[str] | None) -> model.Key | None:
    return None if value is None else tuple(value)


def _digest(url: str, category: Category, scope: projection.Bounds) -> tuple[int, int]:
    rows, params = projection.flat_rows(category, scope, Filter(text=""))
    with connected(url) as cursor:
        cursor.execute(f"SELECT count(*), coalesce(sum({projection.record_hash(category, 's')}), 0) {rows}", params)
        count, total = cursor.fetchone()
    return count, (int(total) + (1 << 63)) % (1 << 64) - (1 << 63)
