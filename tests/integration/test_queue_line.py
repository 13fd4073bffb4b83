"""Questions to Redis without its library: the answers are the library's, and so is what is said where there is none."""

from __future__ import annotations

import contextlib
import pathlib
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import celery
import pytest
import redis

from hal9mig import errors
from hal9mig.embedded import binaries, process
from hal9mig.queue import app as queue_app
from hal9mig.queue import broker, line
from tests.support import servers


@pytest.mark.parametrize(
    ("url", "place", "database", "login"),
    [
        ("redis://h", ("h", 6379), 0, ()),
        ("redis://:p%40s@[::1]:7/3", ("::1", 7), 3, ("p@s",)),
        ("redis://me:s@h:7?db=2", ("h", 7), 2, ("me", "s")),
        ("redis+socket:///run/r%20.sock?virtual_host=2", "/run/r .sock", 2, ()),
        ("redis+socket://:s@/run/r.sock", "/run/r.sock", 0, ("s",)),
    ],
)
def test_an_address(url: str, place: object, database: int, login: tuple[str, ...]) -> None:
    assert line.address(url) == line.Address(place=place, database=database, login=login)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    ["rediss://h", "redis://h?ssl_cert_reqs=none", "redis://me@h", "redis://h:p", "redis://h/none", "valkey://h", "h"],
)
def test_what_is_the_librarys_to_know(url: str) -> None:
    assert line.address(url) is None


def _nothing() -> celery.Celery:
    raise AssertionError("nothing is published")


def test_the_queues_depth_is_what_the_library_counts(stores: servers.Stores) -> None:
    asked = broker.Broker(_nothing, stores.redis_url, "some:")
    assert asked.depth() == 0
    with redis.Redis.from_url(stores.redis_url) as client:
        for step in queue_app.PRIORITY_STEPS:
            client.rpush(f"some:batches:{step}" if step else "some:batches", *range(step + 1))
        client.hset("some:unacked", mapping={"a": 1, "b": 2})
        client.lpush("batches", "of another database's prefix")
    broker.ping(stores.redis_url, patience=5)
    assert asked.depth() == sum(step + 1 for step in queue_app.PRIORITY_STEPS) + 2
    # By the library, which an option makes it.
    assert broker.Broker(_nothing, f"{stores.redis_url}?socket_timeout=4", "some:").depth() == 24
    with redis.Redis.from_url(stores.redis_url) as client:
        client.delete("some:batches")
        client.set("some:batches", "no list")
    with pytest.raises(errors.QueueUnreachable, match="Operation against a key holding the wrong kind of value"):
        asked.depth()


@pytest.mark.parametrize("login", ["", ":wrong@", "nobody:wrong@"])
def test_a_login_that_is_refused_is_named(login: str, stores: servers.Stores) -> None:
    place = stores.redis_url.rpartition("@")[2]
    with pytest.raises(errors.LoginRefused, match="Redis refused the login: "):
        broker.ping(f"redis://{login}{place}", patience=5)


def test_where_nothing_listens_the_place_is_named_and_no_secret() -> None:
    port = process.free_port()
    with pytest.raises(errors.QueueUnreachable) as caught:
        broker.ping(f"redis://:secret@{process.LOOPBACK}:{port}/0", patience=2)
    assert f"{process.LOOPBACK}:{port}" in caught.value.message
    assert "secret" not in caught.value.message


def test_over_a_socket(tmp_path: pathlib.Path, server_session: servers.Session) -> None:
    path = server_session.folder / "line.sock"
    command = [binaries.redis_server(), "--port", "0", "--unixsocket", path, "--dir", tmp_path, "--save", ""]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            deadline = time.monotonic() + 20
            while not path.exists():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            broker.ping(f"redis+socket://{path}?virtual_host=2", patience=5)
        finally:
            server.terminate()
    with pytest.raises(errors.QueueUnreachable):
        broker.ping(f"redis+socket://{path}", patience=5)


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+PO", b"x" * 70_000])
def test_what_is_no_redis_is_not_taken_for_one(says: bytes) -> None:
    with _listening(says) as port, pytest.raises(errors.QueueUnreachable):
        broker.ping(f"redis://{process.LOOPBACK}:{port}/0", patience=5)


def test_what_never_answers_is_not_waited_for() -> None:
    with _listening(None) as port, pytest.raises(errors.QueueUnreachable, match="timed out"):
        broker.ping(f"redis://{process.LOOPBACK}:{port}/0", patience=0.1)


@contextlib.contextmanager
def _listening(says: bytes | None) -> Iterator[int]:
    """Listen on a port of its own, say something to whoever asks there and hang up; with None, say nothing."""
    ended = threading.Event()
    with socket.create_server((process.LOOPBACK, 0)) as server:

        def answer() -> None:
            with server.accept()[0] as opened:
                opened.recv(1000)
                if says is None:
                    ended.wait(20)
                else:
                    with contextlib.suppress(OSError):
                        opened.sendall(says)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            ended.set()
            thread.join()
