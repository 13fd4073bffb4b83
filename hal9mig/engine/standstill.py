"""What stands still that has to go on: the queue, the workers, the reconciler's rounds, the journal."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
from collections.abc import Iterator, Sequence

from hal9mig import errors, model, units
from hal9mig.ledger import instants, mode, rounds, runs, tuning, workers
from hal9mig.ledger.database import Ledger, Session
from hal9mig.ledger.mode import ModeLine
from hal9mig.queue import broker
from hal9mig.settings import Settings
from hal9mig.stores import capture, connection
from hal9mig.stores.write_mode import Mode

QUEUE, WORKERS, ROUNDS, FAILING, JOURNAL = "queue", "workers", "rounds", "failing rounds", "journal"
#: Intervals without a round, and intervals that a write may wait, before they stand still.
_LATE, _STUCK = 3, 4
#: Rounds that fail one after the other before it is more than a server's short absence.
_FAILED = 3
#: Seconds that Redis has for an answer: whoever looks does not want to wait for it.
_PATIENCE = 2.0
#: Seconds without a round below which nothing is said, however short the interval.
_LEAST = 10.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that stands still.

    Attributes:
        since: when it was last known to go on; None where nothing tells.
        next_command: what mends it, or says more.
    """

    name: str
    message: str
    since: datetime.datetime | None
    next_command: str


def look(resolved: Settings, ledger: Ledger) -> list[Problem]:
    """Return everything that stands still; nothing where all goes on, or nothing has to.

    A queue that is set and does not answer is always wrong. Workers are missed only where something waits for
    them: while both stores are kept in step, a switch is under way, or a run is.

    Raises:
        errors.Unreachable: a store does not answer.
    """
    with ledger.begin() as session:
        line = mode.read(session)
        waits = line.mode != Mode.FLAT_ONLY or line.target is not None or _working(session)
        found = [*_queue(resolved, session, line, waits=waits)]
        if waits:
            found += _workers(resolved, session)
        in_step = line.mode != Mode.FLAT_ONLY and line.target is None and not instants.standstill(session)
        if in_step:
            found += _rounds(resolved, session, line)
            interval = tuning.reconciliation(session).interval
            now, _ = workers.last_seen(session)
    if in_step:
        found += _journal(resolved, line, interval, now)
    return found


def document(found: Sequence[Problem]) -> list[dict[str, object]]:
    """Return it as it stands in a JSON document."""
    return [
        {"problem": one.name, "message": one.message, "since": one.since, "next_command": one.next_command}
        for one in found
    ]


def commands(found: Sequence[Problem]) -> list[str]:
    """Return the commands to go on with, each once."""
    return list(dict.fromkeys(one.next_command for one in found))


def _working(session: Session) -> bool:
    return any(run.status is not model.RunStatus.PAUSED for run in runs.find(session, active=True))


def _queue(resolved: Settings, session: Session, line: ModeLine, *, waits: bool) -> Iterator[Problem]:
    if resolved.redis_url is None and not waits:
        return
    try:
        broker.ping(resolved.require_redis(), patience=_PATIENCE)
    except (errors.QueueUnreachable, errors.LoginRefused, errors.NotConfigured) as error:
        newest = rounds.newest(session, limit=1)
        # Rounds are called for through the queue, so it went when the last one began.
        seen = newest[0].began if newest and line.mode != Mode.FLAT_ONLY else None
        yield Problem(
            name=QUEUE,
            message=f"No work reaches a worker: {error.message.rstrip('.')}.",
            since=seen,
            next_command=resolved.servers_hint,
        )


def _workers(resolved: Settings, session: Session) -> Iterator[Problem]:
    if workers.accepting(session):
        return
    _, seen = workers.last_seen(session)
    draining = bool(workers.alive(session))
    yield Problem(
        name=WORKERS,
        message="Every worker is shutting down, so nothing new is worked on."
        if draining
        else "No worker is alive, so nothing is worked on.",
        since=None if draining else seen,
        next_command=resolved.workers_hint,
    )


def _rounds(resolved: Settings, session: Session, line: ModeLine) -> Iterator[Problem]:
    interval = tuning.reconciliation(session).interval
    newest = [one for one in rounds.newest(session, limit=_FAILED) if one.began >= line.since]
    now, _ = workers.last_seen(session)
    last = newest[0].began if newest else line.since
    late = (now - last).total_seconds()
    if late > max(_LEAST, _LATE * interval):
        yield Problem(
            name=ROUNDS,
            message=(
                f"No round has begun for {units.format_duration(round(late))}"
                # Whether it still works or its worker died in it cannot be told from here.
                f"{', and the last one has not ended' if newest and newest[0].ended is None else ''}; "
                f"one is due every {units.format_duration(interval)}."
            ),
            since=last,
            next_command=resolved.beat_hint if workers.accepting(session) else resolved.workers_hint,
        )
    failed = [one for one in newest if one.error is not None]
    if len(failed) == _FAILED:
        yield Problem(
            name=FAILING,
            message=f"The last {_FAILED} rounds failed: {failed[0].error}",
            since=failed[-1].began,
            next_command="hal9-migrate db check",
        )


def _journal(resolved: Settings, line: ModeLine, interval: float, now: datetime.datetime) -> Iterator[Problem]:
    url = resolved.require_flat() if line.mode == Mode.DUAL_WRITE else resolved.require_hier()
    with contextlib.closing(
        connection.connect(url, application_name="hal9-migrate cli", connect_timeout=resolved.connect_timeout)
    ) as ruling:
        lags = list(capture.lag(ruling).values())
    seconds = max((one.seconds for one in lags), default=0.0)
    if seconds > _STUCK * interval:
        yield Problem(
            name=JOURNAL,
            message=f"A write has waited {units.format_duration(round(seconds))} in the journal; "
            f"{units.format_count(sum(one.records for one in lags))} wait.",
            since=now - datetime.timedelta(seconds=seconds),
            next_command="hal9-migrate state stats",
        )
