"""The embedded servers: what they promise to those who start them."""

from __future__ import annotations

import os
import pathlib
import socket
import stat

import psycopg2
import pytest
import redis

from hal9mig import errors
from hal9mig.embedded.postgres import Cluster
from hal9mig.embedded.redis import RedisServer
from tests.support import servers


def ask(url: str, query: str) -> tuple[object, ...]:
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(query)
            row = cursor.fetchone()
            assert row is not None
            return tuple(row)
    finally:
        connection.close()


def cluster_in(session: servers.Session, name: str, said: list[str] | None = None) -> Cluster:
    settings = servers.TEST_SETTINGS
    return Cluster(session.folder / name, settings=settings, say=(said if said is not None else []).append)


@pytest.fixture
def spare(server_session: servers.Session, request: pytest.FixtureRequest) -> pathlib.Path:
    """A folder name that no other test uses."""
    folder: pathlib.Path = server_session.folder / str(request.node.name)[:40]
    return folder


@pytest.mark.parametrize("version", [18, 16])
def test_a_cluster_has_the_promised_settings(
    flat_cluster: Cluster, request: pytest.FixtureRequest, version: int
) -> None:
    cluster = flat_cluster if version == 18 else request.getfixturevalue("flat_cluster_16")
    url = cluster.create_database("promised")
    expected = {
        "data_checksums": "on", "jit": "off", "wal_level": "replica", "synchronous_commit": "on",
        "server_encoding": "UTF8", "max_connections": "200", "listen_addresses": "127.0.0.1",
    }  # fmt: skip
    for name, value in expected.items():
        assert ask(url, f"SELECT current_setting('{name}')") == (value,)
    assert ask(url, "SELECT current_setting('server_version_num')::int / 10000") == (version,)
    # No superuser; it may make databases, which a rehearsal does.
    assert ask(url, "SELECT rolsuper, rolcreatedb FROM pg_roles WHERE rolname = current_user") == (False, True)
    assert ask(url, "SELECT 'Z' < 'a', 'é' > 'z', upper('é')") == (True, True, "É")
    # The owner may make its own schemas, and see what the server does.
    assert ask(url, "SELECT pg_has_role('pg_monitor', 'member'), pg_has_role('pg_signal_backend', 'member')")
    cluster.drop_database("promised")


def test_nobody_gets_in_without_the_password(flat_cluster: Cluster) -> None:
    url = f"postgresql://hal9:wrong@127.0.0.1:{flat_cluster.port}/postgres"
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(url)


def test_passwords_are_in_private_files_only(server_session: servers.Session, flat_cluster: Cluster) -> None:
    password = flat_cluster.url().split(":")[2].split("@")[0]
    admin = flat_cluster.admin_url().split(":")[2].split("@")[0]
    for folder, _, names in os.walk(server_session.folder):
        for path in (pathlib.Path(folder, name) for name in names):
            if path.is_socket() or flat_cluster.data in path.parents:
                continue
            content = path.read_bytes()
            if password.encode() in content or admin.encode() in content:
                assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert not list(flat_cluster.directory.glob(".pw-*"))


def test_a_crashed_server_comes_back_with_its_data(server_session: servers.Session) -> None:
    cluster = cluster_in(server_session, "crash").start()
    url = cluster.create_database("kept")
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE t AS SELECT 42 AS answer")
    connection.close()
    cluster.restart(immediate=True)
    assert ask(url, "SELECT answer FROM t") == (42,)
    assert cluster.process is not None
    cluster.process.stop([])
    assert cluster_in(server_session, "crash").start().url("kept") == url
    assert ask(url, "SELECT answer FROM t") == (42,)
    cluster_in(server_session, "crash").stop()


def test_a_running_server_is_taken_over(server_session: servers.Session, flat_cluster: Cluster) -> None:
    again = cluster_in(server_session, "flat").start()
    assert again.process is not None
    assert flat_cluster.process is not None
    assert again.process.pid == flat_cluster.process.pid


def test_a_half_made_cluster_is_made_again(server_session: servers.Session) -> None:
    said: list[str] = []
    cluster = cluster_in(server_session, "half", said)
    cluster.create()
    cluster.data.rename(cluster.directory / "data.new")
    (cluster.directory / "data.new" / "PG_VERSION").unlink()
    cluster.start()
    assert ask(cluster.url("postgres"), "SELECT 1") == (1,)
    cluster.stop()
    assert said == ["half: a half-made cluster was found and is made again"]


def test_a_folder_of_somebody_else_is_left_alone(spare: pathlib.Path) -> None:
    spare.mkdir()
    (spare / "thesis.tex").write_text("precious")
    for server in (Cluster(spare), RedisServer(spare)):
        with pytest.raises(errors.StackRefused, match="did not make") as refused:
            server.create()
        assert "mv " in str(refused.value.hint)
    assert [path.name for path in spare.iterdir()] == ["thesis.tex"]


def test_another_version_is_refused(server_session: servers.Session, flat_cluster_16: Cluster) -> None:
    with pytest.raises(errors.StackRefused, match="was made by PostgreSQL 16"):
        Cluster(flat_cluster_16.directory, 18).start()


def test_a_taken_port_is_left_and_said(server_session: servers.Session) -> None:
    said: list[str] = []
    cluster = cluster_in(server_session, "moved", said).create()
    before = cluster.port
    with socket.create_server(("127.0.0.1", before)):
        cluster.start()
    assert cluster.port != before
    assert f"moved: port {before} is taken by" in said[0]
    assert ask(cluster.url("postgres"), "SELECT 1") == (1,)
    cluster.stop()


def test_a_stale_pid_file_with_a_strangers_pid_is_removed(server_session: servers.Session) -> None:
    said: list[str] = []
    cluster = cluster_in(server_session, "stale", said).create()
    (cluster.data / "postmaster.pid").write_text(f"{os.getpid()}\n{cluster.data}\n")
    cluster.start()
    assert ask(cluster.url("postgres"), "SELECT 1") == (1,)
    cluster.stop()
    assert said == ["stale: the pid file of an earlier server was stale and is removed"]


def test_redis_keeps_its_state_over_a_kill(spare: pathlib.Path) -> None:
    server = RedisServer(spare).start()
    with redis.Redis.from_url(server.url) as client:
        client.set("kept", "yes")
        client.execute_command("WAITAOF", 0, 0, 0) if client.info("server")["redis_version"] >= "7.2" else None
    server.stop()
    server.start()
    server.kill()
    server.start()
    with redis.Redis.from_url(server.url) as client:
        assert client.get("kept") == b"yes"
        assert client.config_get("appendonly") == {"appendonly": "yes"}
    again = RedisServer(spare).start()
    assert again.process is not None
    assert server.process is not None
    assert again.process.pid == server.process.pid
    with pytest.raises(redis.AuthenticationError), redis.Redis(port=server.port) as client:
        client.ping()
    server.stop()


def test_a_taken_redis_port_is_left_and_said(spare: pathlib.Path) -> None:
    said: list[str] = []
    server = RedisServer(spare, say=said.append).create()
    before = server.port
    with socket.create_server(("127.0.0.1", before)):
        server.start()
    assert server.port != before
    assert f"redis: port {before} is taken by" in said[0]
    server.stop()
