"""Restores that are killed at every step, and whose servers fall: they end restored, and nothing stale comes after."""

from __future__ import annotations

import contextlib
import pathlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pytest

from hal9mig import errors, model
from hal9mig.engine import work
from hal9mig.engine.checkpoint import instant, restore, save, steps
from hal9mig.engine.checkpoint.keeper import Keeper
from hal9mig.engine.checkpoint.swap import Swap
from hal9mig.engine.desk import Desk
from hal9mig.engine.switch.switch import Switch
from hal9mig.engine.transfer import follower
from hal9mig.ledger import batches, dispatch, runs
from hal9mig.stores import restore_notes, shadow
from hal9mig.stores.write_mode import Mode
from tests.support import checkpoint_runs, servers
from tests.support.checkpoint_runs import CONFIGURATION, NEURONS, SESSIONS, Keeping
from tests.support.migration_driver import Driver, connected, until

FLAT, HIER = model.StoreName.FLAT, model.StoreName.HIERARCHICAL
NAME = "before"
MODES = (Mode.DUAL_WRITE, pytest.param(Mode.HIERARCHICAL_ONLY, marks=pytest.mark.long))


class Killed(BaseException):
    """What no code catches, as a SIGKILL: only the servers undo what was not committed."""


class World:
    """A checkpoint of stores in one mode, and what they held then."""

    def __init__(self, keeping: Keeping, mode: Mode):
        self.keeping = keeping
        self.driver = keeping.driver
        self.mode = mode
        self.ruling = mode.ruling
        self.other = HIER if mode.ruling is FLAT else FLAT
        self.before = checkpoint_runs.both(keeping.driver)

    def url(self, store: model.StoreName) -> str:
        return self.driver.stores.flat_url if store is FLAT else self.driver.stores.hier_url

    def ask(self, store: model.StoreName, query: str) -> list[tuple[Any, ...]]:
        with connected(self.url(store)) as cursor:
            cursor.execute(query)
            return list(cursor.fetchall()) if cursor.description else []

    def spoil(self) -> None:
        """Write to the ruling store, as an application that has gone wrong; what is captured is brought over."""
        if self.ruling is FLAT:
            self.ask(FLAT, "UPDATE flat.user_sessions SET user_agent = 'spoilt'")
            self.ask(FLAT, "DELETE FROM flat.neuron_states WHERE layer <> 'protocol'")
            self.ask(FLAT, "DELETE FROM flat.configuration WHERE key <> (SELECT min(key) FROM flat.configuration)")
        else:
            self.ask(HIER, "UPDATE hier.sessions SET user_agent = 'spoilt'")
            self.ask(HIER, "UPDATE hier.units SET activation = 0.625")
            self.ask(HIER, "DELETE FROM hier.config_values WHERE path <> (SELECT min(path) FROM hier.config_values)")
        self.follow()

    def write(self, agent: str) -> None:
        """Write one record of the ruling store, as its application."""
        table = "flat.user_sessions" if self.ruling is FLAT else "hier.sessions"
        self.ask(
            self.ruling,
            f"UPDATE {table} SET user_agent = '{agent}' "
            f"WHERE session_id = (SELECT session_id FROM {table} ORDER BY session_id LIMIT 1)",
        )

    def written(self, agent: str) -> list[int]:
        """Return how many records of each store were written so."""
        count = "SELECT count(*) FROM {} WHERE user_agent = '" + agent + "'"
        tables = ((FLAT, "flat.user_sessions"), (HIER, "hier.sessions"))
        return [self.ask(store, count.format(table))[0][0] for store, table in tables]

    def follow(self) -> follower.Followed:
        """Apply what waits in the ruling store's journal."""
        flat, hier = self.driver.desk.flat("follow"), self.driver.desk.hier("follow")
        return follower.follow(self.driver.system, flat, hier, self.ruling, seconds=30)

    def waiting(self) -> int:
        return int(self.ask(self.ruling, "SELECT count(*) FROM hal9cap.journal")[0][0])

    def held(self) -> list[bool]:
        """Return whether each store is kept from being applied to."""
        return [bool(self.ask(store, "SELECT * FROM hal9cap.hold")) for store in (FLAT, HIER)]

    def shadows(self) -> list[bool]:
        """Return whether each store has shadow tables."""
        query = "SELECT 1 FROM pg_namespace WHERE nspname LIKE 'hal9\\_shadow%'"
        return [bool(self.ask(store, query)) for store in (FLAT, HIER)]

    def begin(self) -> int:
        """Start restoring and return the run's number."""
        return self.keeping.checkpoints.rollback(self.keeping.checkpoints.plan_restore(NAME)).id

    def status(self, run_id: int) -> model.RunStatus:
        return self.driver.run(run_id).status

    def look(self) -> None:
        """Do what a keeper does."""
        Keeper(self.driver.system, "keeper").look()

    def bury(self, run_id: int) -> None:
        """Have the ledger notice that the worker is dead."""
        self.driver.desk.clear()
        for one in self.driver.batches(run_id) + self.plan_of(run_id):
            if one["status"] == "leased":
                seq, attempt = one["seq"], one["attempt"]
                batches.expire_crashed(self.driver.system.ledger, run_id=run_id, seq=seq, attempt=attempt)

    def plan_of(self, run_id: int) -> list[dict[str, Any]]:
        with self.driver.system.ledger.begin() as session:
            return [dict(one) for one in batches.listing(session, run_id) if one["kind"] == "plan"]

    def work(self, run_id: int) -> model.Run:
        """Work a run to its end, however often the worker is killed."""
        while True:
            try:
                return self.driver.work(run_id)
            except Killed:
                self.bury(run_id)

    def until_killed(self, run_id: int) -> None:
        """Work a run until the worker is killed."""
        with pytest.raises(Killed):
            self.driver.work(run_id)
        self.bury(run_id)

    def assert_restored(self, run_id: int) -> None:
        run = self.driver.run(run_id)
        assert run.status is model.RunStatus.SUCCEEDED, run.reason
        assert checkpoint_runs.both(self.driver) == self.before
        self.assert_clean()

    def assert_clean(self) -> None:
        assert self.held() == [False, False]
        assert self.shadows() == [False, False]
        with self.driver.system.ledger.begin() as session:
            assert not session.execute("SELECT count(*) FROM hal9mig.shadows").scalar_one()


@pytest.fixture(scope="module", params=MODES, ids=str)
def made(
    request: pytest.FixtureRequest, databases: servers.Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """Everything migrated in one of the modes, and a checkpoint of it; no keeper but by hand."""
    stores = databases.open()
    driver = Driver(stores, servers.environ(stores, tmp_path_factory.mktemp("crashes")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(save, "MOST_ROWS", 60)
        patch.setattr(save, "FEWEST_ROWS", 60)
        for category, records in ((SESSIONS, 50), (NEURONS, 80), (CONFIGURATION, 20)):
            driver.load(category, records)
        Switch(driver.system, actor="test").enable()
        for category in (SESSIONS, NEURONS, CONFIGURATION):
            driver.copy(category)
        if request.param is Mode.HIERARCHICAL_ONLY:
            Switch(driver.system, actor="test").leave_flat(dict)
        with checkpoint_runs.keeping(driver) as keeping:
            keeping.take(NAME)
        yield World(keeping, request.param)
    driver.close()
    databases.close(stores)


@pytest.fixture
def world(made: World) -> World:
    """The same for each test, spoilt since its checkpoint."""
    made.driver.desk.clear()
    assert checkpoint_runs.both(made.driver) == made.before
    made.spoil()
    assert made.waiting() == 0
    return made


Act = Callable[[], None]


def once(act: Act, *, skip: int = 0) -> Act:
    """Return what acts one time only, after so many calls."""
    left = [skip + 1]

    def step() -> None:
        left[0] -= 1
        if not left[0]:
            act()

    return step


def kill() -> None:
    raise Killed


def at(patch: pytest.MonkeyPatch, owner: Any, name: str, act: Act, *, after: bool = False) -> None:
    """Have a step of the product do something before, or after, it is taken."""
    step = owner[name] if isinstance(owner, dict) else getattr(owner, name)

    def taken(*args: Any, **values: Any) -> Any:
        if not after:
            act()
        result = step(*args, **values)
        if after:
            act()
        return result

    if isinstance(owner, dict):
        patch.setitem(owner, name, taken)
    else:
        patch.setattr(owner, name, taken)


#: Each step of a restore: who takes it, whether the worker dies before or after it, and at which time it is taken.
STEPS = {
    "before the first shadows": (shadow, "prepare", False, 0),
    "with the first shadows uncommitted": (shadow, "prepare", True, 0),
    "between the stores' shadows": (shadow, "prepare", False, 1),
    "with all shadows and no plan": (restore, "_planned", False, 0),
    "with a chunk claimed": (shadow, "claim", True, 1),
    "with a chunk loaded and uncommitted": (shadow, "settle", True, 2),
    "with a chunk loaded and not noted": (batches, "conclude", False, 4),
    "with indexes uncommitted": (shadow, "index", True, 1),
    "before the foreign keys": (shadow, "constrain", False, 1),
    "while it is proven": (steps.STEPS, "prove", False, 1),
    "before the hold": (Swap, "_hold", False, 0),
    "with the hold": (Swap, "_hold", True, 0),
    "with switches and appliers kept out": (Swap, "_alone", True, 0),
    "with one store swapped and uncommitted": (Swap, "_one", True, 0),
    "with both swapped and uncommitted": (Swap, "_one", True, 1),
    "before the first commit": (Swap, "_commit", False, 0),
    "between the commits": (Swap, "_commit", True, 0),
    "after the second commit": (Swap, "_commit", True, 1),
    "before the end is noted": (Swap, "_end", False, 0),
    "after the end is noted": (Swap, "_end", True, 0),
}
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
    def test_killed(self, world: World, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
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
    def test_servers_fall(self, world: World, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
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
                [tuple(key[1])],
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

    @pytest.mark.parametrize("paused", [False, True])
    def test_cancelled(self, world: World, half: int, paused: bool) -> None:
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

    def test_failed(self, world: World, half: int) -> None:
        """As when somebody has marked the batch failed in the ledger."""
        with world.driver.system.ledger.begin() as session:
            session.execute("UPDATE hal9mig.batches SET status = 'failed' WHERE kind = 'swap' AND run_id = %s", (half,))
            runs.settle(session, half)
        assert world.status(half) is model.RunStatus.FAILED
        world.look()
        assert world.status(half) is model.RunStatus.RUNNING
        world.work(half)
        world.assert_restored(half)

    def test_another_restore(self, world: World, half: int) -> None:
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

    def test_without_the_checkpoint(self, world: World, half: int) -> None:
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
    def test_killed_and_cancelled(self, world: World, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
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

    def test_at_the_last_moment(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
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

    def test_the_next_one_at_once(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
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


def queued(world: World, run_id: int, seq: int) -> int:
    """Publish a batch, as the dispatcher does, and return its attempt."""
    with world.driver.system.ledger.begin() as session:
        return dispatch.queue(session, run_id, [seq])[seq]


class Frozen:
    """A loader of a chunk that stops in the middle of its transaction, in a thread of its own."""

    def __init__(self, world: World, run_id: int, store: model.StoreName, patch: pytest.MonkeyPatch):
        world.driver.work(run_id, until=lambda: world.driver.run(run_id).planned)
        found = [one for one in world.driver.batches(run_id) if one["kind"] == "load"]
        self.seq = next(one["seq"] for one in found if one["subject"].startswith(store))
        self.thaw = threading.Event()
        self.fails = False
        #: What became of it.
        self.ended: list[str] = []
        #: The threads that have loaded a chunk.
        self.loaded: list[str] = []
        self._stopped = threading.Event()
        self._settle = shadow.settle
        patch.setattr(shadow, "settle", self._freeze)
        self.attempt = queued(world, run_id, self.seq)
        self._thread = threading.Thread(target=self._perform, args=(world, run_id), name="first")
        self._thread.start()
        assert self._stopped.wait(60)
        system = world.driver.system
        batches.expire_crashed(system.ledger, run_id=run_id, seq=self.seq, attempt=self.attempt)

    def _freeze(self, *args: Any, **values: Any) -> None:
        self._settle(*args, **values)
        self.loaded.append(threading.current_thread().name)
        if self.loaded[-1] == "first":
            self._stopped.set()
            assert self.thaw.wait(60)
            if self.fails:
                raise RuntimeError("a fault")

    def _perform(self, world: World, run_id: int) -> None:
        desk = Desk(world.driver.system)
        done = work.perform(
            world.driver.system, desk, run_id=run_id, seq=self.seq, attempt=self.attempt, owner="first/1"
        )
        self.ended.append(done)
        desk.clear()

    def end(self) -> None:
        self.thaw.set()
        self._thread.join(60)


@pytest.mark.parametrize("store", [FLAT, HIER])
class TestFrozenLoaders:
    """A chunk's loader that was taken for dead."""

    @pytest.mark.parametrize("fails", [False, True])
    def test_it_wakes_up(
        self, world: World, store: model.StoreName, fails: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The second waits for it; it loads the chunk where the first has not, and not once more where it has."""
        run_id = world.begin()

        def thaw_when_it_is_waited_for() -> None:
            query = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            until(lambda: world.ask(store, query), "the second loader to wait")
            frozen.thaw.set()

        with monkeypatch.context() as patch:
            frozen = Frozen(world, run_id, store, patch)
            frozen.fails = fails
            try:
                again = queued(world, run_id, frozen.seq)
                waiting = threading.Thread(target=thaw_when_it_is_waited_for)
                waiting.start()
                done = work.perform(
                    world.driver.system, world.driver.desk, run_id=run_id, seq=frozen.seq, attempt=again,
                    owner="second/1",
                )  # fmt: skip
                waiting.join(60)
            finally:
                frozen.end()
        assert done == "done"
        assert frozen.ended == ["lost"]
        assert frozen.loaded == (["first", "MainThread"] if fails else ["first"])
        world.work(run_id)
        world.assert_restored(run_id)

    @pytest.mark.parametrize("kept", [True, False])
    def test_the_restore_is_over(
        self, world: World, store: model.StoreName, kept: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It keeps neither a keeper nor the next restore from the tables, and loads nothing into those."""
        first = world.begin()
        with monkeypatch.context() as patch:
            frozen = Frozen(world, first, store, patch)
            try:
                world.driver.coordinator.cancel(first)
                assert world.driver.work(first).status is model.RunStatus.CANCELLED
                if kept:
                    world.look()
                    world.assert_clean()
                second = world.begin()
                world.work(second)
            finally:
                frozen.end()
        assert frozen.ended == ["lost"]
        world.look()
        world.assert_restored(second)


@pytest.mark.parametrize("store", [FLAT, HIER])
def test_who_reads_as_of_a_moment_before(world: World, store: model.StoreName) -> None:
    """Nothing is swapped under a snapshot that would show neither the old rows nor the new ones."""
    table = "flat.user_sessions" if store is FLAT else "hier.sessions"
    connection = psycopg2.connect(world.url(store), application_name="a report")
    try:
        connection.set_session(isolation_level="REPEATABLE READ")
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_class")
            run_id = world.begin()

            def told() -> str:
                (swap,) = [one for one in world.driver.batches(run_id) if one["kind"] == "swap"] or [{"error": None}]
                return swap["error"] or ""

            world.driver.work(run_id, until=lambda: bool(told()))
            assert f"A transaction of the {store} store reads as of a moment" in told()
            assert f"pid {connection.get_backend_pid()} (a report" in told()
            assert world.held() == [False, False]
            cursor.execute(f"SELECT count(*) FROM {table} WHERE user_agent = 'spoilt'")
            assert cursor.fetchone() == (50,)
    finally:
        connection.close()
    world.work(run_id)
    world.assert_restored(run_id)


def test_who_replaces_tables_is_not_silent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is busy in one store its word is heard in the other; once it is not, the server undoes it."""
    monkeypatch.setattr(restore_notes, "SILENCE", 0.4)
    with contextlib.closing(world.driver.system.flat()) as connection, connection.cursor() as cursor:
        with restore_notes.spoken_for(connection):
            cursor.execute("LOCK TABLE flat.user_sessions IN ACCESS EXCLUSIVE MODE")
            world.ask(FLAT, "SELECT pg_sleep(1.2)")
            cursor.execute("SELECT 1")
        query = "SELECT 1 FROM pg_locks WHERE relation = 'flat.user_sessions'::regclass"
        until(lambda: not world.ask(FLAT, query), "the server to end it")
        with pytest.raises(psycopg2.OperationalError):
            cursor.execute("SELECT 1")
    world.keeping.roll_back(NAME)
