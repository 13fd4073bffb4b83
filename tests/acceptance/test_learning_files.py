"""The runbook's way of learning data, with real workers and the real command line, as an operator goes it."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

from hal9mig import model
from hal9mig.engine.pattern_files.orders import ExportOrder
from tests.support import migration_driver
from tests.support.learning_folders import LEARNING, Folders
from tests.support.migration_driver import Driver
from tests.support.servers import Cli, Running

Workers = Callable[..., list[Running]]
RECORDS = 200
#: Every point at which a batch of an import can be cut short, in their order.
POINTS = ("claimed", "read", "transformed", "written", "noted", "finished", "copied", "answered")


def test_the_lines_of_the_runbook(driver: Driver, workers: Workers, cli: Cli, tmp_path: pathlib.Path) -> None:
    """Each ends well, names the next, and is refused where it comes too early."""
    driver.load(LEARNING, RECORDS)
    workers(1)
    take = (
        "learning import --input learning-hierarchical/ --system hierarchical --preserve-timestamps --batch-size 10000"
    )
    change = "learning transform --input learning-export/ --output learning-hierarchical/ --validate-schemas"
    assert "There is no folder" in cli.document(*take.split(), code=4)["error"]["message"]
    export = "learning export --system flat --format hierarchical --output learning-export/"
    assert cli.document(*f"{export} --dry-run".split())["records"] == RECORDS
    assert not (tmp_path / "learning-export").exists()
    exported = cli.document(*export.split())
    assert (exported["folder"]["records"], exported["folder"]["kind"]) == (RECORDS, "exported")
    assert exported["next_steps"][0].startswith("hal9-migrate learning transform --input learning-export")
    early = cli.document(*take.replace("learning-hierarchical", "learning-export").split(), code=4)["error"]
    assert "learning transform --input" in early["hint"]
    transformed = cli.document(*change.split())
    assert transformed["folder"]["records"] == RECORDS
    assert cli.document(*f"{take} --dry-run".split())["records"] == RECORDS
    imported = cli.document(*take.split())
    assert (imported["from_files"], imported["read_anew"]) == (RECORDS, 0)
    driver.assert_equal(LEARNING, records=RECORDS)
    assert cli.document(*f"state verify --category {LEARNING}".split())["consistent"]
    again = cli(*take.split())
    assert again.exit_code == 0
    assert f"{RECORDS} records from the files; 0 new or changed" in again.stdout


def test_workers_that_die_at_any_point_of_an_import(
    driver: Driver, workers: Workers, cli: Cli, tmp_path: pathlib.Path
) -> None:
    """No record is lost and none doubled, and each was counted once."""
    driver.load(LEARNING, RECORDS)
    folders = Folders(driver, tmp_path)
    folders.export(tuned={"batch-size": "40"}), folders.transform()
    driver.configure(checkpoint_interval="10")
    accidents = tmp_path / "accidents"
    accidents.mkdir()
    # A lease longer than the test: whoever waits for its end fails.
    env = {"HAL9_LEASE": "10m", **migration_driver.obstacles(accidents, dict.fromkeys(POINTS, "kill"))}
    workers(1, env=env, args=["--concurrency", "4"])
    imported = cli.document(*["learning", "import", "--input", "transformed", "--batch-size", "25"])
    assert migration_driver.met(accidents) == set(POINTS)
    assert imported["from_files"] == RECORDS
    driver.assert_equal(LEARNING, records=RECORDS)
    driver.assert_once(imported["run"]["run"])


def test_workers_that_die_while_they_write_files(driver: Driver, workers: Workers, tmp_path: pathlib.Path) -> None:
    """Another takes the range up, and what the dead one left is none of the folder's."""
    driver.load(LEARNING, 20)
    points = ("read", "transformed", "finished")
    workers(1, env=migration_driver.obstacles(tmp_path, dict.fromkeys(points, "kill")), args=["--concurrency", "2"])
    folders = Folders(driver, tmp_path)
    order = ExportOrder(folder=str(folders.exported), tuning={"batch-size": "5"})
    driver.finish(folders.files.export(order)[0].id)
    run, _ = folders.files.transform(str(folders.exported), str(folders.transformed))
    assert run is not None
    driver.finish(run.id)
    assert migration_driver.met(tmp_path) == set(points)
    assert not [path for root in (folders.exported, folders.transformed) for path in root.rglob("*.part")]
    driver.finish(folders.begin().id)
    driver.assert_equal(LEARNING, records=20)


def test_a_worker_that_does_not_see_the_folder_is_left_out_by_name(driver: Driver, tmp_path: pathlib.Path) -> None:
    """It is as if the folder of this name were another one there; where it is so for all, the run ends."""
    driver.load(LEARNING, 20)
    folders = Folders(driver, tmp_path)
    folders.export()
    folders.transform()
    begun = folders.begin()
    folders.transformed.rename(tmp_path / "elsewhere")
    ended = driver.work(begun.id)
    assert ended.status is model.RunStatus.FAILED
    assert f"No live worker sees the folder {folders.transformed} as the command does: here" in ended.reason
    (tmp_path / "elsewhere").rename(folders.transformed)
    driver.coordinator.retry(begun.id)
    assert driver.work(begun.id).status is model.RunStatus.SUCCEEDED
    driver.assert_equal(LEARNING, records=20)
