"""As many workers follow the journal as it takes, but one slot is left to batches that wait."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hal9mig.engine.coordinator import Coordinator
from hal9mig.engine.transfer import follower
from hal9mig.ledger import workers
from tests.support.live_state import SESSIONS, World


@pytest.fixture
def world(world: World) -> World:
    world.only(SESSIONS)
    world.load(0.0002, SESSIONS)
    return world


@pytest.fixture
def call(world: World) -> Callable[[], int]:
    """Sends workers to a journal that holds enough for three."""
    world.switch.enable()
    for _ in range(3 * follower.CHUNK // 20):
        world.flat_sql("UPDATE flat.user_sessions SET version = version + 1")
    return lambda: follower.Caller(world.system).call(world.desk.flat("test"), world.desk.hier("test"))


def report(world: World, count: int) -> None:
    with world.system.ledger.begin() as opened:
        for number in range(count):
            workers.report(
                opened, name=f"worker {number}", host="here", pid=1, slots=1, draining=False, memory_bytes=0,
                cpu_percent=0.0,
            )  # fmt: skip


@pytest.mark.parametrize(("workers", "lanes"), [(1, 1), (2, 2), (8, 3)])
def test_all_workers_follow_but_no_more_than_it_takes(
    world: World, call: Callable[[], int], workers: int, lanes: int
) -> None:
    report(world, workers)
    assert call() == lanes


def test_a_lane_that_is_followed_gets_nobody_else(world: World, call: Callable[[], int]) -> None:
    report(world, 3)
    with world.system.ledger.begin() as one:
        assert follower.lane_lock(one, 1)
        assert call() == 2
    assert call() == 3


def test_a_slot_is_left_to_batches(world: World, call: Callable[[], int]) -> None:
    report(world, 3)
    run_id = world.start(SESSIONS)
    assert call() == 2
    Coordinator(world.system, actor="test").cancel(run_id)
    assert call() == 3


@pytest.mark.parametrize(("workers", "busy"), [(1, True), (1, False), (4, False)])
def test_nobody_calls_out_of_turn(world: World, call: Callable[[], int], workers: int, busy: bool) -> None:
    """Together no more often than one worker alone, and half the time of the only slot."""
    report(world, workers)
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
