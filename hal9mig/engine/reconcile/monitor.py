"""Monitoring a window of time: the rounds go on as ever, and what they see in it is summed up, without a terminal.

Nobody has to be there: the workers end a window whose time is over, say what it came to in the audit and the log,
and raise an alarm where records drifted or nobody looked.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from hal9mig import errors, units
from hal9mig.engine import alarms, reconciliation_log
from hal9mig.engine.system import System
from hal9mig.ledger import audit, mode, monitors, phases, tuning
from hal9mig.ledger.database import Session
from hal9mig.ledger.monitors import MonitorWindow, Watched
from hal9mig.stores.write_mode import Mode

#: Intervals without a round that are nothing to speak of, and the share of a window that may go unwatched beyond them.
_LATE, _MOST_UNWATCHED = 3, 0.01
#: Seconds of lateness that are nothing to speak of, however short the interval.
_LEAST = 10.0
DRIFTED, UNWATCHED = "drift in a monitored window", "monitored window not watched"


@dataclasses.dataclass(frozen=True, kw_only=True)
class WindowState:
    """How a window stands, or ended.

    Attributes:
        elapsed, length: seconds.
        problems: what keeps it from being clean, as sentences; none where it is.
    """

    window: MonitorWindow
    watched: Watched
    elapsed: float
    length: float
    problems: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Whether nothing drifted, and somebody looked all the time."""
        return not self.problems

    def summary(self) -> dict[str, Any]:
        """Return it as the ledger keeps it."""
        return dataclasses.asdict(self.watched) | {
            "drifted": self.watched.drifted, "elapsed": round(self.elapsed, 3), "problems": list(self.problems),
            "clean": self.clean,
        }  # fmt: skip


def named(name: str) -> str:
    """Return a window's name.

    Raises:
        errors.UsageError: it is of no phase that this program moves through.
    """
    wanted = f"post-{phases.STATE_MIGRATION}"
    if name != wanted:
        raise errors.UsageError(f"There is no window {name!r} to monitor.", hint=f"--phase {wanted}")
    return name


def begin(system: System, name: str, *, seconds: float, alert_on_drift: bool, actor: str) -> tuple[int, bool]:
    """Begin a window, or return the one that is open; with whether it is new.

    Raises:
        errors.Refused: no rounds are made in this write mode, so nothing would be watched.
    """
    with system.ledger.begin() as session:
        if mode.read(session).mode == Mode.FLAT_ONLY:
            raise errors.Refused(
                "The write mode is flat-only: the stores are not kept in step, so there is nothing to monitor.",
                hint="hal9-migrate mode",
            )
        opened = monitors.open_(session, name, seconds=seconds, alert_on_drift=alert_on_drift, actor=actor)
        if opened is not None:
            for alarm in (DRIFTED, UNWATCHED):
                # What an earlier window has raised is nobody's any more.
                alarms.clear(system, session, alarm)
            audit.log(session, "monitoring begun", actor=actor, detail={"window": name, "seconds": seconds})
            return opened, True
        return monitors.find(session, name=name, open=True, limit=1)[0].id, False


def state(session: Session, id: int) -> WindowState:
    """Return how a window stands.

    Raises:
        errors.NotFound: there is none of this number.
    """
    found = monitors.find(session, id=id)
    if not found:
        raise errors.NotFound(f"There is no monitored window {id}.", hint="hal9-migrate monitor --list")
    return _state(session, found[0])


def _state(session: Session, window: MonitorWindow) -> WindowState:
    until = window.ended_at or min(window.now, window.until_at)
    tuned = tuning.reconciliation(session)
    patience = max(_LEAST, _LATE * tuned.interval)
    watched = monitors.watched(session, window.began_at, until, patience=patience)
    elapsed = (until - window.began_at).total_seconds()
    return WindowState(
        window=window, watched=watched, elapsed=elapsed,
        length=(window.until_at - window.began_at).total_seconds(), problems=tuple(_problems(watched, elapsed)),
    )  # fmt: skip


def _problems(watched: Watched, elapsed: float) -> list[str]:
    found = []
    if watched.drifted:
        found.append(f"{units.format_count(watched.drifted)} records drifted, {watched.repaired:,} of them repaired")
    if watched.quarantined:
        found.append(f"{units.format_count(watched.quarantined)} records went to quarantine")
    if elapsed and watched.unwatched > elapsed * _MOST_UNWATCHED:
        share = units.format_percent(round(watched.unwatched), max(1, round(elapsed)))
        found.append(f"nobody looked for {units.format_duration(watched.unwatched)} of it ({share})")
    return found


def end(system: System, id: int, *, actor: str) -> WindowState:
    """End a window now, and say what it came to; one that has ended stays as it is."""
    with system.ledger.begin() as session:
        now = state(session, id)
        if now.window.ended_at is None and monitors.close(session, id, now.summary()):
            detail = {"window": now.window.name} | now.summary()
            audit.log(session, "monitoring ended", actor=actor, detail=detail)
            reconciliation_log.note(system.settings, "monitored", window=now.window.name, clean=now.clean,
                        problems="; ".join(now.problems))  # fmt: skip
            if now.watched.drifted and now.window.alert_on_drift:
                alarms.raise_(system, session, DRIFTED, f"{now.window.name}: {now.problems[0]}.", subject=str(id))
            if now.problems and not now.watched.drifted:
                alarms.raise_(system, session, UNWATCHED, f"{now.window.name}: {now.problems[0]}.", subject=str(id))
        return state(session, id)


def look(system: System) -> int:
    """End what is due, and raise the alarm of a window in which something has drifted; return how many are open."""
    with system.ledger.begin() as session:
        opened = monitors.find(session, open=True)
        for window in opened:
            now = _state(session, window) if window.alert_on_drift else None
            if now is not None and now.watched.drifted:
                message = f"{window.name}: {now.problems[0]}."
                alarms.raise_(system, session, DRIFTED, message, subject=str(window.id))
    for window in opened:
        if window.due:
            end(system, window.id, actor="workers")
    return len(opened)
