"""Processes by pid and birth, the account PostgreSQL runs under, and free ports."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psutil

LOOPBACK = "127.0.0.1"
# The kernel's boot time, which psutil adds to a start, moves a little when the clock is corrected.
_BIRTH_TOLERANCE = 2.0
# A server may outlive the object that started it, and Popen warns of that; kept here until it has ended.
_spawned: list[subprocess.Popen[bytes]] = []


@dataclasses.dataclass(frozen=True, kw_only=True)
class Account:
    """The unprivileged account a server runs under when this program runs as root."""

    name: str
    uid: int
    gid: int


def server_account() -> Account | None:
    """Return the account for PostgreSQL, which refuses to be root; None when this process is not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    return Account(name="65534", uid=65534, gid=65534)


def as_account(account: Account | None) -> dict[str, Any]:
    """Return what ``subprocess`` is told so that a command runs as somebody; None is ourselves."""
    return {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}


class Process:
    """A process that is never mistaken for another one which got its pid later."""

    def __init__(self, pid: int, created: float, popen: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self.created = created
        self._popen = popen

    @classmethod
    def spawn(
        cls,
        command: Sequence[str],
        *,
        log: pathlib.Path,
        cwd: pathlib.Path,
        env: Mapping[str, str] | None = None,
        account: Account | None = None,
    ) -> Process:
        """Start a command in a session of its own, with its output appended to ``log``.

        Args:
            command: program and arguments; never a secret, since everybody can read them.
            log: the file for both streams.
            cwd: its working directory.
            env: its whole environment; None hands on ours.
            account: whom to run as.

        Raises:
            OSError: it cannot be started.
        """
        # A session of its own keeps the terminal's Ctrl-C away: the supervisor stops things in order.
        with log.open("ab") as output:
            popen: subprocess.Popen[bytes] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=env,
                start_new_session=True,
                **as_account(account),
            )
        _spawned[:] = [other for other in _spawned if other.poll() is None] + [popen]
        try:
            created = psutil.Process(popen.pid).create_time()
        except psutil.Error:
            created = time.time()
        return cls(popen.pid, created, popen)

    @classmethod
    def find(cls, pid: int, created: float | None = None) -> Process | None:
        """Return the living process of this pid, if it was born at ``created``; None otherwise."""
        try:
            process = psutil.Process(pid)
            born = process.create_time()
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
        except (psutil.Error, ValueError, OverflowError):
            return None
        if created is not None and abs(born - created) > _BIRTH_TOLERANCE:
            return None
        return cls(pid, born)

    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        if self._popen is not None:
            return self._popen.poll() is None
        return Process.find(self.pid, self.created) is not None

    def ending(self) -> str:
        """How it ended, as ``signal 9`` or ``exit code 1``."""
        code = self._popen.poll() if self._popen is not None else None
        if code is None:
            return "ending unknown"
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def signal(self, number: int, *, group: bool = False) -> None:
        """Send a signal to it, or to its whole process group; a process that is gone is fine."""
        if not group and not self.alive():
            return
        try:
            # The group outlives its leader, and its number stays taken for as long.
            os.killpg(self.pid, number) if group else os.kill(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return

    def wait(self, timeout: float) -> bool:
        """Wait for its end and return whether it came in time."""
        deadline = time.monotonic() + timeout
        while self.alive():
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        return True

    def stop(self, steps: Sequence[tuple[int, float]]) -> bool:
        """Send one signal after the other, each with its patience in seconds, then SIGKILL to the group.

        Returns:
            Whether it ended before the SIGKILL.
        """
        for number, patience in steps:
            self.signal(number)
            if self.wait(patience):
                return True
        self.signal(signal.SIGKILL, group=True)
        self.signal(signal.SIGKILL)
        self.wait(5)
        return False

    def runs_in(self, folder: pathlib.Path) -> bool:
        """Whether its working directory is ``folder``."""
        try:
            return os.path.samefile(psutil.Process(self.pid).cwd(), folder)
        except (psutil.Error, OSError):
            return False

    def uptime(self) -> float:
        """Return the seconds since its start."""
        return max(0.0, time.time() - self.created)


def marked(variable: str, value: str) -> Iterator[Process]:
    """Yield the processes, other than this one, that were started with ``variable=value`` in their environment."""
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.environ().get(variable) != value:
                continue
            found = Process.find(process.pid)
        except (psutil.Error, OSError):
            continue
        if found is not None:
            yield found


def port_free(port: int, *, patience: float = 2.0) -> bool:
    """Whether a server could listen on this loopback port, now or within ``patience`` seconds."""
    # The threads of a process that was killed just now may hold its port a moment longer than its pid.
    deadline = time.monotonic() + patience
    while not _can_bind(port):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True


def _can_bind(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except (OSError, OverflowError):
            return False
    return True


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def port_owner(port: int) -> str:
    """Return ``name (pid 12)`` of the process that listens on a port, or ``another program``."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            address = connection.laddr
            if connection.status == psutil.CONN_LISTEN and address and address[1] == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except (psutil.Error, OSError):
        pass
    return "another program"
