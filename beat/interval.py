"""The reconciler's interval as the ledger has it, looked at beside the beat, which never waits for it."""

from __future__ import annotations

import datetime
import logging
import threading
import time

import psycopg2
from celery.schedules import schedstate, schedule

from hal9mig import errors, safe_text, settings
from hal9mig.engine.reconcile import alarm_rules
from hal9mig.engine.system import System
from hal9mig.ledger import tuning, workers

log = logging.getLogger(__name__)

#: Seconds between two looks at the ledger, and so the time a changed interval takes to act.
LOOK_EVERY = 2.0
_DEFAULT = 30.0
_TROUBLE = (errors.HAL9Error, psycopg2.Error, OSError)


class Watch(threading.Thread):
    """Reads the interval, and alerts when no worker is alive to do so; keeps what it knows while the ledger is down."""

    def __init__(self, resolved: settings.Settings):
        super().__init__(name="watch", daemon=True)
        self._resolved = resolved
        self.interval = _DEFAULT

    def run(self) -> None:
        """Look for ever."""
        system = System(self._resolved, role="beat")
        began = time.monotonic()
        pause = threading.Event()
        down = False
        while True:
            try:
                self.look(system)
                # Who starts together with the workers gives them the time to say so.
                if time.monotonic() - began > workers.SILENCE:
                    alarm_rules.oversee(system)
                down = False
            except _TROUBLE as error:
                if not down:
                    log.warning("the interval cannot be read, so it stays: %s", safe_text.masked(str(error)))
                down = True
            except Exception:
                log.exception("the watch failed")
            pause.wait(LOOK_EVERY)

    def look(self, system: System) -> None:
        """Read the interval.

        Raises:
            errors.Unreachable: the ledger does not answer.
        """
        with system.ledger.begin() as session:
            self.interval = tuning.reconciliation(session).interval


class LiveInterval(schedule):
    """Due when the interval, as it is now, has passed."""

    def __init__(self, watched: Watch):
        self._watched = watched
        super().__init__(run_every=watched.interval)

    def is_due(self, last_run_at: datetime.datetime) -> schedstate:
        """Whether it is time, and the seconds until the next look, which is never far."""
        if not self._watched.is_alive():
            self._watched.start()
        interval = self._watched.interval
        passed = (self.now() - last_run_at).total_seconds()
        if passed >= interval:
            return schedstate(is_due=True, next=min(interval, LOOK_EVERY))
        return schedstate(is_due=False, next=min(interval - passed, LOOK_EVERY))
