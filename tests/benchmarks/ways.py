"""Ways to move or to compare the same rows, ours and others', each in a form in which they can take turns."""

from __future__ import annotations

import dataclasses
import shutil
import statistics
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

import psycopg2

from tests.benchmarks.footprint import Footprint
from tests.benchmarks.report import rate
from tests.benchmarks.world import Failed, Say

#: What ends the measuring of one way, and of no other.
FAILURES = (Failed, AssertionError, OSError, RuntimeError, ValueError, psycopg2.Error, subprocess.SubprocessError)


def program(name: str) -> str:
    """Return where a program is.

    Raises:
        Failed: it is not installed.
    """
    if found := shutil.which(name):
        return found
    raise Failed(f"{name} is not at hand")


def version(path: str) -> str:
    """Return what a program says of its version."""
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    return said.splitlines()[0].replace(" version", "").replace('"', "")


@dataclasses.dataclass(kw_only=True)
class Way:
    """One way.

    Attributes:
        name: what it is called in the table.
        ready: prepares a turn, and is neither timed nor watched.
        run: does the work and returns the seconds; gets what ``install`` returned.
        check: raises Failed where the work is not done, and returns what was lost on the way.
        lacks: what the way does not do by its nature.
        install: brings what the way needs, once, and returns where it is.
        reference: the name of the way that the ratio is to.
        version: says which version it is, of what ``install`` returned.
    """

    name: str
    run: Callable[[str], float]
    ready: Callable[[], object] = lambda: None
    check: Callable[[], Sequence[str]] = lambda: ()
    install: Callable[[], str] = lambda: ""
    lacks: Sequence[str] = ()
    reference: str
    version: Callable[[str], str] = lambda place: ""


@dataclasses.dataclass(kw_only=True)
class Row:
    """What came of a way: a line of the table.

    Attributes:
        rows: how many it moved or compared in each turn.
        seconds: of each turn.
        total, largest: the bytes of all its processes together and of the largest one, of each turn.
        lacks: what it does not do, with what was found to be lost.
        version: of the program, or empty where it is ours or the servers'.
        reason: why it was not measured, or empty.
    """

    name: str
    reference: str
    rows: int
    lacks: list[str]
    seconds: list[float] = dataclasses.field(default_factory=list)
    total: list[int] = dataclasses.field(default_factory=list)
    largest: list[int] = dataclasses.field(default_factory=list)
    version: str = ""
    reason: str = ""

    @property
    def speed(self) -> float | None:
        """Rows a second of the middle turn, None where it was not measured."""
        return None if self.reason or not self.seconds else self.rows / statistics.median(self.seconds)


def take_turns(say: Say, ways: Sequence[Way], rows: int, *, rounds: int) -> list[Row]:
    """Run every way in turn, several times; one that fails has no further turn, and ends nothing else."""
    found = [Row(name=one.name, reference=one.reference, rows=rows, lacks=list(one.lacks)) for one in ways]
    places: dict[str, str] = {}
    for number in range(rounds):
        for way, row in zip(ways, found, strict=True):
            if row.reason:
                continue
            try:
                if number == 0:
                    places[way.name] = way.install()
                    row.version = way.version(places[way.name])
                _turn(way, row, places[way.name])
            except FAILURES as error:
                row.reason = str(error).strip() or type(error).__name__
                say(f"{way.name}: not measured: {_first(row.reason)}")
            else:
                say(f"round {number + 1} of {rounds}: {way.name}: {rate(rows, row.seconds[-1])}, "
                          f"{row.total[-1] / 1e6:.0f} MB")  # fmt: skip
    return found


def _turn(way: Way, row: Row, place: str) -> None:
    way.ready()
    with Footprint() as footprint:
        seconds = way.run(place)
    row.lacks = [*way.lacks, *way.check()]
    row.seconds.append(seconds)
    row.total.append(footprint.total)
    row.largest.append(footprint.largest)


def lines(found: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return the cells of each row: name, speed, ratio, memory in all and of one process, and what it does not do."""
    speeds = {row.name: row.speed for row in found}
    return [_line(row, speeds) for row in found]


def _line(row: Row, speeds: dict[str, float | None]) -> tuple[str, ...]:
    speed, reference = row.speed, speeds.get(row.reference)
    if speed is None:
        return (row.name, "-", "-", "-", "-", f"not measured: {_first(row.reason)}")
    return (
        row.name,
        f"{speed:,.0f}",
        "-" if not reference else f"{speed / reference:.2f}x",
        *(f"{statistics.median(sizes) / 1e6:.0f}" if min(sizes) else "-" for sizes in (row.total, row.largest)),
        "; ".join(row.lacks) or "-",
    )


def _first(reason: str) -> str:
    """Return what the table has room for."""
    return reason.splitlines()[0][:160]


def document(row: Row, found: Sequence[Row]) -> dict[str, Any]:
    """Return a row as JSON has it, with its speed and its ratio."""
    reference = next((one.speed for one in found if one.name == row.reference), None)
    speed = row.speed
    return {
        **dataclasses.asdict(row),
        "rows_per_second": speed,
        "ratio": speed / reference if speed and reference else None,
    }
