"""Workers and the command keep checkpoints in one place, or those that do not are left out by name."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import pytest

from hal9mig.engine.checkpoint.orders import Checkpoints
from tests.support import checkpoint_runs
from tests.support.checkpoint_runs import CONFIGURATION, LEARNING, METADATA, NEURONS, SESSIONS
from tests.support.migration_driver import Driver
from tests.support.servers import Cli, Running

Workers = Callable[..., list[Running]]


@pytest.fixture
def loaded(driver: Driver) -> Driver:
    for slug in (SESSIONS, NEURONS, LEARNING, CONFIGURATION, METADATA):
        driver.load(slug, 60)
    return driver


def chunks(folder: pathlib.Path) -> list[pathlib.Path]:
    return list(folder.rglob("*.copy.zst"))


def test_one_with_a_folder_of_its_own_writes_no_chunk(
    loaded: Driver, workers: Workers, cli: Cli, tmp_path: pathlib.Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (other,) = workers(1, env={"HAL9_CHECKPOINT_URL": str(elsewhere)})
    workers(1)
    made = cli.document("state", "checkpoint", "--name", "shared", "--full-backup", "--verify")
    assert made["checkpoint"]["verified"]
    assert chunks(elsewhere) == []
    listing = Checkpoints(loaded.system).listing()
    assert [one.name for one in listing.manifests] == ["shared"]
    assert listing.lacking == {}
    # It took one batch at least, as it was the first to be ready, and says whose it is.
    assert {name.partition("@")[0] for name in made["left_out"]} <= {other.name}
    before = checkpoint_runs.both(loaded)
    cli.document("state", "rollback", "--to-checkpoint", "shared", "--force")
    assert checkpoint_runs.both(loaded) == before


def test_where_no_worker_shares_it_the_run_ends_and_says_so(
    loaded: Driver, workers: Workers, cli: Cli, tmp_path: pathlib.Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (sharing,) = workers(1)
    cli.document("state", "checkpoint", "--name", "kept", "--full-backup", "--verify")
    assert sharing.stop(30)
    (other,) = workers(1, env={"HAL9_CHECKPOINT_URL": str(elsewhere)})
    refused = cli.document("state", "checkpoint", "--name", "lost", "--full-backup", "--verify", code=1)
    assert "No live worker keeps checkpoints where the command does" in refused["error"]["message"]
    assert other.name in refused["error"]["message"]
    assert chunks(elsewhere) == []
    # It would have taken every chunk for lost, and put every record of them into quarantine.
    before = checkpoint_runs.both(loaded)
    cli.document(
        "state", "recover", "--from-backup", "kept", "--quarantine-corrupted", "--force", "--reason", "a test", code=1
    )
    assert checkpoint_runs.both(loaded) == before
