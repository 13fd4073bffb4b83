"""A ledger that the tests of one module share, benches on stores of a test's own, and clusters of each version."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from hal9mig.embedded.postgres import Cluster
from hal9mig.ledger.database import Ledger, Session
from tests.support import servers, verify_bench
from tests.support.migration_driver import Driver
from tests.support.verify_bench import Bench


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


@pytest.fixture(params=[16, 18])
def each_cluster(request: pytest.FixtureRequest) -> Cluster:
    """A cluster of the oldest version at hand, and one of the newest."""
    found: Cluster = request.getfixturevalue("flat_cluster_16" if request.param == 16 else "flat_cluster")
    return found


@pytest.fixture
def open_bench(stores: servers.Stores) -> Iterator[Callable[..., Bench]]:
    """Opens a bench on this test's stores, with categories of its own."""
    with verify_bench.opener(stores) as opened:
        yield opened


@pytest.fixture
def bench(open_bench: Callable[..., Bench]) -> Bench:
    """A bench on this test's stores."""
    return open_bench()
