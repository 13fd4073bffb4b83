"""Checkpoints of tables with quoted, reserved and very long names, and of domains: taken, rolled back, recovered."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from hal9mig.categories.registry import Registry
from hal9mig.stores import connection, domains
from tests.categories import named
from tests.support import checkpoint_runs, live_state, migration_driver, servers
from tests.support.checkpoint_runs import Keeping
from tests.support.checkpoint_site import flip

CATEGORIES = (named.DOMAINS, named.ORDERS, named.LONG_B, named.LONG_C)


@pytest.fixture
def kept(stores: servers.Stores, stack_env: dict[str, str]) -> Iterator[Keeping]:
    live_state.execute(stores.flat_url, named.SOURCE_DDL)
    live_state.execute(stores.hier_url, named.TARGET_DDL)
    declared = Registry(categories={one.slug: one for one in CATEGORIES}, origins={})
    found = domains.resolved(declared, lambda: connection.connect(stores.flat_url, application_name="test"))
    with migration_driver.drivers(stores, {**stack_env, "HAL9_CATEGORIES": named.__file__}) as make:
        driver = make(*found.ordered())
        with migration_driver.connected(stores.flat_url) as cursor:
            cursor.execute("INSERT INTO domains SELECT g, g, -0.0, now() FROM generate_series(1, 20) g")
            cursor.execute("INSERT INTO \"Order Items\" SELECT g, 's' || g % 5, '%', 1 FROM generate_series(1, 20) g")
            for last in "bc":
                numbers = "generate_series(1, 20) g"
                cursor.execute(f"INSERT INTO {named.LONG}{last} SELECT (g || '.00')::numeric, '{last}' FROM {numbers}")
        for category in found.ordered():
            driver.copy(category.slug)
        with checkpoint_runs.keeping(driver) as opened:
            yield opened


def spoil(kept: Keeping) -> None:
    """Change and delete in both stores, behind everything's back."""
    with migration_driver.connected(kept.driver.stores.flat_url) as cursor:
        cursor.execute('UPDATE "Order Items" SET "select" = \'spoilt\'; DELETE FROM domains WHERE id < 5')
        for last in "bc":
            cursor.execute(f"UPDATE {named.LONG}{last} SET value_{last} = 'spoilt'")
    with migration_driver.connected(kept.driver.stores.hier_url) as cursor:
        cursor.execute('DELETE FROM "order"."user"; DELETE FROM bank.domains WHERE id > 15')
        cursor.execute(f"DELETE FROM {'s' * 63}.{named.LONG}c")


def whole(kept: Keeping) -> None:
    """Assert that both stores hold what they held."""
    for category in CATEGORIES:
        kept.driver.assert_equal(category.slug, records=20)
    with migration_driver.connected(kept.driver.stores.flat_url) as cursor:
        cursor.execute('SELECT count(*) FROM "Order Items" WHERE "select" <> \'spoilt\'')
        assert cursor.fetchall() == [(20,)]
        cursor.execute(f"SELECT DISTINCT value_b FROM {named.LONG}b")
        assert cursor.fetchall() == [("b",)]


def test_a_rollback_puts_them_back(kept: Keeping) -> None:
    """With the tables' names, keys and foreign keys."""
    kept.take("before", verify=True)
    spoil(kept)
    kept.roll_back("before")
    whole(kept)


def test_a_recovery_brings_back_what_is_sound(kept: Keeping) -> None:
    """A damaged part is made again from the flat record of the same key."""
    kept.take("before", verify=True)
    spoil(kept)
    made = kept.checkpoints.find("before")
    (chunk,) = next(one for one in made.tables if one.table == "select").chunks
    flip(pathlib.Path(kept.driver.system.settings.checkpoint_url) / "before" / chunk.file)
    run = kept.recover("before")
    assert run.ended, run.reason
    whole(kept)
