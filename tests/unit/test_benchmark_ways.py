"""Ways that take turns in a benchmark: who fails is a line, and ends nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.benchmarks.footprint import Footprint
from tests.benchmarks.ways import Way, document, lines, program, take_turns
from tests.benchmarks.world import Failed

_HOLD = "import sys; kept = bytearray(b'1') * 60_000_000; print(flush=True); sys.stdin.read()"


def _holding() -> subprocess.Popen[str]:
    started = subprocess.Popen([sys.executable, "-c", _HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert started.stdout
    started.stdout.readline()
    return started


def _ending(_: str) -> float:
    raise Failed("it ended\nfor a reason")


def test_a_way_that_fails_is_a_line_with_its_reason_and_the_others_have_all_their_turns() -> None:
    said: list[str] = []
    found = take_turns(
        said.append,
        [
            Way(name="ours", reference="ours", run=lambda _: 2.0),
            Way(name="ends", reference="ours", run=_ending),
            Way(name="absent", reference="ours", run=lambda _: 1.0, install=lambda: program("no-such-program")),
            Way(name="half", reference="ours", run=lambda _: 4.0, lacks=("a", "b"), check=lambda: ["c"]),
        ],
        100,
        rounds=3,
    )
    assert [len(row.seconds) for row in found] == [3, 0, 0, 3]
    assert [(cells[0], *cells[1:3], cells[-1]) for cells in lines(found)] == [
        ("ours", "50", "1.00x", "-"),
        ("ends", "-", "-", "not measured: it ended"),
        ("absent", "-", "-", "not measured: no-such-program is not at hand"),
        ("half", "25", "0.50x", "a; b; c"),
    ]
    assert document(found[3], found)["ratio"] == 0.5
    assert document(found[1], found)["ratio"] is None
    assert document(found[1], found)["reason"] == "it ended\nfor a reason"


def test_a_check_that_finds_the_work_undone_takes_the_figure_away() -> None:
    def check() -> list[str]:
        raise Failed("3 of 4 rows arrived")

    (row,) = take_turns(
        lambda line: None, [Way(name="one", reference="one", run=lambda _: 1.0, check=check)], 4, rounds=2
    )
    assert row.speed is None
    assert row.reason == "3 of 4 rows arrived"


def test_memory_is_that_of_the_processes_that_were_started_meanwhile() -> None:
    before = _holding()
    try:
        with Footprint() as footprint:
            within = [_holding(), _holding()]
            # Until it has been looked at.
            for one in within:
                with pytest.raises(subprocess.TimeoutExpired):
                    one.wait(0.5)
            for one in within:
                one.communicate()
    finally:
        before.communicate()
    assert 60e6 < footprint.largest < 120e6
    assert 120e6 < footprint.total < 240e6
