"""Checkpoints on the command line: what is taken, refused and printed, from hand-made manifests and runs."""

from __future__ import annotations

import dataclasses
import datetime
import pathlib
import shlex
import subprocess
import sys

import pytest

from hal9mig import errors, model, units
from hal9mig.cli import checkpoint_flow, invocation, restore_flow, restore_result, run_progress, run_result
from hal9mig.cli.commands import state_checkpoint, state_list_checkpoints
from hal9mig.engine import run_standing
from hal9mig.engine.checkpoint.manifest import CategoryDigest, Chunk, Manifest, Table
from hal9mig.engine.checkpoint.types import (
    CheckpointListing,
    CheckpointOrder,
    Damage,
    Expected,
    Loss,
    Restored,
    RestorePlan,
    SavePlan,
    Untouched,
)
from tests.unit import test_cli_gauge
from tests.unit.commandline import CommandLine
from tests.unit.test_cli_parsing import parse

FLAT, HIER = model.StoreName.FLAT, model.StoreName.HIERARCHICAL
AT = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
FILE = "flat/flat.neuron_states/000001-1.copy.zst"
CHUNK = Chunk(
    file=FILE, after=None, upto=None, rows=2000, digest=1, sha256="00", raw_bytes=2_000_000, bytes=500_000,
    frames=((0, 500_000, 2000, 1),),
)  # fmt: skip
TABLE = Table(
    store=FLAT, category="neuron-states", schema="flat", table="neuron_states", columns=(("neuron_id", "uuid"),),
    key=("neuron_id",), owner=("neuron_id",), role="source", chunks=(CHUNK,),
)  # fmt: skip
MADE = Manifest(
    name="before", description="", kind="full", label="", scope=("neuron-states",), whole=False, taken_at=AT,
    finished_at=AT, by="me@here", program="1", verified=True, mode="flat-only", epoch=1, positions={}, schemas={},
    tables=(TABLE,), digests={"neuron-states": {"flat": CategoryDigest(records=2000, digest=10)}},
)  # fmt: skip
MARKER = dataclasses.replace(MADE, name="after", kind="marker", tables=())
PLAN = RestorePlan(
    manifest=MADE, categories=("neuron-states",), whole=False, mode_now="flat-only", warnings=(), refills=(), active=(),
    expected=Expected(least=120.0, seconds=120.0, basis="as the last one went"),
)  # fmt: skip
LOSS = Loss(store="flat", category="neuron-states", table="flat.neuron_states", changed=3, added=1, removed=0)
DONE = Restored(
    name="before", tables=(("flat flat.neuron_states", 2000), ("hierarchical hier.units", 1000)), untouched=(),
    damages=(), quarantined=0, offered=0, brought=0, mode_then="flat-only", mode_now="flat-only", seconds=0.25,
    next_steps=("hal9-migrate state verify",),
)  # fmt: skip


NONE = CheckpointListing(manifests=(), unusable=(), under_way=())


def run(kind: model.RunKind = model.RunKind.RESTORE, **changes: object) -> model.Run:
    """Return a run that works on the checkpoint ``before``."""
    options: dict[str, object] = {"checkpoint": "before"}
    return test_cli_gauge.run(**{"kind": kind, "options": options, **changes})


def call(*, yes: bool = False, json: bool = False) -> invocation.Invocation:
    """Return an invocation with these options."""
    made = invocation.Invocation()
    made.yes, made.json = yes, json
    return made


class TestParser:
    """The runbook's lines, and what contradicts itself."""

    @pytest.mark.parametrize(
        "line",
        [
            'state checkpoint --name "pre-state-migration-20250114-080000" --full-backup --verify',
            'state checkpoint --name "post-state-migration-1" --description "State migration completed"',
            "state export-manifest --checkpoint latest --output state-manifest.json",
            "neurons snapshot --pre-migration",
            'state rollback --to-checkpoint "pre-state-migration-TIMESTAMP" --force',
            "state rollback --category neuron-states --to-checkpoint latest --preserve-others",
            "state recover --from-backup --validate-each --quarantine-corrupted",
            "state recover --from-backup=before --category neuron-states --dry-run",
            "state list-checkpoints --json",
            "state checkpoint --delete before --yes",
        ],
    )
    def test_a_line_is_understood(self, line: str) -> None:
        parse(line)

    @pytest.mark.parametrize(
        ("line", "text"),
        [
            ("state recover --from-backup --validate-each", "latest"),
            ("state recover --validate-each --from-backup", "latest"),
            ("state recover --from-backup before --validate-each", "before"),
        ],
    )
    def test_a_backup_may_be_named_or_not(self, line: str, text: str) -> None:
        params = parse(line).params
        assert (params["text"], params["validate_each"]) == (text, True)

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            *(
                (f"state checkpoint --delete before {flag}", ["--delete", flag.split()[0], "exclude each other"])
                for flag in (
                    "--name x", "--name ''", "--description ''", "--full-backup", "--verify", "--category metadata",
                    "--rate-limit off", "--dry-run", "--detach", "--timeout 1m",
                )
            ),
            ("state checkpoint --detach --timeout 1m", ["--detach", "--timeout"]),
            ("state checkpoint --dry-run --detach", ["--dry-run", "--detach"]),
            ("state checkpoint --dry-run --timeout 1m", ["--dry-run", "--timeout"]),
            ("state checkpoint --name ''", ["''", "name"]),
            ("state checkpoint --name ../elsewhere", ["'../elsewhere'", "name"]),
            ("state checkpoint --name two/parts", ["'two/parts'"]),
            ("state checkpoint --name latest", ["'latest'", "newest"]),
            ("state checkpoint --name before --category nothing", ["'nothing'"]),
            ("state checkpoint --rate-limit fast", ["--rate-limit", "'fast'"]),
            ("state checkpoint --delete ''", ["--delete", "empty name"]),
            ("neurons snapshot --dry-run --detach", ["--dry-run", "--detach"]),
            ("neurons snapshot --name ''", ["''"]),
            ("state rollback", ["--to-checkpoint"]),
            ("state rollback --force", ["--to-checkpoint"]),
            # What a script sends whose variable is not set.
            ("state rollback --to-checkpoint '' --force", ["--to-checkpoint", "empty name"]),
            ("state rollback --to-checkpoint ' ' --force", ["--to-checkpoint", "empty name"]),
            ("state rollback --to-checkpoint before --preserve-others", ["--preserve-others", "no others"]),
            ("state rollback --to-checkpoint before --preserve-others --category all", ["no others"]),
            ("state rollback --to-checkpoint before --category nothing", ["'nothing'"]),
            ("state rollback --to-checkpoint before --detach --timeout 1m", ["--detach", "--timeout"]),
            ("state rollback --to-checkpoint before --detach --dry-run", ["--detach", "--dry-run"]),
            ("state recover", ["--from-backup"]),
            ("state recover --from-backup ''", ["--from-backup", "empty name"]),
            ("state export-manifest --checkpoint latest", ["--output"]),
            ("state export-manifest --output x.json", ["--checkpoint"]),
            ("state export-manifest --checkpoint latest --output .", ["--output", "directory"]),
        ],
    )  # fmt: skip
    def test_a_bad_line_is_refused_with_its_reason(
        self,
        line: str,
        words: list[str],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        tmp_path: pathlib.Path,
    ) -> None:
        told = CommandLine(monkeypatch, capsys, tmp_path)(*shlex.split(line))
        assert (told.exit_code, told.out) == (2, ""), told.err
        for word in words:
            assert word in told.err.splitlines()[0]

    @pytest.mark.parametrize(
        "line",
        [
            "state checkpoint --name before", "state checkpoint --dry-run", "state list-checkpoints",
            "neurons snapshot", "state rollback --to-checkpoint before --force", "state recover --from-backup --yes",
        ],
    )  # fmt: skip
    def test_without_servers_it_says_how_to_get_them(
        self, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
    ) -> None:
        told = CommandLine(monkeypatch, capsys, tmp_path)(*shlex.split(line))
        assert (told.exit_code, told.out) == (5, "")
        assert "hint: hal9-migrate stack up --detach" in told.err

    @pytest.mark.parametrize(
        ("line", "candidates"),
        [
            ("state rollback --to-checkpoint ", ["latest", "neurons-1", "pre-1", "pre-2"]),
            ("state rollback --to-checkpoint pre", ["pre-1", "pre-2"]),
            ("state recover --from-backup n", ["neurons-1"]),
            # The newest of all is nothing to delete by mistake.
            ("state checkpoint --delete ", ["neurons-1", "pre-1", "pre-2"]),
        ],
    )
    def test_completion_of_names(
        self,
        line: str,
        candidates: list[str],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        tmp_path: pathlib.Path,
    ) -> None:
        command = CommandLine(monkeypatch, capsys, tmp_path)
        for name in ("pre-1", "pre-2", "neurons-1"):
            (tmp_path / "data" / "checkpoints" / name).mkdir(parents=True)
        monkeypatch.setenv("_HAL9_MIGRATE_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", f"hal9-migrate {line}")
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" "))))
        told = command()
        assert told.out.split() == [f"plain,{candidate}" for candidate in candidates]
        assert told.err == ""

    def test_a_storage_without_a_driver_completes_to_nothing(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
    ) -> None:
        command = CommandLine(monkeypatch, capsys, tmp_path)
        monkeypatch.setenv("HAL9_CHECKPOINT_URL", "nosuch://bucket/place")
        monkeypatch.setenv("_HAL9_MIGRATE_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", "hal9-migrate state checkpoint --delete ")
        monkeypatch.setenv("COMP_CWORD", "4")
        told = command()
        assert (told.out.split(), told.err) == ([], "")


class TestCheckpoint:
    """One checkpoint in words."""

    def test_a_full_one(self) -> None:
        assert checkpoint_flow.summary(MADE) == (
            "2,000 rows, 500 kB (2 MB uncompressed), verified; as of 2026-01-02T03:04:05Z, mode flat-only"
        )
        assert ", not verified;" in checkpoint_flow.summary(dataclasses.replace(MADE, verified=False))

    def test_a_marker_says_that_it_cannot_be_restored(self) -> None:
        text = checkpoint_flow.summary(MARKER)
        assert text.startswith("a marker, counts and digests of 2,000 flat records; restorable: no;")

    def test_the_document(self) -> None:
        found = checkpoint_flow.document(MADE)
        assert (found["name"], found["restorable"], found["verified"]) == ("before", True, True)
        assert found["description"] is None
        assert found["digests"] == {"neuron-states": {"flat": {"records": 2000, "digest": "000000000000000a"}}}
        assert (found["rows"], found["bytes"], found["raw_bytes"]) == (2000, 500_000, 2_000_000)
        assert checkpoint_flow.document(MARKER)["restorable"] is False

    def test_names_say_when(self) -> None:
        name = checkpoint_flow.stamped("checkpoint")
        made = datetime.datetime.strptime(name, "checkpoint-%Y%m%d-%H%M%S").replace(tzinfo=datetime.UTC)
        assert abs((datetime.datetime.now(datetime.UTC) - made).total_seconds()) < 60

    def test_a_plan(self, capsys: pytest.CaptureFixture[str]) -> None:
        plan = SavePlan(
            name="before", scope=("neuron-states",), rows=5000, bytes=4_000_000, free_bytes=None, chunks=3,
            expected=Expected(least=120.0, seconds=120.0, basis="at its budget of 50/s"), rate=units.parse_rate("50/s"),
            url="s3://bucket/place", warnings=["no worker is alive"],
        )  # fmt: skip
        checkpoint_flow.announce(call(), run(model.RunKind.CHECKPOINT), plan, CheckpointOrder(name="before"))
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
            ([dataclasses.replace(MADE, name="other")], []),
            ([dataclasses.replace(MADE, name="other", scope=("neuron-states", "metadata"))], []),
            ([dataclasses.replace(MADE, name="other", scope=("metadata",))], ["neuron-states"]),
            ([dataclasses.replace(MADE, name="other", verified=False)], ["neuron-states"]),
            ([MARKER], ["neuron-states"]),
        ],
    )
    def test_the_last_one_of_a_category(self, others: list[Manifest], last: list[str]) -> None:
        assert (
            state_checkpoint.only_one_of(
                CheckpointListing(manifests=[MADE, *others], unusable=[], under_way=[]), "before"
            )
            == last
        )

    def test_a_marker_is_never_the_last(self) -> None:
        assert (
            state_checkpoint.only_one_of(CheckpointListing(manifests=[MARKER], unusable=[], under_way=[]), "after")
            == []
        )

    def test_rows_of_the_list(self) -> None:
        full = dataclasses.replace(MADE, label="safety", description="what was replaced by x", whole=True)
        assert state_list_checkpoints._row(full, "now", NONE) == [
            "before", "now", "full, verified", "yes", "all", "flat-only", "2,000", "500 kB",
            "safety: what was replaced by x",
        ]  # fmt: skip
        assert state_list_checkpoints._row(MARKER, "now", NONE) == [
            "after", "now", "marker", "no", "neuron-states", "flat-only", None, None, "",
        ]  # fmt: skip


class TestLosses:
    """What would be lost, and the question about it."""

    def test_by_table(self, capsys: pytest.CaptureFixture[str]) -> None:
        nothing = dataclasses.replace(LOSS, category="metadata", changed=0, added=0)
        restore_flow.show_losses(call(), [LOSS, nothing])
        assert capsys.readouterr().out.splitlines() == [
            "This would be lost, counted in the flat store, which takes the writes now:",
            "CATEGORY\tTABLE\tCHANGED SINCE\tNEW SINCE\tDELETED SINCE",
            "neuron-states\tflat.neuron_states\t3\t1\t0",
        ]

    def test_nothing(self, capsys: pytest.CaptureFixture[str]) -> None:
        restore_flow.show_losses(call(), [dataclasses.replace(LOSS, changed=0, added=0)])
        assert capsys.readouterr().out == "Nothing was written since the checkpoint; nothing would be lost.\n"

    def test_the_document(self) -> None:
        assert restore_flow.loss_document([LOSS]) == [
            {"store": "flat", "category": "neuron-states", "table": "flat.neuron_states", "changed": 3, "added": 1,
             "removed": 0}
        ]  # fmt: skip

    @pytest.mark.parametrize("whole", [False, True])
    def test_without_a_terminal_it_is_refused_before_long_work(
        self, whole: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
        plan = dataclasses.replace(PLAN, whole=whole)
        with pytest.raises(errors.ConfirmationRequired, match=r"Go back to before\?.*nothing was changed") as refused:
            restore_flow.require_answer(call(), plan, force=False, verb="Go back to")
        assert refused.value.hint is not None
        for flag in ("--yes", "--force", "--dry-run"):
            assert flag in refused.value.hint
        with pytest.raises(errors.ConfirmationRequired, match="lose 4 written rows"):
            restore_flow.ask(call(), plan, [LOSS], force=False, verb="Go back to")
        for given, force in ((call(yes=True), False), (call(), True)):
            restore_flow.require_answer(given, plan, force=force, verb="Go back to")
            restore_flow.ask(given, plan, [LOSS], force=force, verb="Go back to")

    @pytest.mark.parametrize(
        ("whole", "typed", "good"),
        [
            (True, "before", True),
            (True, " before ", True),
            (True, "befor", False),
            (True, "y", False),
            (False, "y", True),
            (False, "n", False),
            (False, "", False),
        ],
    )
    def test_the_question(self, whole: bool, typed: str, good: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        for stream in ("stdin", "stderr"):
            monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True, raising=False)
        asked: list[str] = []

        def answer(text: str) -> str:
            asked.append(text)
            return typed

        monkeypatch.setattr("click.termui.visible_prompt_func", answer)
        plan = dataclasses.replace(PLAN, whole=whole)
        if good:
            restore_flow.ask(call(), plan, [LOSS], force=False, verb="Go back to")
        else:
            with pytest.raises(errors.Refused, match="nothing was changed"):
                restore_flow.ask(call(), plan, [LOSS], force=False, verb="Go back to")
        assert len(asked) == 1

    def test_a_run_in_the_way(self) -> None:
        other = test_cli_gauge.run(id=3)
        plan = dataclasses.replace(PLAN, active=(other,))
        with pytest.raises(errors.RunActive, match="run 3 stands in the way") as refused:
            restore_flow.require_free(plan, force=False)
        assert refused.value.hint is not None
        assert "hal9-migrate runs cancel 3" in refused.value.hint
        assert "--force" in refused.value.hint
        restore_flow.require_free(plan, force=True)
        restore_flow.require_free(PLAN, force=False)
        assert restore_flow.plan_document(plan)["active"] == [
            {"run": 3, "kind": "migrate", "category": "neuron-states"}
        ]


class TestRestored:
    """What a restore did."""

    def test_in_words(self, capsys: pytest.CaptureFixture[str]) -> None:
        same = Untouched(category="metadata", store="flat", before=CategoryDigest(records=8, digest=255),
                         after=CategoryDigest(records=8, digest=255))  # fmt: skip
        written = dataclasses.replace(same, category="configuration", after=CategoryDigest(records=9, digest=1))
        done = dataclasses.replace(DONE, untouched=(same, written), mode_now="dual-write")
        restore_result.show(call(), done, run())
        told = capsys.readouterr()
        assert told.out.splitlines() == [
            "✅ 3,000 rows of 2 tables restored from before; writers were kept out 0.25s (run 7)",
            "✅ metadata in the flat store: 8 records, digest 00000000000000ff before and after",
            "- configuration in the flat store: 8 records before, 9 after; written to meanwhile",
        ]
        assert told.err.splitlines() == [
            "the write mode is still dual-write; the checkpoint was taken in flat-only",
            "next: hal9-migrate state verify",
        ]

    def test_damages(self, capsys: pytest.CaptureFixture[str]) -> None:
        damage = Damage(file=FILE, frame=0, rows=5, why="byte 0: it is cut off", after=None, upto=("7", "x"))
        done = dataclasses.replace(
            DONE, damages=(damage,) * 25, quarantined=5, offered=4, next_steps=("hal9-migrate quarantine list",)
        )
        restore_result.show(call(), done, run())
        told = capsys.readouterr()
        lines = told.out.splitlines()
        assert lines[0].startswith("❌ 3,000 rows")
        place = f"{FILE}, frame 0: byte 0: it is cut off; 5 rows between the beginning and 7/x"
        assert lines[1] == f"  {place}"
        assert lines[-1] == "  and 5 more; all of them: add --json"
        assert restore_result.place(dataclasses.replace(damage, after=("1",), upto=None)).endswith(
            "between 1 and the end"
        )
        problem = restore_result.quarantined(done)
        assert problem is not None
        assert (problem.exit_code, problem.hint) == (3, "hal9-migrate quarantine list")
        assert "5 records of before could not be read" in problem.message
        assert "has 4 of them" in problem.message
        document = restore_result.document(done)
        assert (document["quarantined"], document["offered"]) == (5, 4)
        assert document["damages"][0] == {  # type: ignore[index]
            "file": FILE, "frame": 0, "rows": 5, "why": "byte 0: it is cut off", "after": None, "upto": ["7", "x"],
        }  # fmt: skip
        assert restore_result.quarantined(DONE) is None

    @pytest.mark.parametrize(
        ("recover", "hint"), [(False, "state recover --from-backup before"), (True, "add --quarantine-corrupted")]
    )
    def test_a_damaged_checkpoint_is_a_finding(self, recover: bool, hint: str) -> None:
        failed = run(
            status=model.RunStatus.FAILED, reason=f"{FILE}, frame 0: byte 0: wrong",
            options={"checkpoint": "before", "recover": recover},
        )  # fmt: skip
        found = restore_result.damaged(failed, MADE)
        assert found is not None
        assert (found.exit_code, found.code) == (3, "CHECKPOINT_DAMAGED")
        assert "Checkpoint before is damaged, and nothing was changed" in found.message
        assert hint in str(found.hint)

    def test_another_failure_is_none(self) -> None:
        failed = run(status=model.RunStatus.FAILED, reason="no space left")
        assert restore_result.damaged(failed, MADE) is None
        assert restore_result.damaged(failed, None) is None
        assert restore_result.damaged(run(status=model.RunStatus.CANCELLED, reason=FILE), MADE) is None
        problem = run_result.problem(failed)
        assert problem is not None
        assert problem.message == "Checkpoint before was not restored, and nothing was changed: no space left"


class TestRuns:
    """Their runs among all others."""

    def test_the_line_says_what_is_done(self) -> None:
        line = run_progress.line(run(), total=1_000_000, speed=98.0)
        assert line.startswith("restore neuron-states: 460,900/1,000,000 46.1%; 98/s; state: running (")

    def test_it_is_not_done_before_its_last_step(self) -> None:
        proving = run(done_records=1_000_000, done_batches=9990)
        assert run_progress.line(proving, total=1_000_000, speed=98.0) == (
            "restore neuron-states: 1,000,000/1,000,000 99.9%; 98/s; state: running (10 steps left)"
        )
        assert "(1 step left)" in run_standing.state(run(done_batches=9999))
        ended = run(done_records=1_000_000, status=model.RunStatus.SUCCEEDED)
        assert "100%; " in run_progress.line(ended, total=1_000_000, speed=98.0)
        assert run_standing.share(run(done_records=0, status=model.RunStatus.SUCCEEDED), 0) == "100%"
        assert run_standing.share(run(done_records=0), 0) == "0%"

    @pytest.mark.parametrize("kind", ["checkpoint", "compare", "restore"])
    def test_the_summary_counts_rows(self, kind: str) -> None:
        ended = run(
            model.RunKind(kind), status=model.RunStatus.SUCCEEDED, total_records=2000, done_records=2000,
            finished_at=test_cli_gauge.START + datetime.timedelta(seconds=4),
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
    def test_a_failure(self, kind: str, words: str) -> None:
        problem = run_result.problem(run(model.RunKind(kind), status=model.RunStatus.FAILED, reason="full"))
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
