"""The end of a phase as an operator sees it: validated, completed, attested, and void when the mode changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from hal9mig import model
from hal9mig.checks import phase_lines
from hal9mig.engine.compare import verify_report
from hal9mig.ledger import check_results, runs
from hal9mig.ledger.check_results import CheckOutcome, CheckVerdict
from tests.support import servers
from tests.support.live_state import World

Workers = Callable[..., list[servers.Running]]
PHASE = "state-migration"
VALIDATE = ("validate", "--phase", PHASE, "--comprehensive")
LINES = [
    "Data Integrity: 100%", "State Consistency: No issues", "Performance: Meets SLA", "User Sessions: Active",
    "Learning Continuity: Verified", "Configuration: Applied", "Metadata: Complete", "Neuron States: Connected",
]  # fmt: skip
#: What the commands that check leave in the ledger, by category.
EVIDENCE = {
    "user-sessions": ("continuity",), "neuron-states": ("connections", "signals"),
    "learning-data": ("recall", "gradients"), "configuration": ("compare", "reload"), "metadata": ("integrity:chain",),
}  # fmt: skip


def leave_evidence(world: World, *, but: str = "") -> None:
    """Leave in the ledger what the commands that check would, all good but one."""
    with world.system.ledger.begin() as session:
        for slug, names in EVIDENCE.items():
            for name in (*names, "benchmark:read"):
                verdict = CheckVerdict.FAILED if name == but else CheckVerdict.PASSED
                outcome = CheckOutcome(category=slug, name=name, verdict=verdict, detail="as a test has it")
                check_results.add(session, outcome, command="test", actor="test")


def newest_verify(world: World) -> int:
    with world.system.ledger.begin() as session:
        return runs.find(session, kind=model.RunKind.VERIFY, category="metadata", limit=1)[0].id


def test_from_nothing_to_the_end_and_back(cli: servers.Cli, world: World, workers: Workers) -> None:
    # Before anything was migrated nothing is shown, and nothing can be completed.
    assert "no comprehensive validation" in cli("phase", "complete", PHASE).stderr
    assert cli("validate", "--phase", PHASE).exit_code == 4
    (first, *_) = phase_lines.judge(world.system, [])
    assert (first.good, str(first)) == (False, "Data Integrity: nothing to compare")

    world.load()
    world.prepare(over=True)
    workers(1)
    told = cli(*VALIDATE)
    assert told.exit_code == 3
    assert "Data Integrity: 100%" in told.stdout
    assert "Performance: not measured" in told.stdout
    assert "reload not run" in told.stdout
    assert "✅ Learning Continuity: Verified" in told.stdout
    assert "next: hal9-migrate config test-reload --verify-application" in told.stderr

    # What the application changes while it is compared is no lack of integrity, and no proof of it either.
    with world.system.ledger.begin() as session:
        verdict = verify_report.collect(session, world.system.category("metadata"), newest_verify(world))
    moving = dataclasses.replace(verdict, verified=verdict.total - 1, moving=1)
    (first, *_) = phase_lines.judge(world.system, [moving])
    assert (first.good, str(first)) == (True, "Data Integrity: 100%")
    assert "1 changing at that moment" in first.evidence[0]
    (first, *_) = phase_lines.judge(world.system, [dataclasses.replace(verdict, verified=0, moving=verdict.total)])
    assert not first.good

    leave_evidence(world, but="signals")
    assert "signals failed" in cli(*VALIDATE).stdout
    refused = cli("phase", "complete", PHASE)
    assert (refused.exit_code, "did not pass: Neuron States: signals failed" in refused.stderr) == (4, True)

    leave_evidence(world)
    passed = cli(*VALIDATE)
    assert passed.exit_code == 0, passed.stderr
    marked = [line for line in passed.stdout.splitlines() if not line.startswith(" ")]
    assert [line.partition(" ")[2] for line in marked] == LINES
    assert cli("validate", "--phase", PHASE).stdout == passed.stdout

    assert cli.document("phase", "complete", PHASE)["changed"] is True
    assert cli.document("phase", "complete", PHASE)["changed"] is False
    assert cli("attest", "spot-check-sessions", "--note", "ten of them").exit_code == 0
    shown = cli.document("phase", "show", PHASE)
    assert shown["complete"] is True
    assert [one["note"] for one in shown["attestations"]] == ["ten of them"]

    (certificate,) = cli.document("certificates", "list")["certificates"]
    assert certificate["sound"] is True
    world.hier_sql("UPDATE hal9mig.certificates SET document = jsonb_set(document, '{actor}', '\"mallory\"')")
    assert cli("certificates", "show", str(certificate["certificate"])).exit_code == 3

    # Going back makes the completion void: it was about another mode.
    assert cli("mode", "flat-only").exit_code == 0
    assert cli.document("phase", "list")["phases"][0]["complete"] is False
    again = cli("phase", "complete", PHASE)
    assert (again.exit_code, "the write mode is flat-only" in again.stderr) == (4, True)
    forced = cli.document("phase", "complete", PHASE, "--force", "--reason", "it is given up")
    assert forced["changed"] is True
    assert cli.document("phase", "show", PHASE)["completed"]["reason"] == "it is given up"
    assert cli.document("audit", "--verify", "--limit", "3")["chain"]["sound"] is True


def test_before_anything_happened_there_is_no_certificate_and_the_chain_is_sound(cli: servers.Cli) -> None:
    cli.run("certificates", "list")
    cli.run("certificates", "show", "7", code=4)
    cli.run("audit", "--verify")
