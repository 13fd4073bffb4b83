"""Whom a restore meets: loaders taken for dead, transactions that read as of before, who holds tables in silence."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import psycopg2
import pytest

from hal9mig import model
from hal9mig.engine import work
from hal9mig.engine.desk import Desk
from hal9mig.ledger import batches, dispatch
from hal9mig.stores import restore_notes, shadow
from tests.support.migration_driver import until
from tests.support.restoring import FLAT, HIER, NAME, World


def queued(world: World, run_id: int, seq: int) -> int:
    """Publish a batch, as the dispatcher does, and return its attempt."""
    with world.driver.system.ledger.begin() as session:
        return dispatch.queue(session, run_id, [seq])[seq]


class Frozen:
    """A loader of a chunk that stops in the middle of its transaction, in a thread of its own."""

    def __init__(self, world: World, run_id: int, store: model.StoreName, patch: pytest.MonkeyPatch):
        world.driver.work(run_id, until=lambda: world.driver.run(run_id).planned)
        found = [one for one in world.driver.batches(run_id) if one["kind"] == "load"]
        self.seq = next(one["seq"] for one in found if one["subject"].startswith(store))
        self.thaw = threading.Event()
        self.fails = False
        #: What became of it.
        self.ended: list[str] = []
        #: The threads that have loaded a chunk.
        self.loaded: list[str] = []
        self._stopped = threading.Event()
        self._settle = shadow.settle
        patch.setattr(shadow, "settle", self._freeze)
        self.attempt = queued(world, run_id, self.seq)
        self._thread = threading.Thread(target=self._perform, args=(world, run_id), name="first")
        self._thread.start()
        assert self._stopped.wait(60)
        system = world.driver.system
        batches.expire_crashed(system.ledger, run_id=run_id, seq=self.seq, attempt=self.attempt)

    def _freeze(self, *args: Any, **values: Any) -> None:
        self._settle(*args, **values)
        self.loaded.append(threading.current_thread().name)
        if self.loaded[-1] == "first":
            self._stopped.set()
            assert self.thaw.wait(60)
            if self.fails:
                raise RuntimeError("a fault")

    def _perform(self, world: World, run_id: int) -> None:
        desk = Desk(world.driver.system)
        done = work.perform(
            world.driver.system, desk, run_id=run_id, seq=self.seq, attempt=self.attempt, owner="first/1"
        )
        self.ended.append(done)
        desk.clear()

    def end(self) -> None:
        self.thaw.set()
        self._thread.join(60)


@pytest.mark.parametrize("store", [FLAT, HIER])
class TestFrozenLoaders:
    """A chunk's loader that was taken for dead."""

    @pytest.mark.parametrize("fails", [False, True])
    def test_the_second_waits_for_one_that_wakes_up(
        self, world: World, store: model.StoreName, fails: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The second waits for it; it loads the chunk where the first has not, and not once more where it has."""
        run_id = world.begin()

        def thaw_when_it_is_waited_for() -> None:
            query = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            until(lambda: world.ask(store, query), "the second loader to wait")
            frozen.thaw.set()

        with monkeypatch.context() as patch:
            frozen = Frozen(world, run_id, store, patch)
            frozen.fails = fails
            try:
                again = queued(world, run_id, frozen.seq)
                waiting = threading.Thread(target=thaw_when_it_is_waited_for)
                waiting.start()
                done = work.perform(
                    world.driver.system, world.driver.desk, run_id=run_id, seq=frozen.seq, attempt=again,
                    owner="second/1",
                )  # fmt: skip
                waiting.join(60)
            finally:
                frozen.end()
        assert done == "done"
        assert frozen.ended == ["lost"]
        assert frozen.loaded == (["first", "MainThread"] if fails else ["first"])
        world.work(run_id)
        world.assert_restored(run_id)

    @pytest.mark.parametrize("kept", [True, False])
    def test_it_loads_nothing_once_the_restore_is_over(
        self, world: World, store: model.StoreName, kept: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It keeps neither a keeper nor the next restore from the tables, and loads nothing into those."""
        first = world.begin()
        with monkeypatch.context() as patch:
            frozen = Frozen(world, first, store, patch)
            try:
                world.driver.coordinator.cancel(first)
                assert world.driver.work(first).status is model.RunStatus.CANCELLED
                if kept:
                    world.look()
                    world.assert_clean()
                second = world.begin()
                world.work(second)
            finally:
                frozen.end()
        assert frozen.ended == ["lost"]
        world.look()
        world.assert_restored(second)


@pytest.mark.parametrize("store", [FLAT, HIER])
def test_nothing_is_swapped_under_a_snapshot_from_before(world: World, store: model.StoreName) -> None:
    """Nothing is swapped under a snapshot that would show neither the old rows nor the new ones."""
    table = "flat.user_sessions" if store is FLAT else "hier.sessions"
    connection = psycopg2.connect(world.url(store), application_name="a report")
    try:
        connection.set_session(isolation_level="REPEATABLE READ")
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_class")
            run_id = world.begin()

            def told() -> str:
                (swap,) = [one for one in world.driver.batches(run_id) if one["kind"] == "swap"] or [{"error": None}]
                return swap["error"] or ""

            world.driver.work(run_id, until=lambda: bool(told()))
            assert f"A transaction of the {store} store reads as of a moment" in told()
            assert f"pid {connection.get_backend_pid()} (a report" in told()
            assert world.held() == [False, False]
            cursor.execute(f"SELECT count(*) FROM {table} WHERE user_agent = 'spoilt'")
            assert cursor.fetchone() == (50,)
    finally:
        connection.close()
    world.work(run_id)
    world.assert_restored(run_id)


def test_who_replaces_tables_is_not_silent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is busy in one store its word is heard in the other; once it is not, the server undoes it."""
    monkeypatch.setattr(restore_notes, "SILENCE", 0.4)
    with contextlib.closing(world.driver.system.flat()) as connection, connection.cursor() as cursor:
        with restore_notes.spoken_for(connection):
            cursor.execute("LOCK TABLE flat.user_sessions IN ACCESS EXCLUSIVE MODE")
            world.ask(FLAT, "SELECT pg_sleep(1.2)")
            cursor.execute("SELECT 1")
        query = "SELECT 1 FROM pg_locks WHERE relation = 'flat.user_sessions'::regclass"
        until(lambda: not world.ask(FLAT, query), "the server to end it")
        with pytest.raises(psycopg2.OperationalError):
            cursor.execute("SELECT 1")
    world.keeping.roll_back(NAME)
