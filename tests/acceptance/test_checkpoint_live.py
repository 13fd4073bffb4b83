"""Checkpoints while the application writes, with real workers that are killed."""

from __future__ import annotations

import itertools
import json
import pathlib
from collections.abc import Callable

import pytest

from hal9mig import model
from hal9mig.engine.checkpoint.orders import CheckpointOrder, Checkpoints
from hal9mig.engine.switch.switch import Switch
from hal9mig.sample import loading
from hal9mig.stores.write_mode import Mode
from tests.support import checkpoint_runs
from tests.support.live_traffic import Live, drained
from tests.support.migration_driver import Driver, connected, until
from tests.support.servers import Cli, Running, Stores

Workers = Callable[..., list[Running]]


@pytest.fixture
def migrated(driver: Driver, stores: Stores, workers: Workers) -> Driver:
    """Everything migrated, in dual-write, by two workers."""
    loading.load(stores.flat_url, scale=0.002, seed=3)
    workers(2)
    Switch(driver.system, actor="test").enable()
    for slug in driver.system.registry.categories:
        driver.migrate(slug)
    return driver


def assert_all_equal(driver: Driver) -> None:
    """Assert that both stores hold the same of every category, once the journal is empty."""
    drained(driver)
    for slug in driver.system.registry.categories:
        driver.assert_equal(slug)


def test_the_pair_of_one_instant(migrated: Driver, cli: Cli, tmp_path: pathlib.Path) -> None:
    """Taken under traffic, both stores' snapshots and the journal make a pair that becomes equal by applying it."""
    live = Live(cli, tmp_path, "live.jsonl", "--writers", "4", "--hot", "3", "--existing", "50")
    live.go_on()
    made = cli.document("state", "checkpoint", "--name", "under-traffic", "--full-backup", "--verify")
    assert made["checkpoint"]["verified"]
    live.go_on()
    live.stop()
    back = cli.document("state", "rollback", "--to-checkpoint", "under-traffic", "--force")
    assert sum(one["changed"] + one["added"] + one["removed"] for one in back["lost"]) > 0
    assert_all_equal(migrated)
    plan = cli.document("state", "rollback", "--to-checkpoint", "under-traffic", "--dry-run")
    assert not any(one["changed"] + one["added"] + one["removed"] for one in plan["lost"])


def test_back_under_traffic(migrated: Driver, cli: Cli, tmp_path: pathlib.Path) -> None:
    """Whoever writes while it goes back is kept waiting for a moment; what is written afterwards stays."""
    cli.document("state", "checkpoint", "--name", "calm", "--full-backup", "--verify")
    with connected(migrated.stores.flat_url) as cursor:
        cursor.execute("DELETE FROM flat.user_sessions WHERE active")
        cursor.execute("UPDATE flat.neuron_states SET activation = 0.5")
    live = Live(cli, tmp_path, "live.jsonl", "--writers", "4", "--existing", "0")
    live.go_on()
    cli.document("state", "rollback", "--to-checkpoint", "calm", "--force")
    after = Live(cli, tmp_path, "after.jsonl", "--writers", "2", "--existing", "0", "--seed", "77")
    after.go_on()
    live.go_on(20)
    after.stop()
    live.stop()
    drained(migrated)
    code, out, err = cli("sample-data", "check-traffic", "after.jsonl", "--json", "--store", "both")
    assert (code, json.loads(out)["findings"]) == (0, []), err
    assert_all_equal(migrated)


def test_back_from_hierarchical_only(migrated: Driver, cli: Cli) -> None:
    """The runbook's emergency: the mode stays, nothing is repaired in its direction, and flat-only loses nothing."""
    driver = migrated
    before = checkpoint_runs.both(driver)
    cli.document("state", "checkpoint", "--name", "dual", "--full-backup", "--verify")
    Switch(driver.system, actor="test").leave_flat(dict)
    with connected(driver.stores.hier_url) as cursor:
        cursor.execute("UPDATE hier.units SET activation = 0.25")
        cursor.execute("DELETE FROM hier.session_attributes")
    back = cli.document("state", "rollback", "--to-checkpoint", "dual", "--force")
    assert back["next_steps"] == ["hal9-migrate mode flat-only"]
    assert checkpoint_runs.both(driver) == before
    found = cli("reconcile", "--full", "--fix-mode", "auto")
    assert found.exit_code == 4
    assert "dual" in found.stderr
    # The application goes on writing where the mode says, until somebody takes it back.
    with connected(driver.stores.hier_url) as cursor:
        cursor.execute(
            "UPDATE hier.units SET activation = 0.75 WHERE unit_id IN (SELECT min(unit_id::text)::uuid FROM hier.units)"
        )
    cli.document("mode", "flat-only", "--force", "--reason", "test")
    with connected(driver.stores.flat_url) as cursor:
        cursor.execute("SELECT count(*) FROM flat.neuron_states WHERE activation = 0.75")
        assert cursor.fetchone() == (1,)
    for slug in driver.system.registry.categories:
        driver.assert_equal(slug)


def kill_in_turn(driver: Driver, workers: Workers, run_id: int) -> int:
    """Kill a worker whenever a run has come a little further, and start another; return how many died."""
    alive = workers(1)
    for killed in itertools.count():
        done = driver.run(run_id).done_batches
        until(lambda: driver.run(run_id).done_batches > done + 3 or driver.run(run_id).ended, "progress")  # noqa: B023
        if driver.run(run_id).ended:
            return killed
        alive.pop().kill()
        alive = workers(1)
    return 0


@pytest.mark.parametrize("mode", [Mode.DUAL_WRITE, pytest.param(Mode.HIERARCHICAL_ONLY, marks=pytest.mark.long)])
def test_workers_killed_all_the_way(driver: Driver, stores: Stores, workers: Workers, mode: Mode) -> None:
    """Only one worker at a time, which is killed again and again: taken whole, restored whole."""
    loading.load(stores.flat_url, scale=0.002, seed=3)
    first = workers(1)
    switch = Switch(driver.system, actor="test")
    switch.enable()
    for slug in driver.system.registry.categories:
        driver.migrate(slug)
    if mode is Mode.HIERARCHICAL_ONLY:
        switch.leave_flat(dict)
    first[0].kill()
    before = checkpoint_runs.both(driver)
    checkpoints = Checkpoints(driver.system, actor="test")
    taking, _ = checkpoints.take(CheckpointOrder(name="hard", verify=True))
    assert kill_in_turn(driver, workers, taking.id) > 1
    assert driver.run(taking.id).status is model.RunStatus.SUCCEEDED
    url = stores.hier_url if mode is Mode.HIERARCHICAL_ONLY else stores.flat_url
    with connected(url) as cursor:
        table = "hier.sessions" if mode is Mode.HIERARCHICAL_ONLY else "flat.user_sessions"
        cursor.execute(f"UPDATE {table} SET user_agent = 'other'")
    restoring = checkpoints.rollback(checkpoints.plan_restore("hard"))
    assert kill_in_turn(driver, workers, restoring.id) > 1
    assert driver.run(restoring.id).status is model.RunStatus.SUCCEEDED
    assert checkpoint_runs.both(driver) == before


def test_the_backup_that_enabling_asks_for(driver: Driver, cli: Cli, stores: Stores, workers: Workers) -> None:
    """A verified full checkpoint of the last hour is one; a marker, or one of a category alone, is not."""
    loading.load(stores.flat_url, scale=0.0005, seed=3)
    workers(1)
    cli.document("state", "checkpoint", "--name", "marker")
    cli.document("state", "checkpoint", "--name", "part", "--category", "configuration", "--full-backup", "--verify")
    cli.document("state", "checkpoint", "--name", "unproven", "--full-backup")
    assert cli.document("mode", "migration", "--enable", code=4)["error"]["code"] == "REFUSED"
    cli.document("state", "checkpoint", "--name", "whole", "--full-backup", "--verify")
    enabled = cli.document("mode", "migration", "--enable")
    assert enabled["mode"] == "dual-write"
    assert enabled["attested"]["backup"].startswith("checkpoint whole, verified, taken ")
