"""One batch on a worker, from claim to commit or hand-back."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping

import psycopg2
import psycopg2.errors

from hal9mig import errors, logs, traces
from hal9mig.engine import dispatcher, foreign_errors, pace
from hal9mig.engine.desk import Desk
from hal9mig.engine.outage import Outage
from hal9mig.engine.pace import Rests
from hal9mig.engine.system import System
from hal9mig.engine.transfer import copier, planner
from hal9mig.ledger import batches, runs
from hal9mig.ledger.database import Session
from hal9mig.ledger.run_options import MigrateOptions
from hal9mig.model import RunKind

log = logging.getLogger(__name__)

#: Failures without progress, other than of a server, after which a batch is failed for good.
MOST_FAILURES = 3
#: SQLSTATE classes that pass by themselves: connection, transaction rollback, resources, operator, system.
_PASSING = ("08", "40", "53", "55", "57", "58")
_PASSING_ERRORS = (
    errors.Unreachable, errors.WritersInFlight, errors.GateClosed, errors.StaleEpoch, psycopg2.OperationalError,
    psycopg2.InterfaceError,
)  # fmt: skip
#: Seconds in which a worker that was left out of a run keeps its hands off it.
_ASIDE = 0.3
#: What trying again does not mend.
_FINAL = (errors.ArchiveFull, errors.CheckpointDamaged, errors.Refused)


class Heart(threading.Thread):
    """Extends a lease three times in its length until stopped; a lost lease ends it."""

    def __init__(self, system: System, held: batches.Lease):
        super().__init__(name="heart", daemon=True)
        self._system = system
        self._held = held
        self._stop_asked = threading.Event()

    def run(self) -> None:
        """Beat."""
        length = self._system.settings.lease_duration
        outage = Outage()
        while not self._stop_asked.wait(length / 3):
            try:
                with self._system.ledger.single() as session:
                    if not batches.extend(session, self._held, length):
                        return
                outage.passed(f"the heartbeat of {self._held.name}")
            except (errors.HAL9Error, psycopg2.Error) as error:
                # The lease may still hold by the time the database is back; the fence decides.
                outage.failed(f"the heartbeat of {self._held.name}", error)

    def stop(self) -> None:
        """Beat no more."""
        self._stop_asked.set()


def perform(system: System, desk: Desk, *, run_id: int, seq: int, attempt: int, owner: str) -> str:
    """Work a batch and return what became of it: ``skipped``, ``done``, ``handed back``, ``left out``, ``lost`` or
    ``failed``.

    Never raises for what the ledger can put right.
    """
    try:
        with system.ledger.single() as session:
            held = batches.claim(
                session, run_id=run_id, seq=seq, attempt=attempt, owner=owner, lease=system.settings.lease_duration
            )
    except (errors.StoreUnreachable, psycopg2.Error) as error:
        log.warning("run %s batch %s attempt %s: not claimed: %s", run_id, seq, attempt, foreign_errors.sentence(error))
        return "lost"  # still queued in the ledger, which publishes it again
    if held is None:
        return "skipped"
    word = held.options.get("correlation", "")
    with logs.about(correlation=word, run=run_id, batch=seq, attempt=attempt, category=held.category):
        parent = held.options.get(traces.PARENT, "")
        about: dict[str, str | int | float] = {
            "run": run_id,
            "batch": seq,
            "attempt": attempt,
            "category": held.category,
            "kind": held.kind,
        }
        with traces.span(f"{held.run_kind} batch", parent=parent, **about) as traced:
            outcome = _performed(system, desk, held)
            if traced is not None:
                traced.set_attribute("hal9.outcome", outcome)
            return outcome


def _performed(system: System, desk: Desk, held: batches.Lease) -> str:
    started = time.monotonic()
    with _beating(system, held):
        outcome = _guarded(system, desk, held, started)
    seconds = time.monotonic() - started
    if seconds < dispatcher.SOON:
        # It makes room for the next one before a worker's parent looks, and short ones empty the window.
        with contextlib.suppress(errors.HAL9Error, psycopg2.Error):
            dispatcher.tick(system)
    if outcome == "left out":
        # Its hands would be the first that are free again, and the batch would come back to it and to it.
        time.sleep(_ASIDE)
    log.info("%s: %s in %.2f s", held.name, outcome, seconds)
    return outcome


@contextlib.contextmanager
def _beating(system: System, held: batches.Lease) -> Iterator[None]:
    heart = Heart(system, held)
    heart.start()
    try:
        yield
    finally:
        heart.stop()


def _guarded(system: System, desk: Desk, held: batches.Lease, started: float) -> str:
    try:
        with system.ledger.connection() as session:
            done = _work(system, desk, held, session)
    except errors.LeaseLost:
        desk.clear()
        return "lost"
    except errors.LeftOut as error:
        return _give_up(system, held, started, foreign_errors.sentence(error), passing=True, aside=True)
    except (*_PASSING_ERRORS, psycopg2.Error) as error:
        desk.clear()
        if isinstance(error, psycopg2.errors.DiskFull) and (held.run_kind, _ANY) in STEPS:
            # A checkpoint's leavings are cleared when it fails: that gives the room back at once.
            return _give_up(system, held, started, foreign_errors.sentence(error), passing=False, final=True)
        passing = isinstance(error, _PASSING_ERRORS) or (
            isinstance(error, psycopg2.Error) and (error.pgcode or "")[:2] in _PASSING
        )
        return _give_up(system, held, started, foreign_errors.sentence(error), passing=passing)
    except _FINAL as error:
        desk.clear()
        return _give_up(system, held, started, foreign_errors.sentence(error), passing=False, final=True)
    except Exception as error:
        desk.clear()
        log.exception("%s failed", held.name)
        return _give_up(system, held, started, foreign_errors.sentence(error), passing=False)
    if done:
        return "done"
    return _give_up(system, held, started, None, passing=True)


def _work(system: System, desk: Desk, held: batches.Lease, session: Session) -> bool:
    with session.begin():
        pid = session.connection.get_backend_pid()
        batches.attach_backend(session, held, pid)
        tuned = copier.run_tuning(session, held)
    step = STEPS.get((held.run_kind, held.kind), STEPS.get((held.run_kind, _ANY)))
    if step is None:
        raise errors.HAL9Error(f"This program does not know how to {held.kind} in a {held.run_kind}.")
    rests = pace.Rests(session, tuned)
    done = step(system, desk, held, session, rests)
    if done and held.run_kind in pace.RUNS and held.kind in pace.BATCHES:
        rests.end()
    return done


def _plan(system: System, desk: Desk, held: batches.Lease, session: Session, rests: Rests) -> bool:
    if held.run_kind is RunKind.MIGRATE and MigrateOptions.of(held.options).folder:
        return _with_files(system, desk, held, session, rests)
    return planner.plan(
        session, held, system.category(held.category), rests.tuned, flat=desk.flat("read"),
        lease=system.settings.lease_duration,
    )  # fmt: skip


def _copy(system: System, desk: Desk, held: batches.Lease, session: Session, rests: Rests) -> bool:
    if MigrateOptions.of(held.options).folder:
        return _with_files(system, desk, held, session, rests)
    work = copier.Copier(system, held, rests.tuned, flat=desk.flat("read"), lookup=desk.flat("lookup"), session=session)
    return work.run()


def _verify(system: System, desk: Desk, held: batches.Lease, session: Session, rests: Rests) -> bool:
    from hal9mig.engine.compare import verifier

    return verifier.verify_batch(system, held, rests.tuned, flat=desk.flat("read"), session=session)


def _plan_pass(system: System, desk: Desk, held: batches.Lease, session: Session, rests: Rests) -> bool:
    from hal9mig.engine.reconcile import full_pass

    return full_pass.plan(
        session, held, system.category(held.category), rests.tuned, flat=desk.flat("read"),
        lease=system.settings.lease_duration,
    )  # fmt: skip


def _settle(system: System, desk: Desk, held: batches.Lease, session: Session, rests: Rests) -> bool:
    from hal9mig.engine.reconcile import full_pass

    return full_pass.settle(system, desk, held, session, rests.tuned)


def _close_pass(system: System, desk: Desk, held: batches.Lease, session: Session, rests: Rests) -> bool:
    from hal9mig.engine.reconcile import full_pass

    return full_pass.close(system, held, session)


def _checkpoint(system: System, desk: Desk, held: batches.Lease, session: Session, rests: Rests) -> bool:
    # Late, like the others: it takes libraries that a worker which only copies does without.
    from hal9mig.engine.checkpoint import steps

    return steps.perform(system, desk, held, session, rests)


def _with_files(system: System, desk: Desk, held: batches.Lease, session: Session, rests: Rests) -> bool:
    # Late: it loads Arrow.
    from hal9mig.engine.pattern_files import steps

    return steps.perform(system, desk, held, session, rests.tuned)


_ANY = "any"
Step = Callable[[System, Desk, batches.Lease, Session, Rests], bool]
#: Which step a batch is, by its run's kind and its own; those of checkpoints have a table of their own.
STEPS: Mapping[tuple[RunKind, str], Step] = {
    (RunKind.MIGRATE, "plan"): _plan,
    (RunKind.MIGRATE, "copy"): _copy,
    (RunKind.VERIFY, "plan"): _plan,
    (RunKind.VERIFY, "verify"): _verify,
    (RunKind.RECONCILE, "plan"): _plan_pass,
    (RunKind.RECONCILE, "settle"): _settle,
    (RunKind.RECONCILE, "close"): _close_pass,
    (RunKind.CHECKPOINT, _ANY): _checkpoint,
    (RunKind.COMPARE, _ANY): _checkpoint,
    (RunKind.RESTORE, _ANY): _checkpoint,
    (RunKind.EXPORT, _ANY): _with_files,
    (RunKind.TRANSFORM, _ANY): _with_files,
}


def _give_up(
    system: System,
    held: batches.Lease,
    started: float,
    reason: str | None,
    *,
    passing: bool,
    final: bool = False,
    aside: bool = False,
) -> str:
    """Hand a batch back, or fail it for good after too many failures that nothing excuses.

    Args:
        aside: another worker may take it at once.
    """
    seconds = time.monotonic() - started
    try:
        with system.ledger.begin() as session:
            if final or (not passing and held.crashes + 1 >= MOST_FAILURES):
                batches.fail(session, held, error=reason or "failed", seconds=seconds)
                runs.settle(session, held.run_id)
                return "failed"
            delay = 0.0 if reason is None or aside else min(30.0, 2.0 ** min(held.crashes, 5))
            if not batches.hand_back(session, held, seconds=seconds, error=reason, delay=delay, crashed=not passing):
                return "lost"
    except (errors.HAL9Error, psycopg2.Error) as error:
        log.warning("%s: not handed back, its lease will run out: %s", held.name, foreign_errors.sentence(error))
        return "lost"
    if reason:
        log.warning("%s: handed back: %s", held.name, reason)
    return "left out" if aside else "handed back"
