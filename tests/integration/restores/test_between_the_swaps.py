"""One store is restored, the other is not, and nobody is at work; or nothing is swapped yet, and it is cancelled."""

from __future__ import annotations

import pathlib

import pytest

from hal9mig import errors, model
from hal9mig.engine.checkpoint import instant
from hal9mig.engine.checkpoint.swap import Swap
from hal9mig.engine.switch.switch import Switch
from hal9mig.engine.transfer import follower
from hal9mig.ledger import runs
from tests.support import checkpoint_runs
from tests.support.checkpoint_runs import CONFIGURATION, NEURONS, SESSIONS
from tests.support.restoring import FLAT, HIER, NAME, STEPS, World, at, kill, once


@pytest.fixture
def half(world: World, monkeypatch: pytest.MonkeyPatch) -> int:
    """A restore whose worker has died between the two commits."""
    with monkeypatch.context() as patch:
        at(patch, Swap, "_commit", once(kill), after=True)
        run_id = world.begin()
        world.until_killed(run_id)
    assert world.held() == [world.other is FLAT, world.other is HIER]
    assert world.shadows() == [world.other is FLAT, world.other is HIER]
    return run_id


class TestBetween:
    """One store is restored, the other is not yet, and nobody is at work."""

    def test_nothing_is_applied(self, world: World, half: int) -> None:
        """A write stays where it was written, waits in the journal, and arrives when both are restored."""
        world.write("between")
        assert world.written("between") == [int(world.ruling is FLAT), int(world.ruling is HIER)]
        spoilt = checkpoint_runs.both(world.driver)
        waiting = world.waiting()
        assert waiting > 0
        assert not world.follow().emptied
        key = world.ask(world.ruling, "SELECT category, key FROM hal9cap.journal")[0]
        with pytest.raises(errors.StaleEpoch, match=f"run {half} restores checkpoint {NAME}"):
            follower.apply(
                world.driver.system, world.driver.desk.flat("a"), world.driver.desk.hier("a"), world.ruling, key[0],
                [tuple(key[1])], restores=0,
            )  # fmt: skip
        world.driver.desk.clear()
        assert checkpoint_runs.both(world.driver) == spoilt
        assert world.waiting() == waiting
        world.work(half)
        assert world.status(half) is model.RunStatus.SUCCEEDED
        world.assert_clean()
        assert world.follow().emptied
        assert world.written("between") == [1, 1]
        if world.ruling is FLAT:
            for category in (SESSIONS, NEURONS, CONFIGURATION):
                world.driver.assert_equal(category)
        world.keeping.roll_back(NAME)

    def test_no_pair_can_be_kept(self, world: World, half: int) -> None:
        """A checkpoint has to wait: the two stores are of different times."""
        scope = list(world.driver.system.registry.ordered())
        with pytest.raises(errors.GateClosed, match=f"run {half} restores"):
            instant.take(world.driver.system, scope)
        world.work(half)
        world.assert_restored(half)

    def test_no_switch_passes(self, world: World, half: int) -> None:
        """Also where nothing waits in the journal: it would open the store of before the restore."""
        switch = Switch(world.driver.system, actor="test")
        world.ask(world.ruling, "DELETE FROM hal9cap.journal")
        with pytest.raises(errors.GateClosed, match=f"not of one time now: run {half} restores checkpoint {NAME}"):
            switch.leave_flat(dict) if world.ruling is FLAT else switch.return_to_flat()
        assert switch.line().mode == world.mode
        assert switch.line().target is None
        world.write("between")
        world.work(half)
        assert world.status(half) is model.RunStatus.SUCCEEDED
        world.assert_clean()
        assert world.follow().emptied
        assert world.written("between") == [1, 1]
        world.keeping.roll_back(NAME)

    @pytest.mark.parametrize("paused", [False, True])
    def test_one_that_is_cancelled_goes_on(self, world: World, half: int, paused: bool) -> None:
        """It goes on: whoever looks after what runs leave behind sees to it."""
        coordinator = world.driver.coordinator
        if paused:
            coordinator.pause(half)
            assert world.driver.work(half).status is model.RunStatus.PAUSED
        coordinator.cancel(half)
        assert world.driver.work(half).status is model.RunStatus.CANCELLED
        world.look()
        run = world.driver.run(half)
        assert run.status is model.RunStatus.RUNNING
        assert "no way but forward" in run.reason
        assert world.shadows() == [world.other is FLAT, world.other is HIER]
        world.work(half)
        world.assert_restored(half)

    def test_one_that_is_marked_failed_goes_on(self, world: World, half: int) -> None:
        """As when somebody has marked the batch failed in the ledger."""
        with world.driver.system.ledger.begin() as session:
            session.execute("UPDATE hal9mig.batches SET status = 'failed' WHERE kind = 'swap' AND run_id = %s", (half,))
            runs.settle(session, half)
        assert world.status(half) is model.RunStatus.FAILED
        world.look()
        assert world.status(half) is model.RunStatus.RUNNING
        world.work(half)
        world.assert_restored(half)

    def test_another_restore_may_not_take_its_tables(self, world: World, half: int) -> None:
        """It may not take the tables that the first one still needs, and ends; then the first one goes on."""
        world.driver.coordinator.cancel(half)
        world.driver.work(half)
        second = world.begin()
        world.look()
        assert world.status(half) is model.RunStatus.CANCELLED
        run = world.work(second)
        assert run.status is model.RunStatus.FAILED
        assert f"Run {half} has restored one store" in run.reason
        world.look()
        world.look()
        world.work(half)
        world.assert_restored(half)

    def test_it_needs_the_checkpoint_no_more(self, world: World, half: int) -> None:
        """What is left to do needs none of its files."""
        folder = pathlib.Path(world.driver.system.settings.checkpoint_url)
        (folder / NAME).rename(folder / "elsewhere")
        try:
            world.work(half)
        finally:
            (folder / "elsewhere").rename(folder / NAME)
        world.assert_restored(half)


class TestCancelled:
    """Restores that are cancelled before anything is swapped."""

    @pytest.mark.parametrize("step", ["between the stores' shadows", "with a chunk claimed", "with the hold"])
    def test_one_that_was_killed_leaves_nothing(self, world: World, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing is left, nothing is changed, and the next one restores."""
        spoilt = checkpoint_runs.both(world.driver)
        owner, name, after, skip = STEPS[step]
        with monkeypatch.context() as patch:
            at(patch, owner, name, once(kill, skip=skip), after=after)
            run_id = world.begin()
            world.until_killed(run_id)
        world.driver.coordinator.cancel(run_id)
        assert world.driver.work(run_id).status is model.RunStatus.CANCELLED
        world.look()
        world.assert_clean()
        assert world.status(run_id) is model.RunStatus.CANCELLED
        assert checkpoint_runs.both(world.driver) == spoilt
        world.keeping.roll_back(NAME)
        assert checkpoint_runs.both(world.driver) == world.before

    def test_at_the_last_moment_it_changes_nothing(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """Cancelled when all is ready to be committed, it changes nothing."""
        spoilt = checkpoint_runs.both(world.driver)
        run_id = world.begin()
        with monkeypatch.context() as patch:
            cancel = once(lambda: world.driver.coordinator.cancel(run_id) and None, skip=1)
            at(patch, Swap, "_one", cancel, after=True)
            assert world.driver.work(run_id).status is model.RunStatus.CANCELLED
        assert world.held() == [False, False]
        world.look()
        world.assert_clean()
        assert checkpoint_runs.both(world.driver) == spoilt
        world.keeping.roll_back(NAME)

    def test_the_next_one_may_begin_at_once(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its tables are not taken for the leavings of the first."""
        with monkeypatch.context() as patch:
            at(patch, Swap, "_hold", once(kill), after=True)
            first = world.begin()
            world.until_killed(first)
        world.driver.coordinator.cancel(first)
        world.driver.work(first)
        second = world.begin()
        loaded = lambda: world.driver.run(second).done_batches > 3  # noqa: E731
        world.driver.work(second, until=loaded)
        assert world.held() == [False, False]
        world.look()
        world.work(second)
        world.assert_restored(second)
