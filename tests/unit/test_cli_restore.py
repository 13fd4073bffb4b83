"""Restores on the command line: what would be lost, the question about it, and what was done."""

from __future__ import annotations

import dataclasses

import pytest

from hal9mig import errors, model
from hal9mig.cli import restore_flow, restore_result, run_result
from hal9mig.engine.checkpoint.manifest import CategoryDigest
from hal9mig.engine.checkpoint.types import (
    Damage,
    Expected,
    Loss,
    Restored,
    RestorePlan,
    Untouched,
)
from tests.unit import runs
from tests.unit.commandline import invoked
from tests.unit.manifests import BEFORE, FILE
from tests.unit.runs import of_before

PLAN = RestorePlan(
    manifest=BEFORE, categories=("neuron-states",), whole=False, mode_now="flat-only", warnings=(), refills=(),
    active=(), expected=Expected(least=120.0, seconds=120.0, basis="as the last one went"),
)  # fmt: skip
LOSS = Loss(store="flat", category="neuron-states", table="flat.neuron_states", changed=3, added=1, removed=0)
DONE = Restored(
    name="before", tables=(("flat flat.neuron_states", 2000), ("hierarchical hier.units", 1000)), untouched=(),
    damages=(), quarantined=0, offered=0, brought=0, mode_then="flat-only", mode_now="flat-only", seconds=0.25,
    next_steps=("hal9-migrate state verify",),
)  # fmt: skip


class TestLosses:
    """What would be lost, and the question about it."""

    def test_they_are_listed_by_table(self, capsys: pytest.CaptureFixture[str]) -> None:
        nothing = dataclasses.replace(LOSS, category="metadata", changed=0, added=0)
        restore_flow.show_losses(invoked(), [LOSS, nothing])
        assert capsys.readouterr().out.splitlines() == [
            "This would be lost, counted in the flat store, which takes the writes now:",
            "CATEGORY\tTABLE\tCHANGED SINCE\tNEW SINCE\tDELETED SINCE",
            "neuron-states\tflat.neuron_states\t3\t1\t0",
        ]

    def test_that_nothing_is_lost_is_said(self, capsys: pytest.CaptureFixture[str]) -> None:
        restore_flow.show_losses(invoked(), [dataclasses.replace(LOSS, changed=0, added=0)])
        assert capsys.readouterr().out == "Nothing was written since the checkpoint; nothing would be lost.\n"

    def test_the_document_has_each_table(self) -> None:
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
            restore_flow.require_answer(invoked(), plan, force=False, verb="Go back to")
        assert refused.value.hint is not None
        for flag in ("--yes", "--force", "--dry-run"):
            assert flag in refused.value.hint
        with pytest.raises(errors.ConfirmationRequired, match="lose 4 written rows"):
            restore_flow.ask(invoked(), plan, [LOSS], force=False, verb="Go back to")
        for given, force in ((invoked(yes=True), False), (invoked(), True)):
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
    def test_whoever_gives_up_all_types_the_name(
        self, whole: bool, typed: str, good: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for stream in ("stdin", "stderr"):
            monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True, raising=False)
        asked: list[str] = []

        def answer(text: str) -> str:
            asked.append(text)
            return typed

        monkeypatch.setattr("click.termui.visible_prompt_func", answer)
        plan = dataclasses.replace(PLAN, whole=whole)
        if good:
            restore_flow.ask(invoked(), plan, [LOSS], force=False, verb="Go back to")
        else:
            with pytest.raises(errors.Refused, match="nothing was changed"):
                restore_flow.ask(invoked(), plan, [LOSS], force=False, verb="Go back to")
        assert len(asked) == 1

    def test_a_run_in_the_way(self) -> None:
        other = runs.run(id=3)
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

    def test_rows_and_what_was_left_alone_are_told(self, capsys: pytest.CaptureFixture[str]) -> None:
        same = Untouched(category="metadata", store="flat", before=CategoryDigest(records=8, digest=255),
                         after=CategoryDigest(records=8, digest=255))  # fmt: skip
        written = dataclasses.replace(same, category="configuration", after=CategoryDigest(records=9, digest=1))
        done = dataclasses.replace(DONE, untouched=(same, written), mode_now="dual-write")
        restore_result.show(invoked(), done, of_before())
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

    def test_the_first_damages_are_told_and_all_are_in_the_document(self, capsys: pytest.CaptureFixture[str]) -> None:
        damage = Damage(file=FILE, frame=0, rows=5, why="byte 0: it is cut off", after=None, upto=("7", "x"))
        done = dataclasses.replace(
            DONE, damages=(damage,) * 25, quarantined=5, offered=4, next_steps=("hal9-migrate quarantine list",)
        )
        restore_result.show(invoked(), done, of_before())
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
        failed = of_before(
            status=model.RunStatus.FAILED, reason=f"{FILE}, frame 0: byte 0: wrong",
            options={"checkpoint": "before", "recover": recover},
        )  # fmt: skip
        found = restore_result.damaged(failed, BEFORE)
        assert found is not None
        assert (found.exit_code, found.code) == (3, "CHECKPOINT_DAMAGED")
        assert "Checkpoint before is damaged, and nothing was changed" in found.message
        assert hint in str(found.hint)

    def test_another_failure_is_none(self) -> None:
        failed = of_before(status=model.RunStatus.FAILED, reason="no space left")
        assert restore_result.damaged(failed, BEFORE) is None
        assert restore_result.damaged(failed, None) is None
        assert restore_result.damaged(of_before(status=model.RunStatus.CANCELLED, reason=FILE), BEFORE) is None
        problem = run_result.problem(failed)
        assert problem is not None
        assert problem.message == "Checkpoint before was not restored, and nothing was changed: no space left"
