"""The switches of the write mode: killed at every step, doubled, held up, forced; nobody's write is lost by it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Mapping

import psycopg2
import pytest

from hal9mig import errors, model, settings
from hal9mig.engine.switch import gate, switch
from hal9mig.engine.system import System
from hal9mig.stores import capture, write_mode
from hal9mig.stores.write_mode import Mode
from tests.support import live_state, migration_driver
from tests.support.live_state import CONFIGURATION, SESSIONS, World, session, setting
from tests.support.servers import Stores
from tests.support.writers import Writers

KEY = "00000000-0000-4000-8000-{:012d}".format
#: The steps of each switch, in their order.
ENABLE = ("note triggers", "state", "state", "arrive")
LEAVE = ("note reverse capture", "drain", "closed", "note closed", "open", "left", "arrive")
BACK = ("note barrier", "drain", "closed", "note closed", "open", "left", "arrive")


class Killed(BaseException):
    """The operator's process is gone."""


def nth(at: int) -> Callable[[str], None]:
    """Return a hook that lets ``at`` steps pass and then ends everything."""
    left = [at]

    def pause(step: str) -> None:
        if not left[0]:
            raise Killed(step)
        left[0] -= 1

    return pause


def die(env: Mapping[str, str], what: str, before: str) -> None:
    """Switch in a process of its own, which is gone before a step: no block is left in good order."""

    def pause(step: str) -> None:
        if step == before:
            os._exit(9)

    system = System(settings.load(environ=env), role="doomed")
    mine = switch.Switch(system, actor="doomed", pause=pause)
    if what == "leave":
        found = gate.look(system)
        gate.require(found)
        mine.leave_flat(lambda: gate.evidence(system, found, actor="doomed"))
    elif what == "enable":
        mine.enable()
    else:
        mine.return_to_flat()


@pytest.fixture
def world(world: World) -> World:
    world.load()
    return world


def takes(world: World, side: model.StoreName) -> bool:
    """Whether a store admits a writer."""
    flat = side is model.StoreName.FLAT
    url = world.stores.flat_url if flat else world.stores.hier_url
    try:
        live_state.execute(url, "SELECT hal9cap.admit(%s)", "flat" if flat else "hierarchical")
    except psycopg2.Error as error:
        if error.pgcode != capture.STORE_CLOSED:
            raise
        return False
    return True


def assert_one_at_most(world: World) -> None:
    """Assert that the two stores never take writes both."""
    assert not (takes(world, model.StoreName.FLAT) and takes(world, model.StoreName.HIERARCHICAL)), world.states()


def assert_settled(world: World, mode: Mode) -> None:
    """Assert that a mode is reached, in the ledger and in both stores, with one epoch."""
    line, (flat, hier) = world.line, world.states()
    assert (line.mode, line.target, line.step) == (mode, None, None)
    assert flat == hier == write_mode.WriteState(mode=mode, epoch=line.epoch)
    assert "switch" not in line.attested
    assert takes(world, model.StoreName.FLAT) == (mode is not Mode.HIERARCHICAL_ONLY)


class TestKilled:
    """Before each step the process that switches is gone; the next one ends what it began, or goes back."""

    @pytest.mark.parametrize("at", range(len(ENABLE)))
    def test_while_dual_write_is_enabled(self, world: World, at: int) -> None:
        with pytest.raises(Killed, match=ENABLE[at]):
            switch.Switch(world.system, pause=nth(at)).enable({"backup": True})
        assert takes(world, model.StoreName.FLAT)
        assert world.switch.enable({"backup": True}).changed
        assert_settled(world, Mode.DUAL_WRITE)
        assert world.line.attested == {"backup": True}
        assert not world.switch.enable().changed

    @pytest.mark.parametrize("at", range(len(LEAVE)))
    def test_while_flat_is_left_and_the_next_goes_on(self, world: World, at: int) -> None:
        world.prepare()
        with world.client() as state:
            state.put(SESSIONS, session(KEY(1), "before"))
        with pytest.raises(Killed, match=LEAVE[at]):
            world.leave(switch.Switch(world.system, pause=nth(at)))
        assert_one_at_most(world)
        if LEAVE[at] in ("left", "arrive"):
            # The hierarchical store is open already, and what comes now must not stand in the way.
            with world.client() as state:
                state.put(SESSIONS, session(KEY(2), "meanwhile"))
        done = world.leave()
        assert done.changed
        assert_settled(world, Mode.HIERARCHICAL_ONLY)
        (certificate,) = world.certificates()
        assert gate.sealed(certificate.document) == certificate.document
        assert certificate.document["epoch"] == done.epoch == world.line.epoch
        assert not world.leave().changed
        world.drain()
        assert world.switch.return_to_flat().changed
        world.assert_equal()
        assert world.notes(SESSIONS)[KEY(1)] == "before"

    @pytest.mark.parametrize("at", range(len(LEAVE)))
    def test_while_flat_is_left_and_the_next_goes_back(self, world: World, at: int) -> None:
        world.prepare()
        with pytest.raises(Killed, match=LEAVE[at]):
            world.leave(switch.Switch(world.system, pause=nth(at)))
        if LEAVE[at] in ("left", "arrive"):
            with world.client() as state:
                state.put(SESSIONS, session(KEY(2), "only there"))
        if at:
            # The other way on is shut until this one is decided.
            with pytest.raises(errors.Refused, match="A switch to hierarchical-only is under way"):
                world.switch.enable()
        assert world.switch.return_to_flat().changed
        assert_settled(world, Mode.FLAT_ONLY)
        assert (KEY(2) in world.notes(SESSIONS)) == (LEAVE[at] in ("left", "arrive"))
        world.assert_equal()

    @pytest.mark.parametrize("at", range(len(BACK)))
    def test_on_the_way_back(self, world: World, at: int) -> None:
        world.prepare(over=True)
        with world.client() as state:
            state.put(SESSIONS, session(KEY(1), "written there"))
        with pytest.raises(Killed, match=BACK[at]):
            switch.Switch(world.system, pause=nth(at)).return_to_flat()
        assert_one_at_most(world)
        if BACK[at] in ("left", "arrive"):
            with world.client() as state:
                state.put(SESSIONS, session(KEY(1), "written here"))
        done = world.switch.return_to_flat()
        assert (done.changed, done.discarded) == (True, 0)
        assert_settled(world, Mode.FLAT_ONLY)
        assert not world.switch.return_to_flat().changed
        expected = "written here" if BACK[at] in ("left", "arrive") else "written there"
        assert world.notes(SESSIONS) == {KEY(1): expected}
        world.switch.enable()
        world.drain()
        world.assert_equal()

    def test_processes_that_are_gone_while_others_write(self, world: World, stack_env: dict[str, str]) -> None:
        """Each switch is begun by processes that are gone on the way, and ended by one that is not."""
        context = multiprocessing.get_context("spawn")

        def doomed(what: str, *steps: str) -> None:
            for step in steps:
                child = context.Process(target=die, args=(stack_env, what, step))
                child.start()
                child.join(90)
                assert child.exitcode == 9, (what, step)

        with world.followed(), Writers(world) as writers:
            writers.through_client(3, pause=0.02)
            writers.plain(1, pause=0.02)
            writers.more()
            doomed("enable", "state")
            world.prepare()
            writers.more()
            world.until_open()
            doomed("leave", "drain", "open", "left", "arrive")
            writers.more()
            world.leave()
            doomed("back", "drain", "open")
            world.switch.return_to_flat()
            writers.more()
            doomed("enable", "arrive")
            world.switch.enable()
        world.drain()
        world.assert_equal()
        writers.assert_kept()


class TestTwoOperators:
    def test_both_at_once_have_one_effect(self, world: World, stack_env: dict[str, str], stores: Stores) -> None:
        """Each pair of them has one effect: one changes the mode, the other finds it so."""
        with live_state.opened(stores, stack_env) as other, concurrent.futures.ThreadPoolExecutor() as pool:

            def both(act: Callable[[World], switch.Switched]) -> list[bool]:
                together = threading.Barrier(2)

                def one(mine: World) -> bool:
                    together.wait()
                    return act(mine).changed

                return sorted(pool.map(one, (world, other)))

            assert both(lambda mine: mine.switch.enable()) == [False, True]
            assert_settled(world, Mode.DUAL_WRITE)
            world.migrate()
            world.pretend_worker()
            world.clean()
            found = world.look()
            gate.require(found)
            assert both(
                lambda mine: mine.switch.leave_flat(lambda: gate.evidence(mine.system, found, actor="test"))
            ) == [False, True]
            assert_settled(world, Mode.HIERARCHICAL_ONLY)
            assert len(world.certificates()) == 1
            assert both(lambda mine: mine.switch.return_to_flat()) == [False, True]
            assert_settled(world, Mode.FLAT_ONLY)
        assert world.line.epoch == 4
        assert [event.action for event in world.events() if event.action.startswith("mode ")] == [
            "mode flat-only", "mode hierarchical-only", "mode dual-write",
        ]  # fmt: skip


class TestHeldUp:
    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A switch that gives up sooner than an operator's."""
        monkeypatch.setattr(switch, "PATIENCE", 0.5)
        monkeypatch.setattr(switch, "_TRIES", 2)

    def test_a_long_transaction_is_named_and_the_others_go_on(self, world: World) -> None:
        """The switch gives up, nothing has changed, and it works once the transaction has ended."""
        world.prepare()
        before = world.line
        with world.followed(), Writers(world) as writers:
            writers.through_client(2)
            with contextlib.closing(psycopg2.connect(world.stores.flat_url, application_name="a long one")) as long:
                with long.cursor() as cursor:
                    cursor.execute(*insert(KEY(1), "in a long transaction"))
                    pid = long.get_backend_pid()
                    with pytest.raises(errors.WritersInFlight) as refused:
                        world.leave()
                    writers.more()
                assert f"pid {pid} (a long one, idle in transaction, open for" in refused.value.message
                assert world.line == before
                assert_settled(world, Mode.DUAL_WRITE)
                assert world.events()[0].action == "switch to hierarchical-only given up"
                long.commit()
            world.until_open()
            world.leave()
            writers.more()
            with contextlib.closing(psycopg2.connect(world.stores.hier_url, application_name="a long one")) as long:
                with long.cursor() as cursor:
                    cursor.execute("UPDATE hier.sessions SET user_agent = 'x' WHERE session_id = %s", (KEY(1),))
                    with pytest.raises(errors.WritersInFlight, match=f"pid {long.get_backend_pid()} "):
                        world.switch.return_to_flat()
                    writers.more()
                assert_settled(world, Mode.HIERARCHICAL_ONLY)
                long.rollback()
            assert world.switch.return_to_flat().barrier is not None
            writers.more()
        assert world.notes(SESSIONS).pop(KEY(1)) == "in a long transaction"
        world.flat_sql("DELETE FROM flat.user_sessions WHERE session_id = %s", KEY(1))
        writers.assert_kept()
        world.switch.enable()
        world.drain()
        world.assert_equal()

    def test_a_table_that_stays_locked(self, world: World) -> None:
        """Enabling needs each table for a moment, gives way meanwhile, and leaves no switch behind."""
        with contextlib.closing(psycopg2.connect(world.stores.flat_url)) as long, long.cursor() as cursor:
            cursor.execute(*insert(KEY(1), "before capture"))
            with pytest.raises(errors.WritersInFlight):
                world.switch.enable()
            assert (world.line.mode, world.line.target) == (Mode.FLAT_ONLY, None)
            long.commit()
        assert world.switch.enable().changed

    def test_what_the_gate_finds_behind_the_barrier_lifts_it(self, world: World) -> None:
        world.prepare()
        found = world.look()
        world.hier_sql(f"{capture.APPLY}; DELETE FROM hier.config_values")
        before = world.line
        with pytest.raises(errors.GateClosed, match="configuration: 1 flat records, 0 hierarchical"):
            world.switch.leave_flat(lambda: gate.evidence(world.system, found, actor="test"))
        assert world.line == before
        assert_settled(world, Mode.DUAL_WRITE)
        assert not world.certificates()


class TestForced:
    """A way back that cannot be gone whole: what it would cost is said, noted, and exact."""

    @pytest.fixture
    def damaged(self, world: World) -> World:
        """The flat store refuses three records of those that were written since the switch."""
        world.prepare(over=True)
        world.flat_sql("ALTER TABLE flat.configuration ADD CHECK (key NOT LIKE 'refused%')")
        with world.client() as state:
            for number in range(3):
                for again in range(2):
                    state.put(CONFIGURATION, setting(f"refused.{number}", again))
            state.put(CONFIGURATION, setting("fine", 1))
        return world

    def test_it_is_refused_without_force(self, damaged: World) -> None:
        with pytest.raises(errors.GateClosed, match="The last writes of 3 records of the hierarchical store"):
            damaged.switch.return_to_flat()
        assert_settled(damaged, Mode.HIERARCHICAL_ONLY)
        assert damaged.notes(CONFIGURATION) == {"fine": 1}

    def test_the_number_is_noted(self, damaged: World) -> None:
        done = damaged.switch.return_to_flat(force=True)
        assert (done.changed, done.discarded) == (True, 3)
        assert damaged.events()[0].detail == {"epoch": done.epoch, "discarded": 3}
        assert_settled(damaged, Mode.FLAT_ONLY)
        assert damaged.waiting(model.StoreName.HIERARCHICAL) == 0
        # Migrated again, the discarded records are differences that a pass finds and puts right.
        damaged.switch.enable()
        damaged.pass_over()
        damaged.assert_equal()

    @pytest.mark.parametrize("at", ["closed", "note closed", "open", "left", "discard", "arrive"])
    def test_a_kill_does_not_lose_the_number(self, damaged: World, at: str) -> None:
        def pause(step: str) -> None:
            if step == at:
                raise Killed

        with pytest.raises(Killed):
            switch.Switch(damaged.system, pause=pause).return_to_flat(force=True)
        assert_one_at_most(damaged)
        assert damaged.switch.return_to_flat(force=True).discarded == 3
        assert damaged.events()[0].detail["discarded"] == 3
        assert_settled(damaged, Mode.FLAT_ONLY)
        assert damaged.waiting(model.StoreName.HIERARCHICAL) == 0


class TestEpochs:
    def test_who_comes_from_before_a_switch_is_refused(self, world: World) -> None:
        world.prepare()
        epoch = world.line.epoch
        with migration_driver.connected(world.stores.flat_url) as cursor:
            cursor.execute("SELECT set_config('hal9.epoch', %s, false)", (str(epoch),))
            cursor.execute(*insert(KEY(1), "now"))
            world.leave()
            with pytest.raises(psycopg2.Error, match=f"epoch {epoch} is over: the write mode is hierarchical-only"):
                cursor.execute(*insert(KEY(2), "late"))
            cursor.execute("RESET hal9.epoch")
            with pytest.raises(psycopg2.Error, match="the flat store takes no writes now"):
                cursor.execute(*insert(KEY(2), "late"))
        with migration_driver.connected(world.stores.hier_url) as cursor:
            cursor.execute("UPDATE hier.sessions SET user_agent = 'there'")
            world.switch.return_to_flat()
            with pytest.raises(psycopg2.Error, match="the hierarchical store takes no writes now"):
                cursor.execute("UPDATE hier.sessions SET user_agent = 'late'")
        world.assert_equal()


def insert(key: str, note: str) -> tuple[str, tuple[str, ...]]:
    """Return the statement that an application without the client inserts a session with."""
    return (
        "INSERT INTO flat.user_sessions SELECT %s, 'plain', %s, NULL, NULL, true, jsonb_build_object('note', %s::text),"
        " now(), now(), NULL, 1",
        (key, f"token of {key}", note),
    )
