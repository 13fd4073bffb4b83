"""What the reconciler does with drift: repaired, left, held back, given up, and never beyond the budget."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from hal9mig.engine.reconcile import alarm_rules
from hal9mig.ledger.drifts import Cause
from tests.support import reconciling, servers
from tests.support.reconciling import NEURONS, World


@pytest.fixture
def world(stores: servers.Stores, tmp_path: pathlib.Path) -> Iterator[World]:
    with reconciling.opened(stores, tmp_path) as opened:
        yield opened


def test_without_auto_fix_it_is_only_noted(world: World) -> None:
    world.migrated(NEURONS)
    world.configure(auto_fix="false")
    world.hier_sql("UPDATE hier.units SET activation = 3 WHERE unit_id = %s", world.key(9))
    for _ in range(2):
        assert [one.repaired for one in world.round().outcomes][:1] == [False]
    (drift,) = world.drifts(open=True)
    assert drift.repair == "not to be repaired"
    assert drift.repaired_at is None
    world.configure(auto_fix="true")
    assert world.round().repaired == 1
    assert world.drifts(open=True) == []


def test_a_newer_follower_is_not_overwritten(world: World) -> None:
    world.migrated(NEURONS)
    key = world.key(9)
    world.hier_sql("UPDATE hier.units SET activation = 3, source_version = source_version + 5 WHERE unit_id = %s", key)
    world.round()
    (drift,) = world.drifts()
    assert drift.cause == Cause.QUARANTINE
    assert world.hier_sql("SELECT activation FROM hier.units WHERE unit_id = %s", key) == [(3.0,)]
    (held,) = world.held()
    assert held.key == (key,)
    assert "the side that follows has version" in held.error
    # Known from here on: no drift any more, and no alarm.
    assert world.round().repaired == 0
    assert len(world.drifts()) == 1


def test_what_is_broken_again_and_again_is_left_with_an_alarm(world: World) -> None:
    world.migrated(NEURONS)
    key = world.key(9)
    for turn in range(5):
        world.hier_sql("UPDATE hier.units SET activation = %s WHERE unit_id = %s", 100 + turn, key)
        assert world.round().repaired == (1 if turn < 3 else 0)
    assert world.hier_sql("SELECT activation FROM hier.units WHERE unit_id = %s", key) == [(104.0,)]
    alarm = world.alarms()["repaired again and again"]
    assert alarm.subject == f"{NEURONS}/{key}"
    assert len(world.lines("alarm")) == 1 + (alarm_rules.DRIFT in world.alarms())
    # Whoever did that has stopped, and put it right.
    flat = world.flat_sql("SELECT activation FROM flat.neuron_states WHERE neuron_id = %s", key)[0][0]
    world.hier_sql("UPDATE hier.units SET activation = %s WHERE unit_id = %s", flat, key)
    world.round()
    assert "repaired again and again" not in world.alarms()
    assert world.drifts(open=True) == []


def test_what_cannot_be_written_goes_to_quarantine(world: World) -> None:
    world.migrated(NEURONS)
    key = world.key(9)
    world.uncaptured(
        "UPDATE flat.neuron_states SET connections = '[{\"target\": \"x\"}]', version = version + 1 "
        "WHERE neuron_id = %s", key
    )  # fmt: skip
    world.round()
    (drift,) = world.drifts()
    assert drift.cause == Cause.QUARANTINE
    assert [held.key for held in world.held()] == [(key,)]
    world.round()
    assert world.sweeps()[NEURONS].clean_from is not None
    with world.system.ledger.begin() as session:
        assert alarm_rules.share(session) == 0


def test_repairs_are_within_the_budget(world: World) -> None:
    world.migrated(NEURONS)
    world.configure(rate_limit="1/h")
    repaired = []
    for at in range(4):
        world.hier_sql("UPDATE hier.units SET activation = 3 WHERE unit_id = %s", world.key(at))
        repaired.append(world.round().repaired)
    assert repaired[0] == 1
    assert repaired[-1] == 0
    waiting = world.drifts(open=True)
    assert all("waits for the budget" in (drift.repair or "") for drift in waiting)
    world.configure(rate_limit="off")
    assert world.round().repaired == len(waiting) > 0
