"""The beat's scheduler, which tells an outage of Redis in a line."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

import celery.beat

from beat.app import SETTINGS
from hal9mig.engine.outage import Outage
from hal9mig.queue import broker

log = logging.getLogger(__name__)
#: Touched at each task that is due: at least every few seconds.
ALIVE = SETTINGS.data_dir / "beat.alive"


class Scheduler(celery.beat.Scheduler):
    """Celery's own, which keeps its state in memory; a task that is not sent fills no page of the log."""

    outage = Outage()

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Send a due task; whether it was sent or not, the next one follows."""
        doing = f"sending {entry.name}"
        log.info("Sending due task %s (%s)", entry.name, entry.task)
        try:
            self.apply_async(entry, producer=producer, advance=False)
        except celery.beat.SchedulingError as error:
            server = broker.where(self.app.connection_for_write().as_uri())
            self.outage.failed(doing, broker.unsendable(server, error))
        else:
            self.outage.passed(doing)
        # For whoever looks after this process: it is at work, whatever the servers do.
        if ALIVE.parent.is_dir():
            with contextlib.suppress(OSError):
                ALIVE.touch()
