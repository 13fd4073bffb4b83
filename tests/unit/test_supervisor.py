"""The supervisor's patience, with made-up processes and a clock that nobody waits for."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

import pytest

from hal9mig import errors
from hal9mig.embedded import files
from hal9mig.embedded.process import Process
from hal9mig.embedded.supervisor import ChildState, Program, StopRequested, Supervisor


class FakeProcess(Process):
    """A process that ends when it is told to."""

    def __init__(self, pid: int) -> None:
        super().__init__(pid, 0.0)
        self.end: str | None = None
        self.signals: list[int] = []
        self.obeys: set[int] = {15, 9}

    def alive(self) -> bool:
        return self.end is None

    def ending(self) -> str:
        return self.end or "alive"

    def signal(self, number: int, *, group: bool = False) -> None:
        if self.end is None:
            self.signals.append(number)
            if number in self.obeys:
                self.end = f"signal {number}"

    def wait(self, timeout: float) -> bool:
        return not self.alive()


@dataclasses.dataclass
class FakePart:
    """A part that starts fake processes."""

    log: pathlib.Path
    name: str = "worker1"
    address: str = ""
    steps: Sequence[tuple[int, float]] = ((15, 10.0), (3, 5.0))
    is_ready: bool = True
    fails: bool = False
    started: list[FakeProcess] = dataclasses.field(default_factory=list)

    def launch(self) -> Process:
        if self.fails:
            raise errors.StackFailed("no such program")
        self.started.append(FakeProcess(100 + len(self.started)))
        return self.started[-1]

    def ready(self) -> bool:
        return self.is_ready


@dataclasses.dataclass
class World:
    """A supervisor, what it said, and its time."""

    part: FakePart
    now: float = 0.0
    said: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.supervisor = Supervisor(say=self.said.append, clock=lambda: self.now, sleep=self.pass_time, patience=60)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    def watch_for(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.supervisor.watch()
            self.now += 0.25

    def die(self, end: str = "signal 9") -> None:
        self.part.started[-1].end = end


@pytest.fixture
def world(tmp_path: pathlib.Path) -> World:
    return World(FakePart(tmp_path / "log"))


def test_a_child_that_dies_at_once_waits_longer_each_time(world: World) -> None:
    world.supervisor.add(world.part)
    world.supervisor.watch()
    while len(world.part.started) < 8:
        world.die()
        world.watch_for(0.5)
        child = world.supervisor.children[0]
        assert child.state is ChildState.WAITING
        world.now = child.since
        world.supervisor.watch()
        assert world.supervisor.children[0].state is ChildState.STARTING
    delays = [line.rpartition(" ")[2] for line in world.said if "died (signal 9), restarting in" in line]
    assert delays == ["1s", "2s", "4s", "8s", "16s", "30s", "30s"]
    assert world.supervisor.children[0].restarts == 7


def test_the_delay_starts_anew_after_health(world: World) -> None:
    world.supervisor.add(world.part)
    world.watch_for(1)
    world.die()
    world.watch_for(40)
    world.die()
    world.watch_for(2)
    assert [line for line in world.said if "died" in line] == ["worker1 died (signal 9), restarting in 1s"] * 2


def test_a_child_that_never_gets_ready_is_killed_and_tried_again(world: World) -> None:
    world.part.is_ready = False
    world.supervisor.add(world.part)
    world.watch_for(65)
    assert world.part.started[0].signals == [9]
    assert "worker1 is not ready after 60 s and is killed" in world.said
    assert len(world.part.started) == 2


def test_a_program_that_is_gone_is_tried_again(world: World) -> None:
    world.supervisor.add(world.part)
    world.watch_for(1)
    world.part.fails = True
    world.die()
    world.watch_for(2)
    assert any("could not be started again (no such program), restarting in 2s" in line for line in world.said)
    world.part.fails = False
    world.watch_for(5)
    assert world.supervisor.children[0].state is ChildState.UP


def test_the_first_start_fails_with_the_last_words(world: World) -> None:
    world.part.is_ready = False
    world.part.log.write_text("older words\n")
    child = world.supervisor.add(world.part)
    world.part.log.write_text("older words\nno such redis://:secret@host\n")
    world.die("exit code 1")
    with pytest.raises(errors.StackFailed) as failed:
        world.supervisor.wait_ready([child])
    assert failed.value.message == (
        "worker1 did not start: it ended with exit code 1. It said:\nno such redis://:***@host"
    )
    assert str(world.part.log) in str(failed.value.hint)


def test_the_first_start_has_a_limit(world: World) -> None:
    world.part.is_ready = False
    with pytest.raises(errors.StackFailed, match="was not ready after 60 s"):
        world.supervisor.wait_ready([world.supervisor.add(world.part)])


def test_a_wish_to_stop_ends_the_waiting(world: World) -> None:
    child = world.supervisor.add(world.part)
    world.supervisor.stop_requests = 1
    with pytest.raises(StopRequested):
        world.supervisor.wait_ready([child])


def test_stopping_goes_from_gentle_to_hard(world: World) -> None:
    child = world.supervisor.add(world.part)
    process = world.part.started[0]
    process.obeys = {9}
    world.supervisor.stop([child])
    assert process.signals == [15, 3, 9]
    assert 15 <= world.now < 16
    assert world.said[-1] == "worker1 did not stop and is killed"
    assert child.state is ChildState.STOPPED


@pytest.mark.parametrize(("may_hurry", "seconds"), [(True, 5), (False, 15)])
def test_a_second_wish_skips_the_gentle_wait_but_not_for_servers(world: World, may_hurry: bool, seconds: float) -> None:
    child = world.supervisor.add(world.part)
    world.part.started[0].obeys = {9}
    world.supervisor.stop_requests = 2
    world.supervisor.stop([child], may_hurry=may_hurry)
    assert seconds <= world.now < seconds + 1


def test_what_a_program_said_is_told_though_its_log_was_rotated(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LOG_CAP", 1000)
    log = tmp_path / "program.log"
    log.write_text("what it said before\n" * 100)
    program = Program(
        name="program", command=["/bin/sh", "-c", "echo out of luck; exit 3"], env={}, log=log, cwd=tmp_path,
        is_ready=lambda text: False,
    )  # fmt: skip
    supervisor = Supervisor(say=lambda line: None)
    with pytest.raises(errors.StackFailed, match="out of luck"):
        supervisor.wait_ready([supervisor.add(program)])
    assert log.read_text() == "out of luck\n"
