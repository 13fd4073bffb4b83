"""Keeps processes alive: starts them, notices that one died, says so and starts it again, and stops them in order."""

from __future__ import annotations

import dataclasses
import enum
import pathlib
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from hal9mig import errors, units
from hal9mig.embedded import files
from hal9mig.embedded.process import Process

_TICK = 0.2
_FIRST_DELAY = 1.0
_LONGEST_DELAY = 30.0
_HEALTHY_AFTER = 30.0

Steps = Sequence[tuple[int, float]]


class Part(Protocol):
    """Something that can be kept alive: a server or a program."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def log(self) -> pathlib.Path:
        """Where its output goes."""

    @property
    def address(self) -> str:
        """Where it listens; empty when nowhere."""

    @property
    def steps(self) -> Steps:
        """The signals that stop it, each with the seconds it is given."""

    def launch(self) -> Process:
        """Start it without waiting."""

    def ready(self) -> bool:
        """Whether it does its work."""


@dataclasses.dataclass(kw_only=True)
class Program:
    """A command with its environment; ``is_ready`` looks at what it has logged since its start."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    log: pathlib.Path
    cwd: pathlib.Path
    is_ready: Callable[[str], bool]
    steps: Steps = ((signal.SIGTERM, 10.0),)
    address: str = ""
    _offset: int = 0

    def launch(self) -> Process:
        """Start it.

        Raises:
            errors.StackFailed: the program is not there.
        """
        self._offset = self.log.stat().st_size if self.log.exists() else 0
        try:
            return Process.spawn(self.command, log=self.log, cwd=self.cwd, env=self.env)
        except OSError as error:
            raise errors.StackFailed(f"{self.name} cannot be started: {error}") from error

    def ready(self) -> bool:
        """Whether it does its work."""
        try:
            with self.log.open("rb") as stream:
                stream.seek(self._offset)
                return self.is_ready(stream.read(1_000_000).decode("utf-8", "replace"))
        except FileNotFoundError:
            return False


class ChildState(enum.Enum):
    """Where a child is."""

    STARTING = "starting"
    UP = "up"
    WAITING = "waiting"
    STOPPED = "stopped"


class Child:
    """A part, its process and its history."""

    def __init__(self, part: Part, process: Process | None = None) -> None:
        self.part = part
        self.process = process
        self.state = ChildState.UP if process else ChildState.STOPPED
        self.restarts = 0
        self.delay = _FIRST_DELAY
        self.since = 0.0
        self.log_offset = 0

    @property
    def name(self) -> str:
        """What people call it."""
        return self.part.name

    def launch(self, now: float) -> None:
        """Start its process."""
        log = self.part.log
        # First, or what it says from here on would be looked for behind the end of a new log.
        files.rotate(log)
        self.log_offset = log.stat().st_size if log.exists() else 0
        self.process = self.part.launch()
        self.state, self.since = ChildState.STARTING, now

    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.alive()

    def ending(self) -> str:
        """How its process ended."""
        return self.process.ending() if self.process else "never started"


class StopRequested(Exception):
    """Somebody wants everything stopped."""


class Supervisor:
    """Keeps a list of children alive.

    Args:
        say: told what happened, one line at a time.
        changed: called after every change of a child.
        clock: monotonic seconds.
        sleep: waits.
        patience: the seconds a child has to become ready.
    """

    def __init__(
        self,
        *,
        say: Callable[[str], None],
        changed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        patience: float = 90.0,
    ) -> None:
        self.children: list[Child] = []
        self.stop_requests = 0
        self._say = say
        self._changed = changed
        self._clock = clock
        self._sleep = sleep
        self._patience = patience

    def adopt(self, part: Part, process: Process) -> Child:
        """Take over a part that is ready already."""
        child = Child(part, process)
        child.since = self._clock()
        self.children.append(child)
        self._announce(child)
        return child

    def add(self, part: Part) -> Child:
        """Start a part; ``watch`` or ``wait_ready`` see to it from here."""
        child = Child(part)
        self.children.append(child)
        child.launch(self._clock())
        self._changed()
        return child

    def wait_ready(self, children: Iterable[Child]) -> None:
        """Wait until the children are ready for the first time.

        Raises:
            errors.StackFailed: one died first, or took too long; its last words are in the message.
            StopRequested: somebody wants everything stopped.
        """
        waiting = list(children)
        while waiting:
            self.check_stop()
            for child in list(waiting):
                if not child.alive():
                    raise self._failure(child, f"did not start: it ended with {child.ending()}")
                if child.part.ready():
                    child.state = ChildState.UP
                    self._announce(child)
                    waiting.remove(child)
                elif self._clock() - child.since > self._patience:
                    raise self._failure(child, f"was not ready after {self._patience:.0f} s")
            self._sleep(0.05)

    def check_stop(self) -> None:
        """Raise when somebody wants everything stopped.

        Raises:
            StopRequested: somebody does.
        """
        if self.stop_requests:
            raise StopRequested

    def watch(self) -> None:
        """Look after every child once."""
        for child in list(self.children):
            self._look_after(child)

    def run(self, each_tick: Callable[[], None] = lambda: None) -> None:
        """Look after the children until somebody wants everything stopped."""
        while not self.stop_requests:
            self.watch()
            each_tick()
            self._sleep(_TICK)

    def stop(self, children: Iterable[Child], *, may_hurry: bool = True) -> None:
        """Stop children side by side: each step's signal to all, then its patience, at last SIGKILL to their groups.

        A second request to stop makes this skip the waiting, unless ``may_hurry`` is false: servers are always
        left the time for a clean end.
        """
        pending = [child for child in children if child.process is not None]
        for child in pending:
            if child.alive():
                self._say(f"stopping {child.name}")
        for index in range(max((len(child.part.steps) for child in pending), default=0)):
            patience = 0.0
            for child in pending:
                if index < len(child.part.steps) and child.process:
                    number, seconds = child.part.steps[index]
                    child.process.signal(number)
                    patience = max(patience, seconds)
            deadline = self._clock() + patience
            while any(child.alive() for child in pending):
                if self._clock() > deadline or (may_hurry and self.stop_requests > index + 1):
                    break
                self._sleep(0.05)
        for child in pending:
            if child.process:
                if child.alive():
                    self._say(f"{child.name} did not stop and is killed")
                # The group as well: a worker's pool process may have outlived it.
                child.process.signal(signal.SIGKILL, group=True)
                child.process.wait(5)
            child.state = ChildState.STOPPED
        self._changed()

    def remove(self, children: Iterable[Child]) -> None:
        """Stop children for good."""
        gone = list(children)
        self.stop(gone)
        self.children = [child for child in self.children if child not in gone]
        self._changed()

    def _look_after(self, child: Child) -> None:
        now = self._clock()
        if child.state is ChildState.WAITING:
            if now >= child.since:
                child.restarts += 1
                try:
                    child.launch(now)
                except errors.HAL9Error as error:
                    self._wait(child, f"could not be started again ({error.message})")
                self._changed()
        elif child.state is ChildState.STARTING:
            if not child.alive():
                self._died(child)
            elif child.part.ready():
                child.state, child.since = ChildState.UP, now
                self._announce(child)
            elif now - child.since > self._patience:
                self._say(f"{child.name} is not ready after {self._patience:.0f} s and is killed")
                if child.process:
                    child.process.signal(signal.SIGKILL, group=True)
        elif child.state is ChildState.UP:
            if not child.alive():
                self._died(child)
            else:
                # Not while it starts: what it says then is looked for after a place in its log.
                files.trim(child.part.log)
                if now - child.since > _HEALTHY_AFTER:
                    child.delay = _FIRST_DELAY

    def _died(self, child: Child) -> None:
        if child.process:
            # What it left of its group would work on beside its successor.
            child.process.signal(signal.SIGKILL, group=True)
        self._wait(child, f"died ({child.ending()})")

    def _wait(self, child: Child, what: str) -> None:
        self._say(f"{child.name} {what}, restarting in {units.format_duration(child.delay)}")
        child.state, child.since = ChildState.WAITING, self._clock() + child.delay
        child.delay = min(child.delay * 2, _LONGEST_DELAY)
        self._changed()

    def _announce(self, child: Child) -> None:
        detail = child.part.address or (f"pid {child.process.pid}" if child.process else "")
        self._say(f"{child.name:<11} ready  {detail}".rstrip())
        self._changed()

    def _failure(self, child: Child, what: str) -> errors.StackFailed:
        said = files.tail(child.part.log, offset=child.log_offset)
        return errors.StackFailed(
            f"{child.name} {what}." + (f" It said:\n{said}" if said else ""), hint=f"read {child.part.log}"
        )
