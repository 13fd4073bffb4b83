"""The task bodies: a few lines each, which call the engine."""

from __future__ import annotations

import os
from typing import Any

import celery
import psycopg2
import redis

from hal9mig import errors, logs
from hal9mig.engine import dispatcher, work
from hal9mig.engine.reconcile import monitor, reconciler
from hal9mig.engine.system import System
from hal9mig.engine.transfer import follower
from hal9mig.ledger import audit, phases
from hal9mig.queue import app as queue_app
from workers import bootstrap
from workers.app import app

#: A task that a server's outage ends is told in a line, without the way to it; the next one follows.
_AWAY = (errors.Unreachable, psycopg2.OperationalError, psycopg2.InterfaceError, redis.ConnectionError)

# Errands send no events: they are many to one batch, and Flower has one list of both.


@app.task(name=queue_app.BATCH_TASK, bind=True)
def batch(self: celery.Task[Any, Any], run_id: int, seq: int, attempt: int) -> str:
    """Work one batch; the ledger decides whether this delivery may."""
    system, desk = bootstrap.process.open()
    owner = f"{bootstrap.worker_name(self.request.hostname)}/{os.getpid()}"
    with logs.about(correlation=self.request.get(queue_app.CORRELATION)):
        return work.perform(system, desk, run_id=run_id, seq=seq, attempt=attempt, owner=owner)


@app.task(name=queue_app.TICK_TASK, throws=_AWAY, send_events=False)
def tick() -> int:
    """Find lost leases and messages, publish what may go, end monitored windows, and seal what the audit has got."""
    system, _ = bootstrap.process.open()
    published = dispatcher.tick(system).published
    monitor.look(system)
    with system.ledger.begin() as session:
        audit.seal(session)
    return published


@app.task(name=queue_app.FOLLOW_TASK, throws=_AWAY, send_events=False)
def follow(lane: int, lanes: int) -> str:
    """Apply a lane of the ruling store's journal to the other store."""
    system, desk = bootstrap.process.open()
    if _finished(system):
        return "finished"
    with desk.trusted():
        done = follower.work(system, desk.flat("follow"), desk.hier("follow"), lane=lane, lanes=lanes)
    return "nothing to do" if done is None else f"{done.written} written, {done.deleted} deleted"


@app.task(name=queue_app.ROUND_TASK, throws=_AWAY, send_events=False)
def round_() -> str:
    """Do the reconciler's next round; the ledger decides whether it is time."""
    system, desk = bootstrap.process.open()
    if _finished(system):
        return "finished"
    with desk.trusted():
        done = reconciler.round_(system, desk)
    if done is None:
        return "not now"
    return f"{done.compared} compared, {len(done.outcomes)} drifted, {done.repaired} repaired"


def _finished(system: System) -> bool:
    """Whether capture is out of the stores, so that there is nothing to follow or to compare."""
    with system.ledger.single() as session:
        return phases.finished(session) is not None
