"""What can wait goes as the application's store says; what cannot wait goes on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator

import pytest

from hal9mig import model
from hal9mig.engine import pace as engine_pace
from hal9mig.engine.checkpoint.orders import CheckpointOrder, Checkpoints
from hal9mig.ledger import pace, tuning
from tests.support import servers
from tests.support.checkpoint_runs import CONFIGURATION, SESSIONS
from tests.support.live_state import execute
from tests.support.migration_driver import Driver, until


@pytest.fixture
def driver(stores: servers.Stores, stack_env: dict[str, str]) -> Iterator[Driver]:
    """Stores whose application says by a row of its own whether it is busy."""
    made = Driver(stores, stack_env)
    execute(stores.flat_url, "CREATE TABLE public.operations AS SELECT true AS busy")
    made.load(SESSIONS, 300)
    made.load(CONFIGURATION, 20)
    made.configure(max_impact="50%", impact_query="SELECT busy FROM public.operations")
    yield made
    made.close()


def waits(driver: Driver, run_id: int, reason: str) -> None:
    until(lambda: reason in driver.run(run_id).waiting, f"run {run_id} to wait: {reason}")
    assert driver.run(run_id).done_records == 0


def test_it_stands_still_while_the_applications_own_query_says_so(
    driver: Driver, stores: servers.Stores, workers: Callable[..., list[servers.Running]]
) -> None:
    workers(2)
    run_id = driver.start(SESSIONS, tuned={})
    waits(driver, run_id, "the application's own query (impact-query) says to stop")
    # A run that is told to go without is not held back by it.
    free = driver.finish(driver.start(CONFIGURATION, tuned={"max-impact": "off"}))
    assert free.status is model.RunStatus.SUCCEEDED
    execute(stores.flat_url, "UPDATE public.operations SET busy = false")
    assert driver.finish(run_id).status is model.RunStatus.SUCCEEDED
    with driver.system.ledger.begin() as session:
        found = pace.read(session)
    assert found.quiet.write > 0


def test_what_cannot_be_told_stands_still_and_says_why(
    driver: Driver, stores: servers.Stores, workers: Callable[..., list[servers.Running]]
) -> None:
    execute(stores.flat_url, "DROP TABLE public.operations")
    workers(1)
    run_id = driver.start(SESSIONS, tuned={})
    waits(driver, run_id, f'{pace.UNKNOWN}: relation "public.operations" does not exist')
    driver.configure(impact_query="off")
    assert driver.finish(run_id).status is model.RunStatus.SUCCEEDED


def test_the_way_back_does_not_wait_for_the_application(
    driver: Driver, workers: Callable[..., list[servers.Running]], cli: servers.Cli
) -> None:
    workers(1)
    checkpoints = Checkpoints(driver.system, actor="test")
    taken, _ = checkpoints.take(CheckpointOrder(name="before", categories=(SESSIONS,), tuning={"max-impact": "off"}))
    driver.finish(taken.id)
    held, _ = checkpoints.take(CheckpointOrder(name="held", categories=(SESSIONS,)))
    until(lambda: "own query" in driver.run(held.id).waiting, "a checkpoint to wait")
    driver.coordinator.cancel(held.id)
    until(lambda: driver.run(held.id).ended, "it to end")
    # What would be lost is counted and kept first; that is a part of the way.
    done = cli("--json", "state", "rollback", "--to-checkpoint", "before", "--category", SESSIONS,
               "--force", "--reason", "a test")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["safety_checkpoint"].startswith("before-restore-")


def test_a_batch_in_one_piece_rests_in_its_middle(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a checkpoint's chunk, which is longer than a step: else the longest rest after it would be too short."""
    rested: list[float] = []
    monkeypatch.setattr(engine_pace.time, "sleep", rested.append)
    with driver.system.ledger.connection() as session:
        with session.begin():
            tuned = tuning.resolve(session)
        rests = engine_pace.Rests(session, tuned)
        rests.now_and_then()
        assert rested == []
        monkeypatch.setattr(engine_pace, "_STEP", 0.0)
        rests.now_and_then()
        rests.now_and_then()
        # Nobody has looked at the application, so it gets as much as it ever does.
        assert len(rested) == 2
        assert all(0 < seconds <= 3 for seconds in rested)
        engine_pace.Rests(session, dataclasses.replace(tuned, max_impact=None)).now_and_then()
        assert len(rested) == 2
