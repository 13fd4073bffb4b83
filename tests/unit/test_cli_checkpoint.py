"""Checkpoints on the command line: what is printed of them and of their runs, from hand-made manifests and runs."""

from __future__ import annotations

import dataclasses
import datetime
import subprocess
import sys

import pytest

from hal9mig import model, units
from hal9mig.cli import checkpoint_flow, run_progress, run_result
from hal9mig.cli.commands import state_checkpoint, state_list_checkpoints
from hal9mig.engine import run_standing
from hal9mig.engine.checkpoint.manifest import Manifest
from hal9mig.engine.checkpoint.types import (
    CheckpointListing,
    CheckpointOrder,
    Expected,
    SavePlan,
)
from tests.unit import runs
from tests.unit.commandline import invoked
from tests.unit.manifests import BEFORE
from tests.unit.runs import of_before

MARKER = dataclasses.replace(BEFORE, name="after", kind="marker", tables=())


NONE = CheckpointListing(manifests=(), unusable=(), under_way=())


class TestCheckpoint:
    """One checkpoint in words."""

    def test_a_full_one_says_how_large_and_of_when_it_is(self) -> None:
        assert checkpoint_flow.summary(BEFORE) == (
            "2,000 rows, 500 kB (2 MB uncompressed), verified; as of 2026-01-02T03:04:05Z, mode flat-only"
        )
        assert ", not verified;" in checkpoint_flow.summary(dataclasses.replace(BEFORE, verified=False))

    def test_a_marker_says_that_it_cannot_be_restored(self) -> None:
        text = checkpoint_flow.summary(MARKER)
        assert text.startswith("a marker, counts and digests of 2,000 flat records; restorable: no;")

    def test_the_document_says_whether_it_can_be_restored(self) -> None:
        found = checkpoint_flow.document(BEFORE)
        assert (found["name"], found["restorable"], found["verified"]) == ("before", True, True)
        assert found["description"] is None
        assert found["digests"] == {"neuron-states": {"flat": {"records": 2000, "digest": "000000000000000a"}}}
        assert (found["rows"], found["bytes"], found["raw_bytes"]) == (2000, 500_000, 2_000_000)
        assert checkpoint_flow.document(MARKER)["restorable"] is False

    def test_names_say_when(self) -> None:
        name = checkpoint_flow.stamped("checkpoint")
        made = datetime.datetime.strptime(name, "checkpoint-%Y%m%d-%H%M%S").replace(tzinfo=datetime.UTC)
        assert abs((datetime.datetime.now(datetime.UTC) - made).total_seconds()) < 60

    def test_a_plan_says_how_much_and_how_long(self, capsys: pytest.CaptureFixture[str]) -> None:
        plan = SavePlan(
            name="before", scope=("neuron-states",), rows=5000, bytes=4_000_000, free_bytes=None, chunks=3,
            expected=Expected(least=120.0, seconds=120.0, basis="at its budget of 50/s"), rate=units.parse_rate("50/s"),
            url="s3://bucket/place", warnings=["no worker is alive"],
        )  # fmt: skip
        checkpoint_flow.announce(invoked(), of_before(model.RunKind.CHECKPOINT), plan, CheckpointOrder(name="before"))
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.splitlines() == [
            "run 7: full checkpoint before of neuron-states, about 5,000 rows and 4 MB, to s3://bucket/place",
            "this takes about 2m00s (at its budget of 50/s)",
            "warning: no worker is alive",
        ]

    @pytest.mark.parametrize(
        ("others", "last"),
        [
            ([], ["neuron-states"]),
            ([dataclasses.replace(BEFORE, name="other")], []),
            ([dataclasses.replace(BEFORE, name="other", scope=("neuron-states", "metadata"))], []),
            ([dataclasses.replace(BEFORE, name="other", scope=("metadata",))], ["neuron-states"]),
            ([dataclasses.replace(BEFORE, name="other", verified=False)], ["neuron-states"]),
            ([MARKER], ["neuron-states"]),
        ],
    )
    def test_the_last_one_of_a_category(self, others: list[Manifest], last: list[str]) -> None:
        assert (
            state_checkpoint.only_one_of(
                CheckpointListing(manifests=[BEFORE, *others], unusable=[], under_way=[]), "before"
            )
            == last
        )

    def test_a_marker_is_never_the_last(self) -> None:
        assert (
            state_checkpoint.only_one_of(CheckpointListing(manifests=[MARKER], unusable=[], under_way=[]), "after")
            == []
        )

    def test_rows_of_the_list(self) -> None:
        full = dataclasses.replace(BEFORE, label="safety", description="what was replaced by x", whole=True)
        assert state_list_checkpoints._row(full, "now", NONE) == [
            "before", "now", "full, verified", "yes", "all", "flat-only", "2,000", "500 kB",
            "safety: what was replaced by x",
        ]  # fmt: skip
        assert state_list_checkpoints._row(MARKER, "now", NONE) == [
            "after", "now", "marker", "no", "neuron-states", "flat-only", None, None, "",
        ]  # fmt: skip


class TestRuns:
    """Their runs among all others."""

    def test_the_line_says_what_is_done(self) -> None:
        line = run_progress.line(of_before(), total=1_000_000, speed=98.0)
        assert line.startswith("restore neuron-states: 460,900/1,000,000 46.1%; 98/s; state: running (")

    def test_it_is_not_done_before_its_last_step(self) -> None:
        proving = of_before(done_records=1_000_000, done_batches=9990)
        assert run_progress.line(proving, total=1_000_000, speed=98.0) == (
            "restore neuron-states: 1,000,000/1,000,000 99.9%; 98/s; state: running (10 steps left)"
        )
        assert "(1 step left)" in run_standing.state(of_before(done_batches=9999))
        ended = of_before(done_records=1_000_000, status=model.RunStatus.SUCCEEDED)
        assert "100%; " in run_progress.line(ended, total=1_000_000, speed=98.0)
        assert run_standing.share(of_before(done_records=0, status=model.RunStatus.SUCCEEDED), 0) == "100%"
        assert run_standing.share(of_before(done_records=0), 0) == "0%"

    @pytest.mark.parametrize("kind", ["checkpoint", "compare", "restore"])
    def test_the_summary_counts_rows(self, kind: str) -> None:
        ended = of_before(
            model.RunKind(kind), status=model.RunStatus.SUCCEEDED, total_records=2000, done_records=2000,
            finished_at=runs.START + datetime.timedelta(seconds=4),
        )  # fmt: skip
        assert run_result.summary(ended) == f"{kind} before: succeeded; 2,000 of 2,000 rows in 4s (run 7)"
        assert run_result.problem(ended) is None

    @pytest.mark.parametrize(
        ("kind", "words"),
        [
            ("checkpoint", "Checkpoint before was not taken, and nothing of it is left: full"),
            ("compare", "What going back to before would lose could not be counted: full"),
            ("restore", "Checkpoint before was not restored, and nothing was changed: full"),
        ],
    )
    def test_a_failure_says_what_was_not_done(self, kind: str, words: str) -> None:
        problem = run_result.problem(of_before(model.RunKind(kind), status=model.RunStatus.FAILED, reason="full"))
        assert problem is not None
        assert (problem.message, problem.exit_code) == (words, 1)
        assert "hal9-migrate runs retry 7" in str(problem.hint)


def test_nothing_heavy_is_loaded_before_it_is_needed() -> None:
    script = """
import sys
from hal9mig.cli.commands import neurons_snapshot, state_checkpoint, state_list_checkpoints
from hal9mig.cli.commands import state_recover, state_rollback
loaded = {name.partition('.')[0] for name in sys.modules}
sys.exit(str(loaded & {'fsspec', 'zstandard', 'xxhash', 'psycopg2', 'sqlalchemy', 'celery', 'rich'} or ''))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr.strip()) == ("", "")
