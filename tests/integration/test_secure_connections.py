"""Servers over TLS, a Redis that gives no more than is needed, and secrets that stay where they belong."""

from __future__ import annotations

import contextlib
import hashlib
import pathlib
import re
import ssl
import urllib.parse
from collections.abc import Iterator

import psutil
import pytest
import redis
import trustme

from hal9mig import client, settings
from hal9mig.sample import loading
from tests.support import servers, tls
from tests.support.live_state import execute
from tests.support.servers import ROOT, Cli, Programs

MIGRATE = ("state", "migrate", "--category", "user-sessions")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def over_tls(
    stores: servers.Stores, stack_env: dict[str, str], authority: trustme.CA, tmp_path: pathlib.Path
) -> Iterator[dict[str, str]]:
    """The environment in which all three servers are reached over TLS, and have to prove who they are."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    with contextlib.ExitStack() as stack:

        def behind(url: str, *, postgres: bool) -> str:
            parts = urllib.parse.urlsplit(url)
            assert parts.port
            port = stack.enter_context(tls.door(parts.port, context, postgres=postgres))
            login = parts.netloc.rpartition("@")[0]
            return f"{login}@localhost:{port}{parts.path}"

        check = f"?sslmode=verify-full&sslrootcert={trusted}"
        yield {
            **stack_env,
            "HAL9_FLAT_URL": f"postgresql://{behind(stores.flat_url, postgres=True)}{check}",
            "HAL9_HIER_URL": f"postgresql://{behind(stores.hier_url, postgres=True)}{check}",
            "HAL9_REDIS_URL": f"rediss://{behind(stores.redis_url, postgres=False)}"
            f"?ssl_cert_reqs=required&ssl_ca_certs={trusted}",
        }


def some_sessions(stores: servers.Stores) -> None:
    loading.load(stores.flat_url, scale=0.0005, seed=3, categories=["user-sessions"])


def test_everything_goes_over_tls(over_tls: dict[str, str], stores: servers.Stores, tmp_path: pathlib.Path) -> None:
    some_sessions(stores)
    command = Cli(over_tls, tmp_path)
    started = Programs(over_tls, tmp_path)
    try:
        started.workers(1)
        started.beat()
        done = command(*MIGRATE, "--rate-limit", "1000/s")
        assert done.exit_code == 0, done.stderr
        assert "50 of 50 records" in done.stdout
        # An application with the client library, on the same addresses.
        with client.connect(settings.load(environ=over_tls), application_name="test") as state:
            assert len(list(state.scan("user-sessions", limit=100))) == 50
    finally:
        started.close()
        command.close()
    assert execute(stores.hier_url, "SELECT count(*) FROM hier.sessions") == [(50,)]


def test_who_cannot_prove_who_it_is_is_not_spoken_to(
    over_tls: dict[str, str], stores: servers.Stores, tmp_path: pathlib.Path
) -> None:
    stranger = tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(str(stranger))
    command = Cli(over_tls, tmp_path)
    trusted = str(tmp_path / "ca.pem")
    for name in ("HAL9_FLAT_URL", "HAL9_HIER_URL", "HAL9_REDIS_URL"):
        told = command("state", "status", env={name: over_tls[name].replace(trusted, str(stranger))})
        assert told.exit_code in (3, 5), told.stdout
        assert "certificate verify failed" in told.stdout + told.stderr
        assert urllib.parse.urlsplit(over_tls[name]).password not in told.stdout + told.stderr
    # Nor is anybody who would rather not speak TLS.
    plain = over_tls["HAL9_FLAT_URL"].replace("verify-full", "disable")
    assert command("db", "check", env={"HAL9_FLAT_URL": plain}).exit_code == 5
    command.close()


def test_redis_gives_no_more_than_the_example_does(
    stores: servers.Stores, stack_env: dict[str, str], tmp_path: pathlib.Path
) -> None:
    some_sessions(stores)
    digest = hashlib.sha256(b"geheim").hexdigest()
    (line,) = re.findall(r"^user hal9 (.*)$", (ROOT / "config" / "redis-users.acl").read_text(), re.MULTILINE)
    parts = urllib.parse.urlsplit(stores.redis_url)
    url = f"redis://hal9:geheim@127.0.0.1:{parts.port}{parts.path}"
    env = {**stack_env, "HAL9_REDIS_URL": url, "HAL9_QUEUE_PREFIX": "hal9:"}
    with redis.Redis.from_url(stores.redis_url) as owner:
        owner.acl_log_reset()
        owner.execute_command("ACL", "SETUSER", "hal9", "reset", *line.replace("0" * 64, digest).split())
    command, started = Cli(env, tmp_path), Programs(env, tmp_path)
    try:
        (worker,) = started.workers(1)
        started.beat()
        done = command(*MIGRATE, "--rate-limit", "1000/s")
        assert done.exit_code == 0, done.stderr
        assert command("state", "stats").exit_code == 0
        with redis.Redis.from_url(stores.redis_url) as owner:
            refused = {(one["reason"], one["object"]) for one in owner.acl_log()}
        # The library would tell its own version, and does without where it may not.
        assert refused <= {("command", "client")}
        assert "no permissions" not in worker.text()
        with redis.Redis.from_url(url) as asking:
            for forbidden in (("SET", "others:key", "1"), ("FLUSHALL",), ("CONFIG", "GET", "*"), ("KEYS", "*")):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    asking.execute_command(*forbidden)
    finally:
        started.close()
        command.close()
        with redis.Redis.from_url(stores.redis_url) as owner:
            owner.execute_command("ACL", "DELUSER", "hal9")


def test_no_secret_is_where_others_look(
    stores: servers.Stores, stack_env: dict[str, str], tmp_path: pathlib.Path
) -> None:
    """Secrets come from files; no command line, log, message, ledger row or output has them."""
    some_sessions(stores)
    secrets = {}
    env = dict(stack_env)
    for name in ("HAL9_FLAT_URL", "HAL9_HIER_URL", "HAL9_REDIS_URL"):
        file = tmp_path / name.lower()
        file.write_text(env.pop(name) + "\n")
        env[f"{name}_FILE"] = str(file)
        secrets[name] = urllib.parse.urlsplit(file.read_text().strip()).password or ""
    assert all(len(secret) > 8 for secret in secrets.values())
    known = re.compile("|".join(map(re.escape, secrets.values())))
    command, started = Cli(env, tmp_path), Programs(env, tmp_path)
    try:
        running = [*started.workers(1), started.beat()]
        told = [command(*MIGRATE), command("configure", "show", "--origin"), command("db", "check")]
        told.append(command("state", "status", env={"HAL9_REDIS_URL_FILE": str(tmp_path / "nothing")}))
        for one in told:
            assert not known.search(one.stdout + one.stderr)
        for process in psutil.process_iter(["cmdline"]):
            assert not known.search(" ".join(process.info["cmdline"] or []))
        for one in running:
            assert not known.search(one.text())
    finally:
        started.close()
        command.close()
    for file in (tmp_path / "log").rglob("*"):
        assert not file.is_file() or not known.search(file.read_text(errors="replace"))
    tables = execute(stores.hier_url, "SELECT tablename FROM pg_tables WHERE schemaname = 'hal9mig'")
    for (table,) in tables:
        rows = execute(stores.hier_url, f"SELECT coalesce(string_agg(t::text, ' '), '') FROM hal9mig.{table} t")
        assert not known.search(str(rows[0][0])), table
    with redis.Redis.from_url(stores.redis_url) as queue:
        for key in queue.scan_iter():
            kind = queue.type(key)
            value = queue.lrange(key, 0, -1) if kind == b"list" else queue.dump(key)
            assert not known.search(str(value))
