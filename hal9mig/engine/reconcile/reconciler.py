"""Rounds that keep the two stores in step: the journal's tail, what is open, and a rolling comparison.

A round takes a stated share of a core for comparing, and goes on where the last one stopped, so that
it covers the whole keyspace in a time that follows from what it measures. One round at a time in the
cluster, and none before its time, however many beats call for it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence

import psycopg2

from hal9mig import errors, model, safe_text
from hal9mig.categories.declaration import Category
from hal9mig.engine import alarms, reconciliation_log
from hal9mig.engine.compare import judge
from hal9mig.engine.compare.judge import Sides
from hal9mig.engine.desk import Desk
from hal9mig.engine.reconcile import alarm_rules, sweep
from hal9mig.engine.reconcile.alarm_rules import JournalBacklog
from hal9mig.engine.reconcile.repair import Mender, Outcome, RepairPolicy
from hal9mig.engine.system import System
from hal9mig.engine.transfer import follower
from hal9mig.ledger import drifts, instants, marks, rounds, sweeps, tuning
from hal9mig.ledger.drifts import Cause
from hal9mig.stores import capture_triggers, category_check, direct_writes, write_mode
from hal9mig.stores.connection import Connection
from hal9mig.stores.write_mode import Mode

#: Keys that a round looks at because they were applied lately, or drifted before, of each category.
_MOST_KEYS = 1000
#: Seconds for which a round waits for a table's lock; the application waits behind it for as long.
_PATIENCE = 0.5


@dataclasses.dataclass(kw_only=True)
class Done:
    """What a round did."""

    applied: int = 0
    compared: int = 0
    seconds: float = 0.0
    outcomes: list[Outcome] = dataclasses.field(default_factory=list)
    ended: list[str] = dataclasses.field(default_factory=list)

    @property
    def repaired(self) -> int:
        """How many records were put right."""
        return sum(outcome.repaired for outcome in self.outcomes)


def round_(system: System, desk: Desk, *, clock: Callable[[], float] = time.monotonic) -> Done | None:
    """Do a round; None when another one is under way, it is not yet time, or nothing is to be kept in step.

    Raises:
        psycopg2.Error, errors.Unreachable: a server failed; the next round goes on from here.
    """
    with system.ledger.begin() as guard:
        if not rounds.lock(guard):
            return None
        with system.ledger.begin() as session:
            tuned = tuning.reconciliation(session)
            if not rounds.due(session, tuned.interval):
                return None
        state = write_mode.state(desk.hier("reconcile"))
        desk.hier("reconcile").rollback()
        if state.mode not in (Mode.DUAL_WRITE, Mode.HIERARCHICAL_ONLY):
            return None
        with system.ledger.begin() as session:
            if instants.standstill(session):
                return None
            number = rounds.begin(session)
        policy = RepairPolicy.AUTO if tuned.auto_fix else RepairPolicy.OFF
        mender = Mender(system, policy=policy, round=number, lately=2 * tuned.interval)
        work = RoundWork(system, desk, state, mender, clock=clock)
        try:
            work.capture()
            work.declarations()
            work.tail(tuned.interval)
            work.open_drifts()
            work.direct(tuned.seconds)
            work.sweep(tuned.seconds)
        except errors.StaleEpoch as switched:
            end(system, number, work.done, JournalBacklog(), error=switched.message)
            return work.done
        except Exception as error:
            with contextlib.suppress(psycopg2.Error, errors.HAL9Error):
                end(system, number, work.done, JournalBacklog(), error=safe_text.masked(" ".join(str(error).split())))
            raise
        source = desk.flat("reconcile") if state.mode is Mode.DUAL_WRITE else desk.hier("reconcile")
        waiting = alarm_rules.journal(system, source, tuned)
        end(system, number, work.done, waiting)
        alarm_rules.after_round(system, tuned, waiting)
    alarms.deliver(system)
    return work.done


def end(system: System, number: int, done: Done, waiting: JournalBacklog, *, error: str | None = None) -> None:
    """Note in the ledger and the log what a round did, and forget what nobody needs any more."""
    found = differing(done.outcomes)
    with system.ledger.begin() as session:
        rounds.end(
            session, number, applied=done.applied, compared=done.compared, found=found, repaired=done.repaired,
            lag_records=waiting.records, lag_seconds=waiting.seconds, seconds=done.seconds, error=error,
        )  # fmt: skip
        rounds.prune(session)
        marks.prune(session)
    reconciliation_log.note(
        system.settings, "round", round=number, applied=done.applied, compared=done.compared, found=found,
        repaired=done.repaired, lag_records=waiting.records, lag_seconds=waiting.seconds, seconds=done.seconds,
        ended=",".join(done.ended), error=error,
    )  # fmt: skip


class RoundWork:
    """The steps of a round, on one process's connections, under one write mode.

    Attributes:
        done: what was done so far.
    """

    def __init__(
        self,
        system: System,
        desk: Desk,
        state: write_mode.WriteState,
        mender: Mender,
        *,
        clock: Callable[[], float],
    ):
        self._system = system
        self._desk = desk
        self._state = state
        self._mender = mender
        self._clock = clock
        self.done = Done()
        self._beside: dict[str, int] = {}  # what was repaired beside the pass, which so did not see it

    def capture(self) -> None:
        """Look whether every write of the ruling store is still seen; mend what can be, and trust no earlier pass then.

        A pass that began before cannot count as clean: it may have been over a range when something was written
        there unseen.
        """
        side = self._state.mode.ruling
        source = self._desk.store(side, "reconcile")
        unseen: list[str] = []
        for category in self._system.registry.ordered():
            found = capture_triggers.findings(source, category, side)
            if not found:
                continue
            unseen += found
            reconciliation_log.note(self._system.settings, "unseen", category=category.slug, reason="; ".join(found))
            with self._system.ledger.begin() as session:
                sweeps.begin(session, category.slug, distrust=True)
            self._reinstall(source, category, side)
        alarm_rules.unseen(self._system, unseen)

    def declarations(self) -> None:
        """Look whether both stores still are as declared: a column that came since is left behind by every copy."""
        flat, hier = self._desk.flat("reconcile"), self._desk.hier("reconcile")
        found: list[str] = []
        for category in self._system.registry.ordered():
            with flat, hier:
                found += category_check.problems(category, flat, hier)
        alarm_rules.undeclared(self._system, found)

    def _reinstall(self, source: Connection, category: Category, side: model.StoreName) -> None:
        try:
            capture_triggers.install(source, category, side, patience=_PATIENCE)
        except psycopg2.Error as error:
            # Who holds the table, or a right that is missing: the alarm stands, and the next round tries again.
            source.rollback()
            reconciliation_log.note(
                self._system.settings, "unseen", category=category.slug, error=" ".join(str(error).split())
            )

    def tail(self, interval: float) -> None:
        """Apply what waits in the journal, as far as a worker's turn goes, and look at what was applied lately."""
        followed = follower.work(
            self._system, self._desk.flat("reconcile"), self._desk.hier("reconcile"), lane=0, lanes=1
        )
        if followed is not None:
            self.done.applied = followed.written + followed.deleted
        for category in self._system.registry.ordered():
            with self._system.ledger.begin() as session:
                keys = drifts.marked_lately(session, category.slug, seconds=2 * interval, limit=_MOST_KEYS)
            self._beside_the_pass(category, keys)

    def direct(self, seconds: float) -> None:
        """Look at what was written to the store that follows past this system, as far as the time goes."""
        if self._state.mode is not Mode.DUAL_WRITE:
            return
        began, hier = self._clock(), self._desk.hier("reconcile")
        for category in self._system.registry.ordered():
            self._watch(hier, category)
            while (noted := direct_writes.noted(hier, category.slug, limit=_MOST_KEYS)).ids:
                # Of what this round has left as it is the next one asks again anyway.
                left = {one.key for one in self.done.outcomes if one.category == category.slug and not one.repaired}
                self._beside_the_pass(category, [key for key in noted.keys if key not in left])
                # What was written after the look has a row of its own.
                direct_writes.forget(hier, noted)
                if self._clock() - began >= seconds:
                    break

    def _watch(self, hier: Connection, category: Category) -> None:
        try:
            for target in direct_writes.unwatched(hier, category):
                direct_writes.watch(hier, category, target, patience=_PATIENCE)
        except psycopg2.Error as error:
            # Who holds the table, or a right that is missing: it is a hint that is missing, and the pass goes on.
            hier.rollback()
            reason = " ".join(str(error).split())
            reconciliation_log.note(self._system.settings, "unwatched", category=category.slug, error=reason)

    def _beside_the_pass(self, category: Category, keys: Sequence[model.Key]) -> None:
        found = self._settle(self._sides(category), keys)
        self._beside[category.slug] = self._beside.get(category.slug, 0) + sum(one.repaired for one in found)

    def open_drifts(self) -> None:
        """Look again at what drifted before and was not put right."""
        for category in self._system.registry.ordered():
            with self._system.ledger.begin() as session:
                found = drifts.find(session, category=category.slug, open=True, limit=_MOST_KEYS)
            self._settle(self._sides(category), [one.key for one in found])

    def sweep(self, seconds: float) -> None:
        """Compare ranges, at least one, until the time is used or every category's pass has ended once."""
        began = self._clock()
        passing: set[str] = set()  # whose pass has ended, or that cannot be read now
        while category := self._next(passing):
            try:
                if self.range(category):
                    passing.add(category.slug)
            except psycopg2.ProgrammingError as error:
                # A category that is declared and whose tables are not there must not hold up the others.
                passing.add(category.slug)
                reason = " ".join(str(error).split())
                reconciliation_log.note(self._system.settings, "skipped", category=category.slug, reason=reason)
                self._desk.clear()
            self.done.seconds = self._clock() - began
            if self.done.seconds >= seconds:
                break
        with self._system.ledger.begin() as session:
            for slug, differing in self._beside.items():
                sweeps.add(session, slug, differing=differing)

    def range(self, category: Category) -> bool:
        """Compare the next range of a category and settle what looks different; whether its pass ended with it."""
        with self._system.ledger.begin() as session:
            pass_ = sweeps.find(session).get(category.slug)
            if pass_ is None or pass_.position is None:
                sweeps.begin(session, category.slug)
        both = self._sides(category)
        looked = sweep.look(both, None if pass_ is None else pass_.position)
        both.require_same()
        found = self._settle(both, looked.suspects)
        self.done.compared += looked.records
        with self._system.ledger.begin() as session:
            sweeps.advance(
                session, category.slug, position=looked.upto, records=looked.records, differing=differing(found)
            )
            if looked.upto is None:
                sweeps.end(session, category.slug)
                self.done.ended.append(category.slug)
        return looked.upto is None

    def _next(self, passing: set[str]) -> Category | None:
        """Return the category whose turn it is: the one under way, else the one that is furthest behind."""
        with self._system.ledger.begin() as session:
            found = sweeps.find(session)

        def turn(category: Category) -> tuple[bool, int]:
            one = found.get(category.slug)
            return (one is None or one.position is None, one.number if one else 0)

        return min((one for one in self._system.registry.ordered() if one.slug not in passing), key=turn, default=None)

    def _sides(self, category: Category) -> Sides:
        with self._system.ledger.begin() as session:
            return judge.sides(
                session, category, self._state, flat=self._desk.flat("reconcile"), hier=self._desk.hier("reconcile")
            )

    def _settle(self, both: Sides, keys: Sequence[model.Key]) -> list[Outcome]:
        found = self._mender.settle(both, keys)
        self.done.outcomes += found
        return found


def differing(found: Sequence[Outcome]) -> int:
    """Return how many records drifted; those in quarantine are known to differ."""
    return sum(outcome.cause is not Cause.QUARANTINE for outcome in found)
