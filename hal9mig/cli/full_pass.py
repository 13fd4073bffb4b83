"""A pass over everything, as an operator watches it: progress, time limit, Ctrl-C, and what was found."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from hal9mig import errors, units
from hal9mig.cli.console import counted
from hal9mig.cli.invocation import Invocation

if TYPE_CHECKING:
    from hal9mig.categories.declaration import Category
    from hal9mig.engine.reconcile.full_pass import FullPass, Progress, Tally
    from hal9mig.engine.reconcile.repair import Outcome, RepairPolicy

_LINE_EVERY = 10.0  # seconds
#: Records left unrepaired that are printed, and all that a report lists.
MOST_SHOWN, MOST_LISTED = 20, 100_000


@contextlib.contextmanager
def opened(call: Invocation, categories: Sequence[Category], *, insist: bool = False) -> Iterator[FullPass]:
    """Open the stores for a pass, for the length of a block.

    Raises:
        errors.Refused: the write mode is being switched.
        errors.SchemaBehind: the stores are not ready for it.
    """
    from hal9mig.engine.desk import Desk
    from hal9mig.engine.reconcile.full_pass import FullPass

    call.coordinator.require_ready()
    desk = Desk(call.system)
    try:
        yield FullPass(call.system, desk, categories, insist=insist)
    finally:
        desk.clear()


def run(call: Invocation, full: FullPass, policy: RepairPolicy, *, timeout: float | None) -> None:
    """Do the pass and say how far it is.

    Raises:
        errors.TimedOut: the time limit passed.
        errors.Interrupted: somebody pressed Ctrl-C.
        errors.HAL9Error: as ``FullPass.run``.
    """
    began = said = time.monotonic()
    try:
        with contextlib.closing(full.run(policy)) as passing:
            for progress in passing:
                now = time.monotonic()
                if now - said >= _LINE_EVERY and not progress.ended:
                    said = now
                    call.console.say(_line(progress))
                if timeout is not None and now - began > timeout:
                    raise errors.TimedOut(
                        f"The time limit of {units.format_duration(timeout)} passed; {_AFTER}",
                        hint="hal9-migrate reconcile",
                    )
    except KeyboardInterrupt:
        raise errors.Interrupted(f"Interrupted; {_AFTER}", hint="hal9-migrate reconcile") from None


_AFTER = "what was repaired stays so, and the reconciler's rounds go on from there."


def _line(progress: Progress) -> str:
    again = f", pass {progress.number}" if progress.number > 1 else ""
    return (
        f"{progress.category}: {units.format_count(progress.compared)} compared{again}; "
        f"{units.format_count(progress.found)} drifted"
    )


def show(call: Invocation, full: FullPass) -> None:
    """Print a line for each category, and what is left of it."""
    for category in call.categories(list(full.found)):
        tally = full.found[category.slug]
        call.console.verdict(not left(tally), f"{category.line}: {_counts(tally)}")
    remaining = [outcome for tally in full.found.values() for outcome in left(tally)]
    rows = [
        [one.category, "/".join(one.key), one.kind, one.cause, one.reason or one.action]
        for one in remaining[:MOST_SHOWN]
    ]
    if rows:
        call.console.table(["CATEGORY", "KEY", "DRIFT", "LIKELY CAUSE", "WHY IT IS LEFT"], rows)
    if len(remaining) > MOST_SHOWN:
        call.console.say(f"only the first {MOST_SHOWN} are listed; --json and --report list more")


def left(tally: Tally) -> list[Outcome]:
    """Return what still differs."""
    return [outcome for outcome in tally.outcomes.values() if not outcome.repaired]


def _counts(tally: Tally) -> str:
    found, remaining = list(tally.outcomes.values()), left(tally)
    parts = [f"{units.format_count(tally.compared)} compared", f"{units.format_count(len(found))} drifted"]
    if found:
        parts.append(f"{units.format_count(len(found) - len(remaining))} repaired")
    if remaining:
        parts.append(f"{units.format_count(len(remaining))} left")
    return ", ".join(parts)


def problem(full: FullPass) -> errors.HAL9Error | None:
    """Return the error that what is left amounts to, None when nothing is."""
    from hal9mig.ledger.drifts import Cause

    remaining = [one for tally in full.found.values() for one in left(tally)]
    if not remaining:
        return None
    text = f"{counted(len(remaining), 'record')} still differ{'s' if len(remaining) == 1 else ''}."
    if all(one.cause is Cause.QUARANTINE or one.action == "quarantined" for one in remaining):
        return errors.RecordsQuarantined(f"{text} They are in quarantine.")
    return errors.DifferencesFound(text, hint=next_steps(full)[0])


def next_steps(full: FullPass) -> list[str]:
    """Return the commands to go on with."""
    return ["hal9-migrate state fix --interactive --guidance"] if any(map(left, full.found.values())) else []


def document(full: FullPass, policy: RepairPolicy) -> dict[str, object]:
    """Return what was found as it stands in a JSON document."""
    waiting = full.waiting()
    outcomes = full.outcomes
    return {
        "mode": full.mode,
        "fix_mode": policy,
        "compared": sum(tally.compared for tally in full.found.values()),
        "drifted": len(outcomes),
        "repaired": sum(one.repaired for one in outcomes),
        "left": sum(not one.repaired for one in outcomes),
        "journal": {"records": waiting.records, "seconds": round(waiting.seconds, 3)},
        "categories": [
            {
                "category": slug,
                "compared": tally.compared,
                "drifted": len(tally.outcomes),
                "repaired": len(tally.outcomes) - len(left(tally)),
                "left": len(left(tally)),
                "clean": tally.clean,
            }
            for slug, tally in full.found.items()
        ],
        "drifts": [
            {
                "category": one.category,
                "key": list(one.key),
                "kind": one.kind,
                "cause": one.cause,
                "action": one.action,
                "reason": one.reason,
            }
            for one in outcomes[:MOST_LISTED]
        ],
        "drifts_not_listed": max(0, len(outcomes) - MOST_LISTED),
        "next_steps": next_steps(full),
    }
