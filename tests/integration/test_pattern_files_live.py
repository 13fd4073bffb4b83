"""Learning data that is written while it goes through files: what was written last stays, whatever the files hold."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from hal9mig.engine.desk import Desk
from hal9mig.engine.pattern_files import origin
from hal9mig.engine.switch.switch import Switch
from hal9mig.engine.transfer import follower
from hal9mig.engine.transfer.reader import Step
from tests.support import live_state
from tests.support.learning_folders import LEARNING, RECORDS, TUNED, Folders
from tests.support.migration_driver import Driver
from tests.support.servers import Stores


@pytest.fixture
def live(stores: Stores, stack_env: dict[str, str], tmp_path: pathlib.Path) -> Iterator[Folders]:
    """Both folders, and from then on every write is captured."""
    driver = Driver(stores, stack_env)
    driver.load(LEARNING, RECORDS)
    made = Folders(driver, tmp_path)
    made.export(tuned=TUNED), made.transform()
    Switch(driver.system, actor="test").enable()
    yield made
    driver.close()


def follow(driver: Driver) -> None:
    """Apply what waits in the journal."""
    desk = Desk(driver.system)
    try:
        while live_state.execute(driver.stores.flat_url, "SELECT 1 FROM hal9cap.journal LIMIT 1"):
            follower.work(driver.system, desk.flat("follow"), desk.hier("follow"), lane=0, lanes=1)
    finally:
        desk.clear()


@pytest.mark.parametrize("applied", [True, False])
def test_what_is_written_between_the_look_at_the_flat_store_and_the_write_stays(
    live: Folders, monkeypatch: pytest.MonkeyPatch, applied: bool
) -> None:
    """One that is applied meanwhile is left alone; one that waits in the journal comes after."""
    driver = live.driver
    changed, deleted, again, *_ = live.keys()
    original = origin.FiledSteps.steps
    times: list[int] = []

    def disturbed(self: origin.FiledSteps) -> Iterator[Step]:
        for step in original(self):
            if not times:
                times.append(1)
                live.flat_sql(
                    "UPDATE flat.learning_data SET kind = 'newer', version = 0 WHERE pattern_id = %s",
                    changed,
                )
                live.flat_sql("DELETE FROM flat.learning_data WHERE pattern_id = %s", deleted)
                live.flat_sql("UPDATE flat.learning_data SET payload = NULL WHERE pattern_id = %s", again)
                if applied:
                    follow(driver)
            yield step

    monkeypatch.setattr(origin.FiledSteps, "steps", disturbed)
    live.take(tuned=TUNED)
    follow(driver)
    driver.assert_equal(LEARNING, records=RECORDS - 1)


def test_files_that_are_old_overwrite_nothing(live: Folders) -> None:
    """Changed, deleted, deleted and begun anew with a lower version, and new ones on both sides of every range."""
    driver = live.driver
    first, second, third, *_ = live.keys()
    live.flat_sql("UPDATE flat.learning_data SET meta = '{\"newer\": 1.0}' WHERE pattern_id = %s", first)
    live.flat_sql("DELETE FROM flat.learning_data WHERE pattern_id = %s", second)
    live.flat_sql("UPDATE flat.learning_data SET version = -5, kind = 'anew' WHERE pattern_id = %s", third)
    live.flat_sql(
        "INSERT INTO flat.learning_data SELECT (n || 'fffffff-ffff-4fff-bfff-ffffffffffff')::uuid, neuron_id, "
        "kind, pattern, payload, meta, recorded_at, 1 FROM flat.learning_data, generate_series(1, 3) n "
        "WHERE pattern_id = %s",
        first,
    )
    run = live.take(tuned=TUNED)
    assert live.files.origins(run) == {"from_files": RECORDS - 3, "read_anew": 5}
    follow(driver)
    driver.assert_equal(LEARNING, records=RECORDS + 2)
