"""The Celery application that workers, beat, Flower and the coordinator share."""

from __future__ import annotations

import logging
import ssl
import urllib.parse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hal9mig import logs, settings

if TYPE_CHECKING:
    import celery

_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
BATCH_TASK = "hal9.batch"
#: The header of a message that names the command which led to it.
CORRELATION = "hal9_correlation"
TICK_TASK = "hal9.tick"
FOLLOW_TASK = "hal9.follow"
ROUND_TASK = "hal9.round"
BATCH_QUEUE = "batches"
CONTROL_QUEUE = "control"
QUEUES = (CONTROL_QUEUE, BATCH_QUEUE)

#: On Redis a smaller number is more urgent and no number is the most urgent of all, so each send names one.
CONTROL_PRIORITY = 0
PRIORITY_STEPS = [0, 3, 6, 9]


class _Nobody:
    """Stands for Celery's event dispatcher and tells nobody that a task was sent."""

    def publish(self, *_: object, **__: object) -> None:
        """Tell nobody."""


#: How an errand is sent: ahead of all batches, and past Flower, whose list of tasks is for batches.
ERRAND: Mapping[str, Any] = {"queue": CONTROL_QUEUE, "priority": CONTROL_PRIORITY, "event_dispatcher": _Nobody()}
#: Far above any task: expired leases are the ledger's to find, and a shorter one would run tasks twice.
VISIBILITY_TIMEOUT = 12 * 3600  # seconds


def _tls(url: str) -> dict[str, Any] | None:
    """Return how Redis is spoken to over TLS, None where it is not; Flower reads it here and not in the address."""
    if not url.startswith("rediss://"):
        return None
    given = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))
    found: dict[str, Any] = {name: value for name, value in given.items() if name in _TLS_FILES}
    # Nothing is taken on trust that nobody asked to be: without a word the server's certificate has to be right.
    found["ssl_cert_reqs"] = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL}.get(
        given.get("ssl_cert_reqs", "").lower().removeprefix("cert_"), ssl.CERT_REQUIRED
    )
    return found


def make(resolved: settings.Settings) -> celery.Celery:
    """Build the application.

    Raises:
        errors.NotConfigured: no Redis is known.
    """
    # Late: names of tasks are all that a command wants which asks how the queue is.
    import celery
    import celery.signals
    import kombu

    url = resolved.require_redis()
    app = celery.Celery("hal9", broker=url)
    app.conf.update(
        broker_use_ssl=_tls(url),
        task_serializer="msgpack",
        accept_content=["msgpack"],
        task_ignore_result=True,
        # The ledger is the truth: a message is acknowledged late so that a lost worker's comes back
        # when the queue gets round to it, and a second delivery finds the lease taken.
        task_acks_late=True,
        # True would put a record that kills its worker back at the head of the queue for ever.
        task_reject_on_worker_lost=False,
        # One message a slot, else an urgent one waits behind what is prefetched.
        worker_prefetch_multiplier=1,
        task_queues=[kombu.Queue(name) for name in QUEUES],
        task_default_queue=BATCH_QUEUE,
        task_create_missing_queues=False,
        broker_transport_options={
            "visibility_timeout": VISIBILITY_TIMEOUT,
            "unacked_restore_interval": 5,
            "priority_steps": PRIORITY_STEPS,
            "queue_order_strategy": "priority",
            "sep": ":",
            "global_keyprefix": resolved.queue_prefix,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # What Flower needs; docs/flower.md has what it costs.
        worker_send_task_events=True,
        task_send_sent_event=True,
        worker_hijack_root_logger=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        timezone="UTC",
        enable_utc=True,
    )

    def shape(logger: logging.Logger, **_: Any) -> None:
        logs.shape(logger, resolved.log_format)

    for made in (celery.signals.after_setup_logger, celery.signals.after_setup_task_logger):
        made.connect(shape, weak=False, dispatch_uid="hal9 log lines")
    return app
