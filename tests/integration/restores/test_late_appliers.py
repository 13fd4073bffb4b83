"""Appliers that have not ended yet: no checkpoint is taken before they have, and after a restore they apply nothing."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator

import pytest

from hal9mig import errors, model
from hal9mig.engine.checkpoint import instant
from hal9mig.engine.switch.switch import Switch
from hal9mig.engine.transfer import fence, follower
from hal9mig.engine.transfer.applier import Applier
from tests.support import checkpoint_runs, servers
from tests.support.checkpoint_runs import SESSIONS
from tests.support.live_state import execute
from tests.support.migration_driver import Driver
from tests.support.restoring import FLAT, HIER, NAME

KEY = "(SELECT session_id FROM {} ORDER BY session_id LIMIT 1)"
TABLES = {FLAT: "flat.user_sessions", HIER: "hier.sessions"}


@pytest.fixture
def driver(stores: servers.Stores, tmp_path: pathlib.Path) -> Iterator[Driver]:
    """Dual-write, with sessions migrated; what is captured is applied by hand."""
    made = Driver(stores, servers.environ(stores, tmp_path))
    made.load(SESSIONS, 20)
    Switch(made.system, actor="test").enable()
    made.copy(SESSIONS)
    yield made
    made.close()


def url(driver: Driver, store: model.StoreName) -> str:
    return driver.stores.flat_url if store is FLAT else driver.stores.hier_url


def write(driver: Driver, store: model.StoreName, agent: str) -> None:
    table = TABLES[store]
    execute(url(driver, store), f"UPDATE {table} SET user_agent = '{agent}' WHERE session_id = {KEY.format(table)}")


def held(driver: Driver) -> list[str]:
    """Return what each store has in the record that is written."""
    query = "SELECT user_agent FROM {0} ORDER BY session_id LIMIT 1"
    return [execute(url(driver, store), query.format(TABLES[store]))[0][0] for store in (FLAT, HIER)]


def key(driver: Driver) -> model.Key:
    return (execute(driver.stores.flat_url, f"SELECT {KEY.format(TABLES[FLAT])}::text")[0][0],)


def follow(driver: Driver, side: model.StoreName) -> None:
    assert follower.follow(driver.system, driver.desk.flat("f"), driver.desk.hier("f"), side, seconds=30).emptied


def test_a_follower_that_comes_late_leaves_the_newer_record(driver: Driver) -> None:
    """At the checkpoint the flat store ruled and was ahead; now the hierarchical one rules, with its older record."""
    write(driver, FLAT, "old")
    follow(driver, FLAT)
    write(driver, FLAT, "newer")
    with checkpoint_runs.keeping(driver) as keeping:
        keeping.take(NAME)
        follow(driver, FLAT)
        Switch(driver.system, actor="test").leave_flat(dict)
        write(driver, HIER, "to be replaced")
        flat, hier = driver.desk.flat("late"), driver.desk.hier("late")
        before = follower.restores(flat, hier, HIER)
        keeping.roll_back(NAME)
    assert held(driver) == ["newer", "old"]
    with pytest.raises(errors.StaleEpoch, match="restored since"):
        follower.apply(driver.system, flat, hier, HIER, SESSIONS, [key(driver)], restores=before)
    driver.desk.clear()
    assert held(driver) == ["newer", "old"]


def test_a_client_brings_over_only_what_still_waits(driver: Driver) -> None:
    """Else a worker has done it, or a restore has taken it from the journal."""
    write(driver, FLAT, "written")
    follow(driver, FLAT)
    write(driver, HIER, "of another time")
    transform = driver.system.transform(SESSIONS)
    with driver.system.ledger.connection() as session:
        applier = Applier(transform, session=session, flat=driver.desk.flat("client"), waiting=True)
        assert not applier.apply([key(driver)]).written
        assert held(driver) == ["written", "of another time"]
        write(driver, FLAT, "waits")
        assert applier.apply([key(driver)]).written == [key(driver)]
        assert held(driver) == ["waits", "waits"]


def test_no_pair_is_taken_while_a_write_is_being_applied(driver: Driver) -> None:
    """Its transaction might end between the two snapshots."""
    with contextlib.closing(driver.system.hier()) as applying, applying.cursor() as cursor:
        fence.hold(cursor, HIER)
        with pytest.raises(errors.GateClosed, match="still applying"):
            instant.take(driver.system, list(driver.system.registry.ordered()))
