"""The fixtures themselves: fresh, migrated and separate stores, and nothing left of a killed session."""

from __future__ import annotations

import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import psycopg2
import redis

from tests.support import servers, watchdog


def tables(url: str) -> set[str]:
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT schemaname || '.' || tablename FROM pg_tables WHERE tableowner = 'hal9'")
            return {name for (name,) in cursor.fetchall()}
    finally:
        connection.close()


def test_stores_are_migrated(stores: servers.Stores) -> None:
    assert "flat.neuron_states" in tables(stores.flat_url)
    assert "hier.units" in tables(stores.hier_url)


def test_each_test_has_stores_of_its_own(databases: servers.Databases) -> None:
    one, two = databases.open(), databases.open()
    assert len({one.flat_url, one.hier_url, two.flat_url, two.hier_url}) == 4
    with redis.Redis.from_url(one.redis_url) as client:
        client.set("mine", 1)
    with redis.Redis.from_url(two.redis_url) as client:
        assert client.get("mine") is None
    for stores in (one, two):
        databases.close(stores)


def test_nothing_outlives_a_killed_session() -> None:
    code = """
        import sys, time
        from tests.support import servers
        session = servers.Session()
        print(session.mark, session.folder, flush=True)
        session.cluster("flat")
        session.redis_server()
        print("started", flush=True)
        time.sleep(60)
    """
    started = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, encoding="utf-8", cwd=servers.ROOT
    )
    assert started.stdout is not None
    mark, folder = started.stdout.readline().split()
    assert started.stdout.readline() == "started\n"
    assert len(watchdog.left_over(mark, pathlib.Path(folder))) > 2
    started.send_signal(signal.SIGKILL)
    started.communicate()
    deadline = time.monotonic() + 15
    while pathlib.Path(folder).exists() or watchdog.left_over(mark, pathlib.Path(folder)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
