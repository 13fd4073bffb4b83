"""Whether the running application sees its configuration change: reserved keys change, and it is watched answering."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Iterator, Sequence
from typing import Any

from hal9mig import errors, model
from hal9mig.categories import configuration
from hal9mig.checks.performance import percentile
from hal9mig.checks.subject import Subject
from hal9mig.client import Client, subscription
from hal9mig.engine.system import System
from hal9mig.ledger.check_results import CheckOutcome, CheckVerdict
from hal9mig.stores.connection import Connection

NAME = "reload"
_SLUG = configuration.CATEGORY.slug
_RESERVED = subscription.RESERVED
#: Reserved keys that are used in turns: the later changes are of keys that are there.
_KEYS = 5
#: Seconds in which what was written has to be gone from both stores again, and between two looks.
_GONE, _PAUSE = 30.0, 0.05


def check(subject: Subject, *, changes: int, within: float, application: bool) -> CheckOutcome:
    """Change reserved keys one after the other, and wait each time until it is seen.

    Args:
        changes: how many; within: seconds for each.
        application: who has to see it is the application; without, the notice itself is enough.

    Raises:
        errors.Unreachable: a store does not answer.
    """
    system, client = subject.system, subject.client
    urls = system.settings.direct_urls()
    channel = subscription.SEEN if application else subscription.CHANNEL
    taken: list[float] = []
    who: set[str] = set()
    missed = ""
    with (
        _restored(system, client),
        subscription.listening(
            urls, channel, name="reload test", timeout=system.settings.connect_timeout
        ) as connections,
    ):
        for number in range(changes):
            key = f"{_RESERVED}.{number % _KEYS}"
            began = time.monotonic()
            version = client.put(_SLUG, _record(key, number))
            seen = _seen(connections, key, version if application else None, began + within)
            if seen is None:
                missed = key
                break
            taken.append(time.monotonic() - began)
            who.add(seen)
    return _outcome(taken, sorted(who - {""}), missed, changes=changes, within=within, application=application)


def _outcome(
    taken: Sequence[float], who: Sequence[str], missed: str, *, changes: int, within: float, application: bool
) -> CheckOutcome:
    measured: dict[str, Any] = {"changes": changes, "seen": len(taken), "within_s": within}
    if taken:
        measured |= {f"p{percent}_ms": round(percentile(taken, percent) * 1000, 1) for percent in (50, 95)}
    if missed:
        nobody = (
            "no application has answered; it has to subscribe with the client (docs/client.md)" if not taken
            else "the application has not answered"
        )  # fmt: skip
        return CheckOutcome(
            category=_SLUG, name=NAME, verdict=CheckVerdict.FAILED, measured=measured,
            detail=f"{len(taken)} of {changes} changes were seen within {within:g} s: "
            + (nobody if application else "a change was not announced") + f" (key {missed})",
            next_command="hal9-migrate sample-data traffic" if application and not taken else "",
        )  # fmt: skip
    by = f" by {', '.join(who)}" if who else ""
    return CheckOutcome(
        category=_SLUG, name=NAME, verdict=CheckVerdict.PASSED, measured=measured,
        detail=f"{changes} changes were seen{by}, p95 after {measured['p95_ms']:g} ms; and undone",
    )  # fmt: skip


def _record(key: str, number: int) -> dict[str, object]:
    now = datetime.datetime.now(datetime.UTC)
    return {"key": key, "value": {"number": number}, "updated_by": "hal9-migrate config test-reload", "updated_at": now}


def _seen(connections: Sequence[Connection], key: str, version: int | None, deadline: float) -> str | None:
    """Wait until a key, at a version or a later one, was seen, and return by whom; None when nobody has in time."""
    while (left := deadline - time.monotonic()) > 0:
        for _, text in subscription.heard(connections, left):
            name, _, rest = text.partition(" ")
            held, _, who = rest.partition(" ")
            if name == key and (version is None or int(held or 0) >= version):
                return who
    return None


@contextlib.contextmanager
def _restored(system: System, client: Client) -> Iterator[None]:
    """Take the reserved keys away before and after, also those of a test that was killed; and prove it after.

    Raises:
        errors.ChecksFailed: they are not gone from both stores in time.
    """
    keys = [(f"{_RESERVED}.{number}",) for number in range(_KEYS)]

    def clear() -> None:
        for one in client.fetch(client.place().side, _SLUG, keys):
            client.delete(_SLUG, one["key"])

    clear()
    try:
        yield
    finally:
        clear()
        deadline = time.monotonic() + _GONE
        while left := [store for store in model.StoreName if client.fetch(store, _SLUG, keys)]:
            if time.monotonic() > deadline:
                raise errors.ChecksFailed(
                    f"Reserved keys are still in the {' and '.join(left)} store.", hint="hal9-migrate state status"
                )
            time.sleep(_PAUSE)
        _forget_nodes(system)


def _forget_nodes(system: System) -> None:
    """Take the tree's nodes away that only the reserved keys had needed; nodes are shared and stay otherwise."""
    with contextlib.closing(system.hier()) as hier, hier, hier.cursor() as cursor:
        cursor.execute(
            "DELETE FROM hier.config_nodes n WHERE (path = %s OR path LIKE %s) "
            "AND NOT EXISTS (SELECT FROM hier.config_values v WHERE v.path = n.path)",
            (_RESERVED, f"{_RESERVED}.%"),
        )
        cursor.execute(
            "DELETE FROM hier.config_nodes n WHERE path = %s "
            "AND NOT EXISTS (SELECT FROM hier.config_nodes c WHERE c.parent_path = n.path) "
            "AND NOT EXISTS (SELECT FROM hier.config_values v WHERE v.path = n.path)",
            (_RESERVED.partition(".")[0],),
        )
