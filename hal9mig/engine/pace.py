"""Paces what can wait by what the application feels of it.

The ruling store is probed while such work is under way, and what is found is compared with what was found in quiet.
Over the bound the share of their time that workers spend falls by as much as it is over; under it, it grows by a
little: additive increase, multiplicative decrease, as congestion control does it (Chiu and Jain, 1989). Where nothing
can be told, what can wait stands still.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable

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
#: Looks of which the middle is taken: where there is nothing to go by, and each time; one alone tells more of chance.
_BURST, _LOOKS = 7, 3
#: Seconds after which quiet values are looked at anew, if work is held back by them: the application's own load
#: may have changed.
_QUIET_FOR = 30.0
#: What a look weighs against those before, of now and of quiet.
_NOW, _QUIET = 0.2, 0.1
#: Seconds that nobody feels: a shorter quiet value counts as this. Where the application has sessions at work all the
#: while, each of its many small statements takes as much longer, and it feels far less.
_FLOOR, _BUSY_FLOOR = 0.001, 0.00005
#: Sessions at work, on the average, from which on it is taken to be busy.
_BUSY = 0.1
#: Sessions more than in quiet that nobody feels.
_FEW = 4
#: What the share grows by at a look, the most that it falls to, and what it does not fall below.
_GROW, _FALL, _LEAST = 0.05, 0.5, 0.02
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
        found: what was found, one look after the other; of several the middle counts.
        quiet: nothing of ours was going on.
        anew: what was known before is too old to go by.
    """
    seen = Felt(**{
        name: float(statistics.median(getattr(one, name) for one in found))
        for name in ("write", "read", "active", "waiting")
    })  # fmt: skip
    now = seen if anew else _mixed(before.now, seen, _NOW)
    rest = before.quiet
    if quiet:
        rest = seen if before.quiet_age is None or anew else _mixed(rest, seen, _QUIET)
    over, reason = _over(now, rest, found[-1], bounds)
    share = before.share
    if found[-1].answer or found[-1].replica > bounds.replica:
        share = 0.0
    elif reason and not quiet:
        # What was quiet half a minute ago may be so no more, without our doing: everything rests for a look.
        old = before.quiet_age is not None and before.quiet_age > _QUIET_FOR
        share = 0.0 if old else max(_LEAST, share * max(_FALL, 1 / over))
    elif quiet and anew:
        share = 1.0 if before.stale else 0.5
    elif not reason:
        share = min(1.0, max(share, _LEAST) + _GROW)
    return dataclasses.replace(before, now=now, quiet=rest, share=share, reason=reason if share < 1 else "")


def _mixed(before: Felt, seen: Felt, weight: float) -> Felt:
    # One look in which the disk was busy with something else counts as three times what it was and no more.
    return Felt(**{
        name: (1 - weight) * old + weight * min(new, 3 * max(old, _FLOOR if name in ("write", "read") else _FEW))
        for name, old, new in ((name, getattr(before, name), getattr(seen, name)) for name in dataclasses.asdict(seen))
    })  # fmt: skip


def _over(now: Felt, quiet: Felt, last: Probe, bounds: Bounds) -> tuple[float, str]:
    """Return by how much something is over its bound, above 1 where it is, and what, as a sentence's half."""
    if last.answer:
        return 1.0, "the application's own query (impact-query) says to stop"
    if last.replica > bounds.replica:
        return 1.0, f"the application's replica is {last.replica:.0f} s behind"
    allowed = 1 + bounds.impact
    floor = _BUSY_FLOOR if max(now.active, quiet.active) >= _BUSY else _FLOOR
    for name in ("write", "read"):
        longer = getattr(now, name) / max(getattr(quiet, name), floor)
        if longer > allowed:
            return longer / allowed, f"the application's {name}s take {(longer - 1) * 100:.0f} % longer"
    for name, most, what in (
        ("waiting", quiet.waiting * allowed + _FEW, "wait for locks"),
        ("active", 2 * quiet.active * allowed + _FEW, "are at work at once"),
    ):
        present = getattr(now, name)
        if present > most:
            more = present - getattr(quiet, name)
            return present / most, f"the application has {more:.0f} sessions more that {what}"
    return 0.0, ""


def rest(share: float, worked: float) -> float:
    """Return the seconds to rest after some of work, so that only a share of the time is spent on it."""
    return min(_LONGEST, worked * (1 / max(share, _LEAST) - 1))


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


def after(session: Session, tuned: tuning.Tuning, worked: float) -> None:
    """Rest after a batch as the application needs it."""
    if tuned.max_impact is not None:
        with session.begin():
            now = pace.read(session)
        time.sleep(rest(0.0 if now.stale else now.share, worked))
