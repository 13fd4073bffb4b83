"""State that is written all the while: nothing is lost, old, doubled or resurrected, whatever else goes on."""

from __future__ import annotations

import contextlib
import pathlib
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hal9mig import errors, model
from hal9mig.engine import dispatcher
from hal9mig.engine.coordinator import Coordinator, MigrateOrder
from hal9mig.engine.reconcile import alarm_rules
from hal9mig.engine.transfer import follower
from hal9mig.ledger import quarantine, runs, tuning, workers
from hal9mig.stores import capture
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


@pytest.fixture
def world(stores: servers.Stores, stack_env: dict[str, str]) -> Iterator[World]:
    with live_state.opened(stores, stack_env) as opened:
        yield opened


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


class TestJournal:
    """What waits is bounded by the records that were written, not by the writes, and goes once it is applied."""

    def update(self, world: World, times: int) -> None:
        for _ in range(times):
            world.flat_sql("UPDATE flat.user_sessions SET version = version + 1")

    def test_bounded_while_nobody_applies(self, world: World) -> None:
        world.only(SESSIONS)
        world.load(0.0002, SESSIONS)
        world.switch.enable()
        world.migrate()
        world.configure(journal_alarm="300")
        with world.system.ledger.begin() as paused:
            assert follower.lane_lock(paused, 0)
            assert world.follow() is None
            self.update(world, 10)
            assert world.waiting() == 200
            with world.system.ledger.begin() as opened:
                tuned = tuning.reconciliation(opened)
            source = world.desk.flat("test")
            assert alarm_rules.journal(world.system, source, tuned).records == 20
        world.drain()
        world.assert_equal()

    def test_bounded_in_flat_only(self, world: World) -> None:
        """After a way back capture goes on, so that nothing has to be copied again."""
        world.only(SESSIONS)
        world.load(0.0002, SESSIONS)
        world.prepare()
        world.switch.return_to_flat()
        self.update(world, 30)
        assert world.waiting() == 600
        assert follower.Caller(world.system).call(world.desk.flat("test"), world.desk.hier("test")) == 0
        assert world.waiting() == 20
        world.switch.enable()
        world.drain()
        world.assert_equal()

    def test_what_came_while_it_was_applied_and_shortened_stays(self, world: World) -> None:
        """An applier prunes the lines that it saw; a line that stands for them and for a later one is another."""
        world.only(SESSIONS)
        world.load(0.0002, SESSIONS)
        world.switch.enable()
        world.migrate()
        self.update(world, 2)
        source = world.desk.flat("test")
        seen = capture.entries(source, [SESSIONS], limit=100)
        self.update(world, 1)
        assert capture.compact(source) == 40
        capture.prune(source, seen)
        assert world.waiting() == 20
        world.drain()
        world.assert_equal()

    def test_shortened_while_somebody_prunes(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """It waits for nobody who may wait for it, part by part."""
        monkeypatch.setattr(capture, "_PART", 25)
        world.only(SESSIONS)
        world.load(0.0002, SESSIONS)
        world.switch.enable()
        world.migrate()
        self.update(world, 5)
        source, pruning = world.desk.flat("test"), world.desk.flat("pruning")
        with pruning, pruning.cursor() as cursor:
            cursor.execute(
                "DELETE FROM hal9cap.journal WHERE id IN (SELECT id FROM hal9cap.journal ORDER BY id LIMIT 7)"
            )
            assert capture.compact(source) == 20 * 5 - 7 - 20
        assert world.waiting() == 20
        assert capture.compact(source) == 0
        world.drain()
        world.assert_equal()

    def test_few_keys_that_are_written_often_are_applied_once(self, world: World) -> None:
        """All rows of a hot key are taken together, in the journal's order, and no more keys than asked for."""
        world.only(SESSIONS)
        world.load(0.0002, SESSIONS)
        world.switch.enable()
        self.update(world, 100)
        source = world.desk.flat("test")
        (few, every) = (capture.entries(source, [SESSIONS], limit=limit) for limit in (5, 100))
        assert len(few) == 5
        assert len(every) == 20
        assert sum(len(entry.ids) for entry in every) == world.waiting() == 2000
        assert {entry.key for entry in every[:5]} == {entry.key for entry in few}
        assert world.follow() == follower.Followed(written=20, deleted=0, rejected=0, emptied=True)
        world.assert_equal()


class TestLanes:
    """As many workers follow the journal as it takes, but one slot is left to batches that wait."""

    @pytest.fixture
    def call(self, world: World) -> Callable[[], int]:
        """Sends workers to a journal that holds enough for three."""
        world.only(SESSIONS)
        world.load(0.0002, SESSIONS)
        world.switch.enable()
        for _ in range(3 * follower.CHUNK // 20):
            world.flat_sql("UPDATE flat.user_sessions SET version = version + 1")
        return lambda: follower.Caller(world.system).call(world.desk.flat("test"), world.desk.hier("test"))

    def report(self, world: World, count: int) -> None:
        with world.system.ledger.begin() as opened:
            for number in range(count):
                workers.report(
                    opened, name=f"worker {number}", host="here", pid=1, slots=1, draining=False, memory_bytes=0,
                    cpu_percent=0.0,
                )  # fmt: skip

    @pytest.mark.parametrize(("workers", "lanes"), [(1, 1), (2, 2), (8, 3)])
    def test_of_all_workers(self, world: World, call: Callable[[], int], workers: int, lanes: int) -> None:
        self.report(world, workers)
        assert call() == lanes

    def test_that_are_followed_get_nobody_else(self, world: World, call: Callable[[], int]) -> None:
        self.report(world, 3)
        with world.system.ledger.begin() as one:
            assert follower.lane_lock(one, 1)
            assert call() == 2
        assert call() == 3

    def test_a_slot_is_left_to_batches(self, world: World, call: Callable[[], int]) -> None:
        self.report(world, 3)
        run_id = world.start(SESSIONS)
        assert call() == 2
        Coordinator(world.system, actor="test").cancel(run_id)
        assert call() == 3

    @pytest.mark.parametrize(("workers", "busy"), [(1, True), (1, False), (4, False)])
    def test_nobody_calls_out_of_turn(self, world: World, call: Callable[[], int], workers: int, busy: bool) -> None:
        """Together no more often than one worker alone, and half the time of the only slot."""
        self.report(world, workers)
        if busy:
            world.start(SESSIONS)
        now = [0.0]
        caller = follower.Caller(world.system, clock=lambda: now[0])

        def at(moment: float) -> int:
            now[0] = moment
            return caller.call(world.desk.flat("test"), world.desk.hier("test"))

        pause = 2 * follower.TURN if busy else workers * follower.CALL_EVERY
        lanes = min(workers, 3)
        assert [at(0), at(pause - 0.01), at(pause), at(pause + 0.01)] == [lanes, 0, lanes, 0]


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
