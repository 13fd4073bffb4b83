"""Tells people: alarms in the ledger and in the reconciliation log, and the webhook."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import logging
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException

from hal9mig.engine import reconciliation_log
from hal9mig.engine.system import System
from hal9mig.ledger import audit, database, raised_alarms
from hal9mig.ledger.database import Session

log = logging.getLogger(__name__)

SIGNATURE = "X-Hal9-Signature"
#: Seconds after which an alarm that did not arrive is sent again; they double each time.
RETRY_AFTER = 10.0
#: Seconds that one request may take, and all requests of one call together.
_PATIENCE, _MOST = 3.0, 5.0
_ACTOR = "reconciler"


# Alarms


def raise_(
    system: System,
    session: Session,
    name: str,
    message: str,
    *,
    subject: str = "",
    detail: Mapping[str, object] | None = None,
) -> bool:
    """Raise an alarm in the ledger, the log and the program's log; False when it has been raised already."""
    if not raised_alarms.raise_(session, name, message, subject=subject, detail=detail):
        return False
    audit.log(
        session, f"alarm: {name}", actor=_ACTOR, detail={"message": message, "subject": subject} | dict(detail or {})
    )
    log.warning("alarm: %s: %s", name, message)
    reconciliation_log.note(system.settings, "alarm", alarm=name, subject=subject, message=message)
    return True


def clear(system: System, session: Session, name: str, *, subject: str | None = None) -> None:
    """End an alarm, for one subject or for all."""
    for ended in raised_alarms.clear(session, name, subject=subject):
        audit.log(session, f"alarm over: {name}", actor=_ACTOR, detail={"subject": ended})
        reconciliation_log.note(system.settings, "alarm-over", alarm=name, subject=ended)


def put(system: System, session: Session, name: str, message: str | None) -> None:
    """Raise an alarm that has a message, and end one that has none."""
    if message is None:
        clear(system, session, name)
    else:
        raise_(system, session, name, message)


# The webhook


def deliver(system: System, *, retry_after: float = RETRY_AFTER) -> int:
    """Send what waits for the webhook, within a few seconds; return how many arrived.

    What does not arrive is sent again by a later call, for a day. Never raises for the receiver's sake.
    """
    url = system.settings.webhook_url
    if url is None:
        return 0
    ends = time.monotonic() + _MOST
    arrived = 0
    while time.monotonic() + 0.5 < ends:
        with system.ledger.begin() as session:
            alarm = raised_alarms.claim(session, delay=retry_after)
        if alarm is None:
            break
        trouble = _post(url, alarm, system.settings.webhook_secret, timeout=min(_PATIENCE, ends - time.monotonic()))
        if trouble is not None:
            log.warning("alarm %s did not arrive at %s (attempt %s): %s", alarm.id, host(url), alarm.attempts, trouble)
            reconciliation_log.note(
                system.settings, "webhook", alarm=alarm.name, action="failed", attempt=alarm.attempts, error=trouble
            )
            break  # the others wait as well: the receiver is down
        with system.ledger.begin() as session:
            raised_alarms.delivered(session, alarm.id)
        arrived += 1
    return arrived


def signature(secret: str, body: bytes) -> str:
    """Return the signature of a body, as ``sha256=...``."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def host(url: str) -> str:
    """Return what of a webhook's address may be shown."""
    return urllib.parse.urlsplit(url).hostname or "the webhook"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object, **__: object) -> None:
        return None  # a redirected POST would become a GET without its body


def _post(url: str, alarm: raised_alarms.Alarm, secret: str | None, *, timeout: float) -> str | None:
    """Send one alarm; return what went wrong."""
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        return "the address is neither http:// nor https://"
    document = {
        "schema": 1,
        "id": alarm.id,
        "alarm": alarm.name,
        "subject": alarm.subject,
        "message": alarm.message,
        "detail": alarm.detail,
        "raised_at": alarm.raised_at.astimezone(datetime.UTC).isoformat(),
        "attempt": alarm.attempts,
    }
    body = database.json_text(document).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "hal9-migrate", "X-Hal9-Delivery": str(alarm.id)}
    if secret is not None:
        headers[SIGNATURE] = signature(secret, body)
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=timeout) as answer:
            answer.read(1)
    except urllib.error.HTTPError as error:
        error.close()
        return f"HTTP {error.code}"
    except (OSError, HTTPException, ValueError) as error:
        # Its text may quote the address, and who knows the address may write there.
        return f"{type(error).__name__}: {str(error).replace(url, host(url))}"
    return None
