"""Migrations on the real command line with real workers: orders, progress, and a run through its states."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from tests.support import servers
from tests.support.live_state import execute

Workers = Callable[..., list[servers.Running]]
COUNTS = {"user-sessions": 100, "neuron-states": 1000, "learning-data": 1000, "configuration": 1, "metadata": 400}
TITLES = {"user-sessions": "User Sessions", "neuron-states": "Neuron States", "learning-data": "Learning Data",
          "configuration": "Configuration", "metadata": "Metadata"}  # fmt: skip


class TestWholeMigration:
    """Everything migrated, watched and compared."""

    def test_all_categories(self, cli: servers.Cli, workers: Workers, stores: servers.Stores) -> None:
        cli.run("sample-data", "load", "--scale", "0.001")
        workers(2)

        # Before: consistent as far as it goes, which is nowhere, and that can be seen.
        lines = cli.run("state", "verify", "--deep", "--compare", "flat,hierarchical").stdout.splitlines()
        assert lines == [f"✅ {TITLES[slug]}: 100% consistent  (0 of {n:,} migrated)" for slug, n in COUNTS.items()]
        nothing = cli.run("state", "verify", "--all-categories", code=3)
        assert nothing.stdout.splitlines()[5:] == [
            "Total Records: 2,501", "Verified: 0 (0.0%)", "Mismatches: 0", "Missing: 0", "Extra: 0",
            "Not migrated: 2,501",
        ]  # fmt: skip
        assert "2,501 records not migrated yet" in nothing.stderr

        plan = cli.document("state", "migrate", "--category", "all", "--dry-run")
        assert {one["category"]: one["records"] for one in plan["plans"]} == COUNTS
        assert execute(stores.hier_url, "SELECT count(*) FROM hal9mig.runs WHERE kind = 'migrate'")[0][0] == 0

        done = cli.run("state", "migrate", "--category", "all", timeout=200)
        lines = done.stdout.splitlines()
        assert [line.partition(";")[0] for line in lines] == [f"✅ {slug}: succeeded" for slug in COUNTS]
        for line, (slug, count) in zip(lines, COUNTS.items(), strict=True):
            assert f"{count:,} of {count:,} record" in line
            assert "/s; 0 quarantined (run " in line, slug

        rows = [line.split("\t") for line in cli.run("state", "progress").stdout.splitlines()]
        assert rows[0][:4] == ["CATEGORY", "RUN", "STATE", "RECORDS"]
        assert [(row[0], row[2], row[3], row[5]) for row in rows[1:]] == [
            (slug, "succeeded", f"{count:,}", "100%") for slug, count in COUNTS.items()
        ]
        standing = cli.document("state", "status")
        assert {one["category"]: one["migrated"] for one in standing["categories"]} == COUNTS
        assert {one["category"]: one["flat_records"] for one in standing["categories"]} == COUNTS
        assert standing["workers"] == {"alive": 2, "slots": 2}
        assert {one["state"] for one in standing["schemas"]} == {"current"}

        told = cli.run("state", "verify", "--all-categories", "--checksums", "--cross-reference")
        assert told.stdout.splitlines() == [
            *(f"✅ {TITLES[slug]}: 100% consistent  ({n:,} of {n:,} migrated)" for slug, n in COUNTS.items()),
            "Total Records: 2,501", "Verified: 2,501 (100%)", "Mismatches: 0", "Missing: 0", "Extra: 0",
        ]  # fmt: skip
        assert cli.run("state", "diff").stdout == ""

        stats = cli.document("state", "stats", "--resources")
        assert len(stats["workers"]) == 2
        assert all(worker["memory_bytes"] > 0 for worker in stats["workers"])
        assert set(stats["databases"]) == {"flat", "hierarchical"}
        assert stats["queue"]["messages"] == 0

        # A second run finds everything there, says so and is fine.
        again = cli.document("state", "migrate", "--category", "neuron-states")
        assert again["runs"][0]["records"] == {"done": 1000, "total": 1000, "quarantined": 0}
        assert again["next_steps"] == ["hal9-migrate state verify --category neuron-states"]

    @pytest.mark.long
    def test_the_runbooks_filters_and_modes(self, cli: servers.Cli, workers: Workers, stores: servers.Stores) -> None:
        cli.run("sample-data", "load", "--scale", "0.001")
        workers(1)
        for words in (
            ["user-sessions", "--filter", "active=true", "--priority", "high"],
            ["user-sessions", "--filter", "active=false", "--batch-mode", "--low-priority"],
            *(
                ["neuron-states", "--filter", f"layer={layer}", "--validate-each", "--checkpoint-interval", "1000"]
                for layer in ("substrate", "protocol", "cognitive", "orchestration", "intelligence")
            ),
            ["configuration", "--atomic", "--verify-each"],
            ["metadata", "--type", "metrics,logs,traces"],
            ["metadata", "--type", "audit", "--preserve-order"],
        ):
            cli.run("state", "migrate", "--category", *words)
        verified = cli.document("state", "verify", "--category", "user-sessions,neuron-states,metadata")
        assert verified["consistent"]
        assert verified["covered"]
        assert verified["totals"]["verified"] == 1500
        found = cli.document("runs", "list")["runs"]
        by_filter = {(one["category"], one["filter"]): one for one in found}
        assert by_filter["user-sessions", "active=true"]["priority"] == "high"
        assert by_filter["user-sessions", "active=false"]["options"]["bulk"] is True
        assert by_filter["configuration", None]["options"]["atomic"] is True
        assert by_filter["metadata", "type in audit"]["serial"] is True
        tuned = by_filter["neuron-states", "layer=substrate"]["options"]["tuning"]
        assert tuned == {"validation-mode": "strict", "checkpoint-interval": "1000"}
        standing = cli.document("state", "status")["categories"]
        assert next(one for one in standing if one["category"] == "neuron-states")["migrated"] == 1000


class TestSteering:
    """Detaching, limits, pausing, cancelling, and coming back."""

    def test_a_run_through_its_states(self, cli: servers.Cli, workers: Workers, stores: servers.Stores) -> None:
        cli.run("sample-data", "load", "--scale", "0.001", "--category", "neuron-states")
        cli.run("configure", "state-migration", "--rate-limit", "20/s")
        workers(1)
        started = cli.run("state", "migrate", "--category", "neuron-states", "--detach")
        number = started.stdout.strip()
        assert number.isdecimal()
        assert f"watch: hal9-migrate runs show {number} --watch" in started.stderr

        twice = cli.run("state", "migrate", "--category", "neuron-states", code=4)
        assert "is being migrated already" in twice.stderr
        assert f"hint: hal9-migrate runs show {number}" in twice.stderr

        late = cli.run("runs", "show", number, "--timeout", "1s", code=124)
        assert f"run {number} goes on" in late.stderr
        assert cli.run("runs", "pause", number).stdout.startswith(f"run {number} of neuron-states: paus")
        paused = cli.run("runs", "show", number, "--watch", code=1)
        assert f"hint: hal9-migrate runs resume {number}" in paused.stderr
        assert cli.document("runs", "list", "--active")["runs"][0]["status"] == "paused"
        before = cli.document("state", "progress")["runs"][0]["records"]["done"]
        assert before < 1000
        cli.run("runs", "resume", number)
        cli.run("runs", "cancel", number)
        cancelled = cli.run("runs", "show", number, "--watch", code=1)
        assert f"hint: hal9-migrate runs retry {number}" in cancelled.stderr
        cli.run("runs", "pause", number, code=4)
        cli.run("runs", "retry", number)
        cli.run("configure", "state-migration", "--rate-limit", "off")
        ended = cli.run("runs", "show", number, "--watch")
        assert ended.stdout.startswith("✅ neuron-states: succeeded; 1,000 of 1,000 records")
        shown = cli.document("runs", "show", number)["run"]
        assert sum(batch["records"] for batch in shown["batch_list"] if batch["kind"] == "copy") == 1000
        assert [event["action"] for event in reversed(shown["events"])] == [
            "migrate started", "pause", "resume", "cancel", "retry",
        ]  # fmt: skip
        cli.run("runs", "show", "999", code=4)

    def test_an_interrupt_detaches(self, cli: servers.Cli, workers: Workers, stores: servers.Stores) -> None:
        cli.run("sample-data", "load", "--scale", "0.001", "--category", "neuron-states")
        workers(1)
        command = cli.start("state", "migrate", "--category", "neuron-states,metadata", "--rate-limit", "200/s")
        deadline = time.monotonic() + 30
        while not execute(stores.hier_url, "SELECT coalesce(sum(records), 0) FROM hal9mig.batches WHERE kind = 'copy'")[
            0
        ][0]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=20)
        assert command.returncode == 130, err
        assert out == ""
        assert "not started: metadata" in err
        number = execute(stores.hier_url, "SELECT max(id) FROM hal9mig.runs")[0][0]
        assert f"run {number} goes on on the workers" in err
        assert f"hal9-migrate runs show {number} --watch" in err
        assert "Traceback" not in err
        cli.run("runs", "show", str(number), "--watch")

    def test_progress_in_lines_says_why_it_waits(self, cli: servers.Cli, stores: servers.Stores) -> None:
        cli.run("sample-data", "load", "--scale", "0.001", "--category", "user-sessions")
        told = cli.run("state", "migrate", "--category", "user-sessions", "--timeout", "11s", code=124)
        lines = told.stderr.splitlines()
        assert lines[0].startswith("run 1: user-sessions, 100 records in 1 batch, about ")
        assert lines[1] == "warning: no worker is alive; the run waits until one is"
        assert lines[2] == "user-sessions: 0/100 0.0%; 0/s; state: waiting (no worker is alive)"
        rows = cli.run("state", "progress", "--category", "user-sessions")
        assert rows.stdout.splitlines()[1].split("\t")[2] == "waiting (no worker is alive)"
