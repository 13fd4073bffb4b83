"""A whole migration by way of PgBouncer in transaction mode: ``make pooler``, where there is one."""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import click
import pytest

from hal9mig import errors
from hal9mig.engine.switch.switch import Switch
from hal9mig.engine.transfer import follower
from hal9mig.sample import loading
from hal9mig.stores import connection
from tests.support import pgbouncer
from tests.support.live_traffic import Live, check, drained
from tests.support.migration_driver import Driver
from tests.support.pgbouncer import PgBouncer
from tests.support.servers import Cli, Stores

pytestmark = [pytest.mark.pooler, pytest.mark.timeout(1500)]
Workers = Callable[..., Any]
SESSIONS = "user-sessions"
#: Worker processes, and those of one worker.
PROCESSES, OF_ONE = int(os.environ.get("HAL9_TEST_POOLER_PROCESSES", "64")), 8
#: Sessions of each server's for all of them: one for each process that keeps a lane while it asks for another.
SIZE = int(os.environ.get("HAL9_TEST_POOLER_SIZE", str(PROCESSES + 10)))


@pytest.fixture
def pooler(stores: Stores, tmp_path: pathlib.Path) -> Iterator[PgBouncer]:
    """A PgBouncer before this test's stores."""
    # PgBouncer does not run as root either, and has to reach its settings.
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    with pgbouncer.before(stores, tmp_path, size=SIZE) as started:
        yield started


@pytest.fixture
def stack_env(stack_env: dict[str, str], pooler: PgBouncer) -> dict[str, str]:
    """The environment of processes that come by way of the pooler."""
    return stack_env | pooler.environ()


@pytest.fixture
def driver(stores: Stores, stack_env: dict[str, str]) -> Iterator[Driver]:
    """Gives orders by way of the pooler, and looks into the ledger."""
    made = Driver(stores, stack_env)
    yield made
    made.close()


def test_nothing_is_lost_by_way_of_the_pooler_with_many_processes(
    driver: Driver, cli: Cli, workers: Workers, beat: Workers, stores: Stores, tmp_path: pathlib.Path, pooler: PgBouncer
) -> None:
    loading.load(stores.flat_url, scale=0.002, seed=3)
    workers(PROCESSES // OF_ONE, args=("--concurrency", str(OF_ONE)), timeout=240)
    beat()
    switch = Switch(driver.system, actor="test")
    live = Live(cli, tmp_path, "live.jsonl", "--writers", "4", "--hot", "3", "--existing", "50")
    live.go_on()
    switch.enable()
    for run in [driver.start(slug) for slug in driver.system.registry.categories]:
        driver.finish(run, timeout=600)
    live.go_on()
    cli.run("state", "verify", "--deep", timeout=600)
    cli.run("state", "checkpoint", "--name", "kept", "--full-backup", "--verify", timeout=600)
    live.go_on()
    switch.leave_flat(dict)
    live.go_on()
    switch.return_to_flat()
    live.go_on()
    switch.enable()
    for run in [driver.start(slug) for slug in driver.system.registry.categories]:
        driver.finish(run, timeout=600)
    summary = live.stop()
    assert summary["failed"] == {}, summary["reasons"]
    drained(driver)
    assert check(cli, "live.jsonl", "--store", "both")["records"] > 20
    for slug in driver.system.registry.categories:
        driver.assert_equal(slug)
    click.echo(report(pooler))


def test_a_backlog_for_every_process_is_worked_off(
    driver: Driver, workers: Workers, stores: Stores, pooler: PgBouncer
) -> None:
    Switch(driver.system, actor="test").enable()
    driver.load(SESSIONS, PROCESSES * follower.CHUNK)
    began = time.monotonic()
    workers(PROCESSES // OF_ONE, args=("--concurrency", str(OF_ONE)), timeout=240)
    drained(driver)
    driver.assert_equal(SESSIONS)
    click.echo(f"a backlog for {PROCESSES} processes took {time.monotonic() - began:.0f} s; {report(pooler)}")


def report(pooler: PgBouncer) -> str:
    """Return the most clients and sessions of each store at any moment."""
    return "; ".join(
        f"{name}: {most.clients} clients, {most.servers} sessions, {most.waiting} waited at a time"
        for name, most in sorted(pooler.most.items())
    )


def test_what_needs_a_session_is_refused_without_a_direct_address(cli: Cli, workers: Workers, driver: Driver) -> None:
    workers(1)
    without = {"HAL9_FLAT_DIRECT_URL": "", "HAL9_HIER_DIRECT_URL": ""}
    found = cli.document("mode", "migration", "--enable", "--yes", code=4, env=without)
    assert found["error"]["code"] == "POOLER_BETWEEN", found
    assert "HAL9_FLAT_DIRECT_URL" in found["error"]["hint"]
    assert Switch(driver.system).line().mode == "flat-only"


def test_nothing_is_left_in_a_session_that_is_lent(pooler: PgBouncer, stores: Stores) -> None:
    url = pooler.url(stores.flat_url)
    with pytest.raises(errors.PoolerBetween):
        connection.connect(url, application_name="test", patience=1.0)
    with connection.connected(url, application_name="test") as opened, opened.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("0",)
