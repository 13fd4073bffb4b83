"""Checkpoints on real stores: what is taken comes back, bit for bit, and nothing else is touched."""

from __future__ import annotations

import pathlib
import subprocess
from collections.abc import Iterator

import pytest

from hal9mig import errors, model, settings
from hal9mig.engine.checkpoint import archive, save
from hal9mig.engine.checkpoint.archive import Archive
from hal9mig.engine.checkpoint.orders import CheckpointOrder, Checkpoints
from hal9mig.engine.system import System
from hal9mig.ledger import instants, runs
from tests.support import checkpoint_runs, servers
from tests.support.checkpoint_runs import ALL, CONFIGURATION, LEARNING, METADATA, NEURONS, SESSIONS, Keeping
from tests.support.live_state import execute
from tests.support.migration_driver import Driver, connected, until

FLAT, HIER = model.StoreName.FLAT, model.StoreName.HIERARCHICAL


@pytest.fixture(scope="module")
def prepared(databases: servers.Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keeping]:
    """Stores with a little of everything in them, half of it migrated, and a verified checkpoint ``one`` of it."""
    stores = databases.open()
    driver = Driver(stores, servers.environ(stores, tmp_path_factory.mktemp("checkpoints")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(save, "MOST_ROWS", 100)
        patch.setattr(save, "FEWEST_ROWS", 100)
        for category, records in zip(ALL, (300, 400, 100, 50, 300), strict=True):
            driver.load(category, records, edge_cases=True)
        driver.copy(NEURONS, filter="layer=substrate")
        driver.copy(SESSIONS)
        with checkpoint_runs.keeping(driver) as made:
            made.take("one", verify=True)
            yield made
    driver.close()
    databases.close(stores)


@pytest.fixture
def keeping(prepared: Keeping) -> Iterator[Keeping]:
    """The same for each test: afterwards the stores are as they were, and there is one checkpoint."""
    before = checkpoint_runs.both(prepared.driver)
    yield prepared
    if checkpoint_runs.both(prepared.driver) != before:
        prepared.roll_back("one")
        assert checkpoint_runs.both(prepared.driver) == before
    for name in prepared.archive.names():
        if name != "one":
            prepared.archive.delete(name)


class TestRoundTrip:
    """A full checkpoint and back."""

    def test_everything_comes_back(self, keeping: Keeping) -> None:
        """Rows, columns, constraints, indexes, triggers and privileges are what they were."""
        driver = keeping.driver
        before = checkpoint_runs.both(driver)
        places = ((driver.stores.flat_url, "flat"), (driver.stores.hier_url, "hier"))
        shapes = [checkpoint_runs.shape(url, [schema]) for url, schema in places]
        checkpoint_runs.change(driver)
        assert checkpoint_runs.both(driver) != before
        keeping.roll_back("one")
        assert checkpoint_runs.both(driver) == before
        assert [checkpoint_runs.shape(url, [schema]) for url, schema in places] == shapes
        for url, _ in places:
            assert not execute(url, "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'hal9_shadow%'")
            assert not execute(url, "SELECT * FROM hal9cap.hold")

    def test_what_counts_as_migrated_comes_back_too(self, keeping: Keeping) -> None:
        """Later runs are undone: what they had covered is not there any more."""
        driver = keeping.driver
        keeping.roll_back("one")
        covered = checkpoint_runs.coverage(driver)
        standing = checkpoint_runs.whole(driver, SESSIONS) | checkpoint_runs.whole(driver, NEURONS)
        assert len(standing) == 2
        driver.copy(NEURONS)
        driver.copy(LEARNING)
        assert checkpoint_runs.coverage(driver) != covered
        keeping.roll_back("one")
        assert checkpoint_runs.coverage(driver) == covered
        # What the checkpoint holds whole is still migrated, to whoever reads the runs.
        assert checkpoint_runs.whole(driver, SESSIONS) | checkpoint_runs.whole(driver, NEURONS) == standing
        assert not checkpoint_runs.whole(driver, LEARNING)
        later = driver.copy(NEURONS).id
        driver.assert_equal(NEURONS)
        keeping.take("later", verify=True)
        keeping.roll_back("one")
        assert later not in checkpoint_runs.whole(driver, NEURONS)
        keeping.roll_back("later")
        assert later in checkpoint_runs.whole(driver, NEURONS)
        driver.assert_equal(NEURONS)
        keeping.roll_back("one")

    def test_a_category_alone_comes_back_and_the_others_stay(self, keeping: Keeping) -> None:
        """The others are bit-equal, in both stores, and proven so."""
        driver = keeping.driver
        checkpoint_runs.change(driver)
        before = checkpoint_runs.both(driver)
        done = keeping.roll_back("one", NEURONS)
        after = checkpoint_runs.both(driver)
        units = {"units", "unit_learning", "unit_connections"}
        assert {name: one for name, one in after["flat"].items() if name != "neuron_states"} == {
            name: one for name, one in before["flat"].items() if name != "neuron_states"
        }
        assert {name: one for name, one in after["hier"].items() if name not in units} == {
            name: one for name, one in before["hier"].items() if name not in units
        }
        assert {one.category for one in done.untouched} == {SESSIONS, LEARNING, CONFIGURATION, METADATA}
        assert len(done.untouched) == 8
        assert all(one.same for one in done.untouched)
        assert after["flat"]["neuron_states"] != before["flat"]["neuron_states"]

    def test_a_standstill_ends_with_everything(self, keeping: Keeping) -> None:
        """Where the stores are of another mode, one category that is right again does not make the others so."""
        driver = keeping.driver
        execute(driver.stores.hier_url, "UPDATE hal9mig.mode SET standstill = 'of another mode'")
        keeping.roll_back("one", CONFIGURATION)
        with driver.system.ledger.begin() as session:
            assert instants.standstill(session) == "of another mode"
        keeping.roll_back("one")
        with driver.system.ledger.begin() as session:
            assert instants.standstill(session) == ""

    def test_what_would_be_lost_is_counted(self, keeping: Keeping) -> None:
        """Every row of the ruling store that was changed, added or deleted since, and none else."""
        driver = keeping.driver
        with connected(driver.stores.flat_url) as cursor:
            cursor.execute("SELECT session_id FROM flat.user_sessions ORDER BY 1 LIMIT 8")
            keys = [row[0] for row in cursor.fetchall()]
            cursor.execute("DELETE FROM flat.user_sessions WHERE session_id = ANY(%s::uuid[])", (keys[:3],))
            cursor.execute("UPDATE flat.user_sessions SET active = NOT active WHERE session_id = ANY(%s::uuid[])",
                           (keys[3:],))  # fmt: skip
            cursor.execute(
                "INSERT INTO flat.user_sessions SELECT gen_random_uuid(), user_id, token_hash || n, ip_address, "
                "user_agent, active, data, created_at, last_seen_at, expires_at, version FROM flat.user_sessions, "
                "generate_series(1, 2) n WHERE session_id = %s", (keys[3],),
            )  # fmt: skip
        plan = keeping.checkpoints.plan_restore("one")
        run = keeping.finished(keeping.checkpoints.weigh(plan))
        found = {one.table: one for one in keeping.checkpoints.losses(run)}
        lost = found["flat.user_sessions"]
        assert (lost.changed, lost.added, lost.removed) == (5, 2, 3)
        assert not any(one.total for name, one in found.items() if name != "flat.user_sessions")


class TestTaking:
    """Taking checkpoints."""

    def test_a_marker_counts_and_restores_nothing(self, keeping: Keeping) -> None:
        """Counts and digests of both stores, and nothing to restore."""
        made = keeping.take("marker", full=False, description="done")
        assert not made.restorable
        assert made.description == "done"
        assert set(made.digests) == set(ALL)
        ((count,),) = execute(keeping.driver.stores.flat_url, "SELECT count(*) FROM flat.user_sessions")
        assert made.digests[SESSIONS]["flat"].records == count
        assert made.digests[SESSIONS]["flat"] == made.digests[SESSIONS]["hierarchical"]
        with pytest.raises(errors.NotRestorable):
            keeping.checkpoints.plan_restore("marker")

    def test_two_at_once_are_both_whole(self, keeping: Keeping) -> None:
        """Both are whole; of one name there is only one."""
        first, _ = keeping.checkpoints.take(CheckpointOrder(name="a", categories=(SESSIONS,)))
        with pytest.raises(errors.NameTaken):
            keeping.checkpoints.take(CheckpointOrder(name="a"))
        second, _ = keeping.checkpoints.take(CheckpointOrder(name="b", categories=(SESSIONS,), verify=True))
        for run in (first, second):
            assert keeping.finished(run).status is model.RunStatus.SUCCEEDED
        a, b = keeping.checkpoints.find("a"), keeping.checkpoints.find("b")
        digests = [{table.qualified: table.digest for table in made.tables if table.category} for made in (a, b)]
        assert digests[0] == digests[1]
        with pytest.raises(errors.NameTaken):
            keeping.checkpoints.take(CheckpointOrder(name="a"))

    def test_it_is_held_to_a_budget_of_its_own(self, keeping: Keeping) -> None:
        """Each record is counted once, parts go with theirs; the migrations' budget holds no checkpoint."""
        driver = keeping.driver
        driver.configure(rate_limit="1/h")
        try:
            slow, plan = keeping.checkpoints.take(
                CheckpointOrder(name="slow", categories=(SESSIONS, NEURONS), tuning={"rate-limit": "1/h"})
            )
            assert plan.expected.seconds > 3600 * 300
            assert plan.expected.basis == "at its budget of 1/h"
            limited = lambda: "rate-limit 1/h" in driver.run(slow.id).waiting  # noqa: E731
            driver.work(slow.id, until=limited)
            assert limited()
            own, _ = keeping.checkpoints.take(CheckpointOrder(name="own", categories=(SESSIONS, CONFIGURATION)))
            assert keeping.finished(own).status is model.RunStatus.SUCCEEDED
            costs = {one["subject"]: one["cost"] for one in driver.batches(slow.id) if one["kind"] == "save"}
            assert costs["hierarchical hier.unit_connections"] == 0
            assert costs["flat flat.user_sessions"] > 0
        finally:
            driver.configure(rate_limit="off")
        driver.coordinator.cancel(slow.id)
        assert driver.work(slow.id).status is model.RunStatus.CANCELLED

    def test_a_keeper_that_dies_leaves_a_whole_one(self, keeping: Keeping) -> None:
        """Newer snapshots are taken; files that are equal under them are kept, others are written anew."""
        driver = keeping.driver
        run, _ = keeping.checkpoints.take(CheckpointOrder(name="resumed", verify=True))
        half = lambda: driver.run(run.id).done_batches >= 10  # noqa: E731
        driver.work(run.id, until=half)
        done = {one["subject"]: one["result"]["file"] for one in driver.batches(run.id)
                if one["status"] == "done" and one["kind"] == "save"}  # fmt: skip
        with connected(driver.stores.flat_url) as cursor:
            # The keeper's session, with the snapshot in it.
            cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                           "WHERE application_name LIKE '%keeper%' AND datname = current_database() "
                           "AND state LIKE 'idle in transaction%'")  # fmt: skip
            cursor.execute("UPDATE flat.user_sessions SET active = NOT active")

        def renewed() -> bool:
            with driver.system.ledger.begin() as session:
                return instants.read(session, run.id).number == 2

        until(renewed, "new snapshots")
        assert driver.work(run.id).status is model.RunStatus.SUCCEEDED
        made = keeping.checkpoints.find("resumed")
        files = {f"{table.store} {table.qualified}": table.chunks[0].file for table in made.tables}
        kept = [name for name, file in done.items() if files.get(name) == file]
        assert kept
        assert len(list((pathlib.Path(keeping.archive._root) / "resumed").rglob("*.zst"))) == sum(
            len(table.chunks) for table in made.tables
        )
        checkpoint_runs.change(driver)
        execute(driver.stores.flat_url, "UPDATE flat.user_sessions SET active = NOT active")
        keeping.roll_back("resumed")
        plan = keeping.checkpoints.plan_restore("resumed")
        found = keeping.checkpoints.losses(keeping.finished(keeping.checkpoints.weigh(plan)))
        assert not any(one.total for one in found)

    def test_one_that_is_paused_goes_on_when_resumed(self, keeping: Keeping) -> None:
        driver = keeping.driver
        run, _ = keeping.checkpoints.take(CheckpointOrder(name="paused", categories=(NEURONS,)))
        driver.work(run.id, until=lambda: driver.run(run.id).done_batches >= 2)
        driver.coordinator.pause(run.id)
        assert driver.work(run.id).status is model.RunStatus.PAUSED
        driver.coordinator.resume(run.id)
        assert driver.work(run.id).status is model.RunStatus.SUCCEEDED
        assert keeping.checkpoints.find("paused").rows

    def test_one_that_is_cancelled_leaves_nothing(self, keeping: Keeping) -> None:
        """Nothing of it is left, and it is never listed."""
        driver = keeping.driver
        run, _ = keeping.checkpoints.take(CheckpointOrder(name="cancelled"))
        driver.work(run.id, until=lambda: driver.run(run.id).done_batches >= 3)
        listing = keeping.checkpoints.listing()
        assert [one.options["checkpoint"] for one in listing.under_way] == ["cancelled"]
        assert [one.name for one in listing.manifests] == ["one"]
        driver.coordinator.cancel(run.id)
        assert driver.work(run.id).status is model.RunStatus.CANCELLED
        until(lambda: not keeping.archive.exists("cancelled"), "its leavings to be cleared")
        driver.coordinator.retry(run.id)
        assert driver.work(run.id).status is model.RunStatus.SUCCEEDED

    def test_a_name_that_was_given_again(self, keeping: Keeping) -> None:
        """Neither who clears what the first one has left, nor that one tried again, touches the second one's files."""
        driver, order = keeping.driver, CheckpointOrder(name="again", categories=(CONFIGURATION,))
        first, _ = keeping.checkpoints.take(order)
        driver.coordinator.cancel(first.id)
        assert driver.work(first.id).status is model.RunStatus.CANCELLED
        made = keeping.take("again", categories=(CONFIGURATION,))
        with driver.system.ledger.begin() as session:
            instants.create(session, first.id)  # as it is for a keeper that could not clear it before

        def cleared() -> bool:
            with driver.system.ledger.begin() as session:
                return not instants.leavings(session)

        until(cleared, "the first one's leavings to be cleared")
        assert keeping.checkpoints.find("again") == made
        driver.coordinator.retry(first.id)
        failed = driver.work(first.id)
        assert failed.status is model.RunStatus.FAILED
        assert f"run {made.positions['run']} has taken" in failed.reason
        assert keeping.checkpoints.find("again") == made
        assert not keeping.checkpoints.listing().lacking

    def test_the_oldest_are_pruned(self, keeping: Keeping) -> None:
        """The oldest go, but for the newest verified one of each category."""
        values = keeping.driver.system.settings
        object.__setattr__(values, "checkpoint_keep", 2)
        try:
            for name in ("first", "second", "third"):
                keeping.take(name, categories=(SESSIONS,))
        finally:
            object.__setattr__(values, "checkpoint_keep", 0)
        assert set(keeping.archive.names()) == {"one", "second", "third"}


class TestRefusals:
    """What cannot be taken or restored, and why."""

    def test_another_schema_is_named(self, keeping: Keeping) -> None:
        """Refused before anything is done, naming what is different."""
        with connected(keeping.driver.stores.flat_url) as cursor:
            cursor.execute("ALTER TABLE flat.neuron_states ADD COLUMN colour text")
            try:
                with pytest.raises(errors.CheckpointStale, match="colour"):
                    keeping.checkpoints.plan_restore("one")
            finally:
                cursor.execute("ALTER TABLE flat.neuron_states DROP COLUMN colour")

    def test_a_lost_database_hides_no_checkpoint(self, keeping: Keeping) -> None:
        """What there is to go back to can be seen without it."""
        env = {"HAL9_CHECKPOINT_URL": keeping.driver.system.settings.checkpoint_url,
               "HAL9_FLAT_URL": "postgresql://nobody@127.0.0.1:1/gone", "HAL9_HIER_URL": "postgresql://nobody@127.0.0.1:1/gone",
               "HAL9_REDIS_URL": "redis://127.0.0.1:1/0"}  # fmt: skip
        listing = Checkpoints(System(settings.load(environ=env), role="test")).listing()
        assert [one.name for one in listing.manifests] == ["one"]
        assert "127.0.0.1:1/gone cannot be reached" in listing.unknown

    def test_an_older_revision_is_refused(self, keeping: Keeping) -> None:
        made = keeping.checkpoints.find("one")
        old = type(made)(**{**vars(made), "name": "old", "schemas": {**made.schemas, "flat": "0000"}})
        keeping.archive.put_manifest(old)
        with pytest.raises(errors.NotFound):
            keeping.checkpoints.plan_restore("")
        with pytest.raises(errors.CheckpointStale, match="0000") as caught:
            keeping.checkpoints.plan_restore("old")
        assert "docs/checkpoints.md" in caught.value.hint

    def test_a_migration_under_way_stands_in_the_way(self, keeping: Keeping) -> None:
        """It stands in the way; with force it is cancelled."""
        driver = keeping.driver
        run = driver.start(METADATA)
        plan = keeping.checkpoints.plan_restore("one")
        with pytest.raises(errors.RunActive, match=f"run {run}"):
            keeping.checkpoints.rollback(plan)
        restore = keeping.checkpoints.rollback(plan, cancel_runs=True)
        assert keeping.finished(restore).status is model.RunStatus.SUCCEEDED
        assert driver.run(run).status is model.RunStatus.CANCELLED

    def test_nothing_begins_beside_a_restore(self, keeping: Keeping) -> None:
        """No migration and no second restore begins beside it."""
        driver = keeping.driver
        plan = keeping.checkpoints.plan_restore("one", (CONFIGURATION,))
        run = keeping.checkpoints.rollback(plan)
        for order in (lambda: driver.start(METADATA), lambda: keeping.checkpoints.rollback(plan)):
            with pytest.raises(errors.RestoreActive, match=f"run {run.id}"):
                order()
        assert keeping.finished(run).status is model.RunStatus.SUCCEEDED

    def test_no_room_is_told(self, keeping: Keeping, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Said before it begins; and where it fills meanwhile, the run fails and leaves nothing."""
        folder = tmp_path / "small"
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)], check=True)
        try:
            small = Archive(str(folder))
            monkeypatch.setattr(archive, "opened", lambda settings: small)
            with pytest.raises(errors.ArchiveFull, match="may need"):
                keeping.checkpoints.take(CheckpointOrder(name="large"))
            monkeypatch.setattr(small, "free_bytes", lambda: None)
            run = keeping.finished(keeping.checkpoints.take(CheckpointOrder(name="large"))[0])
            assert run.status is model.RunStatus.FAILED
            assert "no room left" in run.reason
            until(lambda: not small.names(), "its leavings to be cleared")
        finally:
            subprocess.run(["umount", str(folder)], check=True)

    def test_latest_is_from_before_the_migration(self, keeping: Keeping) -> None:
        """One that was taken after it began is a checkpoint of what is to be undone."""
        driver = keeping.driver
        keeping.roll_back("one")
        keeping.take("before", verify=True, categories=(CONFIGURATION,))
        driver.copy(CONFIGURATION)
        keeping.take("after", verify=True, categories=(CONFIGURATION,))
        assert keeping.checkpoints.find("latest").name == "after"
        assert keeping.checkpoints.plan_restore("latest", (CONFIGURATION,)).manifest.name == "before"
        keeping.roll_back("latest", CONFIGURATION)
        with driver.system.ledger.begin() as session:
            assert CONFIGURATION not in runs.current(session)

    def test_the_swap_gives_way_to_a_reader_that_does_not_end(self, keeping: Keeping) -> None:
        """The swap gives way and tries again, and readers and writers go on in between."""
        driver = keeping.driver
        checkpoint_runs.change(driver)
        plan = keeping.checkpoints.plan_restore("one")
        run = keeping.checkpoints.rollback(plan)
        with connected(driver.stores.flat_url) as cursor:
            cursor.execute("BEGIN; SELECT count(*) FROM flat.user_sessions")
            tried = lambda: any(one["kind"] == "swap" and one["error"] for one in driver.batches(run.id))  # noqa: E731
            driver.work(run.id, until=tried)
            assert tried()
        assert driver.work(run.id).status is model.RunStatus.SUCCEEDED
