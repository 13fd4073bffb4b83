"""The application that ``celery -A beat.app beat`` loads."""

from __future__ import annotations

import os

from beat.interval import LiveInterval, Watch
from hal9mig import settings
from hal9mig.queue import app as queue_app

#: Seconds between two looks for lost leases and messages; workers' parents look far more often.
TICK_EVERY = 5.0
#: Seconds after which a call for a round that nobody has taken is none any more: the next one follows.
_ROUND_EXPIRES = 10.0
SETTINGS = settings.load(environ=os.environ)

app = queue_app.make(SETTINGS)
app.conf.update(
    beat_max_loop_interval=2,
    # The stock scheduler keeps a file of pickles; everything worth keeping is in the ledger.
    beat_scheduler="beat.scheduler:Scheduler",
    beat_schedule={
        "tick": {
            "task": queue_app.TICK_TASK,
            "schedule": TICK_EVERY,
            # Expires, so that a queue nobody serves does not fill with ticks.
            "options": {
                **queue_app.ERRAND,
                "expires": TICK_EVERY,
                "argsrepr": "find lost leases and messages, dispatch",
            },
        },
        "round": {
            "task": queue_app.ROUND_TASK,
            "schedule": LiveInterval(Watch(SETTINGS)),
            "options": {
                **queue_app.ERRAND,
                "expires": _ROUND_EXPIRES,
                "argsrepr": "reconcile: a round",
            },
        },
    },
)
