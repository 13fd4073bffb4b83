"""Switches that somebody holds up with a lock, or that are frozen themselves: writers go on, and somebody is named."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

import psycopg2
import psycopg2.extensions
import pytest

from hal9mig import errors, settings
from hal9mig.engine.desk import Desk
from hal9mig.engine.switch import switch
from hal9mig.engine.system import System
from hal9mig.engine.transfer import applier, fence, follower
from hal9mig.ledger.database import Ledger
from hal9mig.stores import barrier
from hal9mig.stores.write_mode import Mode
from tests.support import live_state, migration_driver
from tests.support.live_state import CONFIGURATION, NEURONS, SESSIONS, World, session
from tests.support.writers import Writers

KEY = "00000000-0000-4000-8000-{:012d}".format
#: What an applier holds when it is frozen, by the statement that makes a session hold it.
LOCKS = {
    "a key": f"SELECT pg_advisory_xact_lock(hashtextextended('user-sessions/[\"{KEY(1)}\"]', 0))",
    "a row": f"SELECT FROM hier.sessions WHERE session_id = '{KEY(1)}' FOR UPDATE",
    "a mark": f"UPDATE hal9mig.marks SET at = at WHERE key = ARRAY['{KEY(1)}']",
}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A switch that gives up sooner than an operator's."""
    monkeypatch.setattr(switch, "PATIENCE", 0.5)
    monkeypatch.setattr(switch, "_TRIES", 2)


@pytest.fixture
def world(world: World) -> World:
    world.load()
    return world


@contextlib.contextmanager
def frozen(url: str, sql: str) -> Iterator[psycopg2.extensions.connection]:
    """Have a session that holds a lock and does nothing, for the length of a block."""
    with contextlib.closing(psycopg2.connect(url, application_name="a frozen one")) as opened:
        with opened.cursor() as cursor:
            cursor.execute(sql)
        yield opened


def named(holder: psycopg2.extensions.connection) -> str:
    """Return how the error names a session."""
    return rf"pid {holder.get_backend_pid()} \(a frozen one, idle in transaction, open for \d+ s\)"


def change(world: World, note: str, *numbers: int) -> None:
    """Write sessions as an application without the client does."""
    for number in numbers:
        world.flat_sql(
            "INSERT INTO flat.user_sessions SELECT %s, 'plain', %s, NULL, NULL, true, "
            "jsonb_build_object('note', %s::text), now(), now(), NULL, 1 "
            "ON CONFLICT (session_id) DO UPDATE SET data = excluded.data, version = user_sessions.version + 1",
            KEY(number), f"token {number}", note,
        )  # fmt: skip


class TestFrozenApplier:
    @pytest.mark.parametrize("lock", LOCKS)
    def test_on_the_way_over(self, world: World, lock: str) -> None:
        """The switch gives up within seconds, says who it is, and leaves everything as it was."""
        world.prepare()
        change(world, "before", 1)
        world.drain()
        with Writers(world) as writers:
            with frozen(world.stores.hier_url, LOCKS[lock]) as holder:
                change(world, "waiting", 1)
                found = world.look()
                writers.plain(2)
                writers.more()
                with pytest.raises(errors.GateClosed, match=named(holder)) as refused:
                    world.switch.leave_flat(lambda: {"predicates": len(found)})
                writers.more()
            assert "The last writes of" in refused.value.message
            assert "a lock was not to be had within 0.5s" in refused.value.message
            assert "pg_terminate_backend" in (refused.value.hint or "")
            assert (world.line.mode, world.line.target) == (Mode.DUAL_WRITE, None)
            world.clean()
            world.leave()
        with world.client() as state:
            assert state.get(SESSIONS, KEY(1))["data"]["note"] == "waiting"

    def test_of_a_delete(self, world: World) -> None:
        """It waits for the copies in flight, and one of those may be frozen too."""
        world.prepare()
        change(world, "before", 1)
        world.drain()
        world.flat_sql("DELETE FROM flat.user_sessions WHERE session_id = %s", KEY(1))
        copying = "SELECT pg_advisory_xact_lock_shared(hashtextextended('hal9mig copy user-sessions', 0))"
        with (
            frozen(world.stores.hier_url, copying) as holder,
            pytest.raises(errors.GateClosed, match=named(holder)),
        ):
            world.leave()
        world.leave()

    def test_one_that_waits_for_another(self, world: World) -> None:
        """Named is who holds everybody up, and not who waits in front of the switch."""
        world.prepare()
        change(world, "before", 1, 2)
        with contextlib.ExitStack() as stack:
            holder = stack.enter_context(frozen(world.stores.hier_url, LOCKS["a key"]))
            queued = threading.Thread(target=self._bring, args=(world, 1, 2), daemon=True)
            queued.start()
            stack.callback(queued.join, 30)
            stack.callback(holder.rollback)
            migration_driver.until(
                lambda: world.hier_sql("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted")[0][0], "one that waits"
            )
            with pytest.raises(errors.GateClosed, match=named(holder)) as refused:
                world.leave()
        assert refused.value.message.count("pid ") == 1

    @staticmethod
    def _bring(world: World, *numbers: int) -> None:
        with contextlib.closing(world.system.flat()) as flat:
            applier.apply(
                world.system.ledger, flat, world.system.transform(SESSIONS), [(KEY(number),) for number in numbers]
            )

    def test_on_the_way_back(self, world: World) -> None:
        world.prepare(over=True)
        with world.client() as state:
            state.put(SESSIONS, session(KEY(1), "written there"))
        with frozen(world.stores.flat_url, LOCKS["a key"]) as holder:
            with pytest.raises(errors.GateClosed, match=named(holder)) as refused:
                world.switch.return_to_flat()
            assert "The last writes of 1 record of the hierarchical store" in refused.value.message
            with world.client() as state:
                state.put(SESSIONS, session(KEY(2), "goes on"))
        assert world.switch.return_to_flat().changed
        assert world.notes(SESSIONS) == {KEY(1): "written there", KEY(2): "goes on"}

    def test_that_repairs_what_nobody_waits_for(self, world: World) -> None:
        """Nothing but the fence tells that it is about to write what it has read before the switch."""
        world.prepare()
        change(world, "before", 1)
        world.drain()
        stands, goes_on = threading.Event(), threading.Event()

        def stand(target: applier._Target, keys: Any) -> Any:
            found = READ(target, keys)
            stands.set()
            assert goes_on.wait(60)
            return found

        with mock.patch.object(applier._Target, "read", stand):
            repair = threading.Thread(target=self._bring, args=(world, 1), daemon=True)
            repair.start()
            assert stands.wait(30)
            with pytest.raises(errors.GateClosed, match="still applying"):
                world.switch.leave_flat(dict)
            goes_on.set()
            repair.join(30)
        world.leave()
        world.assert_equal()

    def test_with_nothing_left_to_bring(self, world: World) -> None:
        """A repair holds the fence, or a row that the proof of capture would have written."""
        world.prepare()
        fence = "SELECT pg_advisory_xact_lock_shared(hashtextextended('hal9mig applying', 0))"
        with frozen(world.stores.hier_url, fence) as holder:
            with pytest.raises(errors.GateClosed, match=named(holder)):
                world.leave()
            assert world.states()[0].mode is Mode.DUAL_WRITE
        with (
            frozen(world.stores.hier_url, "SELECT FROM hier.config_values FOR UPDATE") as holder,
            pytest.raises(errors.GateClosed, match=named(holder)),
        ):
            world.leave()
        assert world.leave().changed

    def test_a_table_that_is_to_be_captured(self, world: World) -> None:
        writing = "UPDATE flat.user_sessions SET active = active"
        with (
            frozen(world.stores.flat_url, writing) as holder,
            pytest.raises(errors.WritersInFlight, match=named(holder)),
        ):
            world.switch.enable()
        assert world.switch.enable().changed

    def test_its_session_is_ended_by_the_server(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """So that its keys come free though nobody looks after it."""
        monkeypatch.setattr(fence, "FROZEN", 1.0)
        world.prepare()
        change(world, "waiting", 1)
        stands, goes_on, ended = threading.Event(), threading.Event(), []

        def stand(self: applier._Target, keys: Any) -> Any:
            stands.set()
            assert goes_on.wait(60)
            return {}

        def body() -> None:
            with mock.patch.object(applier._Target, "read", stand):
                try:
                    self._bring(world, 1)
                except errors.Unreachable as error:
                    ended.append(error)

        thread = threading.Thread(target=body, daemon=True)
        thread.start()
        assert stands.wait(30)
        # It had read nothing by then: what is applied now is the record, and its deletion never comes.
        with live_state.opened(world.stores, world.env) as other, mock.patch.object(applier._Target, "read", READ):
            other.drain()
        goes_on.set()
        thread.join(30)
        assert len(ended) == 1
        world.assert_equal()


READ = applier._Target.read


def freeze(env: Mapping[str, str], silence: float) -> None:
    """Go over in a process of its own, and stop it where it keeps the writers out."""
    barrier.SILENCE = silence
    pause = {"drain": lambda: os.kill(os.getpid(), signal.SIGSTOP)}
    mine = switch.Switch(
        System(settings.load(environ=env), role="stopped"),
        actor="stopped",
        pause=lambda step: pause.get(step, lambda: None)(),
    )
    mine.leave_flat(dict)


class TestFrozenSwitch:
    def test_writers_are_let_in(self, world: World, stack_env: dict[str, str]) -> None:
        """An operator's Ctrl-Z behind the barrier: after a while the server ends its session."""
        world.prepare()
        child = multiprocessing.get_context("spawn").Process(target=freeze, args=(stack_env, 1.0))
        with world.followed(), Writers(world) as writers:
            writers.through_client(2)
            writers.plain(2)
            writers.more()
            child.start()
            try:
                migration_driver.until(lambda: _stopped(child.pid), "a stopped switch")
                writers.more()
                # Awake again it does not go on as if it had kept them out.
                os.kill(child.pid or 0, signal.SIGCONT)
                child.join(60)
                assert child.exitcode == 1
                assert world.states()[0].mode is Mode.DUAL_WRITE
            finally:
                child.kill()
            writers.more()
            world.clean()
            world.until_open()
            world.leave()
            writers.more()
            world.switch.return_to_flat()
        writers.assert_kept()

    def test_one_that_takes_long_is_not_taken_for_frozen(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(barrier, "SILENCE", 0.4)
        world.prepare()
        pids = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted"
        seen = []

        def slowly() -> dict[str, Any]:
            began = migration_driver.until(lambda: world.flat_sql("SELECT clock_timestamp()"), "a clock")[0][0]
            over = "SELECT clock_timestamp() > %s + interval '1.2 seconds'"
            migration_driver.until(lambda: world.flat_sql(over, began)[0][0], "more time than silence is granted")
            seen.append(world.flat_sql(pids))
            return {}

        assert world.switch.leave_flat(slowly).changed
        assert len(seen[0]) == 1


def _stopped(pid: int | None) -> bool:
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] == "T"


class TestOneProcess:
    """A switch, followers, repairs and readers that share one process's connections to the ledger."""

    def test_nobody_waits_for_a_connection(self, world: World) -> None:
        """However many are held: who waits for one may hold what the others wait for."""
        with contextlib.ExitStack() as stack:
            for _ in range(5):
                stack.enter_context(world.system.ledger.begin())
            world.switch.enable()
            world.migrate()
            world.pretend_worker()
            world.clean()
            change(world, "waiting", 1)
            world.leave()
            world.switch.return_to_flat()
        world.assert_equal()

    def test_followers_beside_it(self, world: World) -> None:
        """Each holds one and takes another, and there is one to be kept."""
        vars(world.system)["ledger"] = Ledger(world.stores.hier_url, application_name="shared", pool_size=1)
        over, problems = threading.Event(), []

        def follow(lane: int) -> None:
            desk = Desk(world.system)
            try:
                while not over.is_set():
                    follower.work(world.system, desk.flat("follow"), desk.hier("follow"), lane=lane, lanes=3)
            except BaseException as problem:
                problems.append(problem)
            finally:
                desk.clear()

        world.only(SESSIONS, CONFIGURATION, NEURONS)
        world.prepare()
        threads = [threading.Thread(target=follow, args=(lane,), daemon=True) for lane in range(3)]
        with Writers(world) as writers:
            for thread in threads:
                thread.start()
            writers.through_client(2, pause=0.01)
            writers.plain(1, pause=0.01)
            for _ in range(2):
                writers.more()
                world.until_open()
                world.leave()
                writers.more()
                world.switch.return_to_flat()
                world.switch.enable()
                world.clean()
        over.set()
        for thread in threads:
            thread.join(60)
        assert not problems, "\n".join(map(str, problems))
        world.drain()
        world.assert_equal()
        writers.assert_kept()
