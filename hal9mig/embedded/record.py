"""What a stack writes down about itself (``stack.json``), and how others read it, ask of it and stop it."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import pathlib
import signal
import time
from collections.abc import Callable, Iterator

from hal9mig import errors, settings
from hal9mig.embedded import files, programs
from hal9mig.embedded.postgres import Cluster
from hal9mig.embedded.process import Process, marked
from hal9mig.embedded.redis import RedisServer

_WANTED = "wanted.json"
_LOCK = "stack.lock"
_LEFT_BEHIND = "left behind"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChildStatus:
    """One supervised process as others see it."""

    name: str
    pid: int
    created: float
    state: str
    restarts: int
    log: str
    address: str

    @property
    def process(self) -> Process | None:
        """The process, if it runs."""
        return Process.find(self.pid, self.created) if self.pid else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class StackStatus:
    """A stack as others see it; ``state`` is ``starting``, ``up``, ``stopping``, ``left behind`` or ``down``."""

    state: str
    supervisor: Process | None
    started_at: str
    children: tuple[ChildStatus, ...]
    settings: dict[str, object]

    @property
    def workers(self) -> int:
        """How many workers it has."""
        return sum(child.name.startswith("worker") for child in self.children)

    @property
    def healthy(self) -> bool:
        """Whether everything is up."""
        return self.state == "up" and all(child.state == "up" and child.process for child in self.children)


_NOTHING = StackStatus(state="down", supervisor=None, started_at="", children=(), settings={})


def read(data_dir: pathlib.Path) -> StackStatus:
    """Return what is known of the stack of a data directory.

    Raises:
        errors.StackRefused: its ``stack.json`` cannot be read.
    """
    document = files.read_document(data_dir / settings.STACK_FILE)
    if document is None:
        return _NOTHING
    try:
        children = tuple(ChildStatus(**child) for child in document["children"])  # type: ignore[attr-defined]
        supervisor = Process.find(int(str(document["pid"])), float(str(document["created"])))
        return StackStatus(
            state=str(document["state"]) if supervisor else _LEFT_BEHIND,
            supervisor=supervisor,
            started_at=str(document["started_at"]),
            children=children,
            settings=dict(document["settings"]),  # type: ignore[call-overload]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise errors.StackRefused(
            f"{data_dir / settings.STACK_FILE} was not written by this program.",
            hint="move it away; hal9-migrate stack up finds the servers again",
        ) from error


@contextlib.contextmanager
def only_one(data_dir: pathlib.Path) -> Iterator[None]:
    """Hold the right to run the stack of a data directory.

    Raises:
        errors.StackRefused: somebody else holds it.
    """
    descriptor = os.open(data_dir / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise errors.StackRefused(f"Another stack is starting, running or stopping in {data_dir}.") from error
        yield
    finally:
        os.close(descriptor)


def stop_left_running(data_dir: pathlib.Path) -> int:
    """Stop the workers, beat, Flower and dashboard of a supervisor that is gone, and return how many there were.

    In the cold way, since nobody waits for them.
    """
    found = list(marked(programs.MARK, str(data_dir)))
    for process in found:
        process.signal(signal.SIGTERM)
    deadline = time.monotonic() + 5
    while any(process.alive() for process in found) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in found:
        process.signal(signal.SIGKILL)
        process.wait(5)
    return len(found)


def want_workers(data_dir: pathlib.Path, count: int) -> None:
    """Ask the running stack for another number of workers."""
    files.write_document(data_dir / _WANTED, {"workers": count})


def wanted_workers(data_dir: pathlib.Path) -> int | None:
    """Take the number of workers that somebody asked for, once."""
    path = data_dir / _WANTED
    if not path.exists():
        return None
    try:
        count = int(str((files.read_document(path) or {}).get("workers")))
    except (ValueError, errors.StackRefused):
        count = 0
    path.unlink(missing_ok=True)
    return count if count > 0 else None


def servers(data_dir: pathlib.Path, say: Callable[[str], None]) -> tuple[Cluster, Cluster, RedisServer]:
    """Return the three servers of a data directory, not started."""
    return (
        Cluster(data_dir / "flat", log=programs.log_of(data_dir, "flat store"), say=say),
        Cluster(data_dir / "hier", log=programs.log_of(data_dir, "hier store"), say=say),
        RedisServer(data_dir / "redis", log=programs.log_of(data_dir, "redis"), say=say),
    )


def down(data_dir: pathlib.Path, say: Callable[[str], None], *, timeout: float = 180) -> bool:
    """Stop a stack, or what a killed supervisor left of it, and wait for the end.

    Returns:
        Whether there was anything to stop.

    Raises:
        errors.TimedOut: it did not stop in time.
    """
    status = read(data_dir)
    if status.supervisor:
        _stop_supervisor(data_dir, status.supervisor, say, timeout)
        return True
    if not data_dir.is_dir():
        return False
    with only_one(data_dir):
        found = stop_left_running(data_dir)
        if found:
            say(f"stopped {found} processes that a killed supervisor left running")
        for server in reversed(servers(data_dir, say)):
            if server.stop():
                say(f"stopped {server.directory.name}, which a killed supervisor left running")
                found += 1
        (data_dir / settings.STACK_FILE).unlink(missing_ok=True)
    return found > 0


def _stop_supervisor(data_dir: pathlib.Path, supervisor: Process, say: Callable[[str], None], timeout: float) -> None:
    log = programs.log_of(data_dir, "supervisor")
    deadline = time.monotonic() + timeout
    with contextlib.ExitStack() as stack:
        # What it says while it stops is in its log: hand that on.
        stream = stack.enter_context(log.open(encoding="utf-8", errors="replace")) if log.exists() else None
        if stream:
            stream.seek(0, os.SEEK_END)
        supervisor.signal(signal.SIGTERM)
        while True:
            alive = supervisor.alive()
            for line in stream or ():
                say(line.rstrip("\n").partition(" ")[2])
            if not alive:
                return
            if time.monotonic() > deadline:
                raise errors.TimedOut(f"The stack did not stop within {timeout:.0f} s.", hint=f"read {log}")
            time.sleep(0.1)
