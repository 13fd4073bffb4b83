"""The reconciler's rounds on real stores, in this process: drift of every kind, lag, alarms and their ways out."""

from __future__ import annotations

import contextlib
import http.server
import json
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest

from hal9mig import model, sample, settings
from hal9mig.engine import alarms, reconciliation_log, work
from hal9mig.engine.desk import Desk
from hal9mig.engine.reconcile import alarm_rules, reconciler
from hal9mig.engine.reconcile.reconciler import Done
from hal9mig.engine.switch import switch
from hal9mig.engine.system import System
from hal9mig.engine.transfer import follower
from hal9mig.ledger import dispatch, drifts, quarantine, raised_alarms, rounds, runs, sweeps, tuning, workers
from hal9mig.ledger.drifts import Cause
from hal9mig.ledger.verify_results import DifferenceKind
from hal9mig.stores import capture, write_mode
from tests.support import comparison, servers

SLUG = "neuron-states"
UNIT = "SELECT unit_id FROM hier.units ORDER BY unit_id OFFSET {} LIMIT 1"


class World:
    """Two stores in dual-write, with everything migrated, and the reconciler in this process."""

    def __init__(self, stores: servers.Stores, folder: pathlib.Path, **environ: str):
        self.stores = stores
        self.log = folder / "log" / reconciliation_log.LOG_NAME
        env = servers.environ(stores, folder) | {"HAL9_LOG_DIR": str(folder / "log")} | environ
        self.system = System(settings.load(environ=env), role="worker")
        self.desk = Desk(self.system)
        self.flat = psycopg2.connect(stores.flat_url)
        self.hier = psycopg2.connect(stores.hier_url)
        self.flat.autocommit = self.hier.autocommit = True

    def close(self) -> None:
        self.desk.clear()
        self.flat.close()
        self.hier.close()
        self.system.ledger.close()

    def prepare(self, *categories: str, scale: float = 0.0002) -> None:
        """Load sample data, go to dual-write, and migrate."""
        sample.load(self.stores.flat_url, scale=scale, seed=7)
        switch.Switch(self.system).enable()
        for category in categories or [one.slug for one in self.system.registry.ordered()]:
            self.migrate(category)
        self.tune(**{"reconcile-share": "1"})

    def migrate(self, category: str, filter: str = "") -> None:
        with self.system.ledger.begin() as session:
            run_id = runs.create(
                session, kind=model.RunKind.MIGRATE, category=category, priority=model.Priority.NORMAL, filter=filter,
                options={}, serial=False, actor="test",
            )  # fmt: skip
        while queued := self._queued(run_id):
            for seq, attempt in queued.items():
                became = work.perform(self.system, self.desk, run_id=run_id, seq=seq, attempt=attempt, owner="test/1")
                assert became in ("done", "handed back", "skipped"), became

    def _queued(self, run_id: int) -> dict[int, int]:
        with self.system.ledger.begin() as session:
            runs.settle(session)
            seqs = [batch.seq for batch in dispatch.planned(session, run_id, 100)]
            return dispatch.queue(session, run_id, seqs) if seqs else {}

    def tune(self, **values: str) -> None:
        with self.system.ledger.begin() as session:
            tuning.change(session, values, actor="test")

    def round(self) -> Done:
        """Do a round, as if it were time for the next one."""
        self.hier_sql("UPDATE hal9mig.rounds SET began = began - interval '1 hour'")
        done = reconciler.round_(self.system, self.desk)
        assert done is not None
        return done

    def follow(self) -> None:
        follower.work(self.system, self.desk.flat("follow"), self.desk.hier("follow"), lane=0, lanes=1)

    @contextlib.contextmanager
    def lagging(self) -> Iterator[None]:
        """Nothing is applied for the length of a block, as if the appliers were far behind."""
        with self.system.ledger.begin() as session:
            assert follower.lane_lock(session, 0)
            yield

    def flat_sql(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return _run(self.flat, sql, values)

    def hier_sql(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return _run(self.hier, sql, values)

    def key(self, offset: int = 0) -> str:
        return str(self.flat_sql(f"SELECT neuron_id FROM flat.neuron_states ORDER BY 1 OFFSET {offset} LIMIT 1")[0][0])

    def drifts(self, **more: Any) -> list[drifts.Drift]:
        with self.system.ledger.begin() as session:
            return list(drifts.find(session, **more))

    def alarms(self) -> dict[str, raised_alarms.Alarm]:
        with self.system.ledger.begin() as session:
            return {alarm.name: alarm for alarm in raised_alarms.find(session, open=True)}

    def lines(self, event: str) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if f" event={event} " in f"{line} "]

    def assert_equal(self) -> None:
        for category in self.system.registry.ordered():
            comparison.assert_equal(self.stores, category)


def _run(connection: Any, sql: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values or None)
        return list(cursor.fetchall()) if cursor.description else []


@pytest.fixture
def world(stores: servers.Stores, tmp_path: pathlib.Path) -> Iterator[World]:
    opened = World(stores, tmp_path)
    yield opened
    opened.close()


class TestDrift:
    """Each kind is found, has its cause, and is repaired in the mode's direction."""

    def test_nothing_is_found_where_nothing_differs(self, world: World) -> None:
        world.prepare()
        done = world.round()
        assert done.outcomes == []
        assert sorted(done.ended) == sorted(world.system.registry.categories)
        with world.system.ledger.begin() as session:
            found = sweeps.find(session)
            (last,) = rounds.newest(session)
        assert all(one.clean_from and one.clean_until for one in found.values())
        assert last.compared == sum(one.records for one in found.values()) == done.compared > 500
        assert len(world.lines("round")) == 1

    def test_every_kind_with_its_cause(self, world: World) -> None:
        world.prepare()
        foreign, gone, missed, doubled = (world.key(at) for at in (3, 50, 100, 150))
        world.hier_sql("UPDATE hier.units SET activation = activation + 1 WHERE unit_id = %s", foreign)
        world.hier_sql("UPDATE hier.unit_learning SET weights[1] = 42 WHERE unit_id = %s", doubled)
        for table in ("unit_connections", "unit_learning", "units"):
            world.hier_sql(f"DELETE FROM hier.{table} WHERE unit_id = %s", gone)
        world.flat_sql("ALTER TABLE flat.neuron_states DISABLE TRIGGER USER")
        world.flat_sql(
            "UPDATE flat.neuron_states SET activation = 9, version = version + 1 WHERE neuron_id = %s", missed
        )
        world.flat_sql("ALTER TABLE flat.neuron_states ENABLE TRIGGER USER")
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
        with world.system.ledger.begin() as session:
            assert all(one.clean_from for one in sweeps.find(session).values())

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
    def test_every_category(self, world: World, slug: str, sql: str) -> None:
        world.prepare(scale=0.002)
        world.hier_sql(sql)
        done = world.round()
        assert [(one.category, one.repaired) for one in done.outcomes] == [(slug, True)]
        world.assert_equal()

    def test_what_no_run_has_migrated_is_not_missing(self, world: World) -> None:
        sample.load(world.stores.flat_url, scale=0.0002, seed=7)
        switch.Switch(world.system).enable()
        world.tune(**{"reconcile-share": "1"})
        world.migrate(SLUG, "layer=substrate")
        assert world.round().outcomes == []
        assert world.drifts() == []
        gone = world.hier_sql("SELECT unit_id::text FROM hier.units LIMIT 1")[0][0]
        for table in ("unit_connections", "unit_learning", "units"):
            world.hier_sql(f"DELETE FROM hier.{table} WHERE unit_id = %s", gone)
        assert [(one.key, one.kind) for one in world.round().outcomes] == [((gone,), DifferenceKind.MISSING)]

    def test_the_way_back_is_reconciled_too(self, world: World) -> None:
        world.prepare()
        switch.Switch(world.system).leave_flat(dict)
        other, gone = world.key(3), world.key(50)
        with (
            contextlib.closing(psycopg2.connect(world.stores.flat_url)) as foreign,
            foreign,
            foreign.cursor() as cursor,
        ):
            cursor.execute(capture.APPLY)
            cursor.execute("UPDATE flat.neuron_states SET activation = activation + 1 WHERE neuron_id = %s", (other,))
            cursor.execute("DELETE FROM flat.neuron_states WHERE neuron_id = %s", (gone,))
        done = world.round()
        assert {one.key[0]: (one.kind, one.cause, one.repaired) for one in done.outcomes} == {
            other: (DifferenceKind.MISMATCH, Cause.FOREIGN_WRITE, True),
            gone: (DifferenceKind.EXTRA, Cause.FOREIGN_WRITE, True),
        }
        world.assert_equal()

    def test_flat_only_has_nothing_to_reconcile(self, world: World) -> None:
        sample.load(world.stores.flat_url, scale=0.0002, seed=7)
        world.migrate(SLUG)
        world.hier_sql("DELETE FROM hier.unit_learning")
        assert reconciler.round_(world.system, world.desk) is None
        assert world.drifts() == []
        with world.system.ledger.begin() as session:
            assert rounds.newest(session) == []

    def test_a_category_that_is_behind_goes_on_where_it_stopped(self, world: World, monkeypatch: Any) -> None:
        world.prepare(SLUG)
        monkeypatch.setattr("hal9mig.engine.reconcile.sweep.SPAN", 50)
        world.tune(**{"reconcile-share": "0.000000001"})
        world.hier_sql("UPDATE hier.unit_learning SET learning_rate = 7")
        positions = []
        for _ in range(10):
            world.round()
            with world.system.ledger.begin() as session:
                found = sweeps.find(session)
            positions.append(found[SLUG].position if SLUG in found else None)
        assert len({position for position in positions if position}) >= 3
        world.tune(**{"reconcile-share": "1"})
        world.round()
        world.round()
        comparison.assert_equal(world.stores, world.system.category(SLUG))


class TestLag:
    """What is on its way is no drift, however long it takes; what is not is found meanwhile."""

    def test_sustained_writes_that_are_not_applied(self, world: World) -> None:
        world.prepare(SLUG)
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
        comparison.assert_equal(world.stores, world.system.category(SLUG))
        assert world.alarms() == {}

    def test_a_round_applies_the_journals_tail(self, world: World) -> None:
        world.prepare(SLUG)
        world.flat_sql("UPDATE flat.neuron_states SET activation = 5, version = version + 1")
        done = world.round()
        assert done.applied == 200
        assert done.outcomes == []
        comparison.assert_equal(world.stores, world.system.category(SLUG))

    def test_writers_meanwhile(self, world: World) -> None:
        world.prepare(SLUG)
        ended = threading.Event()

        def write() -> None:
            with contextlib.closing(psycopg2.connect(world.stores.flat_url)) as connection:
                connection.autocommit = True
                turn = 0
                while not ended.is_set():
                    turn += 1
                    _run(
                        connection,
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
        comparison.assert_equal(world.stores, world.system.category(SLUG))

    def test_a_compacted_journal_forgets_nothing(self, world: World) -> None:
        world.prepare(SLUG)
        one, other = world.key(1), world.key(2)
        write = "UPDATE flat.neuron_states SET activation = %s, version = version + 1 WHERE neuron_id = %s"
        for turn in range(5):
            world.flat_sql(write, turn, one)
        world.flat_sql(write, 1, other)
        seen = capture.entries(world.desk.flat("test"), [SLUG], limit=10)
        assert sorted(len(entry.ids) for entry in seen) == [1, 5]
        world.flat_sql(write, 77, one)
        assert capture.compact(world.desk.flat("test")) == 5
        # Whoever had read the journal before prunes what it saw; the write after that is still there.
        capture.prune(world.desk.flat("test"), seen)
        left = capture.entries(world.desk.flat("test"), [SLUG], limit=10)
        assert [(entry.key, len(entry.ids)) for entry in left] == [((one,), 1)]


class TestPolicy:
    """What is repaired, what is left, and what is given up."""

    def test_without_auto_fix_it_is_only_noted(self, world: World) -> None:
        world.prepare(SLUG)
        world.tune(**{"auto-fix": "false"})
        world.hier_sql("UPDATE hier.units SET activation = 3 WHERE unit_id = %s", world.key(9))
        for _ in range(2):
            assert [one.repaired for one in world.round().outcomes][:1] == [False]
        (drift,) = world.drifts(open=True)
        assert drift.repair == "not to be repaired"
        assert drift.repaired_at is None
        world.tune(**{"auto-fix": "true"})
        assert world.round().repaired == 1
        assert world.drifts(open=True) == []

    def test_a_newer_follower_is_not_overwritten(self, world: World) -> None:
        world.prepare(SLUG)
        key = world.key(9)
        world.hier_sql(
            "UPDATE hier.units SET activation = 3, source_version = source_version + 5 WHERE unit_id = %s", key
        )
        world.round()
        (drift,) = world.drifts()
        assert drift.cause == Cause.QUARANTINE
        assert world.hier_sql("SELECT activation FROM hier.units WHERE unit_id = %s", key) == [(3.0,)]
        with world.system.ledger.begin() as session:
            (held,) = quarantine.find(session)
        assert held.key == (key,)
        assert "the side that follows has version" in held.error
        # Known from here on: no drift any more, and no alarm.
        assert world.round().repaired == 0
        assert len(world.drifts()) == 1

    def test_what_is_broken_again_and_again_is_left_with_an_alarm(self, world: World) -> None:
        world.prepare(SLUG)
        key = world.key(9)
        for turn in range(5):
            world.hier_sql("UPDATE hier.units SET activation = %s WHERE unit_id = %s", 100 + turn, key)
            assert world.round().repaired == (1 if turn < 3 else 0)
        assert world.hier_sql("SELECT activation FROM hier.units WHERE unit_id = %s", key) == [(104.0,)]
        alarm = world.alarms()["repaired again and again"]
        assert alarm.subject == f"{SLUG}/{key}"
        assert len(world.lines("alarm")) == 1 + (alarm_rules.DRIFT in world.alarms())
        # Whoever did that has stopped, and put it right.
        flat = world.flat_sql("SELECT activation FROM flat.neuron_states WHERE neuron_id = %s", key)[0][0]
        world.hier_sql("UPDATE hier.units SET activation = %s WHERE unit_id = %s", flat, key)
        world.round()
        assert "repaired again and again" not in world.alarms()
        assert world.drifts(open=True) == []

    def test_a_changed_transform_is_told_from_a_foreign_write(self, world: World) -> None:
        world.prepare(SLUG)
        world.hier_sql("UPDATE hal9mig.runs SET options = options || '{\"transform_version\": 0}'")
        world.hier_sql("UPDATE hier.units SET activation = 3 WHERE unit_id = %s", world.key(9))
        world.round()
        assert [drift.cause for drift in world.drifts()] == [Cause.TRANSFORM_CHANGED]

    def test_late_apply(self, world: World) -> None:
        world.prepare(SLUG)
        key = world.key(9)
        world.flat_sql("UPDATE flat.neuron_states SET activation = 5, version = version + 1 WHERE neuron_id = %s", key)
        world.follow()
        # As if a copy that had read it before had written it after.
        world.hier_sql(
            "UPDATE hier.units SET activation = 4, source_version = source_version - 1 WHERE unit_id = %s", key
        )
        world.round()
        assert [drift.cause for drift in world.drifts()] == [Cause.LATE_APPLY]

    def test_what_cannot_be_written_goes_to_quarantine(self, world: World) -> None:
        world.prepare(SLUG)
        key = world.key(9)
        world.flat_sql("ALTER TABLE flat.neuron_states DISABLE TRIGGER USER")
        world.flat_sql(
            "UPDATE flat.neuron_states SET connections = '[{\"target\": \"x\"}]', version = version + 1 "
            "WHERE neuron_id = %s", key
        )  # fmt: skip
        world.flat_sql("ALTER TABLE flat.neuron_states ENABLE TRIGGER USER")
        world.round()
        (drift,) = world.drifts()
        assert drift.cause == Cause.QUARANTINE
        with world.system.ledger.begin() as session:
            assert [held.key for held in quarantine.find(session)] == [(key,)]
        world.round()
        with world.system.ledger.begin() as session:
            assert sweeps.find(session)[SLUG].clean_from is not None
            assert alarm_rules.share(session) == 0

    def test_repairs_are_within_the_budget(self, world: World) -> None:
        world.prepare(SLUG)
        world.tune(**{"rate-limit": "1/h"})
        repaired = []
        for at in range(4):
            world.hier_sql("UPDATE hier.units SET activation = 3 WHERE unit_id = %s", world.key(at))
            repaired.append(world.round().repaired)
        assert repaired[0] == 1
        assert repaired[-1] == 0
        waiting = world.drifts(open=True)
        assert all("waits for the budget" in (drift.repair or "") for drift in waiting)
        world.tune(**{"rate-limit": "off"})
        assert world.round().repaired == len(waiting) > 0


class TestRounds:
    """One at a time, none before its time, and all that is told about them."""

    def test_a_second_call_is_no_round(self, world: World) -> None:
        world.prepare(SLUG)
        world.round()
        assert reconciler.round_(world.system, world.desk) is None
        world.tune(**{"reconcile-interval": "1ms"})
        assert reconciler.round_(world.system, world.desk) is not None

    def test_two_at_once_are_one_round(self, world: World) -> None:
        world.prepare(SLUG)
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
        with world.system.ledger.begin() as session:
            assert len(rounds.newest(session)) == 1

    def test_a_switch_in_the_middle_voids_the_round(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        world.prepare(SLUG)
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
        with world.system.ledger.begin() as session:
            assert "write mode" in (rounds.newest(session)[0].error or "")

    def test_the_share_that_drifted_alerts_above_the_threshold(self, world: World) -> None:
        world.prepare(SLUG)
        world.hier_sql(
            "UPDATE hier.units SET activation = 3 WHERE unit_id IN (SELECT unit_id FROM hier.units LIMIT 20)"
        )
        world.round()
        assert "have drifted, more than 1.00%" in world.alarms()[alarm_rules.DRIFT].message
        world.round()
        assert alarm_rules.DRIFT not in world.alarms()
        assert len(world.lines("alarm")) == len(world.lines("alarm-over")) == 1

    def test_a_trigger_that_somebody_took_away_is_put_back_and_told(self, world: World) -> None:
        """And what was compared before counts for nothing: it may have been over what was then written unseen."""
        world.prepare(SLUG)
        world.round()
        with world.system.ledger.begin() as session:
            assert sweeps.find(session)[SLUG].clean_from is not None
        world.flat_sql(
            "ALTER TABLE flat.neuron_states DISABLE TRIGGER hal9cap_update; UPDATE flat.neuron_states "
            "SET activation = 0.125 WHERE neuron_id IN (SELECT neuron_id FROM flat.neuron_states LIMIT 1)"
        )
        done = world.round()
        assert "hal9cap_update on flat.neuron_states is disabled" in world.alarms()[alarm_rules.UNSEEN].message
        assert done.repaired == 1
        with world.system.ledger.begin() as session:
            assert sweeps.find(session)[SLUG].clean_from is None
        assert world.round().outcomes == []
        assert alarm_rules.UNSEEN not in world.alarms()

    def test_dead_workers_and_none(self, world: World) -> None:
        world.prepare(SLUG)
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

    def test_a_lag_that_grows_from_round_to_round(self, world: World) -> None:
        world.prepare(SLUG)
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

    def test_a_long_journal_is_compacted_and_then_alerts(self, world: World) -> None:
        world.prepare(SLUG)
        world.tune(**{"journal-alarm": "300"})
        with world.lagging():
            for turn in range(3):
                world.flat_sql("UPDATE flat.neuron_states SET activation = %s, version = version + 1", turn)
            world.round()
            assert sum(lag.records for lag in capture.lag(world.desk.flat("test")).values()) == 200
            assert alarm_rules.JOURNAL not in world.alarms()
            world.tune(**{"journal-alarm": "100"})
            world.round()
            assert "200 writes wait" in world.alarms()[alarm_rules.JOURNAL].message
        world.round()
        assert alarm_rules.JOURNAL not in world.alarms()
        comparison.assert_equal(world.stores, world.system.category(SLUG))

    def test_how_long_it_takes_to_cover_everything_follows_from_what_was_measured(self, world: World) -> None:
        world.prepare(SLUG)
        with world.system.ledger.begin() as session:
            assert alarm_rules.standing(session, 200).coverage is None
        world.round()
        with world.system.ledger.begin() as session:
            known = alarm_rules.standing(session, 200)
            more = alarm_rules.standing(session, 10**9)
        assert known.coverage == known.interval == 30
        assert more.coverage is not None
        assert more.coverage > 1000 * 30


class Receiver:
    """A webhook that fails as often as it is told to."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.failures = 0
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.append((dict(self.headers), body))
                failing, receiver.failures = receiver.failures > 0, max(0, receiver.failures - 1)
                self.send_response(503 if failing else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook/token123"
        self._thread = threading.Thread(target=self.server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    opened = Receiver()
    yield opened
    opened.close()


class TestWebhook:
    """Alarms are sent, signed, and sent again."""

    def test_sent_signed_and_sent_again(
        self, stores: servers.Stores, tmp_path: pathlib.Path, receiver: Receiver, caplog: pytest.LogCaptureFixture
    ) -> None:
        world = World(stores, tmp_path, HAL9_WEBHOOK_URL=receiver.url, HAL9_WEBHOOK_SECRET="s3cret")
        try:
            receiver.failures = 1
            with world.system.ledger.begin() as session:
                alarms.raise_(world.system, session, "a test", "Something is wrong.", detail={"n": 1})
                assert not alarms.raise_(world.system, session, "a test", "Something is wrong.")
            assert alarms.deliver(world.system, retry_after=3600) == 0
            assert alarms.deliver(world.system) == 0
            assert len(receiver.requests) == 1  # not before its time
            world.hier_sql("UPDATE hal9mig.alarms SET not_before = now()")
            assert alarms.deliver(world.system) == 1
            assert alarms.deliver(world.system) == 0
            (_, first), (headers, body) = receiver.requests
            assert headers[alarms.SIGNATURE] == alarms.signature("s3cret", body)
            assert json.loads(first) | {"attempt": 2} == json.loads(body)
            assert json.loads(body)["alarm"] == "a test"
            assert json.loads(body)["detail"] == {"n": 1}
            told = world.log.read_text() + caplog.text
            assert "503" in told
            assert "token123" not in told
            assert "s3cret" not in told
        finally:
            world.close()

    def test_a_receiver_that_is_down_costs_nothing(self, stores: servers.Stores, tmp_path: pathlib.Path) -> None:
        world = World(stores, tmp_path, HAL9_WEBHOOK_URL="http://127.0.0.1:9/hook")
        try:
            with world.system.ledger.begin() as session:
                for number in range(5):
                    alarms.raise_(world.system, session, "a test", "Wrong.", subject=str(number))
            assert alarms.deliver(world.system) == 0
            with world.system.ledger.begin() as session:
                assert sorted(alarm.attempts for alarm in raised_alarms.find(session)) == [0, 0, 0, 0, 1]
        finally:
            world.close()


class TestLog:
    """One line an event, in a file that is only ever appended to."""

    def test_opened_with_its_folder(self, world: World) -> None:
        reconciliation_log.open_log(world.system.settings)
        with world.log.open() as followed:
            reconciliation_log.open_log(world.system.settings)
            reconciliation_log.note(
                world.system.settings, "drift", key="a b/c", category="x", empty="", nothing=None, share=0.5
            )
            line = followed.read()
        assert line.count("\n") == 1
        assert line.endswith(' event=drift key="a b/c" category=x share=0.5\n')

    def test_that_cannot_be_opened(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        world.log.parent.rmdir() if world.log.parent.exists() else None
        world.log.parent.write_text("a file")
        with pytest.raises(Exception, match=r"reconciliation\.log cannot be written"):
            reconciliation_log.open_log(world.system.settings)
        reconciliation_log.note(world.system.settings, "drift", key="k1")
        assert "k1" in caplog.text
