"""On a narrow terminal the share that is done stays, and so does the state."""

from __future__ import annotations

import sys

import pytest

from hal9mig.cli import console, run_progress
from tests.unit.commandline import Stream
from tests.unit.runs import run


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (80, "neuron-states 46.1% running, eta 1h31m"),
        (38, "neuron-state 46.1% running, eta 1h31m"),
        (20, "46.1% running, eta "),
    ],
)
def test_the_name_gives_way(width: int, line: str) -> None:
    made = run_progress.narrow("neuron-states", "46.1%", "running, eta 1h31m", width)
    assert made == line
    assert len(made) < width


@pytest.mark.parametrize("width", ["40", "60"])
def test_a_bar_at_forty_columns(
    width: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console.Console, "talk_is_terminal", True)
    monkeypatch.setenv("COLUMNS", width)
    with run_progress.Gauge(console.Console(color="never")) as shown:
        shown.show([run()])
    told = capsys.readouterr().err
    assert "46.1% running" in told
    assert max(map(len, told.splitlines())) <= int(width)


def test_a_reason_is_no_markup(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither of the terminal's nor of the library's that draws the bars."""
    monkeypatch.setattr(console.Console, "talk_is_terminal", True)
    monkeypatch.setenv("COLUMNS", "160")
    with run_progress.Gauge(console.Console(color="never")) as shown:
        shown.show([run(waiting="[red]a \x1b]0;title\x07 key[/red]", leased=0)])
    assert r"waiting ([red]a \x1b]0;title\x07 key[/red])" in capsys.readouterr().err


def test_a_table_that_does_not_fit_is_set_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream("utf-8", terminal=True)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    columns = ["CATEGORY", "RUN", "STATE", "RECORDS", "TOTAL", "DONE"]
    row = ["neuron-states", 7, "running", "460,900", "1,000,000", "46.1%"]
    console.Console().table(columns, [row], numbers=("RUN", "RECORDS", "TOTAL", "DONE"))
    assert stream.text.splitlines() == [
        "neuron-states", "  RUN: 7", "  STATE: running", "  RECORDS: 460,900", "  TOTAL: 1,000,000", "  DONE: 46.1%",
    ]  # fmt: skip
