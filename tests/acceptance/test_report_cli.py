"""The report of a phase: the same ledger gives the same bytes in every form, and it says what the ledger says."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from hal9mig.ledger import audit, check_results, phases, quarantine
from hal9mig.ledger.check_results import CheckOutcome, CheckVerdict
from tests.support import servers
from tests.support.live_state import World

FORMS = ("pdf", "html", "md", "json")


def written(cli: servers.Cli, folder: pathlib.Path, form: str, *more: str) -> bytes:
    result = cli("report", "--phase", "state-migration", "--output", f"r.{form}", *more)
    assert result.exit_code == 0, result.stderr
    return (folder / f"r.{form}").read_bytes()


def texts(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def test_an_empty_ledger(cli: servers.Cli, world: World, tmp_path: pathlib.Path) -> None:
    for form in FORMS:
        assert written(cli, tmp_path, form, "--detailed")
    told = written(cli, tmp_path, "md").decode()
    assert "❌ The phase is not complete." in told
    assert told.startswith("# State migration\n\n")
    assert "- Migration Start: ____" in told


def test_what_the_ledger_says(cli: servers.Cli, world: World, tmp_path: pathlib.Path) -> None:
    world.load()
    world.prepare(over=True)
    figures = {f"{store}_{name}": 1.5 for store in ("flat", "hierarchical")
               for name in ("p50_ms", "p95_ms", "p99_ms", "per_second")}  # fmt: skip
    with world.system.ledger.begin() as session:
        for name, measured in (("continuity", {}), ("benchmark:read", figures)):
            outcome = CheckOutcome(category="user-sessions", name=name, verdict=CheckVerdict.PASSED, detail="as it was",
                                   measured=measured)  # fmt: skip
            check_results.add(session, outcome, command="test", actor="ada@host")
        lines = [phases.PhaseLine(title="Data Integrity", good=True, words="100%", evidence=["all of it"])]
        found = phases.add_validation(session, "state-migration", epoch=world.line.epoch, lines=lines, actor="ada@host")
        phases.complete(session, "state-migration", validation=found.id, reason="", actor="ada@host")
        phases.attest(session, "state-migration", "spot-check-sessions", note="ten | of <them>", actor="ada@host")
        quarantine.hold(session, category="metadata", key=("7",), error="it is no \x1b[31mJSON", payload=None,
                        transform_version=1, run_id=None)  # fmt: skip
        audit.seal(session)

    for form in FORMS:
        assert written(cli, tmp_path, form, "--detailed") == written(cli, tmp_path, form, "--detailed")
    assert written(cli, tmp_path, "pdf").startswith(b"%PDF-")
    told = written(cli, tmp_path, "md", "--detailed").decode()
    migrated = world.flat_sql("SELECT count(*) FROM flat.user_sessions")[0][0]
    for text in (
        "✅ The phase is complete since", f"- User Sessions: {migrated:,}", "| hierarchical-only |",
        "✅ Certificate 1,", "✅ Data Integrity: 100%", "- [x] 10 random user sessions were looked at (ada@host,",
        "- [ ] The team's confidence is high", "1 records of metadata in quarantine", "| user-sessions | read | flat |",
        "- Operator Signature: ____", "none changed since it was sealed",
    ):  # fmt: skip
        assert text in told, text
    assert "\x1b" not in told
    page = written(cli, tmp_path, "html").decode()
    assert "&lt;them&gt;" in page
    assert "<them>" not in page
    assert "\x1b" not in page
    assert "http" not in page.replace("http-equiv", "")

    # Another state of the ledger is another report.
    before = written(cli, tmp_path, "pdf")
    assert cli("attest", "team-confidence").exit_code == 0
    assert written(cli, tmp_path, "pdf") != before
