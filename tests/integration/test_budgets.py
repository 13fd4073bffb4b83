"""Which work is held to which budget: migrations to the cluster's, a checkpoint to its own, a restore to none."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator

import pytest

from hal9mig import model, units
from hal9mig.engine import dispatcher
from hal9mig.engine.checkpoint.orders import CheckpointOrder, Checkpoints
from hal9mig.ledger import workers as presence
from hal9mig.queue import broker
from tests.support import checkpoint_runs, servers
from tests.support.checkpoint_runs import CONFIGURATION, NEURONS, SESSIONS, Keeping
from tests.support.migration_driver import Driver

HOURLY = units.parse_rate("1/h")


@pytest.mark.parametrize(
    ("kind", "own", "held"),
    [
        (model.RunKind.MIGRATE, {}, True),
        (model.RunKind.MIGRATE, {"rate-limit": "1/h"}, True),
        (model.RunKind.CHECKPOINT, {}, False),
        (model.RunKind.CHECKPOINT, {"rate-limit": "1/h"}, True),
        (model.RunKind.EXPORT, {}, False),
        (model.RunKind.EXPORT, {"rate-limit": "1/h"}, True),
        (model.RunKind.RESTORE, {}, False),
        (model.RunKind.RESTORE, {"rate-limit": "1/h"}, False),
    ],
)
def test_whose_budget_a_run_is_held_to(kind: model.RunKind, own: dict[str, str], held: bool) -> None:
    assert dispatcher.budget(kind, own, HOURLY) == (HOURLY if held else None)


@pytest.fixture
def keeping(stores: servers.Stores, stack_env: dict[str, str], tmp_path: pathlib.Path) -> Iterator[Keeping]:
    driver = Driver(stores, stack_env)
    for category, records in ((SESSIONS, 300), (CONFIGURATION, 50)):
        driver.load(category, records)
    with checkpoint_runs.keeping(driver) as opened:
        yield opened
    driver.close()


def accounts(stores: servers.Stores) -> set[str]:
    """Return the accounts from which anything was taken."""
    found = broker.connect(stores.redis_url).keys(f"*{stores.queue_prefix}budget:*")
    return {key.decode().partition("budget:")[2] for key in found}


def test_the_way_back_is_open_at_once_however_small_the_budget(keeping: Keeping, stores: servers.Stores) -> None:
    """At one record an hour neither would end in this test's life."""
    keeping.driver.configure(rate_limit="1/h")
    made = keeping.take("before", categories=(SESSIONS, CONFIGURATION), verify=True)
    assert made.rows > 100
    plan = keeping.checkpoints.plan_restore("before", (SESSIONS, CONFIGURATION))
    assert "a guess" in plan.expected.basis
    keeping.roll_back("before", SESSIONS, CONFIGURATION)
    again = keeping.checkpoints.plan_restore("before", (SESSIONS, CONFIGURATION))
    assert again.expected.basis.startswith("as run ")
    assert accounts(stores) == set()


def test_workers_take_and_restore_a_checkpoint_of_thousands_without_asking_the_budget(
    stores: servers.Stores, stack_env: dict[str, str], workers: Callable[..., list[servers.Running]]
) -> None:
    driver = Driver(stores, stack_env)
    driver.load(NEURONS, 3000)
    driver.configure(rate_limit="50/s")
    workers(1)
    checkpoints = Checkpoints(driver.system, actor="test")
    taken, _ = checkpoints.take(CheckpointOrder(name="before", categories=(NEURONS,), verify=True))
    driver.finish(taken.id)
    driver.finish(checkpoints.rollback(checkpoints.plan_restore("before", (NEURONS,))).id)
    assert accounts(stores) == set()
    driver.close()


def test_a_snapshot_owes_nothing_of_what_the_next_migration_may_take(keeping: Keeping) -> None:
    driver = keeping.driver
    driver.configure(rate_limit="1/h")
    keeping.take("before", categories=(SESSIONS,), tuning={"rate-limit": "1/h"})
    (owed,) = accounts(driver.stores)
    assert owed.startswith("run ")
    first_batch(driver, driver.start(CONFIGURATION, tuned={}))


def test_what_a_migration_took_ahead_of_the_rate_ends_with_it(keeping: Keeping) -> None:
    """A batch of so many bytes takes days of it; while the run goes on, the others share the one budget with it."""
    driver = keeping.driver
    driver.configure(rate_limit="1kB/h")
    large = driver.start(SESSIONS, tuned={"batch-size": "100"})
    stands(driver, large, "rate-limit 1kB/h")
    small = driver.start(CONFIGURATION, tuned={"batch-size": "10"})
    stands(driver, small, "rate-limit 1kB/h")
    driver.coordinator.cancel(large)
    driver.work(large)
    first_batch(driver, small)


def test_a_budget_of_bytes_takes_in_every_table(keeping: Keeping) -> None:
    """Parts hold most of the bytes: what is expected is what is going to be taken."""
    keeping.driver.load(NEURONS, 200)
    keeping.driver.copy(NEURONS)
    order = CheckpointOrder(name="slow", categories=(NEURONS,), tuning={"rate-limit": "1kB/h"})
    run, plan = keeping.checkpoints.take(order)
    stands(keeping.driver, run.id, "rate-limit 1kB/h")
    costs = [one["cost"] for one in keeping.driver.batches(run.id) if one["kind"] == "save"]
    assert sum(costs) == pytest.approx(plan.bytes, rel=0.05)
    assert plan.expected.least == pytest.approx(plan.bytes * 3.6)
    assert plan.expected.basis == "at its budget of 1kB/h"


def test_a_budget_of_batches_counts_every_chunk(keeping: Keeping) -> None:
    order = CheckpointOrder(name="slow", categories=(SESSIONS,), tuning={"rate-limit": "1batches/h"})
    run, plan = keeping.checkpoints.take(order)
    stands(keeping.driver, run.id, "rate-limit 1batches/h")
    costs = [one["cost"] for one in keeping.driver.batches(run.id) if one["kind"] == "save"]
    assert costs == [1] * plan.chunks


def test_a_checkpoint_that_was_slowed_down_says_nothing_of_the_next(keeping: Keeping) -> None:
    keeping.take("slow", categories=(SESSIONS,), tuning={"rate-limit": "100000/s"})
    plan = keeping.checkpoints.plan(CheckpointOrder(name="next", categories=(SESSIONS,)))
    assert "a guess" in plan.expected.basis
    keeping.take("free", categories=(SESSIONS,))
    again = keeping.checkpoints.plan(CheckpointOrder(name="next", categories=(SESSIONS,)))
    assert again.expected.basis.startswith("as run ")


def test_debt_stays_with_who_made_it(keeping: Keeping) -> None:
    throttle = keeping.driver.system.throttle
    assert throttle.take("run 1", HOURLY, 10_000) == 0.0
    assert throttle.take("run 1", HOURLY, 1) > 3600
    assert throttle.take(dispatcher.REPAIRS, HOURLY, 1) == 0.0


def stands(driver: Driver, run_id: int, reason: str) -> None:
    """Work a run until its budget holds it."""
    held = lambda: reason in driver.run(run_id).waiting  # noqa: E731
    driver.work(run_id, until=held)
    assert held(), driver.run(run_id)


def first_batch(driver: Driver, run_id: int) -> None:
    """Tick the dispatcher as often as planning needs, and assert that the run was never held before its first batch."""
    copied = lambda: [one for one in driver.batches(run_id) if one["kind"] == "copy" and one["attempt"]]  # noqa: E731
    driver.work(run_id, until=lambda: driver.run(run_id).planned)
    with driver.system.ledger.begin() as session:
        presence.report(
            session, name="here", host="here", pid=1, slots=8, draining=False, memory_bytes=0, cpu_percent=0
        )
    dispatcher.tick(driver.system)
    assert copied()
