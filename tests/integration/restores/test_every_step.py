"""Restores that are killed at every step, whose servers fall, and that fail: tried again, they end with all back."""

from __future__ import annotations

import pytest

from hal9mig import model
from hal9mig.engine import work
from hal9mig.engine.checkpoint.swap import Swap
from hal9mig.ledger import batches
from tests.support import checkpoint_runs
from tests.support.restoring import FLAT, HIER, STEPS, World, at, kill, once

#: From here on one store is swapped at least.
FORWARD = ("between the commits", "after the second commit", "before the end is noted", "after the end is noted")
#: Where a server's fall undoes something else than the worker's own death does.
FALLS = (
    "with a chunk loaded and uncommitted", "with indexes uncommitted", "with one store swapped and uncommitted",
    "before the first commit", *FORWARD[:3],
)  # fmt: skip


class TestEveryStep:
    """Whatever happens at a step, what is tried again ends with everything restored."""

    @pytest.mark.parametrize("step", STEPS)
    def test_the_worker_is_killed(self, world: World, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """The worker dies; a keeper looks in between."""
        owner, name, after, skip = STEPS[step]
        at(monkeypatch, owner, name, once(kill, skip=skip), after=after)
        run_id = world.begin()
        world.until_killed(run_id)
        world.look()
        if step in ("before the end is noted", "after the second commit"):
            assert checkpoint_runs.both(world.driver) == world.before
        world.work(run_id)
        world.assert_restored(run_id)

    @pytest.mark.parametrize(
        "step", [pytest.param(one, marks=[pytest.mark.long] * (one not in FALLS)) for one in STEPS]
    )
    def test_both_servers_fall(self, world: World, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every session of both servers is ended."""
        owner, name, after, skip = STEPS[step]

        def fall() -> None:
            for store in (FLAT, HIER):
                world.ask(
                    store,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()",
                )

        fallen = []
        at(monkeypatch, owner, name, once(lambda: (fall(), fallen.append(step))[0], skip=skip), after=after)
        run_id = world.begin()
        world.driver.work(run_id)
        assert fallen
        world.assert_restored(run_id)


class Faults:
    """Raises what nobody has thought of whenever a step is taken, from the ``skip``-th time on, while it is ``on``."""

    def __init__(self, skip: int):
        self.on = True
        self.times = -skip

    def __call__(self) -> None:
        self.times += 1
        if self.on and self.times > 0:
            raise RuntimeError("a fault")


@pytest.mark.parametrize("step", ["with the hold", "with one store swapped and uncommitted", "before the first commit"])
def test_faults_before_anything_is_swapped(world: World, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run fails, nothing is changed or held; retried, it restores everything."""
    owner, name, after, skip = STEPS[step]
    faults = Faults(skip)
    at(monkeypatch, owner, name, faults, after=after)
    spoilt = checkpoint_runs.both(world.driver)
    run_id = world.begin()
    assert world.driver.work(run_id).status is model.RunStatus.FAILED
    assert faults.times == work.MOST_FAILURES
    # Once it commits, nobody but a keeper can tell from a failure that nothing is swapped.
    assert any(world.held()) is (name == "_commit")
    assert world.shadows() == [True, True]
    world.look()
    world.assert_clean()
    assert checkpoint_runs.both(world.driver) == spoilt
    faults.on = False
    world.driver.coordinator.retry(run_id)
    world.work(run_id)
    world.assert_restored(run_id)


def test_faults_between_the_swaps(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it fails, and whoever dies of it, the run does not end with one store swapped."""
    at(monkeypatch, Swap, "_commit", once(kill), after=True)
    run_id = world.begin()
    world.until_killed(run_id)
    faults = Faults(0)
    at(monkeypatch, Swap, "_one", faults)
    world.driver.work(run_id, until=lambda: faults.times > work.MOST_FAILURES)
    assert world.status(run_id) is model.RunStatus.RUNNING
    (swap,) = [one for one in world.driver.batches(run_id) if one["kind"] == "swap"]
    assert swap["error"] == "One store is restored, the other will be as soon as it can: RuntimeError: a fault"
    at(monkeypatch, Swap, "_one", kill)
    for _ in range(batches.MOST_CRASHES + 1):
        world.until_killed(run_id)
    assert world.status(run_id) is model.RunStatus.RUNNING
    monkeypatch.undo()
    world.work(run_id)
    world.assert_restored(run_id)
