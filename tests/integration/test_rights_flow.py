"""The whole way under accounts that have what ``db grants`` prints, and nothing else."""

from __future__ import annotations

import contextlib

import pytest

from hal9mig import client, model, settings
from hal9mig.engine.switch import switch
from hal9mig.engine.system import System
from hal9mig.stores import schema
from tests.integration import test_rights
from tests.integration.test_rights import FLAT, HIER, World
from tests.support import checkpoint_runs, live_state
from tests.support.migration_driver import Driver

world = test_rights.world
KEY = "a.setting"


def test_each_role_does_its_part(world: World, stack_env: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    schema.upgrade(world.url("owner", FLAT), world.url("owner", HIER))
    operator = System(settings.load(environ=world.env("operator", stack_env)), role="cli")
    operator.require_rights("operator")
    assert switch.Switch(operator, actor="test").enable({"backup": True}).changed
    application = client.connect(settings.load(environ=world.env("application", stack_env)))
    with contextlib.closing(application):
        application.put(live_state.CONFIGURATION, live_state.setting(KEY, "first"))
        driver = Driver(world.stores, world.env("worker", stack_env))
        with contextlib.closing(driver), checkpoint_runs.keeping(driver) as keeping:
            assert driver.copy(live_state.CONFIGURATION).done_records == 1
            keeping.take("before", full=True)
            application.put(live_state.CONFIGURATION, live_state.setting(KEY, "second"))
            keeping.roll_back("before")
            assert keeping.recover("before").status is model.RunStatus.SUCCEEDED
            compared = driver.coordinator.verify(live_state.CONFIGURATION)
            assert driver.work(compared.id).status is model.RunStatus.SUCCEEDED
        found = application.get(live_state.CONFIGURATION, KEY)
        assert found is not None
        assert found["value"] == {"note": "first"}
        # What is restored is the application's to write, as it was.
        application.put(live_state.CONFIGURATION, live_state.setting(KEY, "third"))
        # Over, written there, and back: each under the accounts that do it.
        mode = switch.Switch(operator, actor="test")
        assert mode.leave_flat(dict).changed
        application.put(live_state.CONFIGURATION, live_state.setting(KEY, "there"))
        assert mode.return_to_flat().changed
        found = application.get(live_state.CONFIGURATION, KEY)
        assert found is not None
        assert found["value"] == {"note": "there"}
    operator.ledger.close()
    assert "permission denied" not in caplog.text
    for role in ("worker", "operator", "application", "reader"):
        assert [world.missing(role, store) for store in (FLAT, HIER)] == [[], []]
