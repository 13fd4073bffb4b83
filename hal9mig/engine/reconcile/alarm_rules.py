"""What somebody has to be told of: a journal that is stuck, grows or lags, dead workers, too much drift."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

from hal9mig import units
from hal9mig.engine import alarms, reconciliation_log
from hal9mig.engine.system import System
from hal9mig.ledger import database, drifts, mode, raised_alarms, rounds, sweeps, tuning, workers
from hal9mig.ledger.database import Session
from hal9mig.ledger.tuning import Reconciliation
from hal9mig.stores import capture
from hal9mig.stores.connection import Connection
from hal9mig.stores.write_mode import Mode

DRIFT, LAG, STUCK, JOURNAL = "drift above the threshold", "growing lag", "stuck journal", "large journal"
DEAD, NO_WORKERS, UNSEEN = "dead workers", "no workers", "writes not captured"
UNDECLARED = "stores not as declared"
#: Alarms that a round ends when what they say is over.
_OF_ROUNDS = {DRIFT, LAG, STUCK, JOURNAL, DEAD, NO_WORKERS, UNSEEN, UNDECLARED}
#: Rounds over which the lag has to grow, and intervals that a write may wait, before it alerts.
_GROWING, _STUCK = 4, 4
#: Part of the alarm's length from which on a journal is compacted.
_COMPACT_FROM = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class JournalBacklog:
    """What waits in the ruling store's journal: rows, the seconds the oldest has waited, and bytes on the disk."""

    records: int = 0
    seconds: float = 0.0
    bytes: int = 0


def journal(system: System, source: Connection, tuned: Reconciliation) -> JournalBacklog:
    """Return what waits in a journal, compacted where it has become long."""
    found = waiting(source)
    if found.records > tuned.journal_alarm * _COMPACT_FROM:
        gone = capture.compact(source)
        if gone:
            reconciliation_log.note(system.settings, "compacted", records=gone)
            found = waiting(source)
    return found


def waiting(source: Connection) -> JournalBacklog:
    """Return what waits in a journal."""
    lags = capture.lag(source).values()
    return JournalBacklog(
        records=sum(lag.records for lag in lags), seconds=max((lag.seconds for lag in lags), default=0.0),
        bytes=capture.journal_bytes(source),
    )  # fmt: skip


def after_round(system: System, tuned: Reconciliation, found: JournalBacklog) -> None:
    """Raise and end the alarms that a round can tell of."""
    with system.ledger.begin() as session:
        messages = {
            DRIFT: _drift(session, tuned),
            LAG: _lag(session, tuned),
            STUCK: _stuck(found, tuned),
            JOURNAL: _long(found, tuned),
            DEAD: _dead(session),
            NO_WORKERS: None,
        }
        for name, message in messages.items():
            alarms.put(system, session, name, message)


def unseen(system: System, found: Sequence[str]) -> None:
    """Raise or end the alarm that writes of the ruling store may not be seen."""
    _put(system, UNSEEN, f"Writes may not be seen: {'; '.join(found)}." if found else None)


def undeclared(system: System, found: Sequence[str]) -> None:
    """Raise or end the alarm that the stores are not as the categories declare them."""
    _put(system, UNDECLARED, f"The stores are not as declared: {'; '.join(found)}." if found else None)


def _put(system: System, name: str, message: str | None) -> None:
    with system.ledger.begin() as session:
        alarms.put(system, session, name, message)


def oversee(system: System) -> None:
    """Raise and end the alarms that no round can, as there are none. For the beat.

    That no worker is alive is one; and where the flat store is alone there is nothing that could stand still.

    Raises:
        errors.Unreachable: the ledger does not answer.
    """
    with system.ledger.begin() as session:
        line = mode.read(session)
        if line.mode == Mode.FLAT_ONLY:
            for name in _OF_ROUNDS & {one.name for one in raised_alarms.find(session, open=True)}:
                alarms.clear(system, session, name)
            return
        if workers.alive(session):
            return
        alarms.put(
            system, session, NO_WORKERS, f"No worker is alive while the write mode is {line.mode}: nothing is applied."
        )  # fmt: skip
    alarms.deliver(system)


def share(session: Session) -> float:
    """Return the share of records that drifted, of those that the present passes have compared."""
    found = sweeps.find(session).values()
    records = sum(one.records for one in found)
    return sum(one.differing for one in found) / records if records else 0.0


def _drift(session: Session, tuned: Reconciliation) -> str | None:
    part = share(session)
    if part <= tuned.alert_threshold:
        return None
    return f"{part:.2%} of the records compared have drifted, more than {tuned.alert_threshold:.2%}."


def _lag(session: Session, tuned: Reconciliation) -> str | None:
    newest = [one for one in rounds.newest(session, limit=_GROWING) if one.error is None]
    seconds = [one.lag_seconds for one in newest]
    # Newest first; each has to be longer than the one before it, and the last worth a word.
    grows = len(newest) == _GROWING and all(a > b for a, b in itertools.pairwise(seconds))
    if not grows or seconds[0] < tuned.interval:
        return None
    return (
        f"The lag grows: {units.format_duration(seconds[0])} with {units.format_count(newest[0].lag_records)} writes "
        f"waiting, {units.format_duration(seconds[-1])} {_GROWING - 1} rounds ago."
    )


def _stuck(found: JournalBacklog, tuned: Reconciliation) -> str | None:
    if found.seconds <= _STUCK * tuned.interval:
        return None
    return (
        f"A write has waited {units.format_duration(found.seconds)} in the journal; "
        f"{units.format_count(found.records)} wait."
    )


def _long(found: JournalBacklog, tuned: Reconciliation) -> str | None:
    if found.records <= tuned.journal_alarm:
        return None
    limit = units.format_count(tuned.journal_alarm)
    return f"{units.format_count(found.records)} writes wait in the journal, more than {limit}."


def _dead(session: Session) -> str | None:
    names = [row.name for row in database.run(session, "reconcile", "silent", seconds=workers.SILENCE)]
    return f"Not heard of any more: {', '.join(names)}." if names else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReconcilerStanding:
    """Where reconciling stands.

    Attributes:
        interval: seconds from round to round.
        last: the newest round, None before the first.
        coverage: seconds that comparing everything takes at the measured speed; None before that is known.
        share: of the records compared in the present passes that drifted.
        open_drifts: by category.
    """

    interval: float
    last: rounds.Round | None
    coverage: float | None
    share: float
    open_drifts: dict[str, int]


def standing(session: Session, records: int) -> ReconcilerStanding:
    """Return where reconciling stands.

    Args:
        records: how many there are to compare, of all categories.
    """
    tuned = tuning.reconciliation(session)
    newest = rounds.newest(session, limit=20)
    return ReconcilerStanding(
        interval=tuned.interval,
        last=newest[0] if newest else None,
        coverage=coverage(newest, records, tuned),
        share=share(session),
        open_drifts={slug: open for slug, (open, _) in drifts.counts(session).items() if open},
    )


def coverage(newest: Sequence[rounds.Round], records: int, tuned: Reconciliation) -> float | None:
    """Return the seconds from looking at a record to looking at it again, from what rounds have measured."""
    newest = [one for one in newest if one.error is None]
    compared, seconds = sum(one.compared for one in newest), sum(one.seconds for one in newest)
    if not compared or not seconds:
        return None
    in_a_round = max(1.0, compared / seconds * tuned.seconds)
    return tuned.interval * max(1.0, records / in_a_round)
