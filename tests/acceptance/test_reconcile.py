"""Reconciling as an operator has it: real workers, real beats, the real command line."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pytest

from tests.support import servers

SLUG = "neuron-states"
BREAK = (
    "UPDATE hier.units SET activation = activation + 1 "
    "WHERE unit_id IN (SELECT unit_id FROM hier.units ORDER BY 1 LIMIT {})"
)
AHEAD = (
    "UPDATE hier.units SET activation = 7, source_version = source_version + 9 "
    "WHERE unit_id IN (SELECT unit_id FROM hier.units ORDER BY 1 DESC LIMIT 1)"
)
Workers = Callable[..., list[servers.Running]]
Beat = Callable[..., servers.Running]


class Place:
    """The stores of a test, and what is done to them."""

    def __init__(self, cli: servers.Cli, stores: servers.Stores, folder: pathlib.Path):
        self.cli = cli
        self.log = folder / "log" / "reconciliation.log"
        self._flat = psycopg2.connect(stores.flat_url)
        self._hier = psycopg2.connect(stores.hier_url)
        self._flat.autocommit = self._hier.autocommit = True

    def close(self) -> None:
        self._flat.close()
        self._hier.close()

    def flat(self, sql: str) -> Any:
        return _value(self._flat, sql)

    def hier(self, sql: str) -> Any:
        return _value(self._hier, sql)

    def migrated(self) -> None:
        """Sample data, dual-write, and everything of one category migrated; workers have to be there."""
        self.cli.run("sample-data", "load", "--scale", "0.0002")
        self.cli.run("mode", "migration", "--enable", "--attest")
        self.cli.run("state", "migrate", "--category", SLUG)

    def until(self, true: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + 60
        while not true():
            assert time.monotonic() < deadline, what
            time.sleep(0.1)

    def rounds(self) -> int:
        return int(self.hier("SELECT count(*) FROM hal9mig.rounds"))


def _value(connection: Any, sql: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return (cursor.fetchone() or (None,))[0] if cursor.description else None


@pytest.fixture
def place(cli: servers.Cli, stores: servers.Stores, tmp_path: pathlib.Path) -> Iterator[Place]:
    opened = Place(cli, stores, tmp_path)
    yield opened
    opened.close()


class TestBeat:
    """Rounds come by themselves, at the interval in force."""

    def test_drift_is_repaired_by_itself_and_the_log_says_so(self, place: Place, workers: Workers, beat: Beat) -> None:
        workers(1)
        beat()
        place.cli.run("configure", "reconciliation", "--interval", "1h")
        place.migrated()
        assert place.log.exists()
        with place.log.open() as followed:
            # An hour is no time to wait for; a changed interval acts at once.
            shown = place.cli.run(
                "configure", "reconciliation", "--interval", "1s", "--auto-fix", "true", "--alert-threshold", "1%",
                "--share", "1",
            ).stdout  # fmt: skip
            assert "It alerts above 0.01 = 1% of the records compared." in shown
            place.until(lambda: place.rounds() >= 1, "no round")
            place.hier(BREAK.format(2))
            place.until(
                lambda: place.hier("SELECT count(*) = 2 FROM hal9mig.drifts WHERE repaired_at IS NOT NULL"), "no repair"
            )
            place.until(
                lambda: place.hier(f"SELECT clean_from IS NOT NULL FROM hal9mig.sweeps WHERE category = '{SLUG}'"),
                "unclean",
            )
            lines = followed.read().splitlines()
        assert all(line.startswith("ts=2") for line in lines)
        repairs = [line for line in lines if " event=repair " in line]
        assert len(repairs) == 2
        assert 'cause="foreign write to the target" action=written' in repairs[0]
        assert f" category={SLUG} " in repairs[0]
        place.cli.run("state", "verify", "--category", SLUG)
        assert place.cli.document("reconcile")["last_round"]["error"] is None

    def test_two_beats_make_no_more_rounds(self, place: Place, workers: Workers, beat: Beat) -> None:
        workers(2)
        place.cli.run("configure", "reconciliation", "--interval", "2s")
        place.migrated()
        beat()
        beat()
        place.until(lambda: place.rounds() >= 4, "no rounds")
        closest = place.hier(
            "SELECT min(extract(epoch FROM gap))::float8 FROM "
            "(SELECT began - lag(began) OVER (ORDER BY began) AS gap FROM hal9mig.rounds) r"
        )
        assert closest >= 0.9 * 2

    def test_a_beat_without_a_ledger_and_without_workers(
        self, place: Place, workers: Workers, beat: Beat, stores: servers.Stores
    ) -> None:
        (worker,) = workers(1)
        place.migrated()
        ticking = beat()
        worker.kill()
        alarm = "SELECT count(*) FROM hal9mig.alarms WHERE name = 'no workers'"
        place.until(lambda: place.hier(alarm), "no alarm")
        assert "event=alarm" in place.log.read_text()
        stores.hier_cluster.stop()
        ticking.wait_for("the interval cannot be read, so it stays")
        stores.hier_cluster.start()
        assert ticking.alive


class TestFull:
    """``reconcile --full``: everything, now."""

    def test_repaired_and_reported(self, place: Place, workers: Workers, tmp_path: pathlib.Path) -> None:
        workers(1)
        place.migrated()
        place.hier(BREAK.format(3))
        report = tmp_path / "reconcile-report.json"
        done = place.cli.run("reconcile", "--full", "--fix-mode", "auto", "--report", str(report))
        assert "✅ Neuron States: 200 compared, 3 drifted, 3 repaired" in done.stdout.splitlines()
        document = json.loads(report.read_text())
        assert document["kind"] == "reconcile-report"
        assert (document["drifted"], document["repaired"], document["left"]) == (3, 3, 0)
        assert {drift["cause"] for drift in document["drifts"]} == {"foreign write to the target"}
        # Looked at once more, so that the gate has its clean pass.
        assert all(one["clean"] for one in document["categories"])
        assert place.hier(f"SELECT clean_from > (SELECT max(found_at) FROM hal9mig.drifts) FROM hal9mig.sweeps "
                          f"WHERE category = '{SLUG}'")  # fmt: skip
        place.cli.run("state", "verify", "--category", SLUG)

    def test_what_is_left_is_a_problem(self, place: Place, workers: Workers) -> None:
        workers(1)
        place.migrated()
        place.hier(AHEAD)
        place.hier(BREAK.format(1))
        only = place.cli.document("reconcile", "--full", "--fix-mode", "off", "--category", SLUG, code=3)
        assert (only["drifted"], only["repaired"], only["left"]) == (2, 0, 2)
        safe = place.cli.document("reconcile", "--full", "--category", SLUG, code=3)
        assert (safe["repaired"], safe["left"]) == (1, 1)
        assert "newer" in safe["drifts"][-1]["reason"] or "version" in str(safe["drifts"])
        held = place.cli.document("reconcile", "--full", "--fix-mode", "auto", "--category", SLUG, code=3)
        assert held["error"]["code"] == "RECORDS_QUARANTINED"
        assert held["drifts"][0]["action"] == "quarantined"
        assert place.cli.document("quarantine", "list")["held"] == {SLUG: 1}


class TestFix:
    """``state fix``: all at once, or one by one."""

    def test_all_at_once(self, place: Place, workers: Workers) -> None:
        workers(1)
        place.migrated()
        place.hier(BREAK.format(2))
        place.hier(
            "INSERT INTO hier.unit_connections (unit_id, ordinal, target_id, connection_type, weight) "
            "VALUES (gen_random_uuid(), 1, gen_random_uuid(), 'forward', 1)"
        )
        place.cli.run("state", "fix", "--auto", "--category", SLUG, code=4)
        assert place.hier("SELECT count(*) FROM hal9mig.drifts") == 0
        safe = place.cli.document("state", "fix", "--auto", "--safe-only", "--category", SLUG, code=3)
        assert (safe["repaired"], safe["left"]) == (2, 1)
        everything = place.cli.run("state", "fix", "--auto", "--yes", "--category", SLUG).stdout
        assert everything.endswith("✅ Neuron States: 200 compared, 1 drifted, 1 repaired\n")
        place.cli.run("state", "verify", "--category", SLUG)
        assert place.cli.run("state", "fix", "--auto", "--safe-only").exit_code == 0

    def test_one_by_one_with_guidance(self, place: Place, workers: Workers, stack_env: dict[str, str]) -> None:
        workers(1)
        place.migrated()
        place.hier(BREAK.format(1))
        place.hier(AHEAD)
        with terminal(stack_env, "state", "fix", "--interactive", "--guidance", "--category", SLUG) as told:
            first = told("stop")
            assert "activation" in first
            assert "Somebody else has written to the store that follows" in first
            assert "The hierarchical side cannot be taken" in first
            second = told("stop", answer="f")
            assert "written" in second
            last = told("", answer="q")
        assert "1 left" in last
        assert place.hier("SELECT count(*) FROM hal9mig.quarantine WHERE status = 'held'") == 1
        assert place.hier("SELECT count(*) FROM hal9mig.events WHERE action = 'state fix'") == 2
        with terminal(stack_env, "state", "fix", "--interactive", "--category", SLUG) as told:
            told("stop")
            assert "0 left" not in told("", answer="f")
        place.cli.run("state", "verify", "--category", SLUG)
        assert place.hier("SELECT count(*) FROM hal9mig.quarantine WHERE status = 'held'") == 0


@contextlib.contextmanager
def terminal(env: dict[str, str], *args: str) -> Iterator[Callable[..., str]]:
    """Run a command on a terminal; yields what answers it and returns what it says up to a text."""
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "hal9mig.cli", *args]
    started = subprocess.Popen(
        command, stdin=its, stdout=its, stderr=its, env=env | {"TERM": "dumb", "COLUMNS": "200"}, close_fds=True
    )
    os.close(its)

    def told(text: str, *, answer: str | None = None) -> str:
        if answer is not None:
            os.write(ours, f"{answer}\n".encode())
        said = b""
        deadline = time.monotonic() + 60
        while not text or text.encode() not in said:
            assert time.monotonic() < deadline, said.decode()
            if not select.select([ours], [], [], 0.1)[0]:
                continue
            try:
                more = os.read(ours, 65536)
            except OSError:
                more = b""
            if not more:
                assert not text, said.decode()
                break
            said += more
        return said.decode()

    try:
        yield told
    finally:
        if started.poll() is None:
            started.terminate()
        started.wait(10)
        os.close(ours)
