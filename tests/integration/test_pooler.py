"""What needs a session of the server's own is refused where a pooler is between, before anything is changed.

A pooler is known by the number that it gives a session: here a relay gives it, before the real servers.
What PgBouncer itself does is tried by ``make pooler``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from hal9mig import client, errors, model
from hal9mig.client import subscription
from hal9mig.engine import rehearsal, work
from hal9mig.engine.checkpoint import instant
from hal9mig.engine.checkpoint.orders import CheckpointOrder, Checkpoints
from hal9mig.engine.desk import Desk
from hal9mig.engine.switch import lock_patience
from hal9mig.engine.switch.switch import Switch
from hal9mig.engine.system import System
from hal9mig.engine.transfer import fence
from hal9mig.ledger import batches
from hal9mig.ledger.session import Session
from hal9mig.ledger.tuning import Tuning
from hal9mig.sample import loading
from hal9mig.stores import barrier, connection
from hal9mig.stores.connection import Connection
from tests.support import relay
from tests.support.migration_driver import Driver, connected
from tests.support.servers import Stores

SESSIONS = "user-sessions"
BETWEEN = re.escape("A connection pooler is between this program and the database at 127.0.0.1:")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pooled:
    """Both stores' addresses by way of what numbers their sessions anew."""

    flat_url: str
    hier_url: str


@pytest.fixture
def pooled(stores: Stores) -> Iterator[Pooled]:
    """Put a relay before each store."""
    with contextlib.ExitStack() as stack:
        urls = []
        for url in (stores.flat_url, stores.hier_url):
            found = urlsplit(url)
            serve = functools.partial(relay.renumbered, port=found.port or 0)
            port = stack.enter_context(relay.listening("127.0.0.1", serve))
            urls.append(f"{url.replace(f':{found.port}/', f':{port}/')}?sslmode=disable")
        yield Pooled(flat_url=urls[0], hier_url=urls[1])


@pytest.fixture
def stack_env(stack_env: dict[str, str], pooled: Pooled) -> dict[str, str]:
    """The environment of processes that come by way of the relays, and know of no other way."""
    return stack_env | {"HAL9_FLAT_URL": pooled.flat_url, "HAL9_HIER_URL": pooled.hier_url}


@pytest.fixture
def driver(stores: Stores, stack_env: dict[str, str]) -> Iterator[Driver]:
    """Gives orders by way of the relays."""
    made = Driver(stores, stack_env)
    yield made
    made.close()


@pytest.fixture
def lent(pooled: Pooled) -> Iterator[Connection]:
    """A connection whose session is lent."""
    with contextlib.closing(connection.connect(pooled.flat_url, application_name="test")) as opened:
        yield opened


def with_direct(system: System, stores: Stores, **other: str) -> System:
    """Return a system that knows the servers' own addresses too."""
    addresses = {"flat_direct_url": stores.flat_url, "hier_direct_url": stores.hier_url, **other}
    return System(dataclasses.replace(system.settings, **addresses), role="test")


def test_a_switch_is_refused_and_the_mode_stays(driver: Driver, stores: Stores) -> None:
    with pytest.raises(errors.PoolerBetween, match=BETWEEN) as found:
        Switch(driver.system, actor="test").enable()
    assert found.value.hint == "name the server itself in HAL9_FLAT_DIRECT_URL or HAL9_HIER_DIRECT_URL"
    assert found.value.exit_code == errors.EXIT_REFUSED
    line = Switch(driver.system).line()
    assert (line.mode, line.target) == ("flat-only", None)
    with connected(stores.flat_url) as cursor:
        cursor.execute("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'hal9cap%'")
        assert cursor.fetchone() == (0,)


def test_a_switch_takes_the_direct_addresses_and_everything_else_the_pooler(driver: Driver, stores: Stores) -> None:
    loading.load(stores.flat_url, scale=0.0002, seed=3, categories=[SESSIONS])
    switch = Switch(with_direct(driver.system, stores), actor="test")
    switch.enable()
    driver.copy(SESSIONS)
    driver.assert_equal(SESSIONS)
    switch.leave_flat(dict)
    switch.return_to_flat()
    assert switch.line().mode == "flat-only"


def test_a_direct_address_of_another_database_is_refused(driver: Driver, stores: Stores) -> None:
    system = with_direct(driver.system, stores, flat_direct_url=stores.hier_url)
    with pytest.raises(errors.Refused, match=r"The two addresses of one store, .*, lead to two databases"):
        Switch(system, actor="test").enable()
    assert Switch(driver.system).line().mode == "flat-only"


def test_a_direct_address_that_is_a_poolers_too_is_refused(driver: Driver, stores: Stores, pooled: Pooled) -> None:
    system = with_direct(driver.system, stores, hier_direct_url=f"{pooled.hier_url}&application_name=x")
    with pytest.raises(errors.PoolerBetween, match=BETWEEN):
        Switch(system, actor="test").enable()
    assert Switch(driver.system).line().mode == "flat-only"


def test_no_lock_that_outlasts_a_transaction_is_taken_in_a_session_that_is_lent(lent: Connection) -> None:
    for closed in (barrier.hold_back(lent, patience=1.0), fence.closed(lent, patience=1.0)):
        with pytest.raises(errors.PoolerBetween, match=BETWEEN), closed:
            pytest.fail("it was closed")
    with lent.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
        assert cursor.fetchone() == (0,)


def test_a_checkpoint_and_whatever_may_not_wait_are_refused(driver: Driver) -> None:
    with pytest.raises(errors.PoolerBetween, match=BETWEEN):
        instant.take(driver.system, driver.system.registry.ordered())
    with pytest.raises(errors.PoolerBetween, match=BETWEEN):
        Checkpoints(driver.system).take(CheckpointOrder(name="kept"))
    with pytest.raises(errors.PoolerBetween, match=BETWEEN):
        lock_patience.hurried(driver.system, lambda hurried: hurried.flat().close())


def test_a_patience_is_never_left_in_a_session_that_is_lent(pooled: Pooled, lent: Connection) -> None:
    with pytest.raises(errors.PoolerBetween, match=BETWEEN):
        connection.connect(pooled.flat_url, application_name="test", patience=1.0)
    with lent.cursor() as cursor:
        cursor.execute("SELECT source FROM pg_settings WHERE name IN ('TimeZone', 'bytea_output', 'lock_timeout')")
        assert "session" not in {source for (source,) in cursor.fetchall()}


def test_sessions_that_begin_with_other_settings_are_refused(stores: Stores, pooled: Pooled) -> None:
    name = urlsplit(stores.flat_url).path[1:]
    with connected(stores.flat_url) as cursor:
        cursor.execute(f"ALTER DATABASE {name} SET bytea_output = 'escape'")
        cursor.execute(f"ALTER DATABASE {name} SET timezone = 'Asia/Tokyo'")
    with pytest.raises(errors.PoolerBetween, match="begin with TimeZone = Asia/Tokyo, bytea_output = escape"):
        connection.connect(pooled.flat_url, application_name="test")
    connection.connect(stores.flat_url, application_name="test").close()


def test_nobody_listens_on_a_session_that_is_lent(pooled: Pooled) -> None:
    urls = (pooled.flat_url, pooled.hier_url)
    with (
        pytest.raises(errors.PoolerBetween, match=BETWEEN),
        subscription.listening(urls, subscription.CHANNEL, name="test", timeout=5.0),
    ):
        pytest.fail("it listens")


def test_a_dual_write_is_left_to_the_workers(driver: Driver, stores: Stores, pooled: Pooled) -> None:
    loading.load(stores.flat_url, scale=0.0002, seed=3, categories=[SESSIONS])
    Switch(with_direct(driver.system, stores), actor="test").enable()
    with client.connect(driver.system.settings, flat_url=pooled.flat_url, hier_url=pooled.hier_url) as state:
        (record,) = state.scan(SESSIONS, limit=1)
        state.put(SESSIONS, record)
        assert (state.counters.writes, state.counters.mirrored, state.counters.left) == (1, 0, 1)


def test_no_session_is_noted_that_would_be_somebody_elses(
    driver: Driver, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[int | None] = []

    def plan(system: System, desk: Desk, held: batches.Lease, session: Session, tuned: Tuning) -> bool:
        noted.extend(row.backend_pid for row in session.execute("SELECT backend_pid FROM hal9mig.batches"))
        session.rollback()
        return True

    monkeypatch.setitem(work.STEPS, (model.RunKind.MIGRATE, "plan"), plan)
    systems = (driver.system, with_direct(driver.system, stores).direct())
    for slug, system in zip(("metadata", SESSIONS), systems, strict=True):
        driver.system = system
        seen = len(noted)
        driver.work(driver.start(slug), until=lambda seen=seen: len(noted) > seen)  # type: ignore[misc]
    lent, own = noted[0], noted[-1]
    assert lent is None
    assert own is not None


def test_a_rehearsal_makes_its_databases_on_the_servers_themselves(driver: Driver, stores: Stores) -> None:
    system = with_direct(driver.system, stores)
    with rehearsal._scratch(system) as copy:
        assert copy.settings.flat_direct_url is None
        port = urlsplit(stores.flat_url).port
        assert urlsplit(copy.settings.require_flat()).port == port
