"""Drift and lag on real stores: each difference has its kind and cause, and what is on its way is none."""

from __future__ import annotations

import json
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from hal9mig.engine.reconcile import alarm_rules, reconciler
from hal9mig.ledger.drifts import Cause
from hal9mig.ledger.verify_results import DifferenceKind
from hal9mig.stores import capture
from tests.support import reconciling, servers
from tests.support.migration_driver import connected
from tests.support.reconciling import NEURONS, World


@pytest.fixture
def world(stores: servers.Stores, tmp_path: pathlib.Path) -> Iterator[World]:
    with reconciling.opened(stores, tmp_path) as opened:
        yield opened


class TestDrift:
    """Each kind is found, has its cause, and is repaired in the mode's direction."""

    def test_nothing_is_found_where_nothing_differs(self, world: World) -> None:
        world.migrated()
        done = world.round()
        assert done.outcomes == []
        assert sorted(done.ended) == sorted(world.system.registry.categories)
        found = world.sweeps()
        (last,) = world.rounds()
        assert all(one.clean_from and one.clean_until for one in found.values())
        assert last.compared == sum(one.records for one in found.values()) == done.compared > 500
        assert len(world.lines("round")) == 1

    def test_every_kind_is_found_with_its_cause_and_repaired(self, world: World) -> None:
        world.migrated()
        foreign, gone, missed, doubled = (world.key(at) for at in (3, 50, 100, 150))
        world.hier_sql("UPDATE hier.units SET activation = activation + 1 WHERE unit_id = %s", foreign)
        world.hier_sql("UPDATE hier.unit_learning SET weights[1] = 42 WHERE unit_id = %s", doubled)
        world.drop_unit(gone)
        world.uncaptured(
            "UPDATE flat.neuron_states SET activation = 9, version = version + 1 WHERE neuron_id = %s", missed
        )
        (extra,) = world.hier_sql(
            "INSERT INTO hier.units (unit_id, layer, kind, activation, processing_mode, avg_response_time, created_at, "
            "updated_at, source_version) SELECT gen_random_uuid(), layer, kind, activation, processing_mode, "
            "avg_response_time, created_at, updated_at, source_version FROM hier.units LIMIT 1 RETURNING unit_id::text"
        )[0]
        (orphan,) = world.hier_sql(
            "INSERT INTO hier.unit_connections (unit_id, ordinal, target_id, connection_type, weight) "
            "VALUES (gen_random_uuid(), 1, gen_random_uuid(), 'forward', 1) RETURNING unit_id::text"
        )[0]
        done = world.round()
        found = {drift.key[0]: (drift.kind, drift.cause) for drift in world.drifts()}
        assert found == {
            foreign: (DifferenceKind.MISMATCH, Cause.FOREIGN_WRITE),
            doubled: (DifferenceKind.MISMATCH, Cause.FOREIGN_WRITE),
            gone: (DifferenceKind.MISSING, Cause.MISSED_CAPTURE),
            missed: (DifferenceKind.MISMATCH, Cause.MISSED_CAPTURE),
            extra: (DifferenceKind.EXTRA, Cause.FOREIGN_WRITE),
            orphan: (DifferenceKind.EXTRA, Cause.FOREIGN_WRITE),
        }
        assert done.repaired == 6
        world.assert_equal()
        repaired = {drift.key[0]: drift for drift in world.drifts()}
        assert all(drift.repaired_at is not None for drift in repaired.values())
        assert repaired[gone].repair == "repaired: written from the flat store"
        assert repaired[extra].repair == "repaired: deleted, as the flat store has no such record"
        assert json.loads(repaired[extra].payload or "")["neuron_id"] == extra
        assert len(world.lines("drift")) == len(world.lines("repair")) == 6
        assert world.round().outcomes == []
        assert all(one.clean_from for one in world.sweeps().values())

    @pytest.mark.parametrize(
        ("slug", "sql"),
        [
            ("user-sessions", "UPDATE hier.sessions SET user_agent = 'other' WHERE session_id IN "
             "(SELECT min(session_id::text)::uuid FROM hier.sessions)"),
            ("user-sessions", "DELETE FROM hier.session_attributes WHERE session_id IN "
             "(SELECT max(session_id::text)::uuid FROM hier.session_attributes)"),
            ("learning-data", "UPDATE hier.patterns SET kind = 'other' WHERE pattern_id IN "
             "(SELECT max(pattern_id::text)::uuid FROM hier.patterns)"),
            ("configuration", "DELETE FROM hier.config_values WHERE path = "
             "(SELECT min(path) FROM hier.config_values)"),
            ("metadata", "UPDATE hier.metrics SET source = 'other' WHERE id IN (SELECT max(id) FROM hier.metrics)"),
            ("metadata", "DELETE FROM hier.audit_events WHERE id IN (SELECT min(id) FROM hier.audit_events)"),
        ],
    )  # fmt: skip
    def test_drift_of_every_category_is_repaired(self, world: World, slug: str, sql: str) -> None:
        world.migrated(scale=0.002)
        world.hier_sql(sql)
        done = world.round()
        assert [(one.category, one.repaired) for one in done.outcomes] == [(slug, True)]
        world.assert_equal()

    def test_a_changed_transform_is_told_from_a_foreign_write(self, world: World) -> None:
        world.migrated(NEURONS)
        world.hier_sql("UPDATE hal9mig.runs SET options = options || '{\"transform_version\": 0}'")
        world.hier_sql("UPDATE hier.units SET activation = 3 WHERE unit_id = %s", world.key(9))
        world.round()
        assert [drift.cause for drift in world.drifts()] == [Cause.TRANSFORM_CHANGED]

    def test_a_late_apply_is_told_from_a_foreign_write(self, world: World) -> None:
        world.migrated(NEURONS)
        key = world.key(9)
        world.flat_sql("UPDATE flat.neuron_states SET activation = 5, version = version + 1 WHERE neuron_id = %s", key)
        world.follow()
        # As if a copy that had read it before had written it after.
        world.hier_sql(
            "UPDATE hier.units SET activation = 4, source_version = source_version - 1 WHERE unit_id = %s", key
        )
        world.round()
        assert [drift.cause for drift in world.drifts()] == [Cause.LATE_APPLY]

    def test_what_no_run_has_migrated_is_not_missing(self, world: World) -> None:
        world.load()
        world.switch.enable()
        world.configure(reconcile_share="1")
        run_id = world.start(NEURONS, filter="layer=substrate")
        while world.batch(run_id):
            pass
        assert world.round().outcomes == []
        assert world.drifts() == []
        gone = world.hier_sql("SELECT unit_id::text FROM hier.units LIMIT 1")[0][0]
        world.drop_unit(gone)
        assert [(one.key, one.kind) for one in world.round().outcomes] == [((gone,), DifferenceKind.MISSING)]

    def test_the_way_back_is_reconciled_too(self, world: World) -> None:
        world.migrated()
        world.switch.leave_flat(dict)
        other, gone = world.key(3), world.key(50)
        with connected(world.stores.flat_url) as cursor:
            cursor.execute("BEGIN")
            cursor.execute(capture.APPLY)
            cursor.execute("UPDATE flat.neuron_states SET activation = activation + 1 WHERE neuron_id = %s", (other,))
            cursor.execute("DELETE FROM flat.neuron_states WHERE neuron_id = %s", (gone,))
            cursor.execute("COMMIT")
        done = world.round()
        assert {one.key[0]: (one.kind, one.cause, one.repaired) for one in done.outcomes} == {
            other: (DifferenceKind.MISMATCH, Cause.FOREIGN_WRITE, True),
            gone: (DifferenceKind.EXTRA, Cause.FOREIGN_WRITE, True),
        }
        world.assert_equal()

    def test_flat_only_has_nothing_to_reconcile(self, world: World) -> None:
        world.load()
        world.migrate(NEURONS)
        world.hier_sql("DELETE FROM hier.unit_learning")
        assert reconciler.round_(world.system, world.desk) is None
        assert world.drifts() == []
        assert world.rounds() == []

    def test_a_category_that_is_behind_goes_on_where_it_stopped(self, world: World, monkeypatch: Any) -> None:
        world.migrated(NEURONS)
        monkeypatch.setattr("hal9mig.engine.reconcile.sweep.SPAN", 50)
        world.configure(reconcile_share="0.000000001")
        world.hier_sql("UPDATE hier.unit_learning SET learning_rate = 7")
        positions = []
        for _ in range(10):
            world.round()
            found = world.sweeps()
            positions.append(found[NEURONS].position if NEURONS in found else None)
        assert len({position for position in positions if position}) >= 3
        world.configure(reconcile_share="1")
        world.round()
        world.round()
        world.assert_same(NEURONS)


class TestLag:
    """What is on its way is no drift, however long it takes; what is not is found meanwhile."""

    def test_writes_that_are_not_applied_for_long_are_no_drift(self, world: World) -> None:
        world.migrated(NEURONS)
        broken = world.key(150)
        with world.lagging():
            for turn in range(4):
                world.flat_sql(
                    "UPDATE flat.neuron_states SET activation = %s, version = version + 1 WHERE neuron_id < %s",
                    turn,
                    broken,
                )
                world.flat_sql("UPDATE hal9cap.journal SET at = at - interval '60 seconds'")
                world.flat_sql(
                    "DELETE FROM flat.neuron_states WHERE neuron_id IN "
                    "(SELECT neuron_id FROM flat.neuron_states WHERE neuron_id < %s LIMIT 2)", broken
                )  # fmt: skip
                if turn == 2:
                    world.hier_sql("UPDATE hier.units SET activation = 99 WHERE unit_id = %s", broken)
                done = world.round()
                assert [(one.key[0], one.repaired) for one in done.outcomes] == ([(broken, True)] if turn == 2 else [])
        (drift,) = world.drifts()
        assert (drift.key[0], drift.cause) == (broken, Cause.FOREIGN_WRITE)
        assert {alarm_rules.STUCK, alarm_rules.LAG} >= set(world.alarms()) - {alarm_rules.DRIFT}
        assert alarm_rules.STUCK in world.alarms()
        world.follow()
        world.round()
        world.assert_same(NEURONS)
        assert world.alarms() == {}

    def test_a_round_applies_the_journals_tail(self, world: World) -> None:
        world.migrated(NEURONS)
        world.flat_sql("UPDATE flat.neuron_states SET activation = 5, version = version + 1")
        done = world.round()
        assert done.applied == 200
        assert done.outcomes == []
        world.assert_same(NEURONS)

    def test_what_is_written_meanwhile_is_no_drift(self, world: World) -> None:
        world.migrated(NEURONS)
        ended = threading.Event()

        def write() -> None:
            with connected(world.stores.flat_url) as cursor:
                turn = 0
                while not ended.is_set():
                    turn += 1
                    cursor.execute(
                        "UPDATE flat.neuron_states SET activation = %s, version = version + 1 "
                        "WHERE neuron_id IN (SELECT neuron_id FROM flat.neuron_states ORDER BY random() LIMIT 1)",
                        (turn,),
                    )

        writers = [threading.Thread(target=write) for _ in range(2)]
        for writer in writers:
            writer.start()
        try:
            for _ in range(3):
                assert world.round().outcomes == []
        finally:
            ended.set()
            for writer in writers:
                writer.join()
        world.round()
        world.assert_same(NEURONS)
