"""The library example of docs/checkpoints.md, run as the document says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from hal9mig.sample import loading
from tests.support import checkpoint_runs
from tests.support.migration_driver import Driver, connected
from tests.support.servers import ROOT, Running, Stores


def test_the_documented_example(
    driver: Driver, stores: Stores, stack_env: dict[str, str], workers: Callable[..., list[Running]]
) -> None:
    """It takes a checkpoint, goes back with one category, and leaves the others and a way back."""

    def nightly(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "docs" / "example" / "nightly.py"), *arguments]
        return subprocess.run(command, env=stack_env, capture_output=True, text=True, timeout=120, check=False)

    loading.load(stores.flat_url, scale=0.001, seed=3)
    workers(1)
    done = nightly("monday")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("monday: ")
    before = checkpoint_runs.both(driver)["flat"]
    with connected(stores.flat_url) as cursor:
        cursor.execute("DELETE FROM flat.neuron_states WHERE layer = 'protocol'")
        lost = cursor.rowcount
        cursor.execute("UPDATE flat.configuration SET value = '1'")
    after = checkpoint_runs.both(driver)["flat"]
    done = nightly("monday", "--back", "neuron-states")
    assert done.returncode == 0, done.stderr
    assert f"{before['neuron_states'][0]} rows are back, {lost} written since are gone" in done.stdout
    assert checkpoint_runs.both(driver)["flat"] == after | {"neuron_states": before["neuron_states"]}
    assert nightly("monday").stderr.startswith("There is a checkpoint monday already. hal9-migrate state list")
    assert nightly("nothing", "--back", "neuron-states").returncode == 1
    done = nightly("monday-undo", "--back", "neuron-states")
    assert done.returncode == 0, done.stderr
    assert checkpoint_runs.both(driver)["flat"] == after
