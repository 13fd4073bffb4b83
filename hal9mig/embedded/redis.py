"""One private Redis server with an append-only file, run directly from its program."""

from __future__ import annotations

import dataclasses
import pathlib
import secrets
import signal
import time
from collections.abc import Callable

import redis
from redis import backoff, retry

from hal9mig import errors
from hal9mig.embedded import binaries, files, process

_RECORD = "server.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Record:
    port: int
    password: str


class RedisServer:
    """A Redis server in a folder of its own, on a loopback port that it keeps.

    Args:
        directory: its folder; made by ``start``.
        log: where its output goes; ``<directory>/redis.log`` by default.
        say: told of everything that was healed.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        log: pathlib.Path | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.directory = directory.absolute()
        self.log = log or self.directory / "redis.log"
        self.process: process.Process | None = None
        self._say = say

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._record().port

    @property
    def url(self) -> str:
        """The URL of its first database, password included."""
        return self.database_url(0)

    def database_url(self, number: int) -> str:
        """Return the URL of one of its sixteen databases, password included."""
        record = self._record()
        return f"redis://:{record.password}@{process.LOOPBACK}:{record.port}/{number}"

    def create(self) -> RedisServer:
        """Make its folder, unless it is there.

        Raises:
            errors.StackRefused: the folder holds something else.
        """
        files.make_directory(self.directory, 0o700)
        if files.read_document(self.directory / _RECORD) is None:
            if any(path.name != self.log.name for path in self.directory.iterdir()):
                raise errors.StackRefused(
                    f"{self.directory} holds files that hal9-migrate did not make.",
                    hint=f"move it away (mv {self.directory} {self.directory}.old), or set HAL9_DATA_DIR",
                )
            record = _Record(port=process.free_port(), password=secrets.token_urlsafe(24))
            files.write_document(self.directory / _RECORD, dataclasses.asdict(record))
        return self

    def start(self, *, timeout: float = 60) -> RedisServer:
        """Start it, or take over the running one; returns when it answers.

        Raises:
            errors.StackRefused: its folder holds something else.
            errors.StackFailed: it did not come up.
        """
        self.create()
        self.process = self._running()
        if self.process is None:
            self._settle_port()
            self.launch()
        deadline = time.monotonic() + timeout
        while not self.ready():
            if self.process is None or not self.process.alive():
                raise self._failure("stopped at once")
            if time.monotonic() > deadline:
                self.stop(timeout=10)
                raise self._failure(f"did not answer within {timeout:.0f} s")
            time.sleep(0.01)
        return self

    def launch(self) -> process.Process:
        """Start the server process on its port without waiting for it; ``ready`` says when it answers.

        Raises:
            errors.StackFailed: the program cannot be started.
        """
        self._write_settings()
        files.rotate(self.log)
        try:
            self.process = process.Process.spawn(
                [str(binaries.redis_server()), str(self.directory / "redis.conf")],
                log=self.log,
                cwd=self.directory,
            )
        except OSError as error:
            raise self._failure(f"cannot be started: {error}") from error
        return self.process

    def ready(self) -> bool:
        """Whether it has read its append-only file and answers."""
        return self.process is not None and self._answering() == self.process.pid

    def stop(self, *, timeout: float = 30) -> bool:
        """Stop it and return whether it ran; the append-only file is written out first."""
        running = self.process or (self._running() if (self.directory / _RECORD).exists() else None)
        if running is not None:
            running.stop([(signal.SIGTERM, timeout)])
        self.process = None
        return running is not None

    def kill(self) -> None:
        """End it as a crash would."""
        running = self.process or self._running()
        if running is not None:
            running.signal(signal.SIGKILL)
            running.wait(10)
        self.process = None

    def _record(self) -> _Record:
        document = files.read_document(self.directory / _RECORD)
        if document is None:
            raise errors.StackRefused(f"There is no Redis server in {self.directory}.", hint="hal9-migrate stack up")
        return _Record(**document)  # type: ignore[arg-type]

    def _failure(self, what: str) -> errors.StackFailed:
        said = files.tail(self.log)
        return errors.StackFailed(
            f"Redis in {self.directory} {what}." + (f" It said:\n{said}" if said else ""), hint=f"read {self.log}"
        )

    def _answering(self) -> int | None:
        """Return the pid of the server that takes our password on our port and has our settings file."""
        record = self._record()
        client = redis.Redis(
            host=process.LOOPBACK,
            port=record.port,
            password=record.password,
            socket_timeout=2,
            socket_connect_timeout=2,
            # The caller asks again and again; the client's own patience of seconds would hide a fast start.
            retry=retry.Retry(backoff.NoBackoff(), 0),
        )
        try:
            info: dict[str, object] = client.info("server")
            client.ping()
        except redis.RedisError:
            return None
        finally:
            client.close()
        if str(info.get("config_file")) != str(self.directory / "redis.conf"):
            return None
        return int(str(info["process_id"]))

    def _running(self) -> process.Process | None:
        pid = self._answering()
        if pid is not None:
            return process.Process.find(pid)
        # Alive but silent: still loading, or hung. Two servers must never append to the same file.
        try:
            found = process.Process.find(int((self.directory / "redis.pid").read_text(encoding="ascii")))
        except (OSError, ValueError):
            return None
        return found if found and found.runs_in(self.directory) else None

    def _settle_port(self) -> None:
        record = self._record()
        if process.port_free(record.port):
            return
        # Nobody but `stack.json` hands the port on, so another one is as good; it is remembered as well.
        port = process.free_port()
        self._say(f"redis: port {record.port} is taken by {process.port_owner(record.port)}, so it is {port} now")
        files.write_document(self.directory / _RECORD, dataclasses.asdict(dataclasses.replace(record, port=port)))

    def _write_settings(self) -> None:
        record = self._record()
        settings = {
            "bind": process.LOOPBACK,
            "port": str(record.port),
            "dir": f'"{self.directory}"',
            "pidfile": f'"{self.directory / "redis.pid"}"',
            "daemonize": "no",
            "requirepass": record.password,
        }
        text = files.config_file("redis.conf").read_text(encoding="utf-8")
        text += "\n# Written anew at every start.\n" + "".join(f"{name} {value}\n" for name, value in settings.items())
        files.write_private(self.directory / "redis.conf", text)
