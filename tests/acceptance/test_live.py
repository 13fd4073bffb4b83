"""State that is written all the while: nothing is lost, old, doubled or resurrected, whatever else goes on."""

from __future__ import annotations

import contextlib
import pathlib
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

from hal9mig import errors, model
from hal9mig.engine import dispatcher
from hal9mig.engine.coordinator import Coordinator, MigrateOrder
from hal9mig.ledger import quarantine, runs, workers
from hal9mig.stores.write_mode import Mode
from tests.support import live_state, migration_driver, servers
from tests.support.live_state import CONFIGURATION, NEURONS, SESSIONS, World, neuron
from tests.support.writers import Writers

#: A category with numbers that a sequence gives out on either side.
NOTES = """
from hal9mig.categories.declaration import Category, Column, Pass, Role, Source, Target

CATEGORY = Category(
    slug="notes", title="Notes",
    source=Source(
        schema="public", table="notes", columns=(Column("id", "bigint"), Column("body", "text")), key=("id",)
    ),
    targets=(
        Target(schema="notebook", table="notes", role=Role.ROOT, columns=(Pass("note_id", "id"), Pass("body", "body")),
               key=("note_id",), owner=("note_id",)),
    ),
    rebuild="SELECT n.note_id AS id, n.body FROM notebook.notes AS n WHERE RANGE(n.note_id)",
)
"""


def persistent(act: Callable[[], Any]) -> Any:
    """Do what may be refused while others write and workers die, until it is done."""

    def once() -> Any:
        with contextlib.suppress(errors.GateClosed, errors.WritersInFlight):
            return act() or True
        return None

    return migration_driver.until(once, "a switch")


def finish(coordinator: Coordinator, run: model.Run) -> None:
    """Wait until a run has succeeded."""
    ended = migration_driver.until(lambda: (now := coordinator.run(run.id)).ended and now, f"the end of {run.name}")
    assert ended.status is model.RunStatus.SUCCEEDED, ended.reason


def assert_nothing_held(world: World) -> None:
    """Assert that no record is in quarantine, and that nobody took lag for drift."""
    with world.system.ledger.begin() as opened:
        assert not quarantine.counts(opened)
    assert world.hier_sql("SELECT category, key, kind, cause, repair FROM hal9mig.drifts") == []


class Killer:
    """Kills pool processes and whole workers at random, and starts others."""

    def __init__(self, programs: servers.Programs, chance: random.Random):
        self._programs = programs
        self._chance = chance
        self._over = threading.Event()
        self._alive = programs.workers(2)
        self._thread = threading.Thread(target=self._run, name="killer", daemon=True)
        self.kills = 0

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(90)

    def _run(self) -> None:
        while not self._over.wait(self._chance.uniform(0.5, 2.0)):
            at = self._chance.randrange(len(self._alive))
            if self._chance.random() < 0.8:
                with contextlib.suppress(Exception):
                    self._alive[at].kill_child()
            else:
                self._alive[at].kill()
                (self._alive[at],) = self._programs.workers(1, timeout=90)
            self.kills += 1


class TestWholeWay:
    def test_there_and_back_under_traffic_while_workers_are_killed(
        self, world: World, programs: servers.Programs
    ) -> None:
        """Flat-only, dual-write, copy, clean pass, gate, switch, write, back, write: both sides are equal, and
        have what each writer was told, no less and nothing else.
        """
        world.load()
        world.configure(reconcile_interval="2s")
        programs.beat()
        with Writers(world) as writers, Killer(programs, random.Random(9)) as killer:
            writers.through_client(3, pause=0.02)
            writers.plain(1, pause=0.02)
            writers.more()
            world.switch.enable()
            coordinator = Coordinator(world.system, actor="test")
            small = {"batch-size": "50", "checkpoint-interval": "10"}
            orders = [MigrateOrder(category=one.slug, tuning=small) for one in world.system.registry.ordered()]
            for run in [coordinator.migrate(order)[0] for order in orders]:
                finish(coordinator, run)
            writers.more()
            world.pass_over()
            world.until_open()
            persistent(world.leave)
            assert world.line.mode == Mode.HIERARCHICAL_ONLY
            writers.more()
            migration_driver.until(lambda: killer.kills >= 4, "some kills")
            persistent(world.switch.return_to_flat)
            assert world.line.mode == Mode.FLAT_ONLY
            writers.more()
        world.switch.enable()
        migration_driver.until(lambda: not world.waiting(), "an empty journal")
        world.assert_equal()
        writers.assert_kept()
        assert_nothing_held(world)


class TestHotKeys:
    def test_many_writers_of_few_keys_while_they_are_copied(self, world: World, programs: servers.Programs) -> None:
        """Fifty writers, a hundred keys: tiny batches of tiny steps, and followers in between."""
        world.only(NEURONS, SESSIONS, CONFIGURATION)
        world.load(0.0002, NEURONS)
        keys = [key for (key,) in world.flat_sql("SELECT neuron_id::text FROM flat.neuron_states LIMIT 100")]
        programs.workers(2)
        world.switch.enable()
        over, problems = threading.Event(), []

        def write(number: int) -> None:
            chance = random.Random(number)
            try:
                with world.client(patience=60.0) as state:
                    while not over.is_set():
                        key = chance.choice(keys)
                        if chance.random() < 0.3:
                            state.delete(NEURONS, key)
                        else:
                            state.put(NEURONS, neuron(key, chance.random()))
            except BaseException as problem:
                problems.append(problem)

        threads = [threading.Thread(target=write, args=(number,), daemon=True) for number in range(50)]
        for thread in threads:
            thread.start()
        coordinator = Coordinator(world.system, actor="test")
        for _ in range(2):
            order = MigrateOrder(category=NEURONS, tuning={"batch-size": "20", "checkpoint-interval": "5"})
            finish(coordinator, coordinator.migrate(order)[0])
        over.set()
        for thread in threads:
            thread.join(90)
        assert not problems
        migration_driver.until(lambda: not world.waiting(), "an empty journal")
        world.assert_equal()
        assert_nothing_held(world)


class TestSequences:
    @pytest.mark.parametrize("generated", ["BY DEFAULT", "ALWAYS"])
    def test_numbers_go_on_on_either_side(
        self, stores: servers.Stores, stack_env: dict[str, str], tmp_path: pathlib.Path, generated: str
    ) -> None:
        """A category of somebody's file, whose keys the database makes: no number comes twice, there or back."""
        file = tmp_path / "notes.py"
        file.write_text(NOTES)
        columns = f"bigint GENERATED {generated} AS IDENTITY PRIMARY KEY, body text"
        with live_state.opened(stores, {**stack_env, "HAL9_CATEGORIES": str(file)}) as world:
            world.only("notes")
            world.flat_sql(f"CREATE TABLE public.notes (id {columns})")
            world.hier_sql(f"CREATE SCHEMA notebook; CREATE TABLE notebook.notes (note_id {columns})")

            def write(table: str, count: int) -> list[int]:
                insert = f"INSERT INTO {table} (body) SELECT 'x' FROM generate_series(1, {count}) RETURNING *"
                run = world.flat_sql if table.startswith("public") else world.hier_sql
                return [row[0] for row in run(insert)]

            assert write("public.notes", 5) == [1, 2, 3, 4, 5]
            world.prepare()
            assert write("public.notes", 1) == [6]
            world.drain()
            world.leave()
            assert world.certificates()[0].document["sequences"] == [
                {"sequence": "notebook.notes_note_id_seq", "last_value": 6}
            ]
            assert write("notebook.notes", 3) == [7, 8, 9]
            world.hier_sql("UPDATE notebook.notes SET body = 'changed' WHERE note_id = 2")
            world.switch.return_to_flat()
            assert write("public.notes", 2) == [10, 11]
            world.switch.enable()
            world.drain()
            world.pretend_worker()
            world.clean()
            world.leave()
            assert write("notebook.notes", 1) == [12]
            world.switch.return_to_flat()
            world.assert_equal()
            assert world.flat_sql("SELECT count(*), max(id) FROM public.notes") == [(12, 12)]


class TestUnobservable:
    def test_without_redis_nothing_is_granted_and_nothing_lost(
        self, world: World, stores: servers.Stores, stack_env: dict[str, str]
    ) -> None:
        """A budget that cannot be read is no budget; what was done stays done, and it goes on by itself."""
        world.only(SESSIONS)
        world.load(0.0002, SESSIONS)
        world.configure(batch_size="5", rate_limit="1000 records/s")
        run_id = world.start(SESSIONS)
        assert world.batch(run_id)
        assert world.batch(run_id)
        with world.system.ledger.begin() as opened:
            done = runs.get(opened, run_id).done_records
            workers.report(
                opened, name="w", host="here", pid=1, slots=4, draining=False, memory_bytes=0, cpu_percent=0.0
            )
        assert done == 5
        stores.redis_server.kill()
        for _ in range(3):
            assert dispatcher.tick(world.system).published == 0
            with world.system.ledger.begin() as opened:
                run = runs.get(opened, run_id)
            assert (run.queued, run.leased, run.done_records) == (0, 0, done)
            assert run.waiting == "the budget cannot be read (Redis)"
        stores.redis_server.start()

        def granted() -> int:
            with world.system.ledger.begin() as opened:
                workers.report(
                    opened, name="w", host="here", pid=1, slots=4, draining=False, memory_bytes=0, cpu_percent=0.0
                )
            return dispatcher.tick(world.system).published

        migration_driver.until(granted, "batches that are granted again")
