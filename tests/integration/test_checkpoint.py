"""Checkpoints on real stores: what is taken comes back, bit for bit, and nothing else is touched."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import checkpointing
from tests.checkpointing import ALL, NEURONS, SESSIONS, Keeping
from tests.driving import Driver, connected


@pytest.fixture
def keeping(stores, stack_env) -> Iterator[Keeping]:
    """Stores with a little of everything in them, half of it migrated."""
    driver = Driver(stores, stack_env)
    for category, records in zip(ALL, (300, 400, 100, 50, 300), strict=True):
        driver.load(category, records, edge_cases=True)
    driver.copy(NEURONS, filter="layer=substrate")
    driver.copy(SESSIONS)
    with checkpointing.keeping(driver) as made:
        yield made
    driver.close()


def change(driver: Driver) -> None:
    """Write to every table of both stores, as an application that has gone wrong."""
    with connected(driver.stores.flat_url) as cursor:
        cursor.execute("UPDATE flat.user_sessions SET user_agent = 'other' WHERE active")
        cursor.execute("DELETE FROM flat.neuron_states WHERE layer = 'protocol'")
        cursor.execute("DELETE FROM flat.learning_data")
        cursor.execute("UPDATE flat.configuration SET value = '1'")
        cursor.execute("DELETE FROM flat.operational_metadata WHERE type = 'audit'")
    with connected(driver.stores.hier_url) as cursor:
        cursor.execute("DELETE FROM hier.unit_connections")
        cursor.execute("UPDATE hier.sessions SET user_agent = 'other'")


class TestRoundTrip:
    """A full checkpoint and back."""

    def test_everything_comes_back(self, keeping: Keeping) -> None:
        """Rows, columns, constraints, indexes, triggers and privileges are what they were."""
        driver = keeping.driver
        before = checkpointing.both(driver)
        shapes = [
            checkpointing.shape(url, [schema])
            for url, schema in ((driver.stores.flat_url, "flat"), (driver.stores.hier_url, "hier"))
        ]
        made = keeping.take("one", verify=True)
        assert made.verified
        assert made.whole
        change(driver)
        assert checkpointing.both(driver) != before
        keeping.roll_back("one")
        assert checkpointing.both(driver) == before
        assert shapes == [
            checkpointing.shape(url, [schema])
            for url, schema in ((driver.stores.flat_url, "flat"), (driver.stores.hier_url, "hier"))
        ]
