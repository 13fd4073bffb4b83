"""Real servers and real processes for the tests: clusters, databases, Redis, workers, beat and the CLI."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import psutil
import psycopg2
import redis

from hal9mig.embedded import binaries
from hal9mig.embedded.postgres import Cluster
from hal9mig.embedded.process import Process
from hal9mig.embedded.redis import RedisServer
from tests.support import watchdog

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Tests lose nothing in a power cut; the rest of the settings is the product's.
TEST_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "min_wal_size": "80MB",
    "max_wal_size": "1GB",
}

#: Which major versions of PostgreSQL the stores are on; ``make matrix`` sets others.
FLAT_VERSION = int(os.environ.get("HAL9_TEST_FLAT_POSTGRES", "18"))
HIER_VERSION = int(os.environ.get("HAL9_TEST_HIER_POSTGRES", "18"))


def postgres_bin(version: int) -> pathlib.Path:
    """Return the folder of the programs of a version that the tests do not install: as named, or Debian's."""
    return pathlib.Path(os.environ.get(f"HAL9_TEST_POSTGRES_{version}") or f"/usr/lib/postgresql/{version}/bin")


def _postgres_tree(version: int, delivered: Callable[[int], pathlib.Path] = binaries.postgres_tree) -> pathlib.Path:
    return delivered(version) if version in binaries.DELIVERED else postgres_bin(version).parent


binaries.postgres_tree = _postgres_tree
if program := os.environ.get("HAL9_TEST_REDIS"):
    binaries.redis_server = functools.partial(pathlib.Path, program)


class Session:
    """The folder and the mark of one test session; its watchdog ends everything that carries them."""

    def __init__(self) -> None:
        self.mark = secrets.token_hex(8)
        # Short, because a socket's path must be; open, because PostgreSQL runs as another user under root.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="hal9t-", dir="/tmp"))
        self.folder.chmod(0o711)
        os.environ[watchdog.VARIABLE] = self.mark
        # The watchdog itself must not carry the mark, or it would end itself.
        environ = {name: value for name, value in os.environ.items() if name != watchdog.VARIABLE}
        self._watchdog = subprocess.Popen(
            [sys.executable, watchdog.__file__, self.mark, str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environ,
            cwd="/",
            start_new_session=True,
        )

    def cluster(self, name: str, version: int = 18, *, more: Mapping[str, str] | None = None) -> Cluster:
        """Start a PostgreSQL cluster, with settings of its own beside the tests'."""
        return Cluster(self.folder / name, version, settings={**TEST_SETTINGS, **(more or {})}).start()

    def redis_server(self, name: str = "redis") -> RedisServer:
        """Start a Redis server."""
        return RedisServer(self.folder / name).start()

    def close(self) -> None:
        """End everything and remove the folder."""
        os.environ.pop(watchdog.VARIABLE, None)
        if self._watchdog.stdin:
            self._watchdog.stdin.close()
        self._watchdog.wait(20)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stores:
    """The databases and the Redis database of one test."""

    name: str
    flat_url: str
    hier_url: str
    redis_url: str
    queue_prefix: str
    flat_cluster: Cluster
    hier_cluster: Cluster
    redis_server: RedisServer


class Databases:
    """Clones of migrated template databases, so that each test has fresh ones within moments."""

    def __init__(self, flat: Cluster, hier: Cluster, redis_server: RedisServer) -> None:
        self.flat = flat
        self.hier = hier
        self.redis_server = redis_server
        self._count = 0
        self._made = False

    def make_templates(self) -> None:
        """Build ``tmpl_flat`` and ``tmpl_hier`` with the product's own schema upgrade, once."""
        if self._made:
            return
        # Late, so that tests without databases need no schema.
        from hal9mig.stores import schema

        hier_url = self.hier.create_database("tmpl_hier")
        schema.upgrade(self.flat.create_database("tmpl_flat"), hier_url)
        # Everything goes on at once on one machine here, and no application waits; what is about pace sets it.
        with contextlib.closing(psycopg2.connect(hier_url)) as opened, opened, opened.cursor() as cursor:
            cursor.execute(
                "INSERT INTO hal9mig.tuning (name, value, changed_by) "
                "VALUES ('max-impact', 'off', 'tests'), ('reconcile-share', '0.1', 'tests')"
            )
        self._made = True

    def open(self) -> Stores:
        """Clone both templates and empty a Redis database."""
        self.make_templates()
        self._count += 1
        name = f"t{self._count}_{secrets.token_hex(3)}"
        redis_url = self.redis_server.database_url(self._count % 15 + 1)
        with redis.Redis.from_url(redis_url) as client:
            client.flushdb()
        return Stores(
            name=name,
            flat_url=_clone(self.flat, "tmpl_flat", f"flat_{name}"),
            hier_url=_clone(self.hier, "tmpl_hier", f"hier_{name}"),
            redis_url=redis_url,
            queue_prefix=f"hal9-{name}:",
            flat_cluster=self.flat,
            hier_cluster=self.hier,
            redis_server=self.redis_server,
        )

    def close(self, stores: Stores) -> None:
        """Drop a test's databases and throw their clients out."""
        # A test may have stopped a server to see what happens; the next one needs it.
        for cluster in (self.flat, self.hier):
            cluster.start()
        self.redis_server.start()
        self.flat.drop_database(f"flat_{stores.name}")
        self.hier.drop_database(f"hier_{stores.name}")


def _clone(cluster: Cluster, template: str, name: str) -> str:
    cluster.disconnect(template)
    return cluster.create_database(name, template=template)


def environ(stores: Stores, folder: pathlib.Path) -> dict[str, str]:
    """Return the whole environment of a child process that uses these stores; nothing of the caller's HAL9_*."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("HAL9_") or name == watchdog.VARIABLE
    }
    for part in ("data", "log"):
        (folder / part).mkdir(exist_ok=True)
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": "1",
        "HAL9_FLAT_URL": stores.flat_url,
        "HAL9_HIER_URL": stores.hier_url,
        "HAL9_REDIS_URL": stores.redis_url,
        "HAL9_QUEUE_PREFIX": stores.queue_prefix,
        "HAL9_DATA_DIR": str(folder / "data"),
        "HAL9_LOG_DIR": str(folder / "log"),
        "HAL9_LEASE": "3s",
    }


class Running:
    """A real child process with its log."""

    def __init__(self, name: str, command: Sequence[str], *, env: Mapping[str, str], folder: pathlib.Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.process = Process.spawn(command, log=self.log, cwd=folder, env=env)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.alive()

    def text(self) -> str:
        """Everything it wrote."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def wait_for(self, text: str, timeout: float = 30) -> None:
        """Wait until its log holds ``text``."""
        deadline = time.monotonic() + timeout
        while text not in self.text():
            assert self.alive, f"{self.name} ended with {self.process.ending()}:\n{self.text()[-4000:]}"
            assert time.monotonic() < deadline, f"{self.name} did not say {text!r}:\n{self.text()[-4000:]}"
            time.sleep(0.05)

    def children(self) -> list[psutil.Process]:
        """Its pool processes."""
        return psutil.Process(self.pid).children(recursive=True)

    def kill(self) -> None:
        """SIGKILL to it and its pool processes at once, as when the machine is lost."""
        self.process.signal(signal.SIGKILL, group=True)
        self.process.wait(10)

    def kill_child(self) -> None:
        """SIGKILL to one pool process only, as the kernel does when memory runs out."""
        self.children()[0].kill()

    def pause(self) -> None:
        """SIGSTOP to it and its pool processes."""
        self.process.signal(signal.SIGSTOP, group=True)

    def resume(self) -> None:
        """SIGCONT to it and its pool processes."""
        self.process.signal(signal.SIGCONT, group=True)

    def stop(self, timeout: float = 20) -> bool:
        """SIGTERM, then more; returns whether it ended by itself."""
        self.resume()
        ended = self.process.stop([(signal.SIGTERM, timeout)])
        self.process.signal(signal.SIGKILL, group=True)
        return ended


class Programs:
    """Starts workers and beats for one test and ends them all."""

    def __init__(self, env: Mapping[str, str], folder: pathlib.Path) -> None:
        self.env = dict(env)
        self.folder = folder
        self.running: list[Running] = []

    def workers(
        self,
        count: int = 1,
        *,
        env: Mapping[str, str] | None = None,
        args: Sequence[str] = (),
        timeout: float = 30,
        prefix: Sequence[str] = (),
    ) -> list[Running]:
        """Start workers of one process each and wait until they are ready; ``prefix`` runs them somewhere else."""
        started = []
        for _ in range(count):
            name = f"worker{len(self.running) + 1}"
            command = [*prefix, sys.executable, "-m", "celery", "-A", "workers.app", "worker", "--concurrency", "1"]
            command += ["--hostname", f"{name}@%h", "--loglevel", "INFO", "--without-gossip", "--without-mingle", *args]
            started.append(self._start(name, command, env))
        for worker in started:
            worker.wait_for(" ready.", timeout)
        return started

    def beat(self, *, env: Mapping[str, str] | None = None, timeout: float = 30) -> Running:
        """Start a beat and wait until it runs."""
        name = f"beat{len(self.running) + 1}"
        command = [sys.executable, "-m", "celery", "-A", "beat.app", "beat", "--loglevel", "INFO", "--pidfile", ""]
        beat = self._start(name, [*command, "--schedule", str(self.folder / f"{name}-schedule")], env)
        beat.wait_for("beat: Starting", timeout)
        return beat

    def flower(self, port: int, login: str) -> Running:
        """Start Flower with the product's settings, on the address that these name."""
        command = [sys.executable, "-m", "celery", "-A", "workers.app", "flower", f"--port={port}"]
        command.append(f"--conf={ROOT / 'config' / 'flowerconfig.py'}")
        return self._start("flower", command, {"HAL9_FLOWER_AUTH": login})

    def close(self) -> None:
        """End them all at once."""
        for running in self.running:
            running.kill()

    def _start(self, name: str, command: Sequence[str], env: Mapping[str, str] | None) -> Running:
        running = Running(name, command, env={**self.env, **(env or {})}, folder=self.folder)
        self.running.append(running)
        return running


class CliResult(NamedTuple):
    """What a command left behind."""

    exit_code: int
    stdout: str
    stderr: str


class Cli:
    """Runs the real command line in a process of its own."""

    def __init__(self, env: Mapping[str, str], folder: pathlib.Path) -> None:
        self.env = dict(env)
        self.folder = folder
        self._started: list[subprocess.Popen[str]] = []

    def __call__(
        self, *args: str, timeout: float = 120, env: Mapping[str, str] | None = None, stdin: str | None = None
    ) -> CliResult:
        """Run a command to its end."""
        started = self.start(*args, env=env, stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE)
        try:
            stdout, stderr = started.communicate(stdin, timeout=timeout)
        finally:
            started.kill()
        return CliResult(started.returncode, stdout, stderr)

    def run(
        self, *args: str, code: int = 0, timeout: float = 120, env: Mapping[str, str] | None = None,
        stdin: str | None = None,
    ) -> CliResult:  # fmt: skip
        """Run a command to its end and check its exit code, and that there is no traceback."""
        result = self(*args, timeout=timeout, env=env, stdin=stdin)
        assert result.exit_code == code, f"{result.stdout}\n{result.stderr}"
        assert "Traceback" not in result.stderr
        return result

    def document(self, *args: str, code: int = 0, env: Mapping[str, str] | None = None) -> Any:
        """Run a command with ``--json`` and return its one document, with an error in it unless the code is 0."""
        found = json.loads(self.run(*args, "--json", code=code, env=env).stdout)
        assert found["schema"] == 1
        assert ("error" in found) == (code != 0)
        if code:
            assert found["error"]["exit_code"] == code
        return found

    def start(
        self, *args: str, env: Mapping[str, str] | None = None, stdin: int = subprocess.DEVNULL
    ) -> subprocess.Popen[str]:
        """Start a command and return at once."""
        started = subprocess.Popen(
            [sys.executable, "-m", "hal9mig.cli", *args],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env={**self.env, **(env or {})},
            cwd=self.folder,
        )
        self._started.append(started)
        return started

    def close(self) -> None:
        """End what is still running."""
        for started in self._started:
            if started.poll() is None:
                started.kill()
            for stream in (started.stdin, started.stdout, started.stderr):
                if stream:
                    stream.close()
            started.wait(10)
