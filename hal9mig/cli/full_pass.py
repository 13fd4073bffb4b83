"""A pass over everything, as an operator orders and watches it: its runs, and what they found."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hal9mig import errors, model, units
from hal9mig.cli import confirm, run_result, wait
from hal9mig.cli.console import counted
from hal9mig.cli.invocation import Invocation

if TYPE_CHECKING:
    from hal9mig.categories.declaration import Category
    from hal9mig.engine.reconcile.full_pass import Found
    from hal9mig.engine.reconcile.repair import Outcome, RepairPolicy

#: Records left unrepaired that are printed, and all that a report lists.
MOST_SHOWN, MOST_LISTED = 20, 100_000


def start(
    call: Invocation,
    categories: Sequence[Category],
    policy: RepairPolicy,
    *,
    insist: bool = False,
    of: Mapping[str, int] | None = None,
) -> list[model.Run]:
    """Start a pass over each category.

    Args:
        insist: repair what was repaired again and again, too.
        of: by category, the run that has compared already; only where it found something is looked again.

    Raises:
        errors.HAL9Error: as ``engine.reconcile.full_pass.start``.
    """
    from hal9mig.engine.reconcile import full_pass
    from hal9mig.ledger import database, workers

    call.system.require_ready()
    with call.ledger.begin() as session:
        if not workers.slots(session):
            call.console.warn("no worker is alive; nothing happens until one is")
    return [
        full_pass.start(
            call.system,
            full_pass.PassOrder(category=one.slug, policy=policy, insist=insist, of=(of or {}).get(one.slug)),
            actor=database.actor(),
        )
        for one in categories
    ]


def awaited(call: Invocation, started: Sequence[model.Run], *, timeout: float | None) -> list[tuple[model.Run, Found]]:
    """Wait for passes and return what they found.

    Raises:
        errors.TimedOut, errors.Interrupted: they go on without this command.
        errors.RunFailed: one failed, or was paused or cancelled.
    """
    from hal9mig.engine.reconcile import full_pass

    ended = wait.for_end(call, started, timeout=timeout)
    for run in ended:
        problem = run_result.problem(run)
        if problem is not None:
            raise problem
    with call.ledger.begin() as session:
        return [(run, full_pass.found(session, run)) for run in ended]


def ask(
    call: Invocation,
    ended: Sequence[tuple[model.Run, Found]],
    policy: RepairPolicy,
    *,
    timeout: float | None,
    insist: bool = False,
    sure: bool = False,
) -> tuple[list[Found], list[model.Run]]:
    """Ask whether to repair what passes have found, and do; return what there is now, and the runs that did it.

    Args:
        sure: do not ask.

    Raises:
        errors.ConfirmationRequired: there is nobody to ask.
        errors.HAL9Error: as ``start`` and ``awaited``.
    """
    from hal9mig.stores.write_mode import state as capture_state

    found = [one for _, one in ended]
    drifted = {run.category: run.id for run, one in ended if one.outcomes or one.unlisted}
    if not sure:
        if not call.json:
            show(call, found)
        count = sum(len(one.outcomes) + one.unlisted for one in found)
        with contextlib.closing(call.system.hier()) as hier:
            ruling = capture_state(hier).mode.ruling
        confirm.ask(call, f"Repair {counted(count, 'record')} from the {ruling} store?")
    again = start(call, call.categories(list(drifted)), policy, insist=insist, of=drifted)
    after = {run.category: one for run, one in awaited(call, again, timeout=timeout)}
    return [merged(one, after[one.category]) if one.category in after else one for one in found], again


def require_somebody(call: Invocation) -> None:
    """Check that there is somebody to ask, before a long work.

    Raises:
        errors.ConfirmationRequired: there is not.
    """
    if not call.yes and not confirm.can_ask():
        raise errors.ConfirmationRequired(
            "This asks before it repairs, and there is no terminal to ask on; nothing was changed."
        )


def merged(before: Found, after: Found) -> Found:
    """Return what two passes over the same found together: the second knows best what became of it."""
    return dataclasses.replace(before, outcomes=after.outcomes, unlisted=after.unlisted, clean=False)


def show(call: Invocation, found: Sequence[Found]) -> None:
    """Print a line for each category, and what is left of it."""
    for one in found:
        call.console.verdict(not remaining(one), f"{call.system.category(one.category).line}: {_counts(one)}")
    listed = [outcome for one in found for outcome in left(one)]
    rows = [
        [one.category, "/".join(one.key), one.kind, one.cause, one.reason or one.action] for one in listed[:MOST_SHOWN]
    ]
    if rows:
        call.console.table(["CATEGORY", "KEY", "DRIFT", "LIKELY CAUSE", "WHY IT IS LEFT"], rows)
    if len(listed) > MOST_SHOWN:
        call.console.say(f"only the first {MOST_SHOWN} are listed; --json and --report list more")


def left(one: Found) -> list[Outcome]:
    """Return what still differs, as far as it is listed."""
    return [outcome for outcome in one.outcomes.values() if not outcome.repaired]


def remaining(one: Found) -> int:
    """Return how many records may still differ: what became of those that are not listed is not known."""
    return len(left(one)) + one.unlisted


def _counts(one: Found) -> str:
    drifted, listed = len(one.outcomes) + one.unlisted, len(left(one))
    parts = [f"{units.format_count(one.compared)} compared", f"{units.format_count(drifted)} drifted"]
    if drifted:
        parts.append(f"{units.format_count(len(one.outcomes) - listed)} repaired")
    if listed:
        parts.append(f"{units.format_count(listed)} left")
    if one.unlisted:
        parts.append(f"{units.format_count(one.unlisted)} not listed")
    return ", ".join(parts)


def problem(found: Sequence[Found]) -> errors.HAL9Error | None:
    """Return the error that what is left amounts to, None when nothing is."""
    from hal9mig.ledger.drifts import Cause

    count = sum(map(remaining, found))
    if not count:
        return None
    listed = [outcome for one in found for outcome in left(one)]
    text = f"{counted(count, 'record')} still differ{'s' if count == 1 else ''}."
    if count == len(listed) and all(one.cause is Cause.QUARANTINE or one.action == "quarantined" for one in listed):
        return errors.RecordsQuarantined(f"{text} They are in quarantine.")
    return errors.DifferencesFound(text, hint=next_steps(found)[0])


def next_steps(found: Sequence[Found]) -> list[str]:
    """Return the commands to go on with."""
    if any(map(left, found)):
        return ["hal9-migrate state fix --interactive --guidance"]
    return ["hal9-migrate reconcile --full"] if any(map(remaining, found)) else []


def document(
    call: Invocation, found: Sequence[Found], policy: RepairPolicy, passes: Sequence[model.Run]
) -> dict[str, object]:
    """Return what was found as it stands in a JSON document."""
    from hal9mig.engine.reconcile import alarm_rules
    from hal9mig.stores.write_mode import Mode
    from hal9mig.stores.write_mode import state as capture_state

    with contextlib.closing(call.system.flat()) as flat, contextlib.closing(call.system.hier()) as hier:
        mode = capture_state(hier).mode
        waiting = alarm_rules.waiting(hier if mode is Mode.HIERARCHICAL_ONLY else flat)
    outcomes = [outcome for one in found for outcome in one.outcomes.values()]
    unlisted = sum(one.unlisted for one in found)
    return {
        "mode": mode,
        "fix_mode": policy,
        "runs": [run.id for run in passes],
        "compared": sum(one.compared for one in found),
        "drifted": len(outcomes) + unlisted,
        "repaired": sum(one.repaired for one in outcomes),
        "left": sum(map(remaining, found)),
        "journal": {"records": waiting.records, "seconds": round(waiting.seconds, 3)},
        "categories": [
            {
                "category": one.category,
                "compared": one.compared,
                "drifted": len(one.outcomes) + one.unlisted,
                "repaired": len(one.outcomes) - len(left(one)),
                "left": remaining(one),
                "clean": one.clean,
            }
            for one in found
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
        "drifts_not_listed": max(0, len(outcomes) - MOST_LISTED) + unlisted,
        "next_steps": next_steps(found),
    }
