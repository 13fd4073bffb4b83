"""State that is written while it is migrated: both stores, and in this process all that a worker does."""

from __future__ import annotations

import contextlib
import datetime
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import psycopg2.extensions

from hal9mig import client, model, sample, settings
from hal9mig.categories import registry
from hal9mig.engine import work
from hal9mig.engine.desk import Desk
from hal9mig.engine.reconcile import full_pass
from hal9mig.engine.reconcile.repair import RepairPolicy
from hal9mig.engine.switch import gate, switch
from hal9mig.engine.switch.switch import Switched
from hal9mig.engine.system import System
from hal9mig.engine.transfer import follower
from hal9mig.ledger import audit, dispatch, mode, runs, sweeps, tuning, workers
from hal9mig.stores import write_mode
from hal9mig.stores.write_mode import Mode
from tests.support import comparison, migration_driver
from tests.support.servers import Stores

SESSIONS, CONFIGURATION, NEURONS = "user-sessions", "configuration", "neuron-states"
THEN = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.UTC)


def session(key: str, note: Any, *, token: str | None = None, version: int | None = None) -> dict[str, Any]:
    """Return a record of user-sessions."""
    made = {
        "session_id": key, "user_id": f"user {len(str(note)) % 7}", "token_hash": token or f"token of {key}",
        "ip_address": "192.0.2.1", "user_agent": None, "active": True, "data": {"note": note, "more": [1.5, None]},
        "created_at": THEN, "last_seen_at": THEN, "expires_at": None,
    }  # fmt: skip
    return made if version is None else made | {"version": version}


def setting(key: str, note: Any) -> dict[str, Any]:
    """Return a record of configuration."""
    return {"key": key, "value": {"note": note}, "updated_by": "test", "updated_at": THEN}


def neuron(key: str, note: Any) -> dict[str, Any]:
    """Return a record of neuron-states."""
    linked = [{"target": key, "weight": 0.5, "conn_type": "loop"}] * (len(str(note)) % 3)
    return {
        "neuron_id": key, "layer": "cognitive", "neuron_type": "test", "activation": 0.25, "weights": [0.5, -0.0],
        "biases": [], "learning_rate": 0.125, "momentum": None, "connections": linked, "memory": {"note": note},
        "context": None, "avg_response_time": None, "is_async": False, "created_at": THEN, "updated_at": THEN,
    }  # fmt: skip


#: How to make a record of a category, and the flat column and path that hold what its writer noted in it.
MAKERS: Mapping[str, Callable[[str, Any], dict[str, Any]]] = {
    SESSIONS: session,
    CONFIGURATION: setting,
    NEURONS: neuron,
}
_NOTES = {
    SESSIONS: ("flat.user_sessions", "session_id", "data"),
    CONFIGURATION: ("flat.configuration", "key", "value"),
    NEURONS: ("flat.neuron_states", "neuron_id", "memory"),
}


def execute(url: str, sql: str, *values: object) -> list[tuple[Any, ...]]:
    """Run a statement in a transaction of its own."""
    with migration_driver.connected(url) as cursor:
        cursor.execute(sql, values or None)
        return list(cursor.fetchall()) if cursor.description else []


class World:
    """Both stores, and in this process everything that a worker does, when it is asked to."""

    def __init__(self, stores: Stores, env: Mapping[str, str]):
        self.stores = stores
        self.env = env
        self.system = System(settings.load(environ=env), role="test")
        self.desk = Desk(self.system)
        self.switch = switch.Switch(self.system, actor="test")

    def close(self) -> None:
        """Close the connections."""
        self.desk.clear()
        self.system.ledger.close()

    def only(self, *categories: str) -> None:
        """Know no other categories in this process: with fewer of them everything is sooner done."""
        found = self.system.registry
        chosen = {slug: found.get(slug) for slug in categories}
        self.system.registry = registry.Registry(categories=chosen, origins=dict.fromkeys(chosen, "test"))

    def client(self, **more: Any) -> client.Client:
        """Return what an application uses."""
        return client.connect(self.system.settings, **more)

    def flat_sql(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement in the flat store, as an application without the client does."""
        return execute(self.stores.flat_url, sql, *values)

    def hier_sql(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement in the hierarchical store."""
        return execute(self.stores.hier_url, sql, *values)

    def configure(self, **values: str) -> None:
        """Set tuning of the cluster."""
        with self.system.ledger.begin() as opened:
            tuning.change(opened, {name.replace("_", "-"): value for name, value in values.items()}, actor="test")

    def load(self, scale: float = 0.0002, *categories: str) -> None:
        """Fill the flat store with sample data."""
        sample.load(self.stores.flat_url, scale=scale, seed=7, categories=categories)

    def migrate(self, *categories: str, between: Callable[[], object] = lambda: None) -> None:
        """Migrate categories, every one where none is named; ``between`` is called before each batch."""
        for category in categories or [one.slug for one in self.system.registry.ordered()]:
            run_id = self.start(category)
            while self.batch(run_id, between):
                pass
            with self.system.ledger.begin() as opened:
                assert runs.get(opened, run_id).status is model.RunStatus.SUCCEEDED

    def start(self, category: str, *, filter: str = "") -> int:
        """Start a migration that this process will work, batch by batch, and return its run's number."""
        with self.system.ledger.begin() as opened:
            return runs.create(
                opened, kind=model.RunKind.MIGRATE, category=category, priority=model.Priority.NORMAL, filter=filter,
                options={}, serial=False, actor="test",
            )  # fmt: skip

    def batch(self, run_id: int, before: Callable[[], object] = lambda: None) -> bool:
        """Work the next batch of a run; False when there is none left."""
        with self.system.ledger.begin() as opened:
            runs.settle(opened)
            planned = [batch.seq for batch in dispatch.planned(opened, run_id, 1)]
            queued = dispatch.queue(opened, run_id, planned) if planned else {}
        for seq, attempt in queued.items():
            before()
            done = work.perform(self.system, self.desk, run_id=run_id, seq=seq, attempt=attempt, owner="test/1")
            assert done == "done"
        return bool(queued)

    def follow(self) -> follower.Followed | None:
        """Apply what waits in the ruling store's journal."""
        return follower.work(self.system, self.desk.flat("follow"), self.desk.hier("follow"), lane=0, lanes=1)

    def drain(self) -> None:
        """Apply until nothing waits."""
        while self.waiting():
            self.follow()

    def waiting(self, side: model.StoreName = model.StoreName.FLAT) -> int:
        """Return how many rows wait in a store's journal."""
        url = self.stores.flat_url if side is model.StoreName.FLAT else self.stores.hier_url
        return int(execute(url, "SELECT count(*) FROM hal9cap.journal")[0][0])

    def pretend_worker(self) -> None:
        """Report a worker without a slot, as the gate wants one to be alive; it is sent no batches."""
        with self.system.ledger.begin() as opened:
            workers.report(
                opened, name="pretended", host="here", pid=1, slots=0, draining=False, memory_bytes=0, cpu_percent=0.0
            )

    def keep_worker(self) -> None:
        """Report one that counts as alive for as long as a test takes."""
        self.pretend_worker()
        self.hier_sql("UPDATE hal9mig.workers SET seen_at = clock_timestamp() + interval '1 hour'")

    @contextlib.contextmanager
    def followed(self) -> Iterator[None]:
        """Have a thread that reports a worker and applies what waits, for the length of a block."""
        over, problems = threading.Event(), []

        def body() -> None:
            with opened(self.stores, self.env) as mine:
                while not over.wait(0.05):
                    mine.pretend_worker()
                    try:
                        mine.follow()
                    except psycopg2.extensions.TransactionRollbackError:
                        mine.desk.clear()  # a worker's task would fail, and the next one would find the keys again
                    except BaseException as problem:
                        problems.append(problem)
                        raise

        thread = threading.Thread(target=body, name="follower", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(60)
        assert not problems

    def pass_over(self) -> None:
        """Compare everything until a pass is clean."""
        for category in self.system.registry.ordered():
            run = full_pass.start(
                self.system, full_pass.PassOrder(category=category.slug, policy=RepairPolicy.AUTO), actor="test"
            )
            now = self.work(run.id)
            with self.system.ledger.begin() as session:
                found = full_pass.found(session, now)
            assert found.clean, found.outcomes

    def work(self, run_id: int) -> model.Run:
        """Work a run's batches in this process until it has succeeded."""
        while not (now := self._run(run_id)).ended:
            self._batch(run_id)
        assert now.status is model.RunStatus.SUCCEEDED, now.reason
        return now

    def _run(self, run_id: int) -> model.Run:
        with self.system.ledger.begin() as session:
            runs.settle(session, run_id)
            return runs.get(session, run_id)

    def _batch(self, run_id: int) -> None:
        """Work a run's next batch in this process."""
        with self.system.ledger.begin() as session:
            seqs = [one.seq for one in dispatch.planned(session, run_id, 1)]
            queued = dispatch.queue(session, run_id, seqs) if seqs else {}
        for seq, attempt in queued.items():
            work.perform(self.system, self.desk, run_id=run_id, seq=seq, attempt=attempt, owner="test/1")

    def clean(self) -> None:
        """Note a clean pass over every category, without looking: for tests of what comes after it."""
        with self.system.ledger.begin() as opened:
            for category in self.system.registry.ordered():
                sweeps.begin(opened, category.slug)
                sweeps.end(opened, category.slug)

    def look(self) -> list[gate.Predicate]:
        """Look at the gate."""
        return list(gate.look(self.system))

    def closed(self) -> list[gate.Predicate]:
        """Return the gate's predicates that do not hold."""
        return [one for one in self.look() if not one.holds]

    def until_open(self) -> None:
        """Wait until the gate is open."""
        closed: list[gate.Predicate] = []

        def is_open() -> bool:
            closed[:] = self.closed()
            return not closed

        try:
            migration_driver.until(is_open, "an open gate")
        except AssertionError:
            raise AssertionError(f"the gate stays closed: {closed}") from None

    def leave(self, switching: switch.Switch | None = None) -> Switched:
        """Go over to the hierarchical store, through the gate unless that is behind it already."""
        found = [] if self.states()[1].mode is Mode.HIERARCHICAL_ONLY else self.look()
        gate.require(found)
        return (switching or self.switch).leave_flat(lambda: gate.evidence(self.system, found, actor="test"))

    def prepare(self, *, over: bool = False) -> None:
        """Have everything migrated in dual-write; ``over``: and switched over."""
        self.switch.enable()
        self.migrate()
        self.pretend_worker()
        self.clean()
        if over:
            self.leave()

    @property
    def line(self) -> mode.ModeLine:
        """The ledger's line on the mode."""
        return self.switch.line()

    def states(self) -> tuple[write_mode.WriteState, write_mode.WriteState]:
        """Return the flat store's state and the hierarchical one's."""
        with contextlib.closing(self.system.flat()) as flat, contextlib.closing(self.system.hier()) as hier:
            return write_mode.state(flat), write_mode.state(hier)

    def events(self) -> list[audit.Event]:
        """Return what was done, newest first."""
        with self.system.ledger.begin() as opened:
            return list(audit.events(opened, limit=500))

    def certificates(self) -> list[mode.Certificate]:
        """Return the certificates, newest first."""
        with self.system.ledger.begin() as opened:
            return list(mode.certificates(opened))

    def assert_equal(self) -> None:
        """Assert that both stores hold the same."""
        for category in self.system.registry.ordered():
            comparison.assert_equal(self.stores, category)

    def notes(self, category: str) -> dict[str, Any]:
        """Return what the flat store has of each record that a writer made: its key and what was noted in it."""
        table, key, column = _NOTES[category]
        rows = self.flat_sql(f"SELECT {key}::text, {column}->'note' FROM {table} WHERE {column} ? 'note'")
        return dict(rows)


@contextlib.contextmanager
def opened(stores: Stores, env: Mapping[str, str]) -> Iterator[World]:
    """Open a world for the length of a block."""
    world = World(stores, env)
    try:
        yield world
    finally:
        world.close()
