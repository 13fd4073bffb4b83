"""Rollback and recovery as an operator has them: what is shown, asked, refused, kept and restored."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.support import checkpoint_runs, checkpoint_site, migration_driver, servers
from tests.support.checkpoint_runs import NEURONS, SESSIONS
from tests.support.checkpoint_site import Site, flip
from tests.support.migration_driver import Driver
from tests.support.terminal import CTRL_C

Workers = Callable[..., list[servers.Running]]


@pytest.fixture
def site(cli: servers.Cli, driver: Driver) -> Site:
    return checkpoint_site.opened(cli, driver)


class TestRollback:
    """What is shown, asked, refused and kept."""

    def test_what_would_be_lost_is_shown_and_asked(self, site: Site, workers: Workers) -> None:
        workers(2)
        site.run("state checkpoint --name one --full-backup --verify")
        before = site.contents()
        site.write()
        written = site.contents()

        # Without a terminal it is refused before anything is started.
        refused = site.document("state rollback --to-checkpoint one", 4)
        assert refused["error"]["code"] == "CONFIRMATION_REQUIRED"
        assert "--yes" in refused["error"]["hint"]
        assert "--force" in refused["error"]["hint"]
        assert site.runs("compare") == []

        dry = site.document("state rollback --to-checkpoint one --dry-run")
        lost = {one["table"]: (one["changed"], one["added"], one["removed"]) for one in dry["lost"]}
        assert lost["flat.neuron_states"] == (7, 0, 0)
        assert lost["flat.user_sessions"] == (0, 0, 3)
        assert (dry["checkpoint"], dry["dry_run"], dry["active"]) == ("one", True, [])
        assert site.runs("restore") == []

        prompt = "Go back to one, and lose 10 written rows? Every category is replaced. Type the checkpoint's name"
        shown = site.typed("state rollback --to-checkpoint one", prompt, "two\n", 4)
        assert "That is not its name; nothing was changed." in shown
        assert "user-sessions" in shown
        shown = site.typed("state rollback --to-checkpoint one", prompt, CTRL_C, 130)
        assert "Interrupted; nothing was changed." in shown
        assert site.contents() == written
        assert site.names() == ["one"]
        shown = site.typed("state rollback --to-checkpoint one --reason 'a test'", prompt, "one\n", 0)
        assert site.contents() == before
        (kept, one) = site.names()
        assert f"safety checkpoint {kept} holds what is being replaced" in shown
        assert one == "one"
        number = site.runs("restore")[0]["run"]
        events = {one["action"]: one["detail"] for one in site.document(f"runs show {number}")["run"]["events"]}
        assert events["restore ordered"] == {
            "checkpoint": "one", "categories": list(checkpoint_runs.ALL), "safety_checkpoint": kept, "forced": False,
            "lost_rows": {**dict.fromkeys(checkpoint_runs.ALL, 0), SESSIONS: 3, NEURONS: 7}, "reason": "a test",
        }  # fmt: skip
        assert events["checkpoint restored"]["reason"] == "a test"

        # What was replaced can be had back.
        site.run(f"state rollback --to-checkpoint {kept} --force --no-safety-checkpoint")
        assert site.contents() == written
        assert site.names() == [kept, "one"]

    def test_some_categories_go_back_and_the_others_stay(self, site: Site, workers: Workers) -> None:
        workers(2)
        site.run("state checkpoint --name one --full-backup --verify --category neuron-states,configuration")
        before = site.contents()
        site.write()
        told = site.run("state rollback --to-checkpoint one --force", 4)
        assert "user-sessions" in told.stderr
        shown = site.typed("state rollback --to-checkpoint one --category neuron-states", "[y/N]", "n\n", 4)
        assert "Go back to one, and lose 7 written rows? [y/N]" in shown
        started = site.run("state rollback --to-checkpoint one --category neuron-states --yes --detach")
        number = started.stdout.splitlines()[-1]
        done = site.document(f"runs show {number} --watch")
        assert done["restored"]["tables"]["flat flat.neuron_states"] == 300
        others = done["restored"]["untouched"]
        assert {one["category"] for one in others} == set(checkpoint_runs.ALL) - {NEURONS}
        assert all(one["same"] for one in others)
        after = site.contents()
        assert after["flat"]["neuron_states"] == before["flat"]["neuron_states"]
        assert after["flat"]["user_sessions"] != before["flat"]["user_sessions"]
        told = site.run(f"runs show {number} --watch")
        assert told.stdout.startswith("✅ 300 rows of 4 tables restored from one; ")
        assert "next: hal9-migrate state verify" in told.stderr

    def test_a_run_in_the_way(self, site: Site, workers: Workers) -> None:
        workers(2)
        site.run("state checkpoint --name one --full-backup --verify")
        before = site.contents()
        started = site.run("state migrate --category neuron-states --rate-limit 10/s --detach")
        number = started.stdout.strip()
        refused = site.document("state rollback --to-checkpoint one --yes", 4)
        assert refused["error"]["code"] == "RUN_ACTIVE"
        assert f"hal9-migrate runs cancel {number}" in refused["error"]["hint"]
        assert site.runs("compare") == []
        dry = site.document("state rollback --to-checkpoint one --dry-run")
        assert [one["run"] for one in dry["active"]] == [int(number)]
        told = site.run("state rollback --to-checkpoint one --force --no-safety-checkpoint")
        assert "--force cancels it" in told.stderr
        assert site.contents() == before
        assert site.document(f"runs show {number}")["run"]["status"] == "cancelled"

    def test_who_stops_waiting_changes_nothing(self, site: Site, workers: Workers) -> None:
        (worker,) = workers(1)
        site.run("state checkpoint --name one --full-backup --verify")
        worker.pause()
        told = site.run("state rollback --to-checkpoint one --force --timeout 500ms", 124)
        assert "The time limit passed before the restore began" in told.stderr
        started = site.cli.start("state", "rollback", "--to-checkpoint", "one", "--force")
        migration_driver.until(lambda: len(site.runs("compare")) == 2, "the counting of what would be lost")
        started.send_signal(signal.SIGINT)
        _, stderr = started.communicate(timeout=30)
        assert started.returncode == 130
        assert "Interrupted before the restore began" in stderr
        worker.resume()
        migration_driver.until(
            lambda: {one["status"] for one in site.runs("compare")} == {"cancelled"}, "the end of what nobody waits for"
        )
        assert site.runs("restore") == []
        assert site.names() == ["one"]

    def test_without_workers(self, site: Site, workers: Workers) -> None:
        (worker,) = workers(1)
        site.run("state checkpoint --name one --full-backup --verify")
        assert worker.stop()
        told = site.run("state rollback --to-checkpoint one --force --timeout 1s", 124)
        assert "warning: no worker is alive; nothing happens until one is" in told.stderr


class TestDamaged:
    """Backups that are not what they were."""

    def test_a_flipped_bit(self, site: Site, workers: Workers) -> None:
        workers(2)
        site.run("state migrate --category neuron-states")
        site.run("state checkpoint --name one --full-backup --verify")
        before = site.contents()
        site.write()
        written = site.contents()
        flip(site.chunk("one", "flat.neuron_states"))

        told = site.document("state rollback --to-checkpoint one --force", 3)
        assert told["error"]["code"] == "CHECKPOINT_DAMAGED"
        assert "flat/flat.neuron_states/" in told["error"]["message"]
        assert "recover --from-backup one --validate-each --quarantine-corrupted" in told["error"]["hint"]
        told = site.run("state recover --from-backup one --yes --no-safety-checkpoint", 3)
        assert "hint: add --quarantine-corrupted" in told.stderr
        assert site.contents() == written

        done = site.run("state recover --from-backup --validate-each --quarantine-corrupted --yes", 3)
        assert "❌ " in done.stdout
        assert "300 rows between the beginning and the end" in done.stdout
        assert "300 records of one could not be read, and went to quarantine; " in done.stderr
        assert "part of it has 300 of them" in done.stderr
        assert "hal9-migrate quarantine retry --all" in done.stderr
        assert len(site.document("quarantine list --limit 500")["records"]) == 300
        number = site.runs("restore")[0]["run"]
        again = site.document(f"runs show {number} --watch", 3)
        assert (again["restored"]["quarantined"], again["restored"]["offered"]) == (300, 300)
        assert [one["rows"] for one in again["restored"]["damages"]] == [300]
        site.run("quarantine retry --all")
        after = site.contents()
        assert after["flat"] == before["flat"]
        assert site.document("state verify")["consistent"]

    def test_a_manifest(self, site: Site, workers: Workers) -> None:
        workers(1)
        site.run("state checkpoint --name one --full-backup --verify --category configuration")
        flip(site.folder / "one" / "manifest.json", 0.3)
        for line in (
            "state rollback --to-checkpoint one --category configuration --force", "state recover --from-backup one",
            "state export-manifest --checkpoint one --output x.json",
        ):  # fmt: skip
            told = site.document(line, 3)
            assert told["error"]["code"] == "CHECKPOINT_DAMAGED"
            assert told["error"]["message"].startswith("Checkpoint one cannot be used: ")
        found = site.document("state list-checkpoints")
        assert found["checkpoints"] == []
        assert [one["name"] for one in found["unusable"]] == ["one"]
        told = site.run("state recover --from-backup --yes", 4)
        assert "There is no verified full checkpoint of user-sessions, " in told.stderr
