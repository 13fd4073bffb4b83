"""The client through every switch: stale epochs, paused operations, dual writes, and load."""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pytest

from hal9mig import client, errors, model, sample
from hal9mig.engine.system import System
from hal9mig.engine.transfer import applier, follower
from hal9mig.engine.transfer.returner import Returner
from hal9mig.model import StoreName
from hal9mig.sample import bypass, check_traffic, traffic, traffic_records
from hal9mig.stores import capture, write_mode
from hal9mig.stores.write_mode import Mode, WriteState
from tests.integration.client_world import CONFIGURATION, NEURONS, SESSIONS, World, neuron, session, setting
from tests.support import comparison, servers


@pytest.fixture
def world(stores: servers.Stores) -> Iterator[World]:
    opened = World(stores)
    yield opened
    opened.close()


def test_a_stale_epoch_is_refused_by_the_database(world: World) -> None:
    world.client.put(SESSIONS, session())
    world.switch.enable()
    for epoch, code in ((1, "HL001"), (3, "HL001")):
        with pytest.raises(psycopg2.Error) as caught:
            world.sql(StoreName.FLAT, f"SET LOCAL hal9.epoch = '{epoch}'", "DELETE FROM flat.user_sessions")
        assert caught.value.pgcode == code
    world.leave_flat()
    # Of the present epoch, but on the side that does not rule; and without any epoch.
    for statement in ("SET LOCAL hal9.epoch = '3'", "SELECT 1"):
        with pytest.raises(psycopg2.Error) as caught:
            world.sql(StoreName.FLAT, statement, "DELETE FROM flat.user_sessions")
        assert caught.value.pgcode == "HL002"
    with pytest.raises(psycopg2.Error) as caught:
        world.sql(StoreName.HIERARCHICAL, "SET LOCAL hal9.epoch = '2'", "DELETE FROM hier.sessions")
    assert caught.value.pgcode == "HL001"


def test_a_client_follows_each_switch_without_an_error(world: World) -> None:
    changes: list[Callable[[], Any]] = [
        world.switch.enable, world.leave_flat, world.switch.return_to_flat, world.switch.enable,
        world.switch.return_to_flat,
    ]  # fmt: skip
    for number, change in enumerate(changes):
        change()
        # What it knows is from before the switch, when it reads as when it writes.
        assert (world.client.get(SESSIONS, session()["session_id"]) is None) is (number == 0)
        change()  # once more, which changes nothing
        world.client.put(SESSIONS, session(data={"n": number}))
        found = world.client.get(SESSIONS, session()["session_id"])
        assert found is not None
        assert found["data"] == {"n": number}


def test_while_a_switch_is_under_way_nobody_writes_and_everybody_reads(world: World) -> None:
    world.client.put(CONFIGURATION, setting())
    world.switch.enable()
    flat = world.system.flat()
    write_mode.set_state(flat, WriteState(mode=Mode.CLOSED, epoch=3))
    with client.connect(world.system.settings, patience=0.1) as hasty:
        assert hasty.get(CONFIGURATION, "a.b") is not None
        assert hasty.mode is Mode.CLOSED
        with pytest.raises((errors.WritesClosed, errors.StaleEpoch)):
            hasty.put(CONFIGURATION, setting())
    # A patient one waits until it is over.
    waiting = threading.Thread(target=lambda: world.client.put(CONFIGURATION, setting(value="patient")))
    waiting.start()
    write_mode.set_state(flat, WriteState(mode=Mode.DUAL_WRITE, epoch=4))
    waiting.join(30)
    flat.close()
    found = world.client.get(CONFIGURATION, "a.b")
    assert found is not None
    assert found["value"] == "patient"


def test_operations_that_can_wait_are_paused_during_dual_write(world: World) -> None:
    def run(name: str) -> None:
        with world.client.operation(name):
            pass

    run("reports")
    world.switch.enable()
    for name in ("reports", "analytics", "compaction"):
        with pytest.raises(errors.OperationPaused, match=name):
            run(name)
    run("checkout")
    world.leave_flat()
    run("reports")


def test_a_dual_write_is_in_both_stores_at_once(world: World) -> None:
    world.switch.enable()
    with world.client.transaction() as transaction:
        transaction.put(SESSIONS, session(1))
        transaction.put(NEURONS, neuron(1))
        transaction.put(CONFIGURATION, setting())
    world.client.delete(CONFIGURATION, "a.b")
    world.assert_equal()
    assert comparison.hierarchical_rows(world.stores, world.system.category(SESSIONS))
    assert (world.client.counters.mirrored, world.client.counters.left) == (4, 0)
    # Its journal row stays: whoever is sure that it is there takes it away.
    assert world.client.waiting() == 4
    world.follow()
    assert world.client.waiting() == 0


def test_a_target_that_does_not_answer_never_fails_the_write(world: World) -> None:
    world.switch.enable()
    world.client.put(SESSIONS, session())
    holder = psycopg2.connect(world.stores.hier_url)
    with holder.cursor() as cursor:
        cursor.execute(f"{capture.APPLY}; LOCK TABLE hier.sessions IN ACCESS EXCLUSIVE MODE")
        world.client.put(SESSIONS, session(data={"n": 2}))
    assert world.client.counters.left == 1
    holder.close()
    world.stores.hier_cluster.stop()
    for number in range(2, 10):
        world.client.put(SESSIONS, session(number))
    world.client.delete(SESSIONS, session(2)["session_id"])
    assert len(list(world.client.scan(SESSIONS))) == 8
    assert world.client.counters.left == 10
    world.stores.hier_cluster.start()
    world.follow()
    world.assert_equal(SESSIONS)


def test_who_was_slow_since_before_a_switch_writes_nothing_over_what_came_after(world: World) -> None:
    world.client.put(CONFIGURATION, setting(value="flat"))
    world.switch.enable()
    world.migrate()
    world.leave_flat()
    world.client.put(CONFIGURATION, setting(value="hierarchical"))
    transform = world.system.transform(CONFIGURATION)
    flat, hier = world.system.flat(), world.system.hier()
    with pytest.raises(errors.StaleEpoch):
        applier.apply(world.system.ledger, flat, transform, [("a.b",)])
    flat.rollback()
    world.switch.return_to_flat()
    world.client.put(CONFIGURATION, setting(value="flat again"))
    with pytest.raises(errors.StaleEpoch):
        Returner(transform, flat=flat, hier=hier).apply([("a.b",)])
    flat.close()
    hier.close()
    found = world.client.get(CONFIGURATION, "a.b")
    assert found is not None
    assert found["value"] == "flat again"


class Following(threading.Thread):
    """Stands for the workers: follows whichever journal is the ruling one's, until told to stop."""

    def __init__(self, world: World):
        super().__init__(daemon=True)
        # As a worker is another process than the one that switches.
        self._system = System(world.system.settings, role="test worker")
        self._stop_asked = threading.Event()

    def run(self) -> None:
        flat, hier = self._system.flat(), self._system.hier()
        while not self._stop_asked.wait(0.02):
            for lane in range(2):
                follower.work(self._system, flat, hier, lane=lane, lanes=2)
        flat.close()
        hier.close()
        self._system.ledger.close()

    def stop(self) -> None:
        self._stop_asked.set()
        self.join(30)


def test_no_acknowledged_write_is_lost_by_switching_back_and_forth_under_load(
    world: World, tmp_path: pathlib.Path
) -> None:
    sample.load(world.stores.flat_url, scale=0.0003, seed=1)
    stop = threading.Event()
    plan = traffic.TrafficPlan(
        categories=traffic_records.CATEGORIES, writers=4, rate=400, duration=300, seed=5, hot=3, existing=30
    )
    path = tmp_path / "traffic.jsonl"
    opened = client.connect(world.system.settings, patience=60)
    load = traffic.Traffic(plan, opened, path, traffic.existing_of(opened), stop=stop)
    plain_plan = traffic.TrafficPlan(categories=[SESSIONS], writers=2, rate=40, duration=300, seed=6, existing=0)
    plain = bypass.Bypass(world.stores.flat_url, world.system.registry, stop)
    beside = traffic.Traffic(plain_plan, plain, tmp_path / "plain.jsonl", lambda slug, limit: iter(()), stop=stop)
    summaries: list[traffic.Summary] = []
    threads = [threading.Thread(target=lambda one=one: summaries.append(one.run())) for one in (load, beside)]
    following = Following(world)
    for thread in (*threads, following):
        thread.start()

    def progress() -> None:
        begun = opened.counters.writes
        while opened.counters.writes < begun + 100:
            assert not stop.wait(0.02)

    try:
        for _ in range(2):
            progress()
            world.switch.enable()
            world.migrate()
            progress()
            world.leave_flat()
            progress()
            world.switch.return_to_flat()
        progress()
        world.switch.enable()
        world.migrate()
        world.leave_flat()
        progress()
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
        following.stop()
    world.follow()
    for summary in summaries:
        assert summary.writes
        assert set(summary.failed) <= {"WRITES_CLOSED"}, (summary.failed, summary.reasons)
    for file in (path, tmp_path / "plain.jsonl"):
        done = check_traffic.check(file, world.client, tuple(model.StoreName))
        assert (list(done.findings), done.maybe) == ([], 0)
    world.assert_equal()
    opened.close()
    plain.close()
