"""A server that is away fills no log: a line when that begins, one when it is over, the server's name in both."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import urllib.parse
from collections.abc import Callable

import pytest

from hal9mig import errors, settings
from hal9mig.embedded.redis import RedisServer
from hal9mig.engine.desk import Desk
from hal9mig.engine.outage import Outage
from hal9mig.engine.system import System
from hal9mig.ledger import database
from tests.support import migration_driver, servers

FAILED = "failed, and is tried again"


def place(url: str) -> str:
    """Return host, port and database of a URL."""
    parts = urllib.parse.urlsplit(url)
    return f"{parts.hostname}:{parts.port}{parts.path}"


def lines(running: servers.Running, text: str) -> list[str]:
    return [line for line in running.text().splitlines() if text in line]


def wait_for_lines(running: servers.Running, text: str, count: int, timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while len(lines(running, text)) < count:
        assert time.monotonic() < deadline, running.text()[-4000:]
        time.sleep(0.05)


def test_a_stores_outage_is_a_line_in_a_workers_log(
    stores: servers.Stores, workers: Callable[..., list[servers.Running]], beat: Callable[..., servers.Running]
) -> None:
    (worker,) = workers(1)
    beat()
    where = place(stores.hier_url)
    stores.hier_cluster.stop()
    worker.wait_for(FAILED, timeout=60)
    # Tasks go on failing all the while, and so do the threads of the worker's parent process.
    wait_for_lines(worker, "raised expected", 2)
    stores.hier_cluster.start()
    worker.wait_for(f"{where} answers again", timeout=60)
    (told,) = lines(worker, FAILED)
    assert where in told
    assert all(where in line for line in lines(worker, "raised expected"))
    assert "Traceback" not in worker.text()


def test_the_queues_outage_is_a_line_in_the_beats_log(
    stores: servers.Stores,
    redis_server: RedisServer,
    workers: Callable[..., list[servers.Running]],
    beat: Callable[..., servers.Running],
) -> None:
    (worker,) = workers(1)
    beats = beat()
    wait_for_lines(beats, "Sending due task tick", 1)
    redis_server.stop()
    where = place(stores.redis_url)
    wait_for_lines(beats, f"sending tick failed, and is tried again: Redis at {where}", 1)
    worker.wait_for("Cannot connect to redis://", timeout=60)
    redis_server.start()
    beats.wait_for(f"{where} answers again", timeout=60)
    assert len(lines(beats, "sending tick failed")) == 1
    assert "Traceback" not in beats.text() + worker.text()
    assert "CPendingDeprecationWarning" not in worker.text()


def test_a_connection_that_broke_is_named(stores: servers.Stores, stack_env: dict[str, str]) -> None:
    desk = Desk(System(settings.load(environ=stack_env), role="test"))
    kept = desk.flat("test")
    stores.flat_cluster.disconnect(urllib.parse.urlsplit(stores.flat_url).path[1:])
    with pytest.raises(errors.StoreUnreachable, match="was lost") as lost, desk.trusted(), kept.cursor() as cursor:
        cursor.execute("SELECT 1")
    assert lost.value.context["server"] == place(stores.flat_url)
    assert place(stores.flat_url) in lost.value.message


def test_a_session_that_was_ended_while_nobody_used_it_is_replaced(stores: servers.Stores) -> None:
    """Also right after: the server says so to whoever asks, and a moment later to who listens."""
    ledger = database.Ledger(stores.hier_url, application_name="test")
    other = database.Ledger(stores.hier_url, application_name="test")
    for _ in range(20):
        with ledger.begin() as session:
            held = session.connection.get_backend_pid()
        with other.begin() as session:
            session.execute("SELECT pg_terminate_backend(%s)", (held,))
        with ledger.begin() as session:
            assert session.connection.get_backend_pid() != held
    ledger.close()
    other.close()


def interrupt_in(ledger: database.Ledger, pid: int, holder: database.Session) -> None:
    """Interrupt this process while a session waits for a lock, and then let the session have it."""
    waits = "SELECT FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
    with ledger.connection() as looking:
        migration_driver.until(lambda: looking.execute(waits, (pid,)).first() is not None, "the session to wait")
    os.kill(os.getpid(), signal.SIGUSR1)
    holder.execute("SELECT pg_advisory_unlock(1)")


def test_an_interruption_is_no_outage(stores: servers.Stores) -> None:
    ledger = database.Ledger(stores.hier_url, application_name="test")
    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    with ledger.connection() as holder, ledger.connection() as session:
        holder.execute("SELECT pg_advisory_lock(1)")
        held = session.connection.get_backend_pid()
        threading.Thread(target=interrupt_in, args=(ledger, held, holder)).start()
        with pytest.raises(KeyboardInterrupt):
            session.execute("SELECT pg_advisory_lock(1)")
    signal.signal(signal.SIGUSR1, before)
    # Nobody knows what such a session is in the middle of.
    assert session.connection.closed
    with ledger.begin() as session:
        assert session.execute("SELECT 1").scalar_one() == 1
    ledger.close()


def test_threads_tell_an_outage_once_and_with_its_traceback_only_to_who_debugs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    outage = Outage()
    away = errors.StoreUnreachable("The database at h:1/d cannot be reached: refused", server="h:1/d")
    for _ in range(3):
        outage.failed("the pulse", away)
        outage.failed("the keeper's look", away)
    outage.passed("the pulse")
    outage.passed("the keeper's look")
    outage.passed("the keeper's look")
    told = [record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG]
    assert told == [f"the pulse {FAILED}: {away}", "the keeper's look goes on: h:1/d answers again"]
    assert all(record.exc_info is None for record in caplog.records if record.levelno > logging.DEBUG)
    assert all(record.exc_info for record in caplog.records if record.levelno == logging.DEBUG)
    outage.failed("the pulse", ValueError("postgresql://me:secret@h/d\nis odd"))
    assert caplog.records[-1].getMessage() == f"the pulse {FAILED}: postgresql://me:***@h/d is odd"
