"""The stack of one machine: which servers and programs it has, in which order they start and stop."""

from __future__ import annotations

import dataclasses
import datetime
import os
import pathlib
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import redis

from hal9mig import errors, safe_text, settings, units
from hal9mig.embedded import binaries, files, process, programs, record
from hal9mig.embedded.postgres import Cluster
from hal9mig.embedded.process import Process
from hal9mig.embedded.redis import RedisServer
from hal9mig.embedded.supervisor import Child, ChildState, Part, Steps, StopRequested, Supervisor

FLAT_DATABASE = "hal9_flat"
HIER_DATABASE = "hal9_hier"
_OWN_LOG_DIR = "logs"
#: Bytes that new servers take before anything is in them.
_ROOM = 300 * 10**6

Say = Callable[[str], None]
MakePrograms = Callable[[settings.Settings, programs.Addresses, Mapping[str, str]], programs.Programs]


class _Server:
    """A server as a part of the supervisor."""

    def __init__(self, name: str, server: Cluster | RedisServer, steps: Steps) -> None:
        self.name = name
        self.log = server.log
        self.steps = steps
        self._server = server

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"{process.LOOPBACK}:{self._server.port}"

    def launch(self) -> Process:
        """Start it on its port."""
        return self._server.launch()

    def ready(self) -> bool:
        """Whether it answers."""
        return self._server.ready()


class Stack:
    """One stack, from its start to its end.

    Args:
        resolved: the settings.
        say: told what happens, one line at a time.
        prepare: brings the schemas of both stores, given by URL, up to date.
        environ: the environment of the workers, beat, Flower and dashboard.
        make_programs: makes their commands.
    """

    def __init__(
        self,
        resolved: settings.Settings,
        *,
        say: Say,
        prepare: Callable[[str, str], None],
        environ: Mapping[str, str],
        make_programs: MakePrograms = programs.Programs,
    ) -> None:
        self._settings = resolved
        self._data_dir = resolved.data_dir
        self._log = programs.log_of(self._data_dir, "supervisor")
        self._tell = say
        self._prepare = prepare
        self._environ = environ
        self._make_programs = make_programs
        self._supervisor = Supervisor(say=self._say, changed=self._write)
        self._workers: list[Child] = []
        self._state = "starting"
        self._shown: dict[str, object] = {}
        self._started_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")

    def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Start everything, call ``ready``, keep it alive until SIGTERM or SIGINT, and stop it in order.

        Raises:
            errors.StackRefused: it cannot start as things stand; nothing is left running.
            errors.StackFailed: a server or program did not start; nothing is left running.
            errors.NotConfigured: servers of somebody else's are named, but not all three.
            errors.QueueUnreachable: the Redis named in the settings does not answer.
        """
        open_data_dir(self._data_dir)
        with record.only_one(self._data_dir), self._signals():
            files.rotate(self._log)
            if found := record.stop_left_running(self._data_dir):
                self._say(f"stopped {found} processes that a killed supervisor left running")
            record.wanted_workers(self._data_dir)
            try:
                maker = self._start()
                self._state = "up"
                self._write()
                ready()
                self._supervisor.run(lambda: self._tick(maker))
            except StopRequested:
                pass
            finally:
                self._stop()

    def _say(self, line: str) -> None:
        with self._log.open("a", encoding="utf-8") as stream:
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            stream.write(f"{now} {safe_text.masked(line)}\n")
        self._tell(line)

    def _start(self) -> programs.Programs:
        self._write()
        for name, port in (("flower", self._settings.flower_port), ("dashboard", self._settings.dashboard_port)):
            if not process.port_free(port):
                raise errors.StackRefused(
                    f"{name.capitalize()}'s port {port} is taken by {process.port_owner(port)}.",
                    hint=f"end that program, or choose another port with --{name}-port or HAL9_{name.upper()}_PORT",
                )
        addresses = self._external() if self._settings.external else self._embedded()
        self._supervisor.check_stop()
        self._prepare(addresses.flat_url, addresses.hier_url)
        self._say(f"{'schemas':<11} ready  up to date")
        self._supervisor.check_stop()
        resolved = _with_log_dir(self._settings, self._say)
        self._shown |= programs.shared(resolved, addresses)
        maker = self._make_programs(resolved, addresses, self._environ)
        supervisor = self._supervisor
        self._workers = [supervisor.add(maker.worker(number)) for number in range(1, self._settings.workers + 1)]
        supervisor.wait_ready([*self._workers, supervisor.add(maker.beat())])
        # After the workers: Flower does not find those that come later.
        supervisor.wait_ready([supervisor.add(maker.flower()), supervisor.add(maker.dashboard())])
        return maker

    def _embedded(self) -> programs.Addresses:
        self._require_room()
        flat, hier, queue = record.servers(self._data_dir, self._say)
        urls = []
        for name, cluster, database in (("flat store", flat, FLAT_DATABASE), ("hier store", hier, HIER_DATABASE)):
            self._supervisor.check_stop()
            # Taken over before it is asked for anything, so that a failure below stops it again.
            cluster.start()
            self._take_over(_Server(name, cluster, ((signal.SIGINT, 60.0), (signal.SIGQUIT, 10.0))), cluster.process)
            urls.append(cluster.create_database(database))
        self._supervisor.check_stop()
        queue.start()
        self._take_over(_Server("redis", queue, ((signal.SIGTERM, 30.0),)), queue.process)
        return programs.Addresses(
            flat_url=urls[0],
            hier_url=urls[1],
            redis_url=queue.url,
            **self._entries(),
        )

    def _require_room(self) -> None:
        """Refuse before anything is begun what a full disk would end in the middle."""
        free = shutil.disk_usage(self._data_dir).free
        if free < _ROOM and not (self._data_dir / "hier" / "cluster.json").exists():
            raise errors.StackRefused(
                f"{units.format_bytes(free)} are free in {self._data_dir}; two PostgreSQL servers and Redis need about "
                f"{units.format_bytes(_ROOM)} to begin with.",
                hint="make room, or name another folder with HAL9_DATA_DIR",
            )

    def _external(self) -> programs.Addresses:
        addresses = programs.Addresses(
            flat_url=self._settings.require_flat(),
            hier_url=self._settings.require_hier(),
            redis_url=self._settings.require_redis(),
            **self._entries(),
        )
        if addresses.redis_url.startswith(("redis://", "rediss://")):
            try:
                with redis.Redis.from_url(addresses.redis_url, socket_timeout=5, socket_connect_timeout=5) as client:
                    client.ping()
            except redis.RedisError as error:
                raise errors.QueueUnreachable(
                    f"Redis cannot be reached: {error}", hint="check HAL9_REDIS_URL or queue.redis_url"
                ) from error
        return addresses

    def _take_over(self, part: Part, running: Process | None) -> None:
        if running is None:
            raise errors.StackFailed(f"{part.name} is gone again.", hint=f"read {part.log}")
        self._supervisor.adopt(part, running)

    def _entries(self) -> dict[str, Any]:
        """Return how Flower and the dashboard are entered."""
        return {
            "flower_port": self._settings.flower_port,
            "flower_auth": self._flower_auth(),
            "dashboard_port": self._settings.dashboard_port,
            "dashboard_token": self._dashboard_token(),
        }

    def _dashboard_token(self) -> str | None:
        if self._settings.dashboard_token_file is not None:
            return None
        return self._settings.dashboard_token or self._made("dashboard.json", "token", secrets.token_urlsafe(24))

    def _made(self, file: str, name: str, fresh: str) -> str:
        """Return a secret that this stack has made up: the same at each start."""
        path = self._data_dir / file
        known = files.read_document(path)
        if known is None:
            known = {name: fresh}
            files.write_document(path, known)
        return str(known[name])

    def _flower_auth(self) -> str:
        if self._settings.flower_auth:
            if ":" not in self._settings.flower_auth:
                raise errors.InvalidSettings("Flower's login lacks a colon.", hint="write it as user:password")
            return self._settings.flower_auth
        return self._made("flower.json", "auth", f"hal9:{secrets.token_urlsafe(12)}")

    def _tick(self, maker: programs.Programs) -> None:
        files.trim(self._log)
        self._rescale(maker)

    def _rescale(self, maker: programs.Programs) -> None:
        wanted = record.wanted_workers(self._data_dir)
        if wanted is None or wanted == len(self._workers):
            return
        self._say(f"workers wanted: {wanted}, there: {len(self._workers)}")
        while len(self._workers) < wanted:
            self._workers.append(self._supervisor.add(maker.worker(len(self._workers) + 1)))
        gone = self._workers[wanted:]
        self._workers = self._workers[:wanted]
        self._supervisor.remove(gone)

    def _stop(self) -> None:
        self._state = "stopping"
        self._write()
        children = self._supervisor.children
        by_name = {child.name: child for child in children}
        # No new work first; the servers last, since everything else still has something to say to them.
        beat = by_name.get("beat")
        self._supervisor.stop([*([beat] if beat else []), *self._workers])
        self._supervisor.stop([by_name[name] for name in ("flower", "dashboard") if name in by_name])
        servers = [child for child in reversed(children) if child.state is not ChildState.STOPPED]
        self._supervisor.stop(servers, may_hurry=False)
        if not self._settings.external:
            # Those of a killed supervisor, when this one failed before it took them over.
            for server in record.servers(self._data_dir, self._say):
                server.stop()
        (self._data_dir / settings.STACK_FILE).unlink(missing_ok=True)
        if children:
            self._say("everything is stopped")

    def _write(self) -> None:
        own = Process.find(os.getpid())
        document = {
            "pid": os.getpid(),
            "created": own.created if own else time.time(),
            "started_at": self._started_at,
            "state": self._state,
            "settings": self._shown,
            "children": [
                {
                    "name": child.name,
                    "pid": child.process.pid if child.process else 0,
                    "created": child.process.created if child.process else 0.0,
                    "state": child.state.value,
                    "restarts": child.restarts,
                    "log": str(child.part.log),
                    "address": child.part.address,
                }
                for child in self._supervisor.children
            ],
        }
        files.write_document(self._data_dir / settings.STACK_FILE, document)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def ask_to_stop(number: int, frame: object) -> None:
            self._supervisor.stop_requests += 1

        before = {
            number: signal.signal(number, ask_to_stop) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def open_data_dir(data_dir: pathlib.Path) -> None:
    """Make the data directory, unless it is there, and let the account of PostgreSQL enter it.

    Raises:
        errors.StackRefused: it cannot be made or written to.
    """
    files.make_directory(data_dir, 0o711)
    if not os.access(data_dir, os.W_OK | os.X_OK):
        raise errors.StackRefused(
            f"The folder {data_dir} cannot be written to.", hint="name another with HAL9_DATA_DIR or stack.data_dir"
        )
    account = process.server_account()
    ours = not any(data_dir.iterdir()) or (data_dir / "flat" / "cluster.json").exists()
    if account and ours and data_dir.stat().st_uid == os.geteuid() and not binaries.can_enter(data_dir, account):
        # Entering, not reading; everything in it that matters is closed on its own. Its parents stay as they are.
        data_dir.chmod(data_dir.stat().st_mode | 0o011)
    files.make_directory(data_dir / _OWN_LOG_DIR, 0o750)


def _with_log_dir(resolved: settings.Settings, say: Say) -> settings.Settings:
    """Return the settings with a log folder that can be written to, unless somebody chose one."""
    if resolved.origins["log.dir"] != "default":
        return resolved
    try:
        resolved.log_dir.mkdir(parents=True, exist_ok=True)
    except OSError:
        pass
    if os.access(resolved.log_dir, os.W_OK | os.X_OK):
        return resolved
    own = resolved.data_dir / _OWN_LOG_DIR
    say(f"reconciliation.log is written to {own}, since {resolved.log_dir} cannot be written to")
    return dataclasses.replace(resolved, log_dir=own)
