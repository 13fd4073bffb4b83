"""A checkpoint that is said to be restorable has its files where they will be looked for."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Iterator

import pytest

from hal9mig import errors, model
from hal9mig.engine.checkpoint.orders import CheckpointOrder
from tests.support import checkpoint_runs, servers
from tests.support.checkpoint_runs import CONFIGURATION, SESSIONS, Keeping
from tests.support.migration_driver import Driver


@pytest.fixture
def keeping(stores: servers.Stores, stack_env: dict[str, str]) -> Iterator[Keeping]:
    driver = Driver(stores, stack_env)
    for category, records in ((SESSIONS, 200), (CONFIGURATION, 20)):
        driver.load(category, records)
    with checkpoint_runs.keeping(driver) as opened:
        yield opened
    driver.close()


def place(keeping: Keeping) -> pathlib.Path:
    return pathlib.Path(keeping.driver.system.settings.checkpoint_url)


def damage(keeping: Keeping, name: str, how: str) -> str:
    (file,) = (place(keeping) / name / "flat" / "flat.user_sessions").iterdir()
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1])
    return str(file.relative_to(place(keeping) / name))


@pytest.mark.parametrize("how", ["gone", "cut"])
def test_one_that_lacks_a_file_is_listed_so_and_restored_by_nobody(keeping: Keeping, how: str) -> None:
    keeping.take("older", verify=True)
    keeping.take("newer", verify=True)
    checkpoints = keeping.checkpoints
    assert checkpoints.listing().lacking == {}
    file = damage(keeping, "newer", how)
    lacking = checkpoints.listing().lacking
    assert list(lacking) == ["newer"]
    assert "1 of the " in lacking["newer"]
    assert file in lacking["newer"]
    before = checkpoint_runs.both(keeping.driver)
    with pytest.raises(errors.NotRestorable, match=file):
        checkpoints.plan_restore("newer")
    assert checkpoint_runs.both(keeping.driver) == before
    assert checkpoints.plan_restore("latest").manifest.name == "older"
    assert checkpoints.plan_restore(None, recover=True).manifest.name == "older"
    assert checkpoints.backup_within(3600) is not None
    # What is sound of it may be all there is; the plan says what is not.
    assert any(file in warning for warning in checkpoints.plan_restore("newer", recover=True).warnings)


def test_chunks_that_a_worker_wrote_elsewhere_seal_nothing(keeping: Keeping, tmp_path: pathlib.Path) -> None:
    """As by a worker with a folder of its own: what it wrote is not where the others look."""
    driver, elsewhere = keeping.driver, tmp_path / "elsewhere"
    run, _ = keeping.checkpoints.take(CheckpointOrder(name="split", categories=(SESSIONS,)))
    saved = lambda: [one for one in driver.batches(run.id) if one["kind"] == "save" and one["status"] == "done"]  # noqa: E731
    driver.work(run.id, until=lambda: bool(saved()))
    shutil.move(place(keeping) / "split", elsewhere)
    ended = driver.work(run.id)
    assert ended.status is model.RunStatus.FAILED
    assert "files of checkpoint split are missing or not of their size" in ended.reason
    assert "split" not in {one.name for one in keeping.checkpoints.listing().manifests}
