"""The gate: every predicate closed and open, what it says, and the certificate of who has passed it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import pathlib
from collections.abc import Iterator

import pytest

from hal9mig import errors, model
from hal9mig.engine.switch import gate
from hal9mig.engine.switch.gate import Predicate
from hal9mig.ledger import quarantine, runs, workers
from hal9mig.ledger.verify_results import DifferenceKind
from hal9mig.stores import capture, capture_triggers
from hal9mig.stores.write_mode import Mode
from tests.support import live_state, servers
from tests.support.live_state import CONFIGURATION, SESSIONS, World

CATEGORIES = (SESSIONS, CONFIGURATION)


@pytest.fixture
def world(stores: servers.Stores, tmp_path: pathlib.Path) -> Iterator[World]:
    with live_state.opened(stores, servers.environ(stores, tmp_path)) as opened:
        opened.only(*CATEGORIES)
        opened.load(0.0002)
        yield opened


@pytest.fixture
def ready(world: World) -> World:
    """Everything migrated, compared and clean: the gate is open."""
    world.prepare()
    assert world.closed() == []
    return world


def only_closed(world: World) -> Predicate:
    """Return the one predicate that does not hold; nothing was changed by looking."""
    before = world.line, world.states()
    (found,) = world.closed()
    assert (world.line, world.states()) == before
    return found


class TestPredicates:
    def test_their_names_and_evidence(self, ready: World) -> None:
        found = {one.name: one.evidence for one in ready.look()}
        assert list(found) == [
            "write mode", "coverage of user-sessions", "coverage of configuration", "no migration under way",
            "quarantine within policy", "no drift left unrepaired", "workers alive", "lag",
            "declaration of user-sessions", "declaration of configuration",
            "capture of user-sessions", "capture of configuration",
            "clean pass over user-sessions", "clean pass over configuration",
        ]  # fmt: skip
        assert found["write mode"] == "dual-write, epoch 2"
        assert found["coverage of user-sessions"] == "20 of 20 migrated"
        assert found["workers alive"] == "pretended"
        assert found["quarantine within policy"] == "0 held, 0 allowed"
        gate.require(ready.look())

    def test_it_is_closed_while_nothing_is_done(self, world: World) -> None:
        """Each blocker is named, with the command that comes next, each command once."""
        closed = {one.name: one.next_command for one in world.closed()}
        assert closed == {
            "write mode": "hal9-migrate mode migration --enable",
            "coverage of user-sessions": "hal9-migrate state migrate --category user-sessions",
            "coverage of configuration": "hal9-migrate state migrate --category configuration",
            "workers alive": world.system.settings.workers_hint,
            "capture of user-sessions": "hal9-migrate mode migration --enable",
            "capture of configuration": "hal9-migrate mode migration --enable",
            "clean pass over user-sessions": "hal9-migrate reconcile --full",
            "clean pass over configuration": "hal9-migrate reconcile --full",
        }
        with pytest.raises(errors.GateClosed, match=r"closed by 8 of 14 predicates\. write mode: flat-only") as refused:
            gate.require(world.look())
        assert (refused.value.hint or "").split(" ; ") == list(dict.fromkeys(closed.values()))

    def test_a_category_without_records_is_not_covered_before_it_was_migrated(self, world: World) -> None:
        world.flat_sql("DELETE FROM flat.configuration")
        found = {one.name: one for one in world.closed()}
        assert found["coverage of configuration"].evidence == "0 of 0 migrated"

    def test_filters_that_cover_everything_together_count(self, world: World) -> None:
        """Runs that together cover every record are as good as one; one that is missing is counted."""
        world.switch.enable()
        world.pretend_worker()
        world.migrate(CONFIGURATION)
        for number, filter in enumerate(("active=true", "active=false")):
            with world.system.ledger.begin() as session:
                run_id = runs.create(
                    session, kind=model.RunKind.MIGRATE, category=SESSIONS, priority=model.Priority.NORMAL,
                    filter=filter, options={}, serial=False, actor="test",
                )  # fmt: skip
            while world.batch(run_id):
                pass
            world.clean()
            if not number:
                assert only_closed(world).name == "coverage of user-sessions"
        assert world.closed() == []

    def test_a_migration_under_way_closes_it(self, ready: World) -> None:
        run_id = ready.start(SESSIONS)
        assert only_closed(ready).evidence == f"run {run_id} (user-sessions, planning)"
        while ready.batch(run_id):
            pass
        # It has changed something since the last clean pass.
        assert only_closed(ready).name == "clean pass over user-sessions"
        ready.pass_over()
        assert ready.closed() == []

    def test_a_record_in_quarantine_closes_it(self, ready: World) -> None:
        (key,) = ready.flat_sql("SELECT session_id::text FROM flat.user_sessions LIMIT 1")[0]
        with ready.system.ledger.begin() as session:
            quarantine.hold(
                session, category=SESSIONS, key=(key,), error="bad", payload=None, transform_version=1, run_id=None
            )
        closed = only_closed(ready)
        assert (closed.name, closed.evidence) == ("quarantine within policy", "1 held, 0 allowed")
        ready.configure(quarantine_policy="1")
        assert ready.closed() == []

    def test_open_drift_closes_it(self, ready: World) -> None:
        (key,) = ready.flat_sql("SELECT session_id::text FROM flat.user_sessions LIMIT 1")[0]
        ready.hier_sql(
            "INSERT INTO hal9mig.drifts (category, key, kind, cause) VALUES (%s, %s, %s, 'foreign write')",
            SESSIONS, json.dumps([key]), DifferenceKind.MISMATCH,
        )  # fmt: skip
        assert {one.name for one in ready.closed()} == {"no drift left unrepaired", "clean pass over user-sessions"}
        ready.hier_sql("UPDATE hal9mig.drifts SET repaired_at = now()")
        assert only_closed(ready).name == "clean pass over user-sessions"
        ready.pass_over()
        assert ready.closed() == []

    def test_no_worker_closes_it(self, ready: World) -> None:
        with ready.system.ledger.begin() as session:
            workers.leave(session, name="pretended", pid=1)
        assert only_closed(ready).evidence == "none"

    def test_lag_closes_it(self, ready: World) -> None:
        ready.flat_sql("UPDATE flat.configuration SET version = version + 1")
        assert ready.closed() == []
        ready.flat_sql("UPDATE hal9cap.journal SET at = at - interval '1 minute'")
        assert only_closed(ready).evidence.startswith("1 writes, 1m")
        ready.drain()
        assert ready.closed() == []

    def test_a_pass_that_found_something_is_not_clean(self, ready: World) -> None:
        """It is repaired at once, and the next pass is the one that counts."""
        ready.hier_sql(f"{capture.APPLY}; DELETE FROM hier.config_values")
        ready.pass_over()
        assert ready.closed() == []
        ready.assert_equal()

    def test_a_pass_from_before_the_mode_does_not_count(self, ready: World) -> None:
        ready.switch.return_to_flat()
        ready.flat_sql("UPDATE flat.configuration SET version = version + 1")
        ready.switch.enable()
        assert {one.name for one in ready.closed()} == {f"clean pass over {slug}" for slug in CATEGORIES}


class TestBehindTheBarrier:
    """What is looked at when nobody writes: both sides' counts, and that the way back is captured."""

    def test_reverse_capture_is_tried_and_leaves_nothing(self, ready: World) -> None:
        with contextlib.closing(ready.system.hier()) as hier:
            for category in ready.system.registry.ordered():
                capture_triggers.install(hier, category, model.StoreName.HIERARCHICAL)
        document = evidence(ready)
        assert document["records"] == {
            "user-sessions": {"flat": 20, "hierarchical": 20, "quarantined": 0},
            "configuration": {"flat": 1, "hierarchical": 1, "quarantined": 0},
        }
        assert ready.waiting(model.StoreName.HIERARCHICAL) == 0

    @pytest.mark.parametrize("table", ["hier.sessions", "hier.session_attributes", "hier.config_values"])
    def test_a_table_without_its_trigger_keeps_the_mode(self, ready: World, table: str) -> None:
        def drop() -> None:
            ready.hier_sql(f"DROP TRIGGER hal9cap_update ON {table}")

        with pytest.raises(errors.GateClosed, match=f"A write to {table} was not captured"):
            ready.switch.leave_flat(lambda: (drop(), evidence(ready))[1])  # type: ignore[func-returns-value]
        assert ready.states()[0].mode is Mode.DUAL_WRITE

    def test_counts_that_differ_keep_the_mode(self, ready: World) -> None:
        ready.hier_sql(f"{capture.APPLY}; DELETE FROM hier.config_values")
        with pytest.raises(errors.GateClosed, match="1 flat records, 0 hierarchical ones and 0 in quarantine") as found:
            ready.leave()
        assert found.value.hint == "hal9-migrate reconcile --full"
        ready.pass_over()
        assert ready.leave().changed

    def test_a_record_in_quarantine_is_counted(self, ready: World) -> None:
        """Within the policy it does not stand in the way, and the certificate says so."""
        ready.hier_sql(f"{capture.APPLY}; DELETE FROM hier.config_values")
        (key,) = ready.flat_sql("SELECT key FROM flat.configuration")[0]
        with ready.system.ledger.begin() as session:
            quarantine.hold(
                session, category=CONFIGURATION, key=(key,), error="x", payload=None, transform_version=1, run_id=None
            )
        ready.configure(quarantine_policy="1")
        ready.leave()
        (certificate,) = ready.certificates()
        assert certificate.document["records"]["configuration"] == {"flat": 1, "hierarchical": 0, "quarantined": 1}


class TestCertificate:
    def test_what_it_says(self, ready: World) -> None:
        found = ready.look()
        done = ready.leave()
        (certificate,) = ready.certificates()
        document = dict(certificate.document)
        assert certificate.actor == document["actor"] == "test"
        assert (document["schema"], document["kind"]) == (1, "hal9-migrate switch certificate")
        assert document["epoch"] == done.epoch == 3
        assert document["barrier_seconds"] == round(done.barrier or 0.0, 3) > 0
        assert document["journal_empty"] is True
        assert [one["name"] for one in document["predicates"]] == [one.name for one in found]
        assert all(one["holds"] and one["evidence"] for one in document["predicates"])
        assert set(document["wal_positions"]) == {"flat", "hierarchical"}
        assert all("/" in position for position in document["wal_positions"].values())
        assert document["at"].endswith("+00:00")
        assert document["sequences"] == []

    def test_its_hash_covers_all_of_it(self, ready: World) -> None:
        """Anybody can compute it: of the JSON with sorted names and without spaces, all but the hash itself."""
        ready.leave()
        document = dict(ready.certificates()[0].document)
        told = document.pop("sha256")
        text = json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        assert told == hashlib.sha256(text.encode()).hexdigest()
        for name in document:
            assert gate.sealed(document | {name: "changed"})["sha256"] != told


def evidence(world: World) -> dict[str, object]:
    """Return the certificate's document."""
    return dict(gate.evidence(world.system, world.look(), actor="test"))
