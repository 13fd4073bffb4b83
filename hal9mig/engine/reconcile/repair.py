"""Puts drift right: in the direction that the write mode says, under the key's lock, and not for ever.

A repair is what applying a journalled key is: mark, lock, read the ruling side, write. So it never
brings back an older state, whatever the application writes meanwhile. What it must not decide alone
is left, or held in quarantine: a record whose follower is ahead of its ruler, and one that was
repaired again and again and is still made different by somebody.
"""

from __future__ import annotations

import dataclasses
import enum
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from hal9mig import errors, model, units
from hal9mig.engine import alarms, dispatcher, reconciliation_log
from hal9mig.engine.compare import judge
from hal9mig.engine.compare.judge import Judgement, Sides, Verdict, Versions
from hal9mig.engine.system import System
from hal9mig.engine.transfer import applier, follower
from hal9mig.engine.transfer.applied import Applied
from hal9mig.ledger import drifts, tuning
from hal9mig.ledger.drifts import Cause, Finding
from hal9mig.ledger.verify_results import DifferenceKind

#: Repairs of one key within an hour after which it is not repaired again.
MOST_REPAIRS = 3
REPEATED = "repaired again and again"
#: Keys that are repaired in one transaction.
_CHUNK = 500
_POLL = 0.1  # seconds between two looks at the budget


class RepairPolicy(enum.StrEnum):
    """What is done about drift."""

    #: It is noted.
    OFF = "off"
    #: What loses nothing is repaired: nothing is deleted, and nothing newer overwritten.
    SAFE = "safe"
    #: Everything is repaired in the mode's direction, and what must not be overwritten goes to quarantine.
    AUTO = "auto"
    #: Somebody is asked.
    ASK = "ask"


class Action(enum.StrEnum):
    """What became of a record."""

    WRITTEN = "written"
    DELETED = "deleted"
    QUARANTINED = "quarantined"
    LEFT = "left"


class _Step(enum.Enum):
    REPAIR = enum.auto()
    HOLD = enum.auto()
    ALARM = enum.auto()
    LEAVE = enum.auto()


class _Plan(NamedTuple):
    step: _Step
    reason: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """A record that drifted, what became of it, and why or how."""

    category: str
    key: model.Key
    kind: DifferenceKind
    cause: Cause
    action: Action
    reason: str = ""

    @property
    def repaired(self) -> bool:
        """Whether both stores have the same now."""
        return self.action in (Action.WRITTEN, Action.DELETED)


class Mender:
    """Judges keys, notes those that drift, and repairs them as the policy says.

    Args:
        round: the round that this is part of.
        insist: repair what was repaired again and again, too: an operator wants it.
        chosen: an operator has looked at each of the keys, so that all are repaired.
        patience: seconds to wait for the cluster's budget; what it does not allow is left for the next time.
        lately: seconds within which applying a key counts as the cause of its drift.
    """

    def __init__(
        self,
        system: System,
        *,
        policy: RepairPolicy,
        round: int | None = None,
        insist: bool = False,
        chosen: bool = False,
        patience: float = 2.0,
        lately: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._system = system
        self._policy = policy
        self._round = round
        self._insist = insist
        self._chosen = chosen
        self._patience = patience
        self._lately = lately
        self._sleep = sleep

    def settle(self, both: Sides, keys: Sequence[model.Key]) -> list[Outcome]:
        """Return what became of those of the keys that drift.

        Raises:
            errors.StaleEpoch: the write mode was switched meanwhile; nothing was noted or repaired.
            psycopg2.Error, errors.Unreachable: a server failed.
        """
        if not keys:
            return []
        before = follower.restores(both.flat, both.hier, both.state.mode.ruling)
        verdicts = judge.judge(both, keys)
        self._close(both, [one.key for one in verdicts if one.state is Judgement.AGREES])
        drifting = [one for one in verdicts if one.state is Judgement.DRIFTS]
        if not drifting:
            return []
        slug = both.category.slug
        known = judge.versions(both, [one.key for one in drifting])
        with self._system.ledger.begin() as session:
            causes = judge.causes(session, both, drifting, known, lately=self._lately)
            times = drifts.repairs(session, slug, [one.key for one in drifting])
        plans = {
            one.key: self._plan(one, known.get(one.key, (None, None)), times.get(one.key, 0), forward=both.forward)
            for one in drifting
        }
        self._note(both, drifting, known, causes, plans)
        repaired = [one.key for one in drifting if plans[one.key].step is _Step.REPAIR]
        became = self._repair(both, repaired, restores=before)
        for key, plan in plans.items():
            if plan.step is _Step.HOLD:
                became[key] = self._hold(both, key, plan.reason)
            elif plan.step is not _Step.REPAIR:
                became[key] = Action.LEFT, plan.reason
                if plan.step is _Step.ALARM:
                    self._alarm(slug, key, plan.reason)
        found = [
            Outcome(
                category=slug, key=one.key, kind=one.kind or DifferenceKind.MISMATCH, cause=causes[one.key],
                action=became[one.key][0], reason=became[one.key][1],
            )
            for one in drifting
        ]  # fmt: skip
        self._write_down(slug, found)
        return found

    def _plan(self, one: Verdict, known: Versions, times: int, *, forward: bool) -> _Plan:
        if self._chosen:
            return _Plan(_Step.REPAIR)
        if one.held:
            return _Plan(_Step.LEAVE, "held in quarantine")
        if times >= MOST_REPAIRS and not self._insist:
            hour = units.format_duration(drifts.WINDOW)
            return _Plan(_Step.ALARM, f"repaired {times} times within {hour}, so not again")
        if self._policy in (RepairPolicy.OFF, RepairPolicy.ASK):
            return _Plan(_Step.LEAVE, "not to be repaired")
        if _newer(known):
            reason = f"the side that follows has version {known[1]}, the one that rules {known[0]}"
            # The way back has no quarantine.
            return _Plan(_Step.HOLD if self._policy is RepairPolicy.AUTO and forward else _Step.LEAVE, reason)
        if one.kind is DifferenceKind.EXTRA and self._policy is RepairPolicy.SAFE:
            return _Plan(_Step.LEAVE, "repairing would delete it")
        return _Plan(_Step.REPAIR)

    def _note(
        self,
        both: Sides,
        drifting: Sequence[Verdict],
        known: Mapping[model.Key, Versions],
        causes: Mapping[model.Key, Cause],
        plans: Mapping[model.Key, _Plan],
    ) -> None:
        slug = both.category.slug
        findings = []
        for one in drifting:
            # What a repair takes away for good is kept.
            lost = (one.kind is DifferenceKind.EXTRA or _newer(known.get(one.key, (None, None)))) and plans[
                one.key
            ].step is _Step.REPAIR
            payload = judge.target_record(both, one.key) if lost else None
            kind = one.kind or DifferenceKind.MISMATCH
            findings.append(Finding(key=one.key, kind=kind, cause=causes[one.key], payload=payload))
        with self._system.ledger.begin() as session:
            new = drifts.note(session, slug, findings, round=self._round)
        for finding in findings:
            if finding.key in new:
                self._log("drift", slug, finding.key, kind=finding.kind, cause=finding.cause)

    def _repair(self, both: Sides, keys: Sequence[model.Key], *, restores: int) -> dict[model.Key, tuple[Action, str]]:
        """Apply keys and return what became of each."""
        became: dict[model.Key, tuple[Action, str]] = {}
        for start in range(0, len(keys), _CHUNK):
            some = keys[start : start + _CHUNK]
            trouble = self._afford(len(some))
            applied = None
            if trouble is None:
                try:
                    applied = follower.apply(
                        self._system, both.flat, both.hier, both.state.mode.ruling, both.category.slug, list(some),
                        restores=restores,
                    )  # fmt: skip
                except errors.StaleEpoch as error:
                    trouble = error.message
            for key in some:
                became[key] = (Action.LEFT, trouble or "") if applied is None else _became(applied, key, both)
        return became

    def _afford(self, records: int) -> str | None:
        """Take repairs from an account at the cluster's rate; return why there is none for them."""
        with self._system.ledger.begin() as session:
            rate = tuning.resolve(session).rate_limit
        if rate is None:
            return None
        waited = 0.0
        try:
            while wait := self._system.throttle.take(dispatcher.REPAIRS, rate, dispatcher.cost(rate, records, 0)):
                if waited >= self._patience:
                    self._patience = 0.0  # what comes after this would wait as long, each of it
                    return f"waits for the budget, rate-limit {rate}"
                pause = min(wait, _POLL)
                self._sleep(pause)
                waited += pause
        except errors.QueueUnreachable:
            return "waits for the budget, which cannot be read (Redis)"
        return None

    def _hold(self, both: Sides, key: model.Key, reason: str) -> tuple[Action, str]:
        slug = both.category.slug
        with self._system.ledger.begin() as session:
            sentence = f"Nobody can tell which side is right: {reason}."
            applier.hold(session, both.flat, self._system.transform(slug), key, sentence, run_id=None)
        return Action.QUARANTINED, reason

    def _alarm(self, slug: str, key: model.Key, reason: str) -> None:
        name = "/".join(key)
        with self._system.ledger.begin() as session:
            alarms.raise_(
                self._system, session, REPEATED, f"{slug} {name} still differs; it was {reason}.",
                subject=f"{slug}/{name}", detail={"category": slug, "key": list(key)},
            )  # fmt: skip

    def _close(self, both: Sides, agreeing: Sequence[model.Key]) -> None:
        slug = both.category.slug
        with self._system.ledger.begin() as session:
            for key in drifts.close(session, slug, agreeing, "agrees again"):
                self._log("agrees", slug, key)
                alarms.clear(self._system, session, REPEATED, subject=f"{slug}/{'/'.join(key)}")

    def _write_down(self, slug: str, found: Sequence[Outcome]) -> None:
        together: dict[tuple[Action, str], list[model.Key]] = {}
        for one in found:
            together.setdefault((one.action, one.reason), []).append(one.key)
        with self._system.ledger.begin() as session:
            for (action, reason), keys in together.items():
                if action is Action.LEFT:
                    drifts.leave(session, slug, keys, reason)
                elif action is Action.QUARANTINED:
                    drifts.quarantined(session, slug, keys, reason)
                else:
                    drifts.close(session, slug, keys, f"{drifts.REPAIRED}: {reason}")
        for one in found:
            if one.action is not Action.LEFT:
                self._log(
                    "repair", slug, one.key, kind=one.kind, cause=one.cause, action=one.action, reason=one.reason
                )  # fmt: skip

    def _log(self, event: str, slug: str, key: model.Key, **more: object) -> None:
        reconciliation_log.note(
            self._system.settings, event, category=slug, key="/".join(key), **more, round=self._round
        )


def _newer(known: Versions) -> bool:
    """Whether the side that follows is ahead of the one that rules."""
    source, target = known
    return source is not None and target is not None and target > source


def _became(applied: Applied, key: model.Key, both: Sides) -> tuple[Action, str]:
    source = both.state.mode.ruling
    if key in applied.rejected:
        # Only the flat store's records have a quarantine.
        return Action.QUARANTINED if both.forward else Action.LEFT, applied.rejected[key]
    if key in applied.deleted:
        return Action.DELETED, f"deleted, as the {source} store has no such record"
    return Action.WRITTEN, f"written from the {source} store"
