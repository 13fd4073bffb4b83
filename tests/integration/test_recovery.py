"""Recovery from a damaged checkpoint: what is sound comes back, what is not is told, and offered where it can be."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hal9mig import errors, model
from hal9mig.engine.checkpoint import chunk, save, steps
from hal9mig.engine.checkpoint.manifest import Manifest, Table
from hal9mig.engine.switch.switch import Switch
from hal9mig.engine.transfer import quarantine_retry
from hal9mig.ledger import quarantine
from tests.support import checkpoint_runs, servers
from tests.support.checkpoint_runs import ALL, CONFIGURATION, LEARNING, METADATA, NEURONS, SESSIONS, Keeping
from tests.support.migration_driver import Driver, connected, until

FLAT, HIER = model.StoreName.FLAT, model.StoreName.HIERARCHICAL
NAME = "backup"


@pytest.fixture(scope="module")
def prepared(databases: servers.Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keeping]:
    """Everything migrated in dual-write, and a verified checkpoint of it in many small chunks of many small frames."""
    stores = databases.open()
    driver = Driver(stores, servers.environ(stores, tmp_path_factory.mktemp("recovery")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(save, "MOST_ROWS", 60)
        patch.setattr(save, "FEWEST_ROWS", 60)
        patch.setattr(chunk, "FRAME_BYTES", 4096)
        driver.load(SESSIONS, 150)
        driver.load(NEURONS, 200)
        driver.load(LEARNING, 70)
        driver.load(METADATA, 130)
        driver.load(CONFIGURATION, 40)
        Switch(driver.system).enable({})
        for category in ALL:
            driver.copy(category)
        with checkpoint_runs.keeping(driver) as made:
            made.take(NAME, verify=True)
            yield made
    driver.close()
    databases.close(stores)


@pytest.fixture
def keeping(prepared: Keeping, tmp_path: pathlib.Path) -> Iterator[Keeping]:
    """The same for each test: damages are mended afterwards, and what they did is undone."""
    folder, kept = pathlib.Path(prepared.driver.system.settings.checkpoint_url) / NAME, tmp_path / "kept"
    shutil.copytree(folder, kept)
    before = checkpoint_runs.both(prepared.driver)
    yield prepared
    shutil.rmtree(folder)
    shutil.copytree(kept, folder)
    if checkpoint_runs.both(prepared.driver) != before:
        prepared.roll_back(NAME)
        assert checkpoint_runs.both(prepared.driver) == before


@pytest.fixture
def made(keeping: Keeping) -> Manifest:
    """The checkpoint."""
    return keeping.checkpoints.find(NAME)


Hurt = Callable[[Keeping, Table, int], None]


def path(keeping: Keeping, table: Table, number: int) -> pathlib.Path:
    """Return a chunk's file."""
    return pathlib.Path(keeping.driver.system.settings.checkpoint_url) / NAME / table.chunks[number].file


def flip(keeping: Keeping, table: Table, number: int) -> None:
    """Turn one bit in the middle of a chunk's file."""
    file = path(keeping, table, number)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0x10
    file.write_bytes(data)


def cut(keeping: Keeping, table: Table, number: int) -> None:
    """Cut the second half of a chunk's file off."""
    file = path(keeping, table, number)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def remove(keeping: Keeping, table: Table, number: int) -> None:
    """Lose a chunk's file."""
    path(keeping, table, number).unlink()


def exchange(keeping: Keeping, table: Table, number: int) -> None:
    """Put another chunk's file in its place."""
    other = (number + 1) % len(table.chunks)
    path(keeping, table, number).write_bytes(path(keeping, table, other).read_bytes())


#: Each kind of damage in the middle, and one at either end.
CASES = (*((hurt, "middle") for hurt in (flip, cut, remove, exchange)), (flip, "first"), (remove, "last"))


@pytest.mark.parametrize(("hurt", "place"), CASES, ids=lambda one: one if isinstance(one, str) else one.__name__)
class TestStrict:
    """Without quarantine, the first damage ends it, and nothing is changed."""

    def test_a_rollback_is_refused(self, keeping: Keeping, made: Manifest, hurt: Hurt, place: str) -> None:
        table = made.table(FLAT, "flat.neuron_states")
        # Before the damage: one that shows in the file's size is refused with the plan.
        plan = keeping.checkpoints.plan_restore(NAME)
        hurt(keeping, table, number(table, place))
        before = checkpoint_runs.both(keeping.driver)
        run = keeping.finished(keeping.checkpoints.rollback(plan))
        assert run.status is model.RunStatus.FAILED
        assert table.chunks[number(table, place)].file in run.reason
        assert checkpoint_runs.both(keeping.driver) == before


def number(table: Table, place: str) -> int:
    """Return the number of a table's first, middle or last chunk."""
    return {"first": 0, "middle": len(table.chunks) // 2, "last": len(table.chunks) - 1}[place]


def held(keeping: Keeping, category: str) -> list[quarantine.Held]:
    """Return what is in quarantine."""
    with keeping.driver.system.ledger.begin() as session:
        return list(quarantine.find(session, category=category))


def lost_keys(keeping: Keeping, before: set[str]) -> set[str]:
    """Return which neuron states the flat store has no more."""
    return before - keys(keeping.driver, "SELECT neuron_id::text FROM flat.neuron_states")


def keys(driver: Driver, query: str) -> set[str]:
    with connected(driver.stores.flat_url) as cursor:
        cursor.execute(query)
        return {row[0] for row in cursor.fetchall()}


@pytest.mark.parametrize(("hurt", "place"), CASES, ids=lambda one: one if isinstance(one, str) else one.__name__)
class TestQuarantine:
    """With it, what is sound is restored, and the rest is in quarantine or brought again."""

    def test_the_ruling_store(self, keeping: Keeping, made: Manifest, hurt: Hurt, place: str) -> None:
        """Lost records are offered from the other store, and come back as they were."""
        driver = keeping.driver
        everything = checkpoint_runs.both(driver)
        before = keys(driver, "SELECT neuron_id::text FROM flat.neuron_states")
        table = made.table(FLAT, "flat.neuron_states")
        hurt(keeping, table, number(table, place))
        run = keeping.recover(NAME)
        assert run.status is model.RunStatus.SUCCEEDED, run.reason
        done = keeping.checkpoints.outcome(run)
        lost = lost_keys(keeping, before)
        assert lost
        assert len(lost) == sum(damage.rows for damage in done.damages)
        assert done.quarantined == done.offered == len(lost)
        records = held(keeping, NEURONS)
        assert {record.key[0] for record in records} == lost
        assert all(table.chunks[number(table, place)].file in record.error for record in records)
        for record in records:
            assert quarantine_retry.retry(driver.system, record).outcome is quarantine_retry.RetryOutcome.RELEASED
        assert checkpoint_runs.both(driver)["flat"] == everything["flat"]
        driver.assert_equal(NEURONS)

    def test_the_other_store(self, keeping: Keeping, made: Manifest, hurt: Hurt, place: str) -> None:
        """Records that are only half there are brought again from the ruling store."""
        driver = keeping.driver
        everything = checkpoint_runs.both(driver)
        # A table of roots, one with a row for each record, and one with many.
        name = {"first": "hier.units", "middle": "hier.unit_learning", "last": "hier.unit_connections"}[place]
        table = made.table(HIER, name)
        hurt(keeping, table, number(table, place))
        run = keeping.recover(NAME)
        assert run.status is model.RunStatus.SUCCEEDED, run.reason
        done = keeping.checkpoints.outcome(run)
        assert done.brought
        assert not done.quarantined
        assert not held(keeping, NEURONS)
        follow(driver)
        assert checkpoint_runs.both(driver) == everything


def follow(driver: Driver) -> None:
    """Apply what waits in the journal."""
    from hal9mig.engine.transfer import follower

    with driver.desk.trusted():
        done = follower.follow(driver.system, driver.desk.flat("f"), driver.desk.hier("f"), FLAT, seconds=30)
    assert done.emptied


class TestMore:
    """What else may be damaged."""

    @pytest.mark.parametrize("name", ["hier.users", "hier.config_nodes"])
    def test_shared_rows_are_made_again(self, keeping: Keeping, made: Manifest, name: str) -> None:
        everything = checkpoint_runs.both(keeping.driver)
        table = made.table(HIER, name)
        remove(keeping, table, 0)
        run = keeping.recover(NAME)
        assert run.status is model.RunStatus.SUCCEEDED, run.reason
        assert checkpoint_runs.both(keeping.driver) == everything

    @pytest.mark.parametrize("name", [
        "hier.session_attributes", "hier.patterns", "hier.config_values", "hier.metrics",
        *(pytest.param(name, marks=pytest.mark.long) for name in (
            "hier.sessions", "hier.pattern_gradients", "hier.log_entries", "hier.trace_spans", "hier.audit_events",
        )),
    ])  # fmt: skip
    def test_any_table_of_the_other_store(self, keeping: Keeping, made: Manifest, name: str) -> None:
        """Whichever table lost rows, of the only root, of one of several or of parts: both stores end equal."""
        everything = checkpoint_runs.both(keeping.driver)
        remove(keeping, made.table(HIER, name), 0)
        run = keeping.recover(NAME)
        assert run.status is model.RunStatus.SUCCEEDED, run.reason
        assert keeping.checkpoints.outcome(run).brought
        follow(keeping.driver)
        assert checkpoint_runs.both(keeping.driver) == everything

    def test_a_loss_on_both_sides(self, keeping: Keeping, made: Manifest) -> None:
        """What neither store's part has is counted, with the keys it lay between."""
        flat, hier = made.table(FLAT, "flat.neuron_states"), made.table(HIER, "hier.units")
        for number_ in range(len(flat.chunks)):
            remove(keeping, flat, number_)
        for number_ in range(len(hier.chunks)):
            remove(keeping, hier, number_)
        run = keeping.recover(NAME)
        assert run.status is model.RunStatus.SUCCEEDED, run.reason
        done = keeping.checkpoints.outcome(run)
        assert done.offered == 0
        assert done.quarantined == 200
        records = held(keeping, NEURONS)
        assert "the file is missing" in " ".join(record.error for record in records)
        assert any(record.key[0].startswith("between the beginning and ") for record in records)
        # A checkpoint of this state keeps them as what they are: tried again, they must not pass for gone.
        keeping.take("with-losses")
        keeping.roll_back("with-losses")
        kept = held(keeping, NEURONS)
        assert {(record.key, record.origin) for record in kept} == {(record.key, "recover") for record in records}
        assert quarantine_retry.retry(keeping.driver.system, kept[0]).outcome is quarantine_retry.RetryOutcome.HELD
        keeping.archive.delete("with-losses")

    @pytest.mark.parametrize(("step", "store", "name"), [
        ("derive", HIER, "hier.users"), ("resolve", HIER, "hier.units"), ("resolve", FLAT, "flat.neuron_states"),
    ])  # fmt: skip
    def test_who_was_frozen_since_an_earlier_restore_writes_nothing(
        self, keeping: Keeping, made: Manifest, step: str, store: model.StoreName, name: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        """The shadows are another's by then; whoever they belong to does it."""
        driver, taken = keeping.driver, steps.STEPS[step]
        counts = "SELECT (SELECT count(*) FROM hal9_shadow_hier.units), (SELECT count(*) FROM hal9_shadow_hier.users)"

        def ask(sql: str, *values: object) -> list[tuple[Any, ...]]:
            with connected(driver.stores.hier_url) as cursor:
                cursor.execute(sql, values or None)
                return cursor.fetchall() if cursor.description else []

        def late(*args: Any) -> bool:
            ((own,),), before = ask("SELECT mark FROM hal9_shadow.restore"), ask(counts)
            ask("UPDATE hal9_shadow.restore SET mark = 'another'")
            with pytest.raises(errors.LeaseLost):
                taken(*args)
            assert ask(counts) == before
            ask("UPDATE hal9_shadow.restore SET mark = %s", own)
            came.append(step)
            return taken(*args)

        came: list[str] = []
        monkeypatch.setitem(steps.STEPS, step, late)
        remove(keeping, made.table(store, name), 0)
        run = keeping.recover(NAME)
        assert run.status is model.RunStatus.SUCCEEDED, run.reason
        assert came == [step]

    def test_a_sound_backup(self, keeping: Keeping, made: Manifest) -> None:
        """Nothing is quarantined, and everything is there."""
        everything = checkpoint_runs.both(keeping.driver)
        with connected(keeping.driver.stores.flat_url) as cursor:
            cursor.execute("DELETE FROM flat.neuron_states")
        run = keeping.recover(None)
        assert run.status is model.RunStatus.SUCCEEDED, run.reason
        done = keeping.checkpoints.outcome(run)
        assert (done.quarantined, done.offered, done.brought, list(done.damages)) == (0, 0, 0, [])
        assert checkpoint_runs.both(keeping.driver) == everything

    def test_without_quarantine_a_damage_ends_it(self, keeping: Keeping, made: Manifest) -> None:
        flip(keeping, made.table(HIER, "hier.sessions"), 0)
        before = checkpoint_runs.both(keeping.driver)
        run = keeping.recover(NAME, quarantine=False)
        assert run.status is model.RunStatus.FAILED
        assert "hier.sessions" in run.reason
        assert checkpoint_runs.both(keeping.driver) == before

    def test_a_damaged_manifest(self, keeping: Keeping, made: Manifest) -> None:
        """It is no checkpoint any more."""
        file = pathlib.Path(keeping.driver.system.settings.checkpoint_url) / NAME / "manifest.json"
        text = file.read_text()
        file.write_text(text.replace('"rows": ', '"rows":  1', 1))
        listing = keeping.checkpoints.listing()
        assert not listing.manifests
        assert [one.name for one in listing.unusable] == [NAME]
        with pytest.raises(errors.NotFound):
            keeping.checkpoints.plan_restore(NAME, recover=True)

    def test_a_restore_that_is_tried_again(self, keeping: Keeping, made: Manifest) -> None:
        """Once its file is mended, a failed restore begins anew under its old number."""
        table = made.table(FLAT, "flat.configuration")
        sound = path(keeping, table, 0).read_bytes()
        flip(keeping, table, 0)
        with connected(keeping.driver.stores.flat_url) as cursor:
            cursor.execute("DELETE FROM flat.configuration")
        run = keeping.finished(keeping.checkpoints.rollback(keeping.checkpoints.plan_restore(NAME)))
        assert run.status is model.RunStatus.FAILED
        path(keeping, table, 0).write_bytes(sound)
        cleared = lambda: not keeping.driver.run(run.id).planned  # noqa: E731
        until(cleared, "its leavings to be cleared")
        keeping.driver.coordinator.retry(run.id)
        assert keeping.finished(run).status is model.RunStatus.SUCCEEDED

    def test_one_category_is_recovered_alone(self, keeping: Keeping, made: Manifest) -> None:
        """The others are left as they are."""
        table = made.table(FLAT, "flat.user_sessions")
        remove(keeping, table, 0)
        before = checkpoint_runs.both(keeping.driver)
        run = keeping.recover(NAME, LEARNING, NEURONS)
        assert run.status is model.RunStatus.SUCCEEDED, run.reason
        done = keeping.checkpoints.outcome(run)
        assert not done.damages
        assert all(one.same for one in done.untouched)
        assert checkpoint_runs.both(keeping.driver) == before


class TestWhereTheHierarchicalStoreRules:
    """One of several tables of roots is damaged; what lies in the others between the same keys is sound."""

    @pytest.fixture
    def keeping(self, databases: servers.Databases, tmp_path: pathlib.Path) -> Iterator[Keeping]:
        stores = databases.open()
        driver = Driver(stores, servers.environ(stores, tmp_path))
        driver.load(METADATA, 130)
        Switch(driver.system).enable({})
        driver.copy(METADATA)
        Switch(driver.system).leave_flat(dict)
        with checkpoint_runs.keeping(driver) as made:
            made.take(NAME, categories=(METADATA,))
            yield made
        driver.close()
        databases.close(stores)

    def test_only_its_own_records_are_held(self, keeping: Keeping) -> None:
        driver = keeping.driver
        everything = checkpoint_runs.both(driver)
        ids = "SELECT id::text FROM flat.operational_metadata"
        metrics, before = keys(driver, f"{ids} WHERE type = 'metrics'"), keys(driver, ids)
        damaged = keeping.checkpoints.find(NAME).table(HIER, "hier.metrics")
        for number_ in range(len(damaged.chunks)):
            remove(keeping, damaged, number_)

        run = keeping.recover(NAME, METADATA)

        assert run.status is model.RunStatus.SUCCEEDED, run.reason
        records = held(keeping, METADATA)
        assert metrics < before
        assert {record.key[0] for record in records} == metrics
        assert keeping.checkpoints.outcome(run).offered == len(metrics)
        for table in ("log_entries", "trace_spans", "audit_events"):
            assert checkpoint_runs.both(driver)["hier"][table] == everything["hier"][table]
