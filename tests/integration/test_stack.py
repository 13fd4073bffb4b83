"""``stack up``, ``status`` and ``down`` with real servers; what runs beside them is a stand-in but in one test."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import psycopg2
import pytest

from hal9mig import settings
from hal9mig.embedded import process, programs
from hal9mig.embedded.postgres import Cluster
from hal9mig.embedded.redis import RedisServer
from tests.support import fake_stack, servers, watchdog

ALL = ["flat store", "hier store", "redis", "worker1", "worker2", "beat", "flower", "dashboard"]


@dataclasses.dataclass
class Machine:
    """A data directory and the commands on it."""

    data_dir: pathlib.Path
    env: dict[str, str]
    command: tuple[str, ...] = (fake_stack.__file__,)

    def popen(self, *args: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *self.command, *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env={**self.env, **env},
            cwd=self.data_dir.parent,
        )

    def run(self, *args: str, **env: str) -> servers.CliResult:
        started = self.popen(*args, **env)
        stdout, stderr = started.communicate(timeout=120)
        return servers.CliResult(started.returncode, stdout, stderr)

    def up(self, *args: str, **env: str) -> servers.CliResult:
        result = self.run("up", "--detach", *args, **env)
        assert result.exit_code == 0, result
        return result

    def status(self) -> dict[str, Any]:
        document = json.loads(self.run("status", "--json").stdout)
        assert isinstance(document, dict)
        return document

    def pids(self) -> dict[str, int]:
        return {child["name"]: child["pid"] for child in self.status()["children"]}

    def settings(self) -> settings.Settings:
        return settings.load(environ={"HAL9_DATA_DIR": str(self.data_dir)})

    def log(self) -> str:
        return programs.log_of(self.data_dir, "supervisor").read_text(encoding="utf-8")

    def wait(self, true: Callable[[], bool], timeout: float = 20) -> None:
        deadline = time.monotonic() + timeout
        while not true():
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.1)

    def running(self) -> list[str]:
        """What works in the data directory or carries its mark."""
        return [
            " ".join(found.cmdline())
            for found in psutil.process_iter()
            if process.Process(found.pid, 0).runs_in(self.data_dir / "redis")
            or any(process.Process(found.pid, 0).runs_in(self.data_dir / name / "data") for name in ("flat", "hier"))
        ] + [str(found.pid) for found in process.marked(programs.MARK, str(self.data_dir))]


@pytest.fixture
def machine(server_session: servers.Session, request: pytest.FixtureRequest) -> Iterator[Machine]:
    folder = server_session.folder / f"s{abs(hash(request.node.name)) % 10**6}"
    folder.mkdir(mode=0o711)
    env = {
        name: value for name, value in os.environ.items() if not name.startswith("HAL9_") or name == watchdog.VARIABLE
    }
    env |= {
        "PYTHONPATH": str(servers.ROOT),
        "HAL9_DATA_DIR": str(folder / "data"),
        "HAL9_LOG_DIR": str(folder / "log"),
        "HAL9_FLOWER_PORT": str(process.free_port()),
        "HAL9_DASHBOARD_PORT": str(process.free_port()),
    }
    made = Machine(folder / "data", env)
    yield made
    made.run("down")
    assert made.running() == []


def execute(url: str, query: str) -> list[tuple[Any, ...]]:
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(query)
            return list(cursor.fetchall()) if cursor.description else []
    finally:
        connection.close()


def test_up_status_down_and_up_again(machine: Machine) -> None:
    result = machine.up()
    flat_url = machine.settings().require_flat()
    for name in ("flat store", "hier store", "redis"):
        assert f"{name:<11} ready  127.0.0.1:" in result.stderr
    assert "postgresql://hal9:***@127.0.0.1:" in result.stdout
    assert machine.env["HAL9_FLOWER_PORT"] in result.stdout
    document = machine.status()
    assert document["state"] == "up"
    assert document["healthy"] is True
    assert [child["name"] for child in document["children"]] == ALL
    assert all(child["state"] == "up" and child["restarts"] == 0 for child in document["children"])
    assert machine.settings().origins["stores.hier_url"] == "stack"
    execute(flat_url, "CREATE TABLE kept AS SELECT 42 AS answer")

    again = machine.run("up", "--detach")
    assert again.exit_code == 0
    assert "already up" in again.stderr

    down = machine.run("down")
    assert down.exit_code == 0
    order = [line for line in down.stderr.splitlines() if line.startswith("stopping")]
    assert order.index("stopping beat") < order.index("stopping flower") < order.index("stopping redis")
    assert machine.running() == []
    assert machine.run("down").exit_code == 0
    status = machine.run("status")
    assert (status.exit_code, status.stdout) == (3, "not running\n")
    assert machine.settings().flat_url is None

    machine.up()
    assert machine.settings().require_flat() == flat_url
    assert execute(flat_url, "SELECT answer FROM kept") == [(42,)]


def test_no_secret_is_shown_or_open(machine: Machine) -> None:
    result = machine.up()
    found = machine.settings()
    secrets = [url.split("@")[0].rpartition(":")[2] for url in (found.flat_url, found.hier_url, found.redis_url) if url]
    logins = [
        line.rpartition(":")[2].strip() for line in machine.run("status", "--show-login").stdout.splitlines()[-2:]
    ]
    assert all(len(login) > 10 for login in logins)
    status = machine.run("status")
    shown = [result.stdout, result.stderr, status.stdout, status.stderr, machine.run("status", "--json").stdout]
    shown += [" ".join(running.info["cmdline"] or ()) for running in psutil.process_iter(["cmdline"])]
    for secret in (*secrets, *logins):
        assert not [text for text in shown if secret in text]
        for path in machine.data_dir.rglob("*"):
            if path.is_file() and secret.encode() in path.read_bytes():
                assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


@pytest.mark.parametrize("names", [["worker1"], ["flat store"], ALL], ids=["worker", "store", "all"])
def test_a_died_child_is_said_and_started_again(machine: Machine, names: list[str]) -> None:
    machine.up()
    before = machine.pids()
    for name in names:
        os.kill(before[name], signal.SIGKILL)
    for name in names:
        machine.wait(lambda name=name: f"{name} died (signal 9), restarting in 1s" in machine.log())  # type: ignore[misc]
    machine.wait(lambda: machine.run("status").exit_code == 0)
    for child in machine.status()["children"]:
        died = child["name"] in names
        assert child["restarts"] == int(died)
        assert (child["pid"] != before[child["name"]]) == died


def test_servers_of_a_killed_supervisor_are_taken_over(machine: Machine) -> None:
    machine.up()
    before = machine.pids()
    os.kill(machine.status()["pid"], signal.SIGKILL)
    machine.wait(lambda: machine.status()["state"] == "left behind")
    assert machine.run("status").exit_code == 3
    result = machine.up()
    after = machine.pids()
    for name in ALL:
        assert (after[name] == before[name]) == (name in ("flat store", "hier store", "redis"))
        assert name in ("flat store", "hier store", "redis") or process.Process.find(before[name]) is None
    assert "that a killed supervisor left running" in result.stderr


def test_down_stops_what_a_killed_supervisor_left(machine: Machine) -> None:
    machine.up()
    os.kill(machine.status()["pid"], signal.SIGKILL)
    machine.wait(lambda: machine.status()["state"] == "left behind")
    assert machine.run("down").exit_code == 0
    assert machine.running() == []
    assert machine.status()["state"] == "down"


def test_the_number_of_workers_changes_live(machine: Machine) -> None:
    machine.up("--workers", "1")
    before = machine.pids()
    assert "workers now: 3" in machine.run("up", "--workers", "3").stderr
    assert [name for name in machine.pids() if name.startswith("worker")] == ["worker1", "worker2", "worker3"]
    assert "workers now: 1" in machine.run("up", "--workers", "1").stderr
    assert machine.pids() == before


@pytest.mark.parametrize("name", ["flower", "dashboard"])
def test_a_taken_port_is_an_error_with_the_way_out(machine: Machine, name: str) -> None:
    port = machine.env[f"HAL9_{name.upper()}_PORT"]
    with socket.create_server(("127.0.0.1", int(port))):
        for detach in ((), ("--detach",)):
            result = machine.run("up", *detach)
            assert result.exit_code == 4
            assert f"port {port} is taken by" in result.stderr
            assert f"--{name}-port" in result.stderr
    assert machine.running() == []
    assert machine.status()["state"] == "down"


def test_a_folder_that_is_none_or_has_no_room_is_refused_beforehand(machine: Machine) -> None:
    machine.data_dir.write_text("no folder")
    told = machine.run("up", "--detach")
    assert (told.exit_code, f"{machine.data_dir} is no folder" in told.stderr) == (4, True), told.stderr
    machine.data_dir.unlink()
    machine.data_dir.mkdir()
    small = ["mount", "-t", "tmpfs", "-o", "size=50m", "tmpfs", str(machine.data_dir)]
    if subprocess.run(small, check=False, capture_output=True).returncode != 0:
        return  # an account that may not mount anything
    try:
        told = machine.run("up", "--detach")
        assert (told.exit_code, "two PostgreSQL servers and Redis need about 300 MB" in told.stderr) == (4, True)
        assert not (machine.data_dir / "flat").exists()
    finally:
        subprocess.run(["umount", str(machine.data_dir)], check=True)


@pytest.mark.parametrize("name", ["worker2", "flower"])
def test_a_child_that_cannot_start_ends_the_start(machine: Machine, name: str) -> None:
    for detach in ((), ("--detach",)):
        result = machine.run("up", *detach, BROKEN=name)
        assert result.exit_code == 1
        assert f"{name} did not start: it ended with exit code 1. It said:\nlast words" in result.stderr
        assert str(programs.log_of(machine.data_dir, name)) in result.stderr
        assert machine.running() == []


def test_the_foreground_ends_with_ctrl_c(machine: Machine) -> None:
    started = machine.popen("up")
    machine.wait(lambda: machine.data_dir.exists() and machine.status()["state"] == "up")
    started.send_signal(signal.SIGINT)
    _, stderr = started.communicate(timeout=60)
    assert started.returncode == 0
    assert stderr.splitlines()[-1] == "everything is stopped"


def test_servers_of_somebody_else_must_be_named_whole(machine: Machine) -> None:
    result = machine.run("up", "--detach", HAL9_FLAT_URL="postgresql://u@127.0.0.1:1/x")
    assert result.exit_code == 5
    assert "HAL9_HIER_URL" in result.stderr


def test_with_servers_of_somebody_else_none_is_started(
    machine: Machine, flat_cluster: Cluster, redis_server: RedisServer
) -> None:
    urls = {
        "HAL9_FLAT_URL": flat_cluster.url("postgres"),
        "HAL9_HIER_URL": flat_cluster.url("postgres"),
        "HAL9_REDIS_URL": redis_server.url,
    }
    machine.env |= urls
    machine.up("--workers", "1")
    assert list(machine.pids()) == ["worker1", "beat", "flower", "dashboard"]
    assert not (machine.data_dir / "flat").exists()


def test_the_whole_stack(machine: Machine) -> None:
    machine.command = ("-m", "hal9mig.cli", "stack")
    machine.up()
    flower, dashboard = machine.run("status", "--show-login").stdout.splitlines()[-2:]
    assert flower.startswith("Flower's login: hal9:")
    assert dashboard.startswith("the dashboard's token: ")
    worker = psutil.Process(machine.pids()["worker1"])
    # A worker and its one pool process, so that a SIGKILL takes one batch with it.
    assert len(worker.children()) == 1
    (address,) = [child["address"] for child in machine.status()["children"] if child["name"] == "dashboard"]
    with urllib.request.urlopen(f"{address}/api/status", timeout=30) as answer:
        page = json.load(answer)
    assert [page["write_mode"], page["workers"]["alive"], page["problems"]] == ["flat-only", 2, []]
    assert machine.run("down").exit_code == 0
