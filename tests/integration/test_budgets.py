"""Which work is held to which budget: migrations to the cluster's, a checkpoint to its own, a restore to none."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from hal9mig import model, units
from hal9mig.engine import dispatcher
from tests.support import checkpoint_runs, servers
from tests.support.checkpoint_runs import CONFIGURATION, SESSIONS, Keeping
from tests.support.migration_driver import Driver

HOURLY = units.parse_rate("1/h")


@pytest.mark.parametrize(
    ("kind", "own", "held"),
    [
        (model.RunKind.MIGRATE, {}, True),
        (model.RunKind.MIGRATE, {"rate-limit": "1/h"}, True),
        (model.RunKind.CHECKPOINT, {}, False),
        (model.RunKind.CHECKPOINT, {"rate-limit": "1/h"}, True),
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


def test_the_way_back_is_open_at_once_however_small_the_budget(keeping: Keeping) -> None:
    """At one record an hour neither would end in this test's life."""
    keeping.driver.configure(rate_limit="1/h")
    made = keeping.take("before", categories=(SESSIONS, CONFIGURATION), verify=True)
    assert made.rows > 100
    plan = keeping.checkpoints.plan_restore("before", (SESSIONS, CONFIGURATION))
    assert plan.expected.basis.endswith("a guess: there was none yet")
    keeping.roll_back("before", SESSIONS, CONFIGURATION)
    again = keeping.checkpoints.plan_restore("before", (SESSIONS, CONFIGURATION))
    assert again.expected.basis.endswith("as the last one went")


def test_debt_stays_with_who_made_it(keeping: Keeping) -> None:
    throttle = keeping.driver.system.throttle
    assert throttle.take("run 1", HOURLY, 10_000) == 0.0
    assert throttle.take("run 1", HOURLY, 1) > 3600
    assert throttle.take(dispatcher.SHARED, HOURLY, 1) == 0.0
