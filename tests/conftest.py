"""Fixtures: real PostgreSQL clusters, a real Redis, fresh databases per test, real workers and the real CLI."""

from __future__ import annotations

import atexit
import pathlib
import signal
from collections.abc import Callable, Iterator

import pytest

from hal9mig.embedded.postgres import Cluster
from hal9mig.embedded.redis import RedisServer
from tests.support import servers

# A shell has its jobs in the background ignore Ctrl-C, and so what they start; commands are told to stop by it.
signal.signal(signal.SIGINT, signal.default_int_handler)

#: What is slow begins first, or the last file of it would have one process wait for the other.
_FIRST = ("acceptance", "integration", "property", "convergence")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order tests by their folder, after they have been shuffled."""
    items.sort(key=lambda item: next((at for at, name in enumerate(_FIRST) if name in item.path.parts), len(_FIRST)))


@pytest.fixture(scope="session")
def server_session() -> Iterator[servers.Session]:
    """The folder of this session's servers; everything in it ends with the session, even when that is killed."""
    session = servers.Session()
    atexit.register(session.close)
    yield session
    atexit.unregister(session.close)
    session.close()


@pytest.fixture(scope="session")
def flat_cluster(server_session: servers.Session) -> Cluster:
    """The cluster of the flat stores, PostgreSQL 18 unless the matrix asks for another."""
    return server_session.cluster("flat", servers.FLAT_VERSION)


@pytest.fixture(scope="session")
def hier_cluster(server_session: servers.Session) -> Cluster:
    """The cluster of the hierarchical stores, PostgreSQL 18 unless the matrix asks for another."""
    return server_session.cluster("hier", servers.HIER_VERSION)


@pytest.fixture(scope="session")
def flat_cluster_16(server_session: servers.Session) -> Cluster:
    """A cluster of PostgreSQL 16, the oldest supported version."""
    return server_session.cluster("flat16", 16)


@pytest.fixture(scope="session")
def redis_server(server_session: servers.Session) -> RedisServer:
    """The Redis server of this session."""
    return server_session.redis_server()


@pytest.fixture(scope="session")
def databases(flat_cluster: Cluster, hier_cluster: Cluster, redis_server: RedisServer) -> servers.Databases:
    """Makes fresh stores; for tests that need more than one pair."""
    return servers.Databases(flat_cluster, hier_cluster, redis_server)


@pytest.fixture
def stores(databases: servers.Databases) -> Iterator[servers.Stores]:
    """This test's own, freshly upgraded stores: ``.flat_url``, ``.hier_url``, ``.redis_url``, ``.queue_prefix``."""
    opened = databases.open()
    yield opened
    databases.close(opened)


@pytest.fixture
def stack_env(stores: servers.Stores, tmp_path: pathlib.Path) -> dict[str, str]:
    """The whole environment for a child process that uses ``stores``."""
    return servers.environ(stores, tmp_path)


@pytest.fixture
def programs(stack_env: dict[str, str], tmp_path: pathlib.Path) -> Iterator[servers.Programs]:
    """Starts real workers and beats for ``stores`` and ends them with the test."""
    started = servers.Programs(stack_env, tmp_path)
    yield started
    started.close()


@pytest.fixture
def workers(programs: servers.Programs) -> Callable[..., list[servers.Running]]:
    """``workers(count=1, env=None, args=(), timeout=30)`` starts real workers and waits until they are ready."""
    return programs.workers


@pytest.fixture
def beat(programs: servers.Programs) -> Callable[..., servers.Running]:
    """``beat(env=None, timeout=30)`` starts a real beat and waits until it runs."""
    return programs.beat


@pytest.fixture
def cli(stack_env: dict[str, str], tmp_path: pathlib.Path) -> Iterator[servers.Cli]:
    """``cli(*args, timeout=120, env=None, stdin=None)`` runs the real command line: (exit_code, stdout, stderr)."""
    started = servers.Cli(stack_env, tmp_path)
    yield started
    started.close()
