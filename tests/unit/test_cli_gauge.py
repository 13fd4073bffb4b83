"""How far runs are, in words and numbers."""

from __future__ import annotations

import datetime

import pytest

from hal9mig import errors, model
from hal9mig.cli import console, run_progress, run_result
from hal9mig.engine import category_standing, run_standing
from tests.unit.runs import RUN, START, run


def test_the_line_of_a_running_run() -> None:
    line = run_progress.line(RUN, total=1_000_000, speed=98.0)
    assert line == "neuron-states: 460,900/1,000,000 46.1%; 98/s; state: running; eta 1h31m"


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"waiting": "rate-limit 100/s"}, "throttled (rate-limit 100/s)"),
        ({"waiting": "the budget cannot be read (Redis)"}, "throttled (the budget cannot be read (Redis))"),
        ({"waiting": "no worker is alive", "leased": 0}, "waiting (no worker is alive)"),
        ({"waiting": "run 3 goes first", "leased": 1}, "running (run 3 goes first)"),
        ({"status": model.RunStatus.FAILED, "reason": "a batch failed"}, "failed (a batch failed)"),
        ({"status": model.RunStatus.PAUSED, "reason": "pause by me"}, "paused (pause by me)"),
        ({"status": model.RunStatus.SUCCEEDED, "reason": "all batches done"}, "succeeded"),
        ({"status": model.RunStatus.PLANNING}, "planning"),
    ],
)
def test_the_state_says_why_it_does_not_go_on(changes: dict[str, object], state: str) -> None:
    assert run_standing.state(run(**changes)) == state


def test_no_estimate_before_one_percent_or_without_speed() -> None:
    assert run_standing.eta(run(done_records=9_999), 1_000_000, 100.0) is None
    assert run_standing.eta(run(done_records=10_000), 1_000_000, 100.0) == 9900.0
    assert run_standing.eta(RUN, 1_000_000, 0.0) is None
    assert run_standing.eta(run(status=model.RunStatus.SUCCEEDED), 1_000_000, 100.0) is None
    assert "eta" not in run_progress.line(run(done_records=9_999), total=1_000_000, speed=100.0)


def test_the_rate_is_the_last_seconds_and_at_the_end_the_whole() -> None:
    assert run_standing.rate(RUN) == 98.0
    ended = run(status=model.RunStatus.SUCCEEDED, finished_at=START + datetime.timedelta(seconds=4609))
    assert run_standing.rate(ended) == 100.0


def test_off_a_terminal_there_is_a_line_each_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    with run_progress.Gauge(console.Console(), clock=lambda: now[0]) as shown:
        for second in range(26):
            now[0] = float(second)
            shown.show([run(done_records=400_000 + 100 * second)])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "neuron-states: 401,000/1,000,000 40.1%; 100/s; state: running; eta 1h39m",
        "neuron-states: 402,000/1,000,000 40.2%; 100/s; state: running; eta 1h39m",
    ]


def test_until_all_is_planned_the_expected_number_is_the_whole(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    with run_progress.Gauge(console.Console(), expected={7: 1_000_000}, clock=lambda: now[0]) as shown:
        now[0] = 10.0
        shown.show([run(planned=False, total_records=50_000, done_records=5_000, recent_records=0)])
    assert capsys.readouterr().err.startswith("neuron-states: 5,000/1,000,000 0.5%; ")


def test_on_a_terminal_there_are_bars(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(console.Console, "talk_is_terminal", True)
    monkeypatch.setenv("COLUMNS", "120")
    waiting = run(waiting="rate-limit 100/s")
    with run_progress.Gauge(console.Console(color="never")) as shown:
        shown.show([waiting])
    captured = capsys.readouterr()
    assert captured.out == ""
    for word in ("neuron-states", "460,900/1,000,000", "46.1%", "98/s", "throttled (rate-limit 100/s), eta 1h31m"):
        assert word in captured.err


@pytest.mark.parametrize(
    ("changes", "kind", "code"),
    [
        ({"status": model.RunStatus.SUCCEEDED}, None, 0),
        ({"status": model.RunStatus.SUCCEEDED, "quarantined": 1}, errors.RecordsQuarantined, 3),
        ({"status": model.RunStatus.FAILED}, errors.RunFailed, 1),
        ({"status": model.RunStatus.PAUSED}, errors.RunFailed, 1),
        ({"status": model.RunStatus.CANCELLED}, errors.RunFailed, 1),
        ({}, None, 0),
    ],
)
def test_the_end_of_a_run_as_an_error(
    changes: dict[str, object], kind: type[errors.HAL9Error] | None, code: int
) -> None:
    found = run_result.problem(run(**changes))
    assert type(found) is (kind or type(None))
    assert (found.exit_code if found else 0) == code
    assert found is None or found.hint


def test_the_summary_begins_with_the_verdict() -> None:
    ended = run(
        status=model.RunStatus.SUCCEEDED, done_records=1000, total_records=1000, quarantined=1, bytes=4_000_000,
        finished_at=START + datetime.timedelta(seconds=20),
    )  # fmt: skip
    assert run_result.summary(ended) == (
        "neuron-states: succeeded; 999 of 1,000 records in 20s; 50/s; 200 kB/s; 1 quarantined (run 7)"
    )


def test_migrated_records_are_those_of_the_last_whole_run_or_of_each_filter() -> None:
    done = model.RunStatus.SUCCEEDED
    whole = run(id=3, status=done, done_records=100, quarantined=1)
    active = run(id=2, status=done, done_records=60, filter="active=true")
    again = run(id=4, status=done, done_records=61, filter="active=true")
    inactive = run(id=5, status=done, done_records=40, filter="active=false")
    assert category_standing.migrated([]) == 0
    assert category_standing.migrated([inactive, again, active]) == 101
    assert category_standing.migrated([again, whole, active]) == 99
