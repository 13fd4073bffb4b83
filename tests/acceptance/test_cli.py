"""The real command line with real workers: orders, progress, verdicts, and what it refuses."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pytest

from tests.support import servers

Workers = Callable[..., list[servers.Running]]
COUNTS = {"user-sessions": 100, "neuron-states": 1000, "learning-data": 1000, "configuration": 1, "metadata": 400}
TITLES = {"user-sessions": "User Sessions", "neuron-states": "Neuron States", "learning-data": "Learning Data",
          "configuration": "Configuration", "metadata": "Metadata"}  # fmt: skip


@contextlib.contextmanager
def cursor(url: str) -> Iterator[Any]:
    """Open a cursor and commit at the end."""
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as opened:
            yield opened
    finally:
        connection.close()


def scalar(url: str, sql: str) -> Any:
    """Return the one value of a query."""
    with cursor(url) as opened:
        opened.execute(sql)
        row = opened.fetchone()
        return row[0] if row else None


def execute(url: str, sql: str) -> None:
    """Run a statement."""
    with cursor(url) as opened:
        opened.execute(sql)


def load(cli: servers.Cli, *options: str) -> None:
    """Load 2,501 records of sample data."""
    assert cli("sample-data", "load", "--scale", "0.001", *options).exit_code == 0


def ok(result: servers.CliResult, code: int = 0) -> servers.CliResult:
    """Check an exit code, and that there is no traceback."""
    assert result.exit_code == code, f"{result.stdout}\n{result.stderr}"
    assert "Traceback" not in result.stderr
    return result


def document(result: servers.CliResult, code: int = 0) -> Any:
    """Return the one JSON document of a command."""
    found = json.loads(ok(result, code).stdout)
    assert found["schema"] == 1
    assert ("error" in found) == (code != 0)
    if code:
        assert found["error"]["exit_code"] == code
    return found


class TestWholeMigration:
    """Everything migrated, watched and compared."""

    def test_all_categories(self, cli: servers.Cli, workers: Workers, stores: servers.Stores) -> None:
        load(cli)
        workers(2)

        # Before: consistent as far as it goes, which is nowhere, and that can be seen.
        lines = ok(cli("state", "verify", "--deep", "--compare", "flat,hierarchical")).stdout.splitlines()
        assert lines == [f"✅ {TITLES[slug]}: 100% consistent  (0 of {n:,} migrated)" for slug, n in COUNTS.items()]
        nothing = ok(cli("state", "verify", "--all-categories"), 3)
        assert nothing.stdout.splitlines()[5:] == [
            "Total Records: 2,501", "Verified: 0 (0.0%)", "Mismatches: 0", "Missing: 0", "Extra: 0",
            "Not migrated: 2,501",
        ]  # fmt: skip
        assert "2,501 records not migrated yet" in nothing.stderr

        plan = document(cli("state", "migrate", "--category", "all", "--dry-run", "--json"))
        assert {one["category"]: one["records"] for one in plan["plans"]} == COUNTS
        assert scalar(stores.hier_url, "SELECT count(*) FROM hal9mig.runs WHERE kind = 'migrate'") == 0

        done = ok(cli("state", "migrate", "--category", "all", timeout=200))
        lines = done.stdout.splitlines()
        assert [line.partition(";")[0] for line in lines] == [f"✅ {slug}: succeeded" for slug in COUNTS]
        for line, (slug, count) in zip(lines, COUNTS.items(), strict=True):
            assert f"{count:,} of {count:,} record" in line
            assert "/s; 0 quarantined (run " in line, slug

        rows = [line.split("\t") for line in ok(cli("state", "progress")).stdout.splitlines()]
        assert rows[0][:4] == ["CATEGORY", "RUN", "STATE", "RECORDS"]
        assert [(row[0], row[2], row[3], row[5]) for row in rows[1:]] == [
            (slug, "succeeded", f"{count:,}", "100%") for slug, count in COUNTS.items()
        ]
        standing = document(cli("state", "status", "--json"))
        assert {one["category"]: one["migrated"] for one in standing["categories"]} == COUNTS
        assert {one["category"]: one["flat_records"] for one in standing["categories"]} == COUNTS
        assert standing["workers"] == {"alive": 2, "slots": 2}
        assert {one["state"] for one in standing["schemas"]} == {"current"}

        told = ok(cli("state", "verify", "--all-categories", "--checksums", "--cross-reference"))
        assert told.stdout.splitlines() == [
            *(f"✅ {TITLES[slug]}: 100% consistent  ({n:,} of {n:,} migrated)" for slug, n in COUNTS.items()),
            "Total Records: 2,501", "Verified: 2,501 (100%)", "Mismatches: 0", "Missing: 0", "Extra: 0",
        ]  # fmt: skip
        assert ok(cli("state", "diff")).stdout == ""

        stats = document(cli("state", "stats", "--resources", "--json"))
        assert len(stats["workers"]) == 2
        assert all(worker["memory_bytes"] > 0 for worker in stats["workers"])
        assert set(stats["databases"]) == {"flat", "hierarchical"}
        assert stats["queue"]["messages"] == 0

        # A second run finds everything there, says so and is fine.
        again = document(cli("state", "migrate", "--category", "neuron-states", "--json"))
        assert again["runs"][0]["records"] == {"done": 1000, "total": 1000, "quarantined": 0}
        assert again["next_steps"] == ["hal9-migrate state verify --category neuron-states"]

    @pytest.mark.long
    def test_the_runbooks_filters_and_modes(self, cli: servers.Cli, workers: Workers, stores: servers.Stores) -> None:
        load(cli)
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
            ok(cli("state", "migrate", "--category", *words))
        verified = document(cli("state", "verify", "--json", "--category", "user-sessions,neuron-states,metadata"))
        assert verified["consistent"]
        assert verified["covered"]
        assert verified["totals"]["verified"] == 1500
        found = document(cli("runs", "list", "--json"))["runs"]
        by_filter = {(one["category"], one["filter"]): one for one in found}
        assert by_filter["user-sessions", "active=true"]["priority"] == "high"
        assert by_filter["user-sessions", "active=false"]["options"]["bulk"] is True
        assert by_filter["configuration", None]["options"]["atomic"] is True
        assert by_filter["metadata", "type in audit"]["serial"] is True
        tuned = by_filter["neuron-states", "layer=substrate"]["options"]["tuning"]
        assert tuned == {"validation-mode": "strict", "checkpoint-interval": "1000"}
        standing = document(cli("state", "status", "--json"))["categories"]
        assert next(one for one in standing if one["category"] == "neuron-states")["migrated"] == 1000


class TestDifferences:
    """What a comparison finds, and how it says so."""

    def test_each_kind_is_counted_listed_and_reported(
        self, cli: servers.Cli, workers: Workers, stores: servers.Stores, tmp_path: Any
    ) -> None:
        load(cli, "--category", "neuron-states,metadata")
        workers(1)
        ok(cli("state", "migrate", "--category", "neuron-states,metadata"))
        keys = [str(scalar(stores.flat_url, f"SELECT neuron_id FROM flat.neuron_states ORDER BY 1 OFFSET {at} LIMIT 1"))
                for at in (0, 500)]  # fmt: skip
        execute(stores.hier_url, f"UPDATE hier.units SET activation = activation + 1 WHERE unit_id = '{keys[0]}'")
        execute(stores.hier_url, f"DELETE FROM hier.units WHERE unit_id = '{keys[1]}'")
        execute(stores.flat_url, "DELETE FROM flat.operational_metadata WHERE id = 1")

        told = ok(cli("state", "verify", "--category", "neuron-states,metadata", "--report", "report.json"), 3)
        neurons = "❌ Neuron States: 99.8% consistent  (1,000 of 1,000 migrated; 1 mismatch, 1 missing, 0 extra)"
        assert told.stdout.splitlines() == [
            neurons,
            "❌ Metadata: 99.8% consistent  (399 of 399 migrated; 0 mismatches, 0 missing, 1 extra)",
        ]
        assert told.stderr.splitlines()[-2:] == [
            "error: The two stores differ: neuron-states, metadata.",
            "  hint: hal9-migrate state diff --category neuron-states,metadata --verbose",
        ]
        report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
        assert (report["consistent"], report["totals"]["mismatches"]) == (False, 1)
        assert [path.name for path in tmp_path.iterdir() if "report" in path.name] == ["report.json"]

        totals = ok(cli("state", "verify", "--category", "neuron-states", "--checksums"), 3).stdout.splitlines()
        assert totals[1:] == [
            "Total Records: 1,000", "Verified: 998 (99.8%)", "Mismatches: 1", "Missing: 1", "Extra: 0",
        ]  # fmt: skip

        plain = ok(cli("state", "diff"), 3).stdout.splitlines()
        assert [line.split("\t") for line in plain] == [
            ["CATEGORY", "DIFFERENCE", "KEY", "FIELDS"],
            ["neuron-states", "mismatch", keys[0], "activation"],
            ["neuron-states", "missing", keys[1], "-"],
            ["metadata", "extra", "1", "-"],
        ]
        verbose = ok(cli("state", "diff", "--systems", "flat,hierarchical", "--verbose"), 3).stdout.splitlines()
        assert verbose[0].split("\t") == ["CATEGORY", "DIFFERENCE", "KEY", "FIELD", "FLAT", "HIERARCHICAL"]
        _, _, _, field, flat, hier = verbose[1].split("\t")
        assert field == "activation"
        assert float(hier) == pytest.approx(float(flat) + 1, abs=1e-5)
        stream = ok(cli("state", "diff", "--jsonl"), 3)
        kinds = [json.loads(line)["difference"] for line in stream.stdout.splitlines()]
        assert kinds == ["mismatch", "missing", "extra"]
        assert document(cli("state", "diff", "--json"), 3)["counted"] == 3

        # A run that was compared can be looked at again.
        number = scalar(stores.hier_url, "SELECT max(id) FROM hal9mig.runs WHERE category = 'neuron-states'")
        assert ok(cli("runs", "show", str(number), "--watch"), 3).stdout.splitlines() == [neurons]

    def test_a_report_needs_its_folder_before_anything_starts(self, cli: servers.Cli, stores: servers.Stores) -> None:
        told = ok(cli("state", "verify", "--report", "nowhere/report.json"), 4)
        assert "nowhere" in told.stderr
        assert scalar(stores.hier_url, "SELECT count(*) FROM hal9mig.runs") == 0

    def test_verdicts_without_unicode(self, cli: servers.Cli, workers: Workers) -> None:
        load(cli, "--category", "configuration")
        workers(1)
        told = ok(cli("state", "verify", "--category", "configuration", env={"PYTHONIOENCODING": "ascii"}))
        assert told.stdout == "[ok] Configuration: 100% consistent  (0 of 1 migrated)\n"


class TestQuarantine:
    """Records that cannot be migrated."""

    def test_from_held_to_released_gone_and_dropped(
        self, cli: servers.Cli, workers: Workers, stores: servers.Stores
    ) -> None:
        load(cli, "--category", "learning-data")
        execute(
            stores.flat_url,
            "CREATE TABLE kept AS SELECT pattern_id, payload FROM flat.learning_data ORDER BY 1 LIMIT 4; "
            "UPDATE flat.learning_data SET payload = 'xx', version = version + 1 "
            "WHERE pattern_id IN (SELECT pattern_id FROM kept)",
        )
        workers(1)
        told = ok(cli("state", "migrate", "--category", "learning-data"), 3)
        assert told.stdout.startswith("❌ learning-data: succeeded; 996 of 1,000 records")
        assert "4 records of learning-data could not be migrated" in told.stderr
        assert "hint: hal9-migrate quarantine list --category learning-data" in told.stderr

        records = document(cli("quarantine", "list", "--json"))["records"]
        assert len(records) == 4
        fixed, gone, broken, dropped = (record["id"] for record in records)
        shown = document(cli("quarantine", "show", str(fixed), "--json"))["record"]
        assert shown["payload"]["payload"] == "\\x7878"
        assert shown["error"]
        assert '"payload": "\\\\x7878"' in ok(cli("quarantine", "show", str(fixed))).stdout
        line = ok(cli("state", "verify"), 3).stdout.splitlines()[2]
        assert line.endswith("(1,000 of 1,000 migrated; 0 mismatches, 0 missing, 0 extra, 4 quarantined)")

        key = {record["id"]: record["key"][0] for record in records}
        execute(
            stores.flat_url,
            f"UPDATE flat.learning_data l SET payload = k.payload, version = version + 1 FROM kept k "
            f"WHERE l.pattern_id = k.pattern_id AND l.pattern_id = '{key[fixed]}'; "
            f"DELETE FROM flat.learning_data WHERE pattern_id = '{key[gone]}'",
        )
        refused = ok(cli("quarantine", "drop", str(dropped)), 4)
        assert "hint: add --yes" in refused.stderr
        assert len(document(cli("quarantine", "list", "--json"))["records"]) == 4
        assert ok(cli("quarantine", "drop", str(dropped), "--yes")).stdout.endswith("dropped\n")
        ok(cli("quarantine", "drop", str(dropped), "--yes"), 4)

        retried = document(cli("quarantine", "retry", "--all", "--json"), 3)
        assert [(one["id"], one["outcome"]) for one in retried["records"]] == [
            (fixed, "released"), (gone, "gone"), (broken, "held"),
        ]  # fmt: skip
        held = document(cli("quarantine", "list", "--json"))["records"]
        assert [(record["id"], record["attempts"]) for record in held] == [(broken, 2)]
        ok(cli("quarantine", "retry", str(fixed)), 4)
        ok(cli("quarantine", "show", "999"), 4)
        actions = scalar(stores.hier_url, "SELECT string_agg(action, ',' ORDER BY id) FROM hal9mig.events")
        assert actions.count("quarantine retry") == 3
        assert actions.count("quarantine drop") == 1


class TestSteering:
    """Detaching, limits, pausing, cancelling, and coming back."""

    def test_a_run_through_its_states(self, cli: servers.Cli, workers: Workers, stores: servers.Stores) -> None:
        load(cli, "--category", "neuron-states")
        ok(cli("configure", "state-migration", "--rate-limit", "20/s"))
        workers(1)
        started = ok(cli("state", "migrate", "--category", "neuron-states", "--detach"))
        number = started.stdout.strip()
        assert number.isdecimal()
        assert f"watch: hal9-migrate runs show {number} --watch" in started.stderr

        twice = ok(cli("state", "migrate", "--category", "neuron-states"), 4)
        assert "is being migrated already" in twice.stderr
        assert f"hint: hal9-migrate runs show {number}" in twice.stderr

        late = ok(cli("runs", "show", number, "--timeout", "1s"), 124)
        assert f"run {number} goes on" in late.stderr
        assert ok(cli("runs", "pause", number)).stdout.startswith(f"run {number} of neuron-states: paus")
        paused = ok(cli("runs", "show", number, "--watch"), 1)
        assert f"hint: hal9-migrate runs resume {number}" in paused.stderr
        assert document(cli("runs", "list", "--active", "--json"))["runs"][0]["status"] == "paused"
        before = document(cli("state", "progress", "--json"))["runs"][0]["records"]["done"]
        assert before < 1000
        ok(cli("runs", "resume", number))
        ok(cli("runs", "cancel", number))
        cancelled = ok(cli("runs", "show", number, "--watch"), 1)
        assert f"hint: hal9-migrate runs retry {number}" in cancelled.stderr
        ok(cli("runs", "pause", number), 4)
        ok(cli("runs", "retry", number))
        ok(cli("configure", "state-migration", "--rate-limit", "off"))
        ended = ok(cli("runs", "show", number, "--watch"))
        assert ended.stdout.startswith("✅ neuron-states: succeeded; 1,000 of 1,000 records")
        shown = document(cli("runs", "show", number, "--json"))["run"]
        assert sum(batch["records"] for batch in shown["batch_list"] if batch["kind"] == "copy") == 1000
        assert [event["action"] for event in reversed(shown["events"])] == [
            "migrate started", "pause", "resume", "cancel", "retry",
        ]  # fmt: skip
        ok(cli("runs", "show", "999"), 4)

    def test_an_interrupt_detaches(self, cli: servers.Cli, workers: Workers, stores: servers.Stores) -> None:
        load(cli, "--category", "neuron-states")
        workers(1)
        command = cli.start("state", "migrate", "--category", "neuron-states,metadata", "--rate-limit", "200/s")
        deadline = time.monotonic() + 30
        while not scalar(stores.hier_url, "SELECT coalesce(sum(records), 0) FROM hal9mig.batches WHERE kind = 'copy'"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=20)
        assert command.returncode == 130, err
        assert out == ""
        assert "not started: metadata" in err
        number = scalar(stores.hier_url, "SELECT max(id) FROM hal9mig.runs")
        assert f"run {number} goes on on the workers" in err
        assert f"hal9-migrate runs show {number} --watch" in err
        assert "Traceback" not in err
        ok(cli("runs", "show", str(number), "--watch"))

    def test_progress_in_lines_says_why_it_waits(self, cli: servers.Cli, stores: servers.Stores) -> None:
        load(cli, "--category", "user-sessions")
        told = ok(cli("state", "migrate", "--category", "user-sessions", "--timeout", "11s"), 124)
        lines = told.stderr.splitlines()
        assert lines[0].startswith("run 1: user-sessions, 100 records in 1 batch, about ")
        assert lines[1] == "warning: no worker is alive; the run waits until one is"
        assert lines[2] == "user-sessions: 0/100 0.0%; 0/s; state: waiting (no worker is alive)"
        rows = ok(cli("state", "progress", "--category", "user-sessions"))
        assert rows.stdout.splitlines()[1].split("\t")[2] == "waiting (no worker is alive)"


class TestConfiguring:
    """The tuning plane from the command line."""

    def test_it_merges_says_what_it_means_and_warns(self, cli: servers.Cli, stores: servers.Stores) -> None:
        load(cli, "--category", "neuron-states")
        # As large as HAL9's own, as far as the statistics know.
        execute(
            stores.flat_cluster.admin_url(f"flat_{stores.name}"),
            "UPDATE pg_class SET reltuples = 1000000 WHERE oid = 'flat.neuron_states'::regclass",
        )
        told = ok(cli("configure", "state-migration", "--batch-size", "1000", "--rate-limit", "100/s",
                      "--parallel-workers", "4", "--validation-mode", "strict"))  # fmt: skip
        rows = {line.split("\t")[0]: line.split("\t")[1] for line in told.stdout.splitlines() if "\t" in line}
        assert (rows["batch-size"], rows["rate-limit"], rows["parallel-workers"]) == ("1000", "100/s", "4")
        assert "A batch is 100 records, one second of the budget." in told.stdout.splitlines()
        assert "neuron-states: about 1,000,000 records in 2h46m at 100/s" in told.stdout.splitlines()
        assert "warning: neuron-states takes 2h46m at 100/s, longer than the 2h00m planned for it" in told.stderr
        assert "warning: parallel-workers is 4, but only 0 worker slots are alive" in told.stderr

        ok(cli("configure", "state-migration", "--rate-limit", "50/s"))
        for bad in (["--batch-size", "0"], ["--rate-limit", "5/week"], ["--batch-size", "5", "--rate-limit", "-1/s"],
                    ["--parallel-workers", "-2"], ["--validation-mode", "sample:0"]):  # fmt: skip
            ok(cli("configure", "state-migration", *bad), 2)
        values = {one["name"]: one for one in document(cli("configure", "state-migration", "--json"))["values"]}
        assert {name: one["value"] for name, one in values.items()} == {
            "batch-size": "1000", "rate-limit": "50/s", "parallel-workers": "4", "validation-mode": "strict",
            "checkpoint-interval": "2500", "batch-bytes": "8MB", "quarantine-policy": "0",
            "max-impact": "off", "max-replica-lag": "10s", "impact-query": "off",
        }  # fmt: skip
        assert values["batch-bytes"]["origin"] == "default"
        assert "@" in values["rate-limit"]["origin"]
        assert scalar(stores.hier_url, "SELECT count(*) FROM hal9mig.events WHERE action = 'configure'") == 2

    def test_settings_with_their_origin_and_without_secrets(self, cli: servers.Cli) -> None:
        told = ok(cli("configure", "show", "--origin", env={"HAL9_FLOWER_AUTH": "me:geheim"}))
        rows = {line.split("\t")[0]: line.split("\t") for line in told.stdout.splitlines()}
        assert rows["SETTING"][:3] == ["SETTING", "VALUE", "ORIGIN"]
        assert "***" in rows["stores.flat_url"][1]
        assert rows["stores.flat_url"][2] == "environment HAL9_FLAT_URL"
        assert rows["lease.duration"][1] == "3s"
        assert rows["stack.flower_auth"][1] == "***"
        assert "geheim" not in told.stdout


class TestRefusals:
    """What goes wrong before it begins: a clear error, its exit code, and nothing changed."""

    MIGRATE = ("state", "migrate", "--category", "user-sessions")

    def refused(
        self,
        cli: servers.Cli,
        stores: servers.Stores,
        code: int,
        *words: str,
        env: dict[str, str] | None = None,
        arguments: tuple[str, ...] = MIGRATE,
    ) -> str:
        """Run a command that is refused and return what it said; no run has begun."""
        told = ok(cli(*arguments, env=env), code)
        assert told.stdout == ""
        first = told.stderr.splitlines()[0]
        assert first.startswith("error: ")
        for word in words:
            assert word in told.stderr
        written = json.loads(ok(cli("--json", *arguments, env=env), code).stdout)
        assert f"error: {written['error']['message']}" == first
        assert scalar(stores.hier_url, "SELECT count(*) FROM hal9mig.runs") == 0
        return told.stderr

    def test_a_wrong_order(self, cli: servers.Cli, stores: servers.Stores) -> None:
        base = self.MIGRATE
        for arguments, words in (
            (("state", "migrate", "--category", "sessions"), ["'sessions'", "user-sessions"]),
            ((*base, "--filter", "colour=red"), ["'colour'", "fields of user-sessions"]),
            ((*base, "--filter", "active=perhaps"), ["active=perhaps", "perhaps", "active (boolean)"]),
            ((*base, "--rate-limit", "10/day"), ["10/day", "100/s"]),
            ((*base, "--batch-mode", "--verify-each"), ["--batch-mode and --validate-each exclude each other"]),
            ((*base, "--batch-size", "0"), ["--batch-size"]),
            ((*base, "--checkpoint-interval", "-1"), ["--checkpoint-interval"]),
        ):
            self.refused(cli, stores, 2, *words, arguments=arguments)

    def test_a_server_that_is_down(self, cli: servers.Cli, stores: servers.Stores) -> None:
        gone = "postgresql://hal9:geheim@127.0.0.1:1/flat"
        for name in ("HAL9_FLAT_URL", "HAL9_HIER_URL"):
            said = self.refused(cli, stores, 5, "127.0.0.1:1", "cannot be reached", "hint: ", env={name: gone})
            assert "geheim" not in said
        said = self.refused(cli, stores, 5, "Redis", "hint: ", env={"HAL9_REDIS_URL": "redis://:geheim@127.0.0.1:1/0"})
        assert "geheim" not in said
        # What only reads the ledger does without Redis.
        ok(cli("state", "progress", env={"HAL9_REDIS_URL": "redis://127.0.0.1:1/0"}))
        told = ok(cli("state", "stats", env={"HAL9_REDIS_URL": "redis://127.0.0.1:1/0"}))
        assert "Queue: unknown" in told.stdout
        ok(cli("state", "status", env={"HAL9_HIER_URL": gone}), 5)

    def test_wrong_credentials(self, cli: servers.Cli, stores: servers.Stores) -> None:
        for name, url in (("HAL9_FLAT_URL", stores.flat_url), ("HAL9_HIER_URL", stores.hier_url)):
            head, _, tail = url.rpartition("@")
            user = head.rpartition(":")[0]
            wrong = f"{user}:geheim%40@{tail}"
            said = self.refused(cli, stores, 5, "refused the login", "configure show", env={name: wrong})
            assert "geheim" not in said
            said = self.refused(cli, stores, 2, "hint: write it as %40", env={name: f"{user}:ge@heim@{tail}"})
            assert "heim" not in said
            assert document(cli(*self.MIGRATE, "--json", env={name: wrong}), 5)["error"]["code"] == "LOGIN_REFUSED"
        host = stores.redis_url.rpartition("@")[2]
        said = self.refused(cli, stores, 5, "Redis", env={"HAL9_REDIS_URL": f"redis://:geheim@{host}"})
        assert "geheim" not in said

    def test_a_schema_that_is_behind(self, cli: servers.Cli, stores: servers.Stores) -> None:
        execute(stores.hier_url, "UPDATE hier.alembic_version SET version_num = '0000'")
        self.refused(cli, stores, 4, "hier is at 0000", "hint: hal9-migrate db upgrade")
        assert "hier behind (0000)" in ok(cli("state", "status"), 4).stdout
        assert document(cli("db", "check", "--json"), 4)["next_steps"] == ["hal9-migrate db upgrade"]
        ok(cli("state", "verify"), 4)

    def test_no_schema_at_all(self, cli: servers.Cli, stores: servers.Stores) -> None:
        empty = {"HAL9_HIER_URL": stores.hier_cluster.create_database(f"empty_{stores.name}")}
        for arguments in (self.MIGRATE, ("state", "progress"), ("runs", "list"), ("quarantine", "list"),
                          ("configure", "state-migration")):  # fmt: skip
            told = ok(cli(*arguments, env=empty), 4)
            assert "hint: hal9-migrate db upgrade" in told.stderr
        ok(cli("db", "upgrade", "--dry-run", env=empty))
        ok(cli("runs", "list", env=empty), 4)
        told = ok(cli("db", "upgrade", env=empty))
        assert "upgraded: hier, hal9mig" in told.stderr
        assert "up to date already" in ok(cli("db", "upgrade", env=empty)).stderr
        ok(cli("db", "check", env=empty))
        ok(cli("runs", "list", env=empty))
        stores.hier_cluster.drop_database(f"empty_{stores.name}")

    def test_a_missing_source_column_or_table(self, cli: servers.Cli, stores: servers.Stores) -> None:
        execute(stores.flat_url, "ALTER TABLE flat.user_sessions DROP COLUMN user_agent")
        self.refused(cli, stores, 4, "flat.user_sessions.user_agent is missing", "category=user-sessions", "db check")
        execute(stores.flat_url, "DROP TABLE flat.user_sessions CASCADE")
        self.refused(cli, stores, 4, "table flat.user_sessions is missing")
        told = ok(cli("db", "check"), 4)
        assert "❌ user-sessions: " in told.stdout
        assert "✅ neuron-states: both stores have what it declares" in told.stdout
        # Of several, none is begun when one cannot be.
        self.refused(cli, stores, 4, arguments=("state", "migrate", "--category", "all"))

    def test_foreign_rows_in_the_target(self, cli: servers.Cli, workers: Workers, stores: servers.Stores) -> None:
        load(cli, "--category", "configuration")
        workers(1)
        ok(cli("state", "migrate", "--category", "configuration"))
        # As if another program had written them: the ledger knows of no run.
        execute(stores.hier_url, "TRUNCATE hal9mig.runs CASCADE")
        arguments = ("state", "migrate", "--category", "configuration")
        said = self.refused(cli, stores, 4, "no run has written", "--merge", "state diff", arguments=arguments)
        assert "where: table=hier." in said
        self.refused(cli, stores, 4, "needs a yes", "hint: add --yes", arguments=(*arguments, "--merge"))
        ok(cli(*arguments, "--merge", "--dry-run"))
        ok(cli(*arguments, "--merge", "--yes"))
        ok(cli("state", "verify", "--category", "configuration", "--checksums"))


def test_a_reader_that_leaves_is_no_error(stack_env: dict[str, str]) -> None:
    done = subprocess.run(
        f"{sys.executable} -m hal9mig.cli help exit-codes | true", shell=True, env=stack_env, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == ""


def test_every_command_answers_in_json(cli: servers.Cli) -> None:
    for words in (
        "state progress", "state status", "state stats --resources", "runs list", "quarantine list", "db check",
        "db upgrade --dry-run", "configure show", "configure state-migration", "help exit-codes",
    ):  # fmt: skip
        for arguments in (["--json", *words.split()], [*words.split(), "--json"]):
            told = cli(*arguments)
            assert document(told)
            assert told.stderr == ""
