"""The reconciler's rounds: one at a time, none before its time, and the alarms that they raise and end."""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from hal9mig.engine.desk import Desk
from hal9mig.engine.reconcile import alarm_rules, reconciler
from hal9mig.engine.reconcile.reconciler import Done
from hal9mig.engine.switch import switch
from hal9mig.ledger import rounds, workers
from hal9mig.stores import capture, write_mode
from tests.support import reconciling, servers
from tests.support.reconciling import NEURONS, World


@pytest.fixture
def world(stores: servers.Stores, tmp_path: pathlib.Path) -> Iterator[World]:
    with reconciling.opened(stores, tmp_path) as opened:
        yield opened


def test_a_second_call_is_no_round(world: World) -> None:
    world.migrated(NEURONS)
    world.round()
    assert reconciler.round_(world.system, world.desk) is None
    world.configure(reconcile_interval="1ms")
    assert reconciler.round_(world.system, world.desk) is not None


def test_two_calls_at_once_are_one_round(world: World) -> None:
    world.migrated(NEURONS)
    results: list[Done | None] = []

    def call() -> None:
        desk = Desk(world.system)
        results.append(reconciler.round_(world.system, desk))
        desk.clear()

    with world.system.ledger.begin() as session:
        assert rounds.lock(session)
        call()
    callers = [threading.Thread(target=call) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert sum(one is not None for one in results) == 1
    assert len(world.rounds()) == 1


def test_a_switch_in_the_middle_voids_the_round(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.migrated(NEURONS)
    world.hier_sql("UPDATE hier.units SET activation = 3 WHERE unit_id = %s", world.key(9))
    looked = reconciler.sweep.look

    def look(*args: Any, **more: Any) -> Any:
        found = looked(*args, **more)
        state = write_mode.state(world.desk.hier("test"))
        world.desk.hier("test").rollback()
        write_mode.set_state(
            world.desk.hier("test"),
            write_mode.WriteState(mode=write_mode.Mode.HIERARCHICAL_ONLY, epoch=state.epoch + 1),
        )
        return found

    monkeypatch.setattr(reconciler.sweep, "look", look)
    done = world.round()
    assert done.outcomes == []
    assert world.drifts() == []
    assert "write mode" in (world.rounds()[0].error or "")


def test_the_share_that_drifted_alerts_above_the_threshold(world: World) -> None:
    world.migrated(NEURONS)
    world.hier_sql("UPDATE hier.units SET activation = 3 WHERE unit_id IN (SELECT unit_id FROM hier.units LIMIT 20)")
    world.round()
    assert "have drifted, more than 1.00%" in world.alarms()[alarm_rules.DRIFT].message
    world.round()
    assert alarm_rules.DRIFT not in world.alarms()
    assert len(world.lines("alarm")) == len(world.lines("alarm-over")) == 1


def test_a_trigger_that_somebody_took_away_is_put_back_and_told(world: World) -> None:
    """And what was compared before counts for nothing: it may have been over what was then written unseen."""
    world.migrated(NEURONS)
    world.round()
    assert world.sweeps()[NEURONS].clean_from is not None
    world.flat_sql(
        "ALTER TABLE flat.neuron_states DISABLE TRIGGER hal9cap_update; UPDATE flat.neuron_states "
        "SET activation = 0.125 WHERE neuron_id IN (SELECT neuron_id FROM flat.neuron_states LIMIT 1)"
    )
    done = world.round()
    assert "hal9cap_update on flat.neuron_states is disabled" in world.alarms()[alarm_rules.UNSEEN].message
    assert done.repaired == 1
    assert world.sweeps()[NEURONS].clean_from is None
    assert world.round().outcomes == []
    assert alarm_rules.UNSEEN not in world.alarms()


def test_dead_workers_are_an_alarm_and_so_are_none(world: World) -> None:
    world.migrated(NEURONS)
    with world.system.ledger.begin() as session:
        workers.report(
            session, name="w1", host="h", pid=1, slots=1, draining=False, memory_bytes=0, cpu_percent=0.0
        )  # fmt: skip
    alarm_rules.oversee(world.system)
    assert world.alarms() == {}
    world.hier_sql("UPDATE hal9mig.workers SET seen_at = seen_at - interval '1 minute'")
    world.round()
    assert world.alarms()[alarm_rules.DEAD].message == "Not heard of any more: w1."
    alarm_rules.oversee(world.system)
    assert alarm_rules.NO_WORKERS in world.alarms()
    with world.system.ledger.begin() as session:
        workers.leave(session, name="w1", pid=1)
    world.round()
    assert world.alarms() == {}


def test_no_alarm_lasts_where_the_flat_store_is_alone_again(world: World) -> None:
    """No round comes there that could end them, and nothing is kept in step."""
    world.migrated(NEURONS)
    with world.lagging():
        world.flat_sql("UPDATE flat.neuron_states SET activation = 2, version = version + 1")
        world.flat_sql("UPDATE hal9cap.journal SET at = at - interval '1 hour'")
        world.round()
    alarm_rules.oversee(world.system)
    assert {alarm_rules.STUCK, alarm_rules.NO_WORKERS} <= set(world.alarms())
    switch.Switch(world.system, actor="test").return_to_flat()
    alarm_rules.oversee(world.system)
    assert world.alarms() == {}


def test_a_lag_that_grows_from_round_to_round_alerts(world: World) -> None:
    world.migrated(NEURONS)
    with world.lagging():
        world.flat_sql("UPDATE flat.neuron_states SET activation = 2, version = version + 1")
        for _ in range(3):
            world.flat_sql("UPDATE hal9cap.journal SET at = at - interval '31 seconds'")
            world.round()
            assert alarm_rules.LAG not in world.alarms()
        world.flat_sql("UPDATE hal9cap.journal SET at = at - interval '31 seconds'")
        world.round()
        assert "with 200 writes waiting" in world.alarms()[alarm_rules.LAG].message
    world.round()
    assert world.alarms() == {}


def test_a_long_journal_is_compacted_and_then_alerts(world: World) -> None:
    world.migrated(NEURONS)
    world.configure(journal_alarm="300")
    with world.lagging():
        for turn in range(3):
            world.flat_sql("UPDATE flat.neuron_states SET activation = %s, version = version + 1", turn)
        world.round()
        assert sum(lag.records for lag in capture.lag(world.desk.flat("test")).values()) == 200
        assert alarm_rules.JOURNAL not in world.alarms()
        world.configure(journal_alarm="100")
        world.round()
        assert "200 writes wait" in world.alarms()[alarm_rules.JOURNAL].message
    world.round()
    assert alarm_rules.JOURNAL not in world.alarms()
    world.assert_same(NEURONS)


def test_how_long_it_takes_to_cover_everything_follows_from_what_was_measured(world: World) -> None:
    world.migrated(NEURONS)
    with world.system.ledger.begin() as session:
        assert alarm_rules.standing(session, 200).coverage is None
    world.round()
    with world.system.ledger.begin() as session:
        known = alarm_rules.standing(session, 200)
        more = alarm_rules.standing(session, 10**9)
    assert known.coverage == known.interval == 30
    assert more.coverage is not None
    assert more.coverage > 1000 * 30
