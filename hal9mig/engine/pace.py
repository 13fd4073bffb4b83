"""Paces what can wait by what the application feels of it.

The ruling store is probed while such work is under way, and what is found is compared with what was found in quiet.
The share of their time that workers spend falls and grows with how far that is from the bound, so that it settles where
the bound is reached: proportional control of a rate. Where nothing can be told, what can wait stands still.

Times are averaged by their speeds: the harmonic mean is what an application gets done that waits for each answer. A
disk's rare long waits, of which single looks are full, count in it as moments in which little was done and no more.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Sequence

import psycopg2

from hal9mig import errors, model
from hal9mig.engine.system import System
from hal9mig.ledger import batches, pace, tuning
from hal9mig.ledger.database import Session
from hal9mig.ledger.pace import Felt, Pace
from hal9mig.ledger.tuning import Bounds
from hal9mig.stores import probe, write_mode
from hal9mig.stores.connection import Connection
from hal9mig.stores.probe import Probe

#: Kinds of runs that can wait, and of their batches those that make work; never a restore, nor what counts its losses
#: beforehand: somebody waits for them in an emergency.
RUNS = frozenset({
    model.RunKind.MIGRATE, model.RunKind.VERIFY, model.RunKind.CHECKPOINT, model.RunKind.RECONCILE,
    model.RunKind.EXPORT,
})  # fmt: skip
BATCHES = frozenset({"copy", "verify", "save", "digest", "settle", "export"})
#: Seconds between two looks.
_EVERY = 0.2
#: Looks one after the other: where everything rests for them, and each time; one alone tells more of chance.
_BURST, _LOOKS = 20, 3
#: Seconds after which quiet values are looked at anew, if work is held back by them: the application's own load
#: may have changed.
_QUIET_FOR = 15.0
#: What a look weighs against those before: of now, of quiet, and where everything rests for it.
_NOW, _QUIET, _RESTED = 0.15, 0.1, 0.7
#: Seconds that nobody feels: a shorter quiet value counts as this. Where the application has sessions at work all the
#: while, each of its many small statements takes as much longer, and it feels far less.
_FLOOR, _BUSY_FLOOR = 0.001, 0.00005
#: Seconds that no look takes; what a clock shows as less would count as endless speed.
_LEAST_TIME = 0.000001
#: Sessions at work, on the average, from which on it is taken to be busy.
_BUSY = 0.1
#: Sessions more than in quiet that nobody feels.
_FEW = 4
#: By how much the logarithm of the share grows in a second where nothing is felt, and falls at twice the bound; at the
#: bound it stays. Slower than what is averaged follows, or it would swing.
_UP, _DOWN = 0.5, 0.75
#: The most that the share falls to at one look, what it does not fall below, and what it begins with beside a busy
#: application.
_FALL, _LEAST, _ANEW = 0.5, 0.02, 0.25
#: Seconds that a step takes, where records can be cut so: the longest rest after one then holds it to the least share
#: there is, and a bound that is passed is passed for a moment.
_STEP = 0.25
#: Seconds that a worker rests at most, as its slot may be needed for what cannot wait.
_LONGEST = 3.0


def look(system: System, opened: Callable[[model.StoreName], Connection]) -> None:
    """Look at the application once, if it is time and anything that can wait is under way.

    Args:
        opened: gives a connection to a store, outside a transaction.

    Raises:
        errors.StoreUnreachable, psycopg2.Error: a store does not answer; what can wait stands still by then.
        errors.InvalidSettings: the user's query does not; so does it then.
    """
    with system.ledger.begin() as session:
        turn = pace.turn(session, every=_EVERY, kinds=RUNS, batches=BATCHES)
        if turn is None:
            return
        bounds = tuning.bounds(session, turn.own)
        if bounds is None:
            return
        before = pace.read(session)
    burst = before.stale or (turn.quiet and before.share == 0)
    try:
        hier = opened(model.StoreName.HIERARCHICAL)
        ruling = write_mode.state(hier).mode.ruling
        hier.rollback()
        table = _table(system, turn.category, ruling)
        # The user's own query may cost something: it is asked once.
        asked = [*[None] * ((_BURST if burst else _LOOKS) - 1), bounds.query]
        found = [probe.probe(opened(ruling), table=table, query=query) for query in asked]
    except (errors.HAL9Error, psycopg2.Error) as error:
        text = error.message if isinstance(error, errors.HAL9Error) else str(error).splitlines()[0]
        with system.ledger.begin() as session:
            pace.refuse(session, f"{pace.UNKNOWN}: {text}")
        raise
    # A first look while work is going on tells of a quiet that is none; it is better than none, and is mended as soon
    # as everything rests.
    quiet = turn.quiet or before.quiet_age is None
    after = felt(before, found, bounds, quiet=quiet, anew=burst)
    with system.ledger.begin() as session:
        pace.note(session, after, quiet=quiet)


def _table(system: System, category: str, ruling: model.StoreName) -> str | None:
    try:
        found = system.category(category)
    except errors.UnknownCategory:
        return None  # a checkpoint of all categories
    return found.source.qualified if ruling is model.StoreName.FLAT else found.roots[0].qualified


def felt(before: Pace, found: list[Probe], bounds: Bounds, *, quiet: bool, anew: bool) -> Pace:
    """Return the pace after some looks.

    Args:
        found: what was found, one look after the other.
        quiet: nothing of ours was going on.
        anew: what was known before is too old to go by.
    """
    seen = Felt(
        write=_mean([one.write for one in found]), read=_mean([one.read for one in found]),
        active=statistics.mean(one.active for one in found), waiting=statistics.mean(one.waiting for one in found),
    )  # fmt: skip
    first = before.quiet_age is None
    now = seen if anew else _mixed(before.now, seen, _NOW)
    rest = before.quiet
    if quiet:
        rest = seen if first else _mixed(rest, seen, _RESTED if anew else _QUIET)
    part, reason = _felt_most(now, rest, found[-1], bounds)
    share = before.share
    if found[-1].answer or found[-1].replica > bounds.replica:
        share = 0.0
    elif quiet and anew:
        share = 1.0 if before.stale and seen.active < _BUSY else _ANEW
    elif part > 1 and not quiet and before.quiet_age is not None and before.quiet_age > _QUIET_FOR:
        # What was quiet then may be so no more, without our doing: everything rests for a look.
        share = 0.0
    elif part <= 1 or not quiet:
        passed = min(1.0, before.age or 0.0)
        steps = (_UP if part <= 1 else _DOWN) * passed * (1 - max(0.0, part))
        share = max(share, _LEAST) * max(_FALL, math.exp(steps))
    share = min(1.0, max(_LEAST, share)) if share else 0.0
    return dataclasses.replace(before, now=now, quiet=rest, share=share, reason=reason if share < 1 else "")


def _mean(times: Sequence[float]) -> float:
    return statistics.harmonic_mean([max(time, _LEAST_TIME) for time in times])


def _mixed(before: Felt, seen: Felt, weight: float) -> Felt:
    return Felt(
        write=1 / ((1 - weight) / before.write + weight / seen.write),
        read=1 / ((1 - weight) / before.read + weight / seen.read),
        active=(1 - weight) * before.active + weight * seen.active,
        waiting=(1 - weight) * before.waiting + weight * seen.waiting,
    )


def _felt_most(now: Felt, quiet: Felt, last: Probe, bounds: Bounds) -> tuple[float, str]:
    """Return what is felt most, as a part of what it may be, and where that is above 1 as a sentence's half."""
    if last.answer:
        return 2.0, "the application's own query (impact-query) says to stop"
    if last.replica > bounds.replica:
        return 2.0, f"the application's replica is {last.replica:.0f} s behind"
    floor = _BUSY_FLOOR if max(now.active, quiet.active) >= _BUSY else _FLOOR
    found: list[tuple[float, str]] = []
    for name in ("write", "read"):
        longer = getattr(now, name) / max(getattr(quiet, name), floor) - 1
        found.append((longer / bounds.impact, f"the application's {name}s take {longer * 100:.0f} % longer"))
    for name, may, what in (
        ("waiting", quiet.waiting * bounds.impact + _FEW, "wait for locks"),
        ("active", quiet.active * (1 + 2 * bounds.impact) + _FEW, "are at work at once"),
    ):
        more = getattr(now, name) - getattr(quiet, name)
        found.append((more / may, f"the application has {more:.0f} sessions more that {what}"))
    part, reason = max(found)
    return part, reason if part > 1 else ""


def rest(share: float, worked: float) -> float:
    """Return the seconds to rest after some of work, so that only a share of the time is spent on it."""
    return min(_LONGEST, worked * (1 / max(share, _LEAST) - 1))


def sized(records: int, seconds: float, *, most: int) -> int:
    """Return the records of the next step, so that it takes as long as one should; at most twice as many.

    Args:
        records, seconds: what the last one had and took.
    """
    return max(1, min(most, 2 * records, int(records * _STEP / max(seconds, _LEAST_TIME))))


def stops(now: Pace) -> str:
    """Return why nothing that can wait goes on, empty where it does."""
    if now.stale:
        return now.reason if now.reason.startswith(pace.UNKNOWN) else pace.UNKNOWN
    return "" if now.share else now.reason


def go_on(standing: batches.Outlook, tuned: tuning.Tuning, worked: float) -> bool:
    """Rest after a step as the application needs it, outside any transaction; whether to take the next step.

    Args:
        worked: seconds that the step took.
    """
    if not standing.go_on or tuned.max_impact is None:
        return standing.go_on
    if standing.share:
        time.sleep(rest(standing.share, worked))
    return standing.share > 0


class Rests:
    """The rests of a batch: after it, and in its middle where it is one piece that takes longer than a step should.

    Attributes:
        tuned: how the batch's run works.
    """

    def __init__(self, session: Session, tuned: tuning.Tuning):
        self.tuned = tuned
        self._session = session
        self._since = time.monotonic()

    def now_and_then(self) -> None:
        """Rest as the application needs it if there was work for as long as a step takes; outside any transaction."""
        if time.monotonic() - self._since >= _STEP:
            self.end()

    def end(self) -> None:
        """Rest as the application needs it after the work since the last rest; outside any transaction."""
        if self.tuned.max_impact is not None:
            with self._session.begin():
                now = pace.read(self._session)
            time.sleep(rest(0.0 if now.stale else now.share, time.monotonic() - self._since))
        self._since = time.monotonic()
