"""The ledger's promises: fenced leases, crashes that are counted, transitions, and what is told from it."""

from __future__ import annotations

import concurrent.futures
import itertools
from collections.abc import Mapping

import psycopg2
import pytest
import yaml

from hal9mig import errors, model
from hal9mig.engine.dispatcher import LOOK_AFTER
from hal9mig.ledger import batches, dispatch, rounds, runs, totals, workers
from hal9mig.ledger.database import Ledger
from hal9mig.ledger.session import Result, Session
from hal9mig.queue.broker import Message
from tests.support import migration_driver
from tests.support.migration_driver import Driver
from tests.support.servers import ROOT

Status = model.RunStatus
_names = itertools.count(1)


def execute(session: Session, statement: str, *values: object) -> Result:
    """Run a statement of the test's own."""
    return session.execute(statement, values)


def make_run(session: Session, *, kind: str = "copy", planned: int = 3, **options: object) -> int:
    """Make a running migration with this many planned batches of ten, and return its number."""
    run_id = runs.create(
        session, kind=model.RunKind.MIGRATE, category=f"category-{next(_names)}", priority=model.Priority.NORMAL,
        filter="", options=options, serial=False, actor="test",
    )  # fmt: skip
    bounds = [None, *(((f"k{number}"),) for number in range(1, planned)), None]
    spans = list(itertools.pairwise(bounds))
    planned = [
        runs.NewBatch(seq=seq, after=low, upto=high, records=10) for seq, (low, high) in enumerate(spans, start=1)
    ]
    runs.add_batches(session, run_id, kind, planned)
    execute(session, "UPDATE hal9mig.batches SET status = 'done' WHERE run_id = %s AND seq = 0", run_id)
    runs.finish_planning(session, run_id)
    return run_id


def lease(session: Session, run_id: int, seq: int = 1, *, owner: str = "w@h/1", seconds: float = 60) -> batches.Lease:
    """Publish a batch and claim it."""
    attempt = dispatch.queue(session, run_id, [seq])[seq]
    held = batches.claim(session, run_id=run_id, seq=seq, attempt=attempt, owner=owner, lease=seconds)
    assert held is not None
    return held


def batch(session: Session, run_id: int, seq: int = 1) -> Mapping[str, object]:
    """Return the whole row of a batch."""
    found = execute(session, "SELECT * FROM hal9mig.batches WHERE run_id = %s AND seq = %s", run_id, seq)
    return found.one()._asdict()


def progress(records: int, cursor: str = "k0", step: int | None = None) -> batches.Progress:
    """Return totals after a step."""
    return batches.Progress(cursor=(cursor,), records=records, quarantined=0, bytes=1, digest=-5, step_records=step)


def run_out(session: Session, run_id: int, seq: int = 1) -> None:
    """Let a lease be over."""
    execute(
        session,
        "UPDATE hal9mig.batches SET lease_until = clock_timestamp() - interval '1s' WHERE run_id = %s AND seq = %s",
        run_id, seq,
    )  # fmt: skip


class TestLease:
    def test_is_given_to_one(self, session: Session) -> None:
        """A second delivery, another attempt, and a batch that was not published find nothing."""
        run_id = make_run(session)
        claim = {"run_id": run_id, "seq": 1, "owner": "w@h/1", "lease": 60}
        assert batches.claim(session, attempt=0, **claim) is None
        assert dispatch.queue(session, run_id, [1]) == {1: 1}
        assert batches.claim(session, attempt=2, **claim) is None
        held = batches.claim(session, attempt=1, **claim)
        assert held is not None
        assert (held.after, held.upto, held.worker) == (None, ("k1",), "w@h")
        assert batches.claim(session, attempt=1, **claim) is None

    @pytest.mark.parametrize("status", [Status.PAUSING, Status.CANCELLING])
    def test_is_not_given_while_the_run_stands_still(self, session: Session, ledger: Ledger, status: Status) -> None:
        """What was published is called back; a message that comes later anyway finds nothing."""
        run_id = make_run(session)
        dispatch.queue(session, run_id, [1])
        with ledger.begin() as other:
            runs.move(other, run_id, status, "test")
        assert batch(session, run_id)["status"] == "planned"
        execute(session, "UPDATE hal9mig.batches SET status = 'queued' WHERE run_id = %s", run_id)
        assert batches.claim(session, run_id=run_id, seq=1, attempt=1, owner="w@h/1", lease=60) is None

    def test_that_was_lost_changes_nothing_any_more(self, session: Session, ledger: Ledger) -> None:
        """Whoever wakes up after another has taken over cannot extend, advance, finish, hand back or fail."""
        run_id = make_run(session)
        old = lease(session, run_id)
        run_out(session, run_id)
        assert batches.expire(ledger) >= 1
        new = lease(session, run_id, owner="other@h/2")
        before = batch(session, run_id)
        assert not batches.extend(session, old, 60)
        assert not batches.hand_back(session, old, seconds=1)
        assert not batches.fail(session, old, error="x", seconds=1)
        for change in (
            lambda: batches.attach_backend(session, old, 1),
            lambda: batches.advance(session, old, progress(5), lease=60),
            lambda: batches.finish(session, old, seconds=1),
        ):
            with pytest.raises(errors.LeaseLost):
                change()
        assert batch(session, run_id) == before
        assert batches.extend(session, new, 60)

    def test_tells_at_each_step_whether_to_go_on(self, session: Session, ledger: Ledger) -> None:
        """A pause, a cancel and a worker that is to stop are noticed with the commit."""
        run_id = make_run(session)
        held = lease(session, run_id, owner="drains@h/1")
        worker = {"name": "drains@h", "host": "h", "pid": 1, "slots": 1, "memory_bytes": 0, "cpu_percent": 0.0}
        workers.report(session, draining=False, **worker)
        assert batches.advance(session, held, progress(1), lease=60).go_on
        workers.report(session, draining=True, **worker)
        assert not batches.advance(session, held, progress(2), lease=60).go_on
        workers.leave(session, name="drains@h", pid=1)
        assert batches.advance(session, held, progress(3), lease=60).go_on
        with ledger.begin() as other:
            runs.move(other, run_id, Status.PAUSING, "test")
        assert not batches.advance(session, held, progress(4), lease=60).go_on

    def test_hands_back_what_is_done(self, session: Session) -> None:
        """The next one goes on from the cursor, with the totals so far."""
        run_id = make_run(session)
        held = lease(session, run_id)
        batches.advance(session, held, progress(7, "k\"0'\\ \U0001f596"), lease=60)
        assert batches.hand_back(session, held, seconds=1)
        again = lease(session, run_id)
        assert (again.cursor, again.records, again.digest) == (("k\"0'\\ \U0001f596",), 7, -5)
        assert again.attempt == held.attempt + 1


class TestCrashes:
    def test_make_the_steps_smaller_down_to_one_record_and_then_none(self, session: Session, ledger: Ledger) -> None:
        """A record is only blamed for a crash that came while it was alone in its step."""
        run_id = make_run(session)
        sizes = []
        while (held := lease(session, run_id)).step_records != 0:
            sizes.append(held.step_records)
            batches.expire_crashed(ledger, run_id=run_id, seq=1, attempt=held.attempt)
        assert sizes == [None, 100, 10, 1]

    @pytest.mark.parametrize("step", [2, 5, 9, 11])
    def test_in_a_small_step_blame_nobody_yet(self, session: Session, ledger: Ledger, step: int) -> None:
        """A step of a few records gets smaller, not empty."""
        run_id = make_run(session)
        batches.advance(session, lease(session, run_id), progress(1, step=step), lease=60)
        run_out(session, run_id)
        batches.expire(ledger)
        assert lease(session, run_id).step_records == 1

    def test_right_after_progress_are_not_the_record_s(self, session: Session, ledger: Ledger) -> None:
        """A worker that is killed once or twice, with one record in hand, may be out of luck."""
        run_id = make_run(session)
        batches.advance(session, lease(session, run_id), progress(1, step=1), lease=60)
        sizes = []
        for _ in range(4):
            run_out(session, run_id)
            batches.expire(ledger)
            sizes.append(lease(session, run_id).step_records)
        assert sizes == [1, 1, 0, 0]

    @pytest.mark.parametrize(
        ("kind", "options"),
        [("plan", {}), ("verify", {}), ("copy", {"atomic": True})],
        ids=["plan", "verify", "atomic"],
    )
    def test_that_no_record_can_be_blamed_for_end_the_run(
        self, session: Session, ledger: Ledger, kind: str, options: Mapping[str, object]
    ) -> None:
        """After a bounded number; the operator may try again, from where it stood."""
        run_id = make_run(session, kind=kind, planned=1, **options)
        crashes = 0
        while batch(session, run_id)["status"] != "failed":
            held = lease(session, run_id)
            batches.expire_crashed(ledger, run_id=run_id, seq=1, attempt=held.attempt)
            crashes += 1
        assert crashes == batches.MOST_CRASHES
        runs.settle(session, run_id)
        run = runs.get(session, run_id)
        assert (run.status, run.reason) == (Status.FAILED, "the worker process died")
        assert runs.retry_failed(session, run_id) == 1
        assert batch(session, run_id)["crashes"] == 0

    def test_end_the_sessions_of_the_process_and_of_no_other(
        self, shared: Driver, session: Session, ledger: Ledger
    ) -> None:
        """Also those that do not write for the lease: any of them may hold a lock."""
        run_id = make_run(session)
        held = lease(session, run_id)
        names = ["worker 41@here", "worker 41@here", "worker 42@here", "worker 4@here"]
        opened = [psycopg2.connect(shared.stores.hier_url, application_name=f"hal9-migrate {name}") for name in names]
        with (own := Session(opened[0])).begin():  # nobody may note another's number
            batches.attach_backend(own, held, opened[0].info.backend_pid)
        run_out(session, run_id)
        batches.expire(ledger)
        for connection in opened[:2]:
            with pytest.raises(psycopg2.OperationalError), connection.cursor() as cursor:
                cursor.execute("SELECT pg_sleep(60)")
        for connection in opened[2:]:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        for connection in opened:
            connection.close()

    def test_are_found_beside_a_batch_that_somebody_locks(self, session: Session, ledger: Ledger) -> None:
        """One row that cannot be had now keeps nobody from the others."""
        locked, free = make_run(session), make_run(session)
        for run_id in (locked, free):
            lease(session, run_id)
            run_out(session, run_id)
        with ledger.begin() as other:
            execute(other, "SELECT FROM hal9mig.batches WHERE run_id = %s FOR UPDATE", locked)
            batches.expire(ledger)
            assert batch(session, free)["status"] == "planned"
            assert batch(session, locked)["status"] == "leased"
        batches.expire(ledger)
        assert batch(session, locked)["status"] == "planned"


class TestMessages:
    def test_that_are_lost_are_told_from_those_that_wait(self, shared: Driver, session: Session) -> None:
        """A batch is planned anew only where its own message is not in the queue, whatever else is."""
        run_id = make_run(session)
        broker, category = shared.system.broker, runs.get(session, run_id).category
        attempts = dispatch.queue(session, run_id, [1, 2, 3])
        messages = {
            seq: Message(
                run_id=run_id, seq=seq, attempt=attempt, priority=priority, category=category, kind="copy", range=""
            )
            for (seq, attempt), priority in zip(attempts.items(), model.Priority, strict=True)
        }
        broker.publish([messages[1], messages[3]])
        assert broker.missing([message.task_id for message in messages.values()]) == {messages[2].task_id}
        execute(
            session,
            "UPDATE hal9mig.batches SET queued_at = queued_at - %s * interval '1s' WHERE run_id = %s",
            LOOK_AFTER, run_id,
        )  # fmt: skip
        old = batches.queued(session, seconds=LOOK_AFTER)
        assert {one.seq for one in old if one.run_id == run_id} == {1, 2, 3}
        batches.requeue(session, next(one for one in old if (one.run_id, one.seq) == (run_id, 2)))
        assert [batch(session, run_id, seq)["status"] for seq in (1, 2, 3)] == ["queued", "planned", "queued"]


class TestRuns:
    def test_go_only_where_the_table_of_transitions_lets_them(self, session: Session, ledger: Ledger) -> None:
        """Every pair of statuses is tried; a refusal changes nothing."""
        run_id = make_run(session)
        for old, new in itertools.permutations(Status, 2):
            execute(session, "UPDATE hal9mig.runs SET status = %s WHERE id = %s", old, run_id)
            if (old, new) in model.RUN_TRANSITIONS and new is not Status.PLANNING:
                with ledger.begin() as other:
                    assert runs.move(other, run_id, new, "test") is old
                assert runs.get(session, run_id).status is new
            elif new is not Status.PLANNING:
                with pytest.raises(errors.IllegalTransition), ledger.begin() as other:
                    runs.move(other, run_id, new, "test")
                assert runs.get(session, run_id).status is old
        execute(session, "UPDATE hal9mig.runs SET status = 'cancelled' WHERE id = %s", run_id)

    def test_are_one_a_category_at_a_time(self, session: Session, ledger: Ledger) -> None:
        """The database itself refuses a second one, until the first has ended."""
        order = {
            "kind": model.RunKind.MIGRATE, "category": "only one", "priority": model.Priority.LOW, "filter": "",
            "options": {}, "serial": False, "actor": "test",
        }  # fmt: skip
        first = runs.create(session, **order)
        with pytest.raises(errors.RunActive), ledger.begin() as other:
            runs.create(other, **order)
        execute(session, "UPDATE hal9mig.runs SET status = 'failed' WHERE id = %s", first)
        assert runs.create(session, **order) > first

    @pytest.mark.parametrize(("on", "then"), [(Status.PAUSING, Status.PAUSED), (Status.CANCELLING, Status.CANCELLED)])
    def test_stand_still_when_no_lease_is_held_or_their_deadline_has_passed(
        self, session: Session, ledger: Ledger, on: Status, then: Status
    ) -> None:
        """A worker that never comes back cannot keep a pause or a cancel waiting for ever."""
        run_id = make_run(session)
        held = lease(session, run_id)
        with ledger.begin() as other:
            runs.move(other, run_id, on, "test")
        runs.settle(session, run_id)
        assert runs.get(session, run_id).status is on
        past = "UPDATE hal9mig.runs SET status_since = status_since - %s * interval '1s' WHERE id = %s"
        execute(session, past, model.RUN_DEADLINES[on] + 1, run_id)
        runs.settle(session, run_id)
        assert runs.get(session, run_id).status is then
        # Its transaction may still end; it takes no other step.
        assert not batches.advance(session, held, progress(1), lease=60).go_on

    def test_end_when_their_batches_have(self, session: Session) -> None:
        """Succeeded when all are done; failed when one is, but not before those in hand have ended."""
        good, bad = make_run(session, planned=2), make_run(session, planned=2)
        for run_id in (good, bad):
            first, second = lease(session, run_id, 1), lease(session, run_id, 2)
            batches.finish(session, first, seconds=1)
            runs.settle(session, run_id)
            assert runs.get(session, run_id).status is Status.RUNNING
            if run_id == good:
                batches.finish(session, second, seconds=1)
            else:
                batches.fail(session, second, error="no reason", seconds=1)
            runs.settle(session, run_id)
        assert runs.get(session, good).status is Status.SUCCEEDED
        assert (runs.get(session, bad).status, runs.get(session, bad).reason) == (Status.FAILED, "no reason")

    def test_paused_while_their_batches_are_published_keep_none_in_the_queue(
        self, session: Session, ledger: Ledger
    ) -> None:
        """The pause waits for the dispatcher's commit and then calls back what it has published."""
        run_id = make_run(session)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            with ledger.begin() as publishing:
                assert dispatch.lock_active(publishing, run_id)
                pausing = pool.submit(_pause, ledger, run_id)
                waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype IN ('transactionid', 'tuple')"
                migration_driver.until(lambda: execute(session, waiting).scalar_one(), "the pause to wait")
                dispatch.queue(publishing, run_id, [1, 2])
            pausing.result()
        assert [batch(session, run_id, seq)["status"] for seq in (1, 2, 3)] == ["planned"] * 3
        with ledger.begin() as publishing:
            assert not dispatch.lock_active(publishing, run_id)

    @pytest.mark.parametrize("status", Status)
    def test_have_workers_tick_while_they_move_or_a_batch_is_out(self, session: Session, status: Status) -> None:
        execute(session, "UPDATE hal9mig.runs SET status = 'cancelled'")
        execute(session, "UPDATE hal9mig.batches SET status = 'planned'")
        assert not dispatch.anything(session)
        run_id = make_run(session, planned=1)
        execute(session, "UPDATE hal9mig.runs SET status = %s WHERE id = %s", status, run_id)
        still = {Status.PAUSED, Status.CANCELLED, Status.FAILED, Status.SUCCEEDED}
        assert dispatch.anything(session) == (status not in still)
        execute(session, "UPDATE hal9mig.batches SET status = 'leased' WHERE run_id = %s AND seq = 1", run_id)
        assert dispatch.anything(session), "its lease may run out"

    def test_cover_only_what_they_have_copied(self, session: Session, ledger: Ledger) -> None:
        """Of a run under way: the ranges of its batches, a batch done in part up to its cursor."""
        run_id = make_run(session, planned=6)
        for seq in (1, 3, 5):
            batches.finish(session, lease(session, run_id, seq), seconds=1)
        batches.advance(session, lease(session, run_id, 2), progress(1, "k1.5"), lease=60)
        found = runs.covers(session, runs.get(session, run_id).category)
        spans = {(one.after, one.upto) for one in found}
        assert spans == {(None, ("k1.5",)), (("k2",), ("k3",)), (("k4",), ("k5",))}


def _pause(ledger: Ledger, run_id: int) -> None:
    with ledger.begin() as session:
        runs.move(session, run_id, Status.PAUSING, "test")


def test_workers_that_were_killed_are_forgotten_after_a_day(session: Session) -> None:
    for name, hours in (("killed", 25), ("late", 23)):
        workers.report(
            session, name=name, host="h", pid=1, slots=1, draining=False, memory_bytes=0, cpu_percent=0.0
        )  # fmt: skip
        execute(session, f"UPDATE hal9mig.workers SET seen_at = now() - interval '{hours} h' WHERE name = %s", name)
    workers.forget(session)
    assert [row.name for row in execute(session, "SELECT name FROM hal9mig.workers WHERE host = 'h'")] == ["late"]


def test_what_scales_workers_counts_the_batches_that_wait(session: Session) -> None:
    """The query of the example for Kubernetes, on a real ledger."""
    items = yaml.safe_load((ROOT / "config" / "kubernetes" / "hal9-migrate.yaml").read_text(encoding="utf-8"))["items"]
    (scaled,) = [one for one in items if one["kind"] == "ScaledObject"]
    query = scaled["spec"]["triggers"][0]["metadata"]["query"]
    before = execute(session, query).scalar_one()
    make_run(session, planned=3)
    assert execute(session, query).scalar_one() == before + 3


def test_sums_of_rounds_stay_what_they_were_when_old_ones_are_forgotten(session: Session) -> None:
    for days, error in ((0, None), (31, None), (32, "away")):
        execute(
            session,
            "INSERT INTO hal9mig.rounds (began, ended, compared, found, repaired, error) "
            "SELECT t, t, 10, 2, 1, %s FROM (SELECT clock_timestamp() - %s * interval '1 day' AS t) s", error, days,
        )  # fmt: skip
    before = totals.read(session).reconciled
    rounds.prune(session)
    rounds.prune(session)  # what is forgotten already counts once
    assert execute(session, "SELECT count(*) FROM hal9mig.rounds WHERE compared = 10").scalar_one() == 1
    assert totals.read(session).reconciled == before
    assert (before.compared >= 30, before.failed >= 1) == (True, True)
