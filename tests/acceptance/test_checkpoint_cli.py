"""Checkpoints as an operator has them: the runbook's lines, outputs, exit codes, what is asked, refused and kept."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable

import pytest

from hal9mig.engine.checkpoint.manifest import Manifest
from tests.support import checkpoint_site, migration_driver, servers
from tests.support.checkpoint_runs import NEURONS
from tests.support.checkpoint_site import Site
from tests.support.migration_driver import Driver

Workers = Callable[..., list[servers.Running]]
#: As the runbook has them, line by line.
PRE = """
# Create full state backup
hal9-migrate state checkpoint \\
  --name "pre-state-migration-$(date +%Y%m%d-%H%M%S)" \\
  --full-backup \\
  --verify

# Export checkpoint manifest
hal9-migrate state export-manifest \\
  --checkpoint latest \\
  --output state-manifest.json
"""
SNAPSHOT = """
# Snapshot current neuron states
hal9-migrate neurons snapshot --pre-migration
"""
POST = """
# Checkpoint completed state
hal9-migrate state checkpoint \\
  --name "post-state-migration-$(date +%Y%m%d-%H%M%S)" \\
  --description "State migration completed"
"""
QUICK = """
# EMERGENCY: Revert to checkpoint
hal9-migrate state rollback \\
  --to-checkpoint "pre-state-migration-TIMESTAMP" \\
  --force

# Re-enable flat architecture writes
hal9-migrate mode flat-only --force
"""
SELECTIVE = """
# Rollback specific category
hal9-migrate state rollback \\
  --category neuron-states \\
  --to-checkpoint latest \\
  --preserve-others
"""
RECOVER = """
# If data corruption detected
hal9-migrate state recover \\
  --from-backup \\
  --validate-each \\
  --quarantine-corrupted
"""


@pytest.fixture
def site(cli: servers.Cli, driver: Driver) -> Site:
    return checkpoint_site.opened(cli, driver)


class TestRunbook:
    """The lines as they are written there, in their order."""

    def test_there_and_back(self, site: Site, workers: Workers, tmp_path: pathlib.Path) -> None:
        workers(2)
        told = site.shell(PRE)
        (pre,) = site.names()
        assert re.fullmatch(r"pre-state-migration-\d{8}-\d{6}", pre)
        assert told.stdout.startswith(f"✅ checkpoint {pre}: ")
        assert ", verified; as of 20" in told.stdout
        # `latest` is echoed resolved, and the file is the manifest.
        assert f"manifest of {pre} written to state-manifest.json" in told.stdout
        manifest = Manifest.from_text((tmp_path / "state-manifest.json").read_text(encoding="utf-8"))
        assert (manifest.name, manifest.verified, manifest.whole) == (pre, True, True)
        before = site.contents()

        site.run("state migrate --category user-sessions")
        site.shell(SNAPSHOT)
        (snapshot, _) = site.names()
        assert snapshot.startswith("neurons-pre-migration-")
        (one, _) = site.document("state list-checkpoints")["checkpoints"]
        assert (one["scope"], one["label"], one["verified"], one["restorable"]) == (
            [NEURONS], "pre-migration", True, True,
        )  # fmt: skip
        site.run("state migrate --category neuron-states")
        migrated = site.contents()
        assert "a marker, " in site.shell(POST).stdout
        (post, *_) = site.names()
        marker = site.document("state list-checkpoints")["checkpoints"][0]
        assert (marker["kind"], marker["restorable"], marker["description"]) == (
            "marker", False, "State migration completed",
        )  # fmt: skip

        # The newest is the marker, the newest full one is from before the migration of this category: that one.
        site.write()
        refused = site.shell(SELECTIVE, 4)
        assert f"checkpoint {snapshot}: " in refused.stderr
        assert "add --yes" in refused.stderr
        done = site.shell(SELECTIVE.rstrip() + " --yes\n")
        assert "neuron-states\tflat.neuron_states\t7\t0\t0" in done.stdout
        assert "user-sessions in the flat store: 97 records, digest" in done.stdout
        after = site.contents()
        assert after["flat"]["neuron_states"] == before["flat"]["neuron_states"]
        assert after["hier"]["units"] == before["hier"]["units"] != migrated["hier"]["units"]
        assert after["hier"]["sessions"] == migrated["hier"]["sessions"]

        # The placeholder is nobody's name; the beginning of one is enough.
        refused = site.shell(QUICK, 4)
        assert "There is no checkpoint 'pre-state-migration-TIMESTAMP'" in refused.stderr
        assert pre in refused.stderr
        done = site.shell(QUICK.replace("TIMESTAMP", pre.rpartition("migration-")[2][:6]))
        assert f"checkpoint {pre}: " in done.stderr
        assert "user-sessions\tflat.user_sessions\t0\t0\t3" in done.stdout
        assert f"restored from {pre}; writers were kept out " in done.stdout
        assert "Write Mode: flat-only" in done.stdout
        assert site.contents() == before

        # A recovery takes the newest that holds every category, and not the one of neurons alone.
        refused = site.shell(RECOVER, 4)
        assert f"checkpoint {pre}: " in refused.stderr
        site.write()
        done = site.shell(RECOVER.rstrip() + " --yes\n")
        assert f"restored from {pre}" in done.stdout
        assert site.contents() == before
        assert post in site.names()
        assert site.document("state verify")["consistent"]


class TestTaking:
    """Checkpoints taken, listed, deleted."""

    def test_full_marker_and_dry_run(self, site: Site, workers: Workers) -> None:
        assert site.run("state list-checkpoints").stdout.count("\n") == 1
        assert "next: hal9-migrate state checkpoint --full-backup" in site.run("state list-checkpoints").stderr
        plan = site.document("state checkpoint --name one --full-backup --dry-run")
        assert (plan["dry_run"], plan["name"], plan["rows"] > 0, plan["bytes"] > 0) == (True, "one", True, True)
        assert plan["free_bytes"] > 0
        assert plan["warnings"] == ["no worker is alive; the run waits until one is"]
        assert "dry run: nothing was changed" in site.run("state checkpoint --dry-run --full-backup").stderr
        assert site.runs() == []
        workers(2)

        made = site.document("state checkpoint --name one --full-backup --description 'the first'")
        assert made["run"]["kind"] == "checkpoint"
        assert (made["checkpoint"]["rows"], made["checkpoint"]["verified"]) == (405, False)
        assert made["checkpoint"]["digests"] == {}
        told = site.run("state checkpoint --name one", 4)
        assert "There is a checkpoint one already." in told.stderr
        told = site.run("state checkpoint --verify --name two --category neuron-states,configuration")
        assert "--verify adds nothing" in told.stderr
        assert "✅ checkpoint two: a marker, counts and digests of 305 flat records; restorable: no;" in told.stdout
        listed = [line.split("\t") for line in site.run("state list-checkpoints").stdout.splitlines()]
        assert [row[0] for row in listed] == ["NAME", "two", "one"]
        assert listed[0][2:5] == ["KIND", "RESTORABLE", "SCOPE"]
        assert listed[1][2:8] == ["marker", "no", "neuron-states,configuration", "flat-only", "-", "-"]
        assert listed[2][2:7] == ["full, not verified", "yes", "all", "flat-only", "405"]
        assert listed[2][8] == "the first"

        refused = site.run("state rollback --to-checkpoint two --category neuron-states --force", 4)
        assert "is a marker" in refused.stderr
        refused = site.document("state rollback --to-checkpoint latest --force", 4)
        assert refused["error"]["code"] == "NOT_FOUND"  # one is not verified, the other holds no data

    def test_detached_timed_out_and_watched(self, site: Site, workers: Workers) -> None:
        workers(1)
        started = site.run("state checkpoint --name slow --full-backup --rate-limit 60/s --detach")
        number = started.stdout.strip()
        assert f"watch: hal9-migrate runs show {number} --watch" in started.stderr
        migration_driver.until(lambda: site.document("state list-checkpoints")["under_way"], "the checkpoint's run")
        for words in ("state rollback --to-checkpoint slow --force", "state checkpoint --delete slow --yes"):
            told = site.run(words, 4)
            assert f"Checkpoint slow is not there yet: run {number} is taking it" in told.stderr
        told = site.run(f"runs show {number} --watch --timeout 200ms", 124)
        assert f"run {number} goes on" in told.stderr
        told = site.run(f"runs show {number} --watch")
        assert told.stdout.startswith("✅ checkpoint slow: 405 rows, ")
        assert site.document(f"runs show {number} --watch")["checkpoint"]["name"] == "slow"

    def test_deleted(self, site: Site, workers: Workers) -> None:
        workers(1)
        site.run("state checkpoint --name one --full-backup --verify --category configuration")
        site.run("state checkpoint --name other")
        (site.folder / "left" / "flat").mkdir(parents=True)
        found = site.document("state list-checkpoints")
        assert found["unusable"] == [{"name": "left", "reason": "it was never finished: it has no manifest"}]
        assert found["next_steps"] == ["hal9-migrate state checkpoint --delete left"]
        told = site.document("state rollback --to-checkpoint left --force", 3)
        assert told["error"]["code"] == "CHECKPOINT_DAMAGED"
        assert "it was never finished" in told["error"]["message"]

        refused = site.run("state checkpoint --delete on", 4)
        assert "on: one" in refused.stderr
        assert "hint: add --yes" in refused.stderr
        assert "There is no other verified full checkpoint of configuration." in refused.stderr
        site.typed("state checkpoint --delete one", "for good?", "n\n", 4)
        assert site.names() == ["other", "one"]
        shown = site.typed("state checkpoint --delete one", "for good?", "y\n", 0)
        assert "checkpoint one deleted; " in shown
        assert site.document("state checkpoint --delete left --yes")["deleted"] == "left"
        assert "'one'" in site.run("state checkpoint --delete one --yes", 4).stderr
        assert sorted(path.name for path in site.folder.iterdir()) == [".hal9-place", "other"]

    def test_a_place_that_the_workers_do_not_have(self, site: Site, workers: Workers, tmp_path: pathlib.Path) -> None:
        workers(1)
        env = {"HAL9_CHECKPOINT_URL": str(tmp_path / "elsewhere")}
        told = site.run("state checkpoint --name one --category configuration", 1, env=env)
        assert "No live worker keeps checkpoints where the command does" in told.stderr
        told = site.run("state list-checkpoints", 2, env={"HAL9_CHECKPOINT_URL": "nosuch://me:secret@place"})
        assert "nosuch://me:***@place" in told.stderr
        told = site.run("state export-manifest --checkpoint one --output nowhere/x.json", 4)
        assert "nothing was written" in told.stderr


class TestNeurons:
    """``neurons snapshot``."""

    def test_of_this_category_alone(self, site: Site, workers: Workers) -> None:
        plan = site.document("neurons snapshot --dry-run")
        assert plan["scope"] == [NEURONS]
        workers(1)
        made = site.document("neurons snapshot --name mine")["checkpoint"]
        assert (made["name"], made["label"], made["kind"], made["verified"]) == ("mine", None, "full", True)
        assert made["digests"][NEURONS]["flat"]["records"] == 300
        site.write()
        told = site.run("state rollback --to-checkpoint mine --category neuron-states --yes --no-safety-checkpoint")
        assert "neuron-states\tflat.neuron_states\t7\t0\t0" in told.stdout
