"""What becomes of single records: poison, older and newer versions, unique values that pass from one to another."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from hal9mig.categories import neurons
from hal9mig.categories.declaration import Category, Computed
from hal9mig.categories.transform import Transform
from hal9mig.engine.transfer import applier, quarantine_retry
from tests.support import migration_driver
from tests.support.migration_driver import NEURONS, Driver
from tests.support.servers import Stores

Make = Callable[..., Driver]
TINY = {"batch-size": "20", "checkpoint-interval": "8"}


@pytest.fixture
def make(stores: Stores, stack_env: dict[str, str]) -> Iterator[Make]:
    """``make(*categories)`` returns a driver that knows these categories only, or HAL9's own."""
    with migration_driver.drivers(stores, stack_env) as opened:
        yield opened


@pytest.fixture
def driver(make: Make) -> Driver:
    """A driver with HAL9's own categories."""
    return make()


def flat(driver: Driver, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """Run a statement on the flat store and return its rows."""
    return _run(driver.stores.flat_url, statement, values)


def kept(driver: Driver, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """Run a statement on the hierarchical store and return its rows."""
    return _run(driver.stores.hier_url, statement, values)


def _run(url: str, statement: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
    with migration_driver.connected(url) as cursor:
        cursor.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []


def computed(category: Category, name: str, function: Callable[..., Any]) -> Category:
    """Return a category with another function for one of its computed columns."""
    targets = [
        dataclasses.replace(
            target,
            columns=tuple(
                dataclasses.replace(column, function=function)
                if isinstance(column, Computed) and column.name == name
                else column
                for column in target.columns
            ),
        )
        for target in category.targets
    ]
    return dataclasses.replace(category, targets=tuple(targets), transform_version=category.transform_version + 1)


def refuses_negative(given: float | None) -> float:
    """A momentum that rejects what is below zero, as a stricter transform may."""
    if given is not None and given < 0:
        raise ValueError(f"momentum {given:g} is below zero")
    return neurons.momentum(given)


class TestPoison:
    """A record that cannot be written ends in quarantine; the others of its batch do not notice."""

    @pytest.mark.parametrize(
        "places", [[0, 7, 8, 19, 20, 59], range(20), range(60)], ids=["at each edge", "a whole batch", "all"]
    )
    @pytest.mark.parametrize("by", ["the transform", "the target"])
    def test_is_found_and_held(self, make: Make, places: Sequence[int], by: str) -> None:
        """With its key, its flat row, the error and the transform's version; and it can be tried again."""
        strict = computed(neurons.CATEGORY, "momentum", refuses_negative)
        driver = make(strict if by == "the transform" else neurons.CATEGORY)
        driver.load(NEURONS, 60)
        keys = [key for (key,) in flat(driver, "SELECT neuron_id::text FROM flat.neuron_states ORDER BY neuron_id")]
        poison = {(keys[place],) for place in places}
        flat(
            driver,
            "UPDATE flat.neuron_states SET momentum = -1 WHERE neuron_id = ANY(%s::uuid[])",
            [key for (key,) in poison],
        )
        if by == "the target":
            kept(driver, "ALTER TABLE hier.unit_learning ADD CONSTRAINT strict CHECK (momentum >= 0)")

        run = driver.copy(tuned=TINY)
        assert (run.done_records, run.quarantined) == (60, len(poison))
        driver.assert_equal(missing=poison)
        driver.assert_once(run.id)
        held = driver.held()
        assert held.keys() == poison
        for (key,), record in held.items():
            assert record.payload is not None
            assert json.loads(record.payload)["neuron_id"] == key
            assert "momentum -1 is below zero" in record.error if by == "the transform" else "strict" in record.error
            assert record.transform_version == driver.system.category(NEURONS).transform_version

        # Tried again, it fails again; mended at its source, it is let in, one by one or by another run.
        one, *others = held.values()
        assert quarantine_retry.retry(driver.system, one).outcome is quarantine_retry.RetryOutcome.HELD
        flat(driver, "UPDATE flat.neuron_states SET momentum = 1, version = version + 1 WHERE momentum < 0")
        assert quarantine_retry.retry(driver.system, one).outcome is quarantine_retry.RetryOutcome.RELEASED
        assert len(driver.held()) == len(others)
        assert driver.copy(tuned=TINY).quarantined == 0
        driver.assert_equal(records=60)
        assert not driver.held()

    def test_that_does_not_come_back_as_it_was(self, make: Make) -> None:
        """What the target's record does not rebuild to is held too: strict validation reads each one back."""
        lossy = computed(neurons.CATEGORY, "processing_mode", lambda is_async: "sync")
        driver = make(lossy)
        driver.load(NEURONS, 40)
        poison = set(flat(driver, "SELECT neuron_id::text FROM flat.neuron_states WHERE is_async"))
        assert 0 < len(poison) < 40
        run = driver.copy(tuned=TINY)
        assert (run.done_records, run.quarantined) == (40, len(poison))
        assert driver.held().keys() == poison
        driver.assert_equal(missing=poison)

    def test_of_a_kind_that_no_table_is_declared_for(self, driver: Driver) -> None:
        """Neither silently skipped nor put anywhere."""
        driver.load("metadata", 40)
        flat(driver, "UPDATE flat.operational_metadata SET type = 'rumours' WHERE id = 3")
        driver.copy("metadata", tuned=TINY)
        driver.assert_equal("metadata", missing={("3",)})
        assert driver.held("metadata").keys() == {("3",)}

    def test_in_one_transaction_for_all(self, driver: Driver) -> None:
        """An atomic run shows nothing before its end, and holds its poison as well."""
        driver.load("configuration", 40)
        kept(driver, "ALTER TABLE hier.config_values ADD CONSTRAINT strict CHECK (updated_by <> 'poison')")
        flat(
            driver,
            "UPDATE flat.configuration SET updated_by = 'poison' "
            "WHERE key IN (SELECT key FROM flat.configuration ORDER BY key LIMIT 3 OFFSET 6)",
        )
        poison = set(flat(driver, "SELECT key FROM flat.configuration WHERE updated_by = 'poison'"))
        run = driver.copy("configuration", tuned=TINY, atomic=True)
        assert (run.total_batches, run.done_records, run.quarantined) == (1, 40, 3)
        driver.assert_equal("configuration", missing=poison)
        assert driver.held("configuration").keys() == poison


class TestAgain:
    """A second run over the same records."""

    def test_it_writes_not_one_row(self, driver: Driver) -> None:
        """Not one row is written."""
        driver.load(NEURONS, 50)
        driver.copy(tuned=TINY)
        before = kept(driver, "SELECT xmin, unit_id FROM hier.units ORDER BY unit_id")
        driver.assert_once(driver.copy(tuned=TINY).id)
        assert kept(driver, "SELECT xmin, unit_id FROM hier.units ORDER BY unit_id") == before
        driver.assert_equal(records=50)

    @pytest.mark.parametrize("mode", ["strict", "sample:0.5", "off"])
    def test_takes_over_newer_versions(self, driver: Driver, mode: str) -> None:
        """Of roots and of parts, whether there are more of them, fewer or none."""
        driver.load(NEURONS, 50)
        driver.copy(tuned=TINY)
        flat(
            driver,
            "UPDATE flat.neuron_states SET version = version + 1, activation = 0.125, "
            "connections = CASE WHEN is_async THEN '[]' ELSE connections || connections END WHERE version % 2 = 0",
        )
        driver.copy(tuned={**TINY, "validation-mode": mode})
        driver.assert_equal(records=50)

    def test_mends_what_was_spoilt_at_the_same_version(self, driver: Driver) -> None:
        """Strict validation reads back what was there already, too."""
        driver.load(NEURONS, 50)
        driver.copy(tuned=TINY)
        kept(driver, "UPDATE hier.units SET activation = activation + 1 WHERE processing_mode = 'async'")
        kept(driver, "DELETE FROM hier.unit_connections WHERE ordinal = 1")
        driver.copy(tuned=TINY)
        driver.assert_equal(records=50)

    def test_moves_a_record_whose_kind_has_changed(self, driver: Driver) -> None:
        """It leaves the table of its old kind."""
        driver.load("metadata", 60)
        driver.copy("metadata", tuned=TINY)
        flat(driver, "UPDATE flat.operational_metadata SET type = 'logs', version = version + 1 WHERE type = 'metrics'")
        driver.copy("metadata", tuned=TINY)
        driver.assert_equal("metadata", records=60)
        assert kept(driver, "SELECT count(*) FROM hier.metrics") == [(0,)]

    @pytest.mark.parametrize("batch", ["100", "1"], ids=["in one batch", "in batches of one"])
    def test_of_unique_values_that_have_passed_from_one_to_another(self, driver: Driver, batch: str) -> None:
        """Two that swapped theirs, and a ring of twelve that handed them on."""
        driver.load("user-sessions", 40)
        driver.copy("user-sessions", tuned=TINY)
        sessions_of = [key for (key,) in flat(driver, "SELECT session_id FROM flat.user_sessions ORDER BY session_id")]
        swapped = {sessions_of[0]: sessions_of[39], sessions_of[39]: sessions_of[0]}
        ring = dict(zip(sessions_of[10:22], [*sessions_of[11:22], sessions_of[10]], strict=True))
        pass_on(driver, swapped | ring)
        driver.copy("user-sessions", tuned={"batch-size": batch})
        driver.assert_equal("user-sessions", records=40)
        assert not driver.held("user-sessions")


def pass_on(driver: Driver, givers: Mapping[str, str]) -> None:
    """Give each of these sessions the token of another, in one transaction and each with a newer version."""
    tokens = dict(flat(driver, "SELECT session_id, token_hash FROM flat.user_sessions"))
    with migration_driver.connected(driver.stores.flat_url) as cursor:
        cursor.execute("BEGIN")
        for suffix, taken in (("-in between", givers), ("", givers)):
            for receiver, giver in taken.items():
                cursor.execute(
                    "UPDATE flat.user_sessions SET token_hash = %s, version = version + 1 WHERE session_id = %s",
                    (tokens[giver] + suffix, receiver),
                )
        cursor.execute("COMMIT")


class TestMeanwhile:
    """What is applied between a copy's look at the source and its write is not undone by the copy."""

    @pytest.mark.parametrize("change", ["update", "delete", "replace"])
    def test_the_newer_state_stays(self, driver: Driver, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
        """The copy has read the record before and writes it after; who applies it has read it last."""
        driver.load(NEURONS, 30)
        ((key,),) = flat(driver, "SELECT neuron_id::text FROM flat.neuron_states ORDER BY neuron_id OFFSET 12 LIMIT 1")
        original, changing = Transform.apply, threading.Thread(target=change_and_apply, args=(driver, change, key))

        def apply(self: Transform, records: Any) -> Any:
            output = original(self, records)
            if changing.ident is None and any(self.key(fields) == (key,) for fields in records):
                changing.start()
                # It may have to wait for this very copy's commit, but not with the mark.
                migration_driver.until(lambda: kept(driver, "SELECT 1 FROM hal9mig.marks"), "the mark on the record")
            return output

        monkeypatch.setattr(Transform, "apply", apply)
        driver.copy(tuned=TINY)
        changing.join()
        driver.assert_equal(records=29 if change == "delete" else 30)


def change_and_apply(driver: Driver, change: str, key: str) -> None:
    """Change a flat record and apply it, as the one who follows the application's writes does."""
    statements = {
        "update": "UPDATE flat.neuron_states SET version = version + 1, activation = 0.25 WHERE neuron_id = %s",
        "delete": "DELETE FROM flat.neuron_states WHERE neuron_id = %s",
        # Deleted and inserted anew: the version begins again below the one that the copy has read.
        "replace": "UPDATE flat.neuron_states SET version = -1, activation = 0.5 WHERE neuron_id = %s",
    }
    flat(driver, statements[change], key)
    source = driver.system.flat()
    try:
        applier.apply(driver.system.ledger, source, driver.system.transform(NEURONS), [(key,)])
    finally:
        source.close()
