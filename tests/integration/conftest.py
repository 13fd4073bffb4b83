"""A ledger that the tests of one module share, each with runs of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hal9mig.ledger.database import Ledger, Session
from tests.support import servers
from tests.support.migration_driver import Driver


@pytest.fixture(scope="module")
def shared(databases: servers.Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """One driver on one pair of stores, for tests that do not get in each other's way."""
    stores = databases.open()
    made = Driver(stores, servers.environ(stores, tmp_path_factory.mktemp("ledger")))
    yield made
    made.close()
    databases.close(stores)


@pytest.fixture
def ledger(shared: Driver) -> Ledger:
    """The ledger."""
    return shared.system.ledger


@pytest.fixture
def session(ledger: Ledger) -> Iterator[Session]:
    """A connection on which each statement commits."""
    with ledger.single() as opened:
        yield opened
