"""Stores and a checkpoint of them for the restores of one module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hal9mig.engine.checkpoint import save
from hal9mig.engine.switch.switch import Switch
from hal9mig.stores.write_mode import Mode
from tests.support import checkpoint_runs, servers
from tests.support.checkpoint_runs import CONFIGURATION, NEURONS, SESSIONS
from tests.support.migration_driver import Driver
from tests.support.restoring import NAME, World

MODES = (Mode.DUAL_WRITE, pytest.param(Mode.HIERARCHICAL_ONLY, marks=pytest.mark.long))


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
