"""The worker's parent process: says that it is alive, dispatches, and drains in good order."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
import warnings
from typing import Any

import psutil
import psycopg2
import redis
from billiard.exceptions import WorkerLostError
from celery import signals
from celery.exceptions import CPendingDeprecationWarning

from hal9mig import errors
from hal9mig.engine import dispatcher, pace
from hal9mig.engine.checkpoint.keeper import Keeper
from hal9mig.engine.desk import Desk
from hal9mig.engine.outage import Outage
from hal9mig.engine.system import System
from hal9mig.engine.transfer import follower
from hal9mig.ledger import batches, workers
from workers import bootstrap
from workers.app import SETTINGS

log = logging.getLogger(__name__)

_REPORT_EVERY = 2.0  # seconds
_MEASURE_EVERY = 10.0  # seconds; to ask the system how much memory is shared costs more than all else of a report
_IDLE = 0.5  # seconds between ticks when nothing is published
_TRUST = 1.0  # seconds; a look that finds its connection gone is followed by the next one
_TROUBLE = (errors.HAL9Error, psycopg2.Error, redis.RedisError, OSError)


class Pulse(threading.Thread):
    """Reports this worker to the ledger and ticks the dispatcher, as long as the worker lives.

    Every worker does; one at a time acts. So dispatching takes no worker slot, and goes on as long
    as one worker is alive.
    """

    def __init__(self, name: str, slots: int):
        super().__init__(name="pulse", daemon=True)
        self._name = name
        self._slots = slots
        self._system = System(SETTINGS, role="worker parent", trust=_TRUST)
        self._ended = threading.Event()
        self._desk = Desk(self._system)
        self._caller = follower.Caller(self._system)
        self._followed = 0.0
        self.draining = False
        # One for both threads: a server that is away is told once.
        self._outage = Outage()
        looking = System(SETTINGS, role="worker keeper", trust=_TRUST)
        self._keeper = Keeper(looking, f"{name}/{os.getpid()}", outage=self._outage)
        self._process = psutil.Process()
        self._processes: list[psutil.Process] = []
        self._memory, self._cpu = 0, 0.0
        self._measured = float("-inf")

    def run(self) -> None:
        """Beat until ``end``."""
        self._keeper.start()
        with contextlib.suppress(*_TROUBLE), self._system.ledger.begin() as session:
            workers.forget(session)
        reported = 0.0
        while not self._ended.is_set():
            pause = _IDLE
            try:
                if time.monotonic() - reported > _REPORT_EVERY:
                    self.report()
                    reported = time.monotonic()
                if not self.draining:
                    self._follow()
                if not self.draining and not dispatcher.idle(self._system):
                    self._look()
                    done = dispatcher.tick(self._system)
                    pause = dispatcher.SOON if done.published else min(_IDLE, max(0.01, done.again_after))
                self._outage.passed("the pulse")
            except _TROUBLE as error:
                self._outage.failed("the pulse", error)
                pause = 1.0
            except Exception:
                # Without its pulse a worker counts as gone, though it works on.
                log.exception("the pulse missed a beat")
                pause = 1.0
            self._ended.wait(pause)

    def _follow(self) -> None:
        """Send workers to the journal when it is this worker's turn to."""
        if time.monotonic() - self._followed < follower.CALL_EVERY:
            return
        self._followed = time.monotonic()
        with self._desk.trusted():
            hier = self._desk.hier("pulse")
            # It only reads there, one statement each time.
            hier.autocommit = True
            self._caller.call(self._desk.flat("pulse"), hier)

    def _look(self) -> None:
        """Look at how the application fares when it is this worker's turn to; work goes by what was last found."""
        try:
            with self._desk.trusted():
                pace.look(self._system, lambda store: self._desk.store(store, "pace"))
            self._outage.passed("the look at the application")
        except (errors.HAL9Error, psycopg2.Error) as error:
            # What cannot wait, such as a restore, is dispatched all the same.
            self._outage.failed("the look at the application", error)

    def report(self) -> None:
        """Write this worker's line in the ledger."""
        if time.monotonic() - self._measured > _MEASURE_EVERY:
            self._measure()
        with self._system.ledger.single() as session:
            workers.report(
                session, name=self._name, host=socket.gethostname(), pid=os.getpid(), slots=self._slots,
                draining=self.draining, memory_bytes=self._memory, cpu_percent=self._cpu,
            )  # fmt: skip

    def _measure(self) -> None:
        self._measured = time.monotonic()
        self._memory, self._cpu = 0, 0.0
        found = [self._process, *self._process.children(recursive=True)]
        # Each remembers how much it had computed when it was last asked; one made anew has computed nothing.
        self._processes = [next((known for known in self._processes if known == one), one) for one in found]
        for one in self._processes:
            with contextlib.suppress(psutil.Error):
                # The parent and its pool share most of their pages; systems that cannot tell count them for each.
                memory = one.memory_full_info()
                self._memory += getattr(memory, "pss", memory.rss)
                self._cpu += one.cpu_percent()

    def drain(self) -> None:
        """Let the pool's batches be handed back after their next transaction."""
        self.draining = True
        self._keeper.end()
        with contextlib.suppress(*_TROUBLE):
            self.report()

    def end(self) -> None:
        """Stop, and take the worker off the ledger."""
        self._keeper.end()
        self._ended.set()
        self.join(timeout=5)
        with contextlib.suppress(*_TROUBLE), self._system.ledger.begin() as session:
            workers.leave(session, name=self._name, pid=os.getpid())

    def crashed(self, run_id: int, seq: int, attempt: int) -> None:
        """Plan a dead pool process's batch anew at once."""
        with contextlib.suppress(*_TROUBLE):
            batches.expire_crashed(self._system.ledger, run_id=run_id, seq=seq, attempt=attempt)


_pulses: list[Pulse] = []


@signals.worker_ready.connect
def _started(sender: Any, **_: Any) -> None:
    # Celery restarts a consumer after a lost broker connection, and says ready again.
    if _pulses:
        return
    # At each loss of the connection it would speak of its next version, though the setting it asks for is made. Only
    # now: what it sets up for its logs shows all of them.
    warnings.filterwarnings("ignore", message=r"\s*In Celery 5\.1 we introduced", category=CPendingDeprecationWarning)
    pool = getattr(sender.pool, "num_processes", None) or getattr(sender.pool, "limit", None) or 1
    pulse = Pulse(bootstrap.worker_name(sender.hostname), int(pool))
    _pulses.append(pulse)
    pulse.start()


@signals.worker_shutting_down.connect
def _draining(**_: Any) -> None:
    # Runs in a signal handler's context, where a database call could meet its own lock: a thread does it.
    for pulse in _pulses:
        threading.Thread(target=pulse.drain, daemon=True).start()


@signals.worker_shutdown.connect
def _ended(**_: Any) -> None:
    for pulse in _pulses:
        pulse.end()
    _pulses.clear()


@signals.task_failure.connect
def _failed(exception: BaseException | None = None, args: Any = None, **_: Any) -> None:
    if isinstance(exception, WorkerLostError) and args and len(args) == 3:
        for pulse in _pulses:
            pulse.crashed(*args)
