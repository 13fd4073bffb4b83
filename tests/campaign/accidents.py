"""What goes wrong by itself, one accident after the other, as the dice fall."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import psutil
import psycopg2
import redis

from hal9mig import errors
from tests.campaign.site import Site
from tests.support.migration_driver import connected
from tests.support.servers import Running


def _killed(site: Site, some: list[Running]) -> None:
    site.dice.choice(some).kill()
    site.rest(0, 3)
    site.man()


def _frozen(site: Site, some: list[Running]) -> None:
    one = site.dice.choice(some)
    one.pause()
    # Some past the lease of three seconds, some not.
    site.rest(0.2, 6)
    one.resume()


def _worker_killed(site: Site) -> None:
    _killed(site, site.workers())


def _worker_frozen(site: Site) -> None:
    _frozen(site, site.workers())


def _beat_killed(site: Site) -> None:
    _killed(site, site.beats())


def _beat_frozen(site: Site) -> None:
    _frozen(site, site.beats())


def _pool_process_killed(site: Site) -> None:
    with contextlib.suppress(IndexError, psutil.Error):
        site.dice.choice(site.workers()).kill_child()


def _pool_process_frozen(site: Site) -> None:
    with contextlib.suppress(IndexError, psutil.Error):
        child = site.dice.choice(site.dice.choice(site.workers()).children())
        child.suspend()
        site.rest(0.2, 6)
        child.resume()


def _queue_emptied(site: Site) -> None:
    with redis.Redis.from_url(site.stores.redis_url) as client:
        client.flushall()


def _queue_killed(site: Site) -> None:
    site.stores.redis_server.kill()
    site.rest(0, 3)
    site.stores.redis_server.start()


def _queue_killed_and_forgotten(site: Site) -> None:
    """It comes back without what it had written down."""
    site.stores.redis_server.kill()
    site.rest(0, 1)
    site.stores.redis_server.start()
    _queue_emptied(site)


def _flat_server_crashed(site: Site) -> None:
    site.stores.flat_cluster.restart(immediate=True)


def _hierarchical_server_crashed(site: Site) -> None:
    site.stores.hier_cluster.restart(immediate=True)


def _sessions_terminated(site: Site) -> None:
    """Of one side, a half: the system's, the operators' and the application's alike."""
    url = site.dice.choice([site.stores.flat_url, site.stores.hier_url])
    with contextlib.suppress(psycopg2.Error), connected(url) as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND random() < 0.5"
        )


def _cable_pulled(site: Site) -> None:
    cable = site.dice.choice(list(site.cables.values()))
    cable.pull()
    site.rest(0.2, 4)
    cable.plug()


def _cable_silent(site: Site) -> None:
    cable = site.dice.choice(list(site.cables.values()))
    cable.flows.clear()
    site.rest(0.2, 5)
    cable.plug()


def _cable_slow(site: Site) -> None:
    cable = site.dice.choice(list(site.cables.values()))
    cable.delay = site.dice.choice([0.005, 0.05, 0.3])
    site.rest(1, 6)
    cable.plug()


def _disk_full(site: Site) -> None:
    """Of a server or of the workers; whoever ends of it is started again when there is room."""
    one = site.dice.choice(list(site.hosts.values()))
    one.fill(True)
    site.rest(0.5, 5)
    one.fill(False)
    site.serve()


def _clock_stepped(site: Site) -> None:
    """Back by less than what anybody waits for; forward past every lease."""
    host = site.dice.choice(list(site.hosts.values()))
    host.set(host.ahead + site.dice.choice([-10, -3, -1, 1, 5, 60, 3600]))


ACCIDENTS: tuple[Callable[[Site], None], ...] = (
    _worker_killed, _pool_process_killed, _worker_frozen, _pool_process_frozen, _beat_killed, _beat_frozen,
    _queue_emptied, _queue_killed, _queue_killed_and_forgotten, _flat_server_crashed, _hierarchical_server_crashed,
    _sessions_terminated, _cable_pulled, _cable_silent, _cable_slow,
)  # fmt: skip

#: Accidents that take hosts of their own.
ON_HOSTS: tuple[Callable[[Site], None], ...] = (_disk_full, _clock_stepped)


def named(one: Callable[[Site], None]) -> str:
    """Return an accident's or an order's name in words."""
    return one.__name__.strip("_").replace("_", " ")


def storm(site: Site) -> None:
    """Have accidents until the round is over, and put right what the last one left."""
    possible = ACCIDENTS + ON_HOSTS if site.hosts else ACCIDENTS
    while not site.over.is_set():
        site.rest(0.1, site.gap)
        accident = site.dice.choice(possible)
        site.note(named(accident))
        # Two may meet: what one is after is gone by the other.
        with contextlib.suppress(errors.HAL9Error, redis.RedisError, psutil.Error, AssertionError):
            accident(site)
            site.man()
