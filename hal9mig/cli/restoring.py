"""What rollback and recovery share on the command line: what would be lost, the question, and what was done."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from hal9mig import errors, units
from hal9mig.cli import checkpoint as taking
from hal9mig.cli import outcome
from hal9mig.cli.console import counted

if TYPE_CHECKING:
    from hal9mig import model
    from hal9mig.cli.invocation import Invocation
    from hal9mig.engine.checkpoint.orders import Checkpoints, Loss, Restored, RestorePlan

_MOST_DAMAGES = 20


def show_plan(call: Invocation, plan: RestorePlan) -> None:
    """Say what is about to be restored."""
    made = plan.manifest
    scope = "every category" if plan.whole else ", ".join(plan.categories)
    call.console.say(f"checkpoint {made.name}: {taking.summary(made)}")
    call.console.say(f"restores {scope} in both stores; the write mode stays {plan.mode_now}")
    for warning in plan.warnings:
        call.console.say(f"warning: {warning}")
    if plan.refills:
        call.console.say(f"readers of {', '.join(plan.refills)} wait while they are refilled")
    for run in plan.active:
        call.console.say(f"under way: {run.name} ({run.kind} {run.category}, {run.status})")


def losses(call: Invocation, checkpoints: Checkpoints, plan: RestorePlan, timeout: float | None) -> Sequence[Loss]:
    """Count and show what the restore would lose.

    Raises:
        errors.RunFailed: it could not be counted.
    """
    (run,) = outcome.wait(call, [checkpoints.weigh(plan)], timeout=timeout)
    problem = outcome.problem(run)
    if problem is not None:
        raise problem
    found = checkpoints.losses(run)
    if not call.json:
        _show_losses(call, found)
    return found


def _show_losses(call: Invocation, found: Sequence[Loss]) -> None:
    if not any(one.total for one in found):
        call.console.line("Nothing was written since the checkpoint; nothing would be lost.")
        return
    call.console.line(f"This would be lost, counted in the {found[0].store} store, which takes the writes now:")
    rows = [
        [one.category, one.table, *(units.format_count(value) for value in (one.changed, one.added, one.removed))]
        for one in found
        if one.total
    ]
    call.console.table(
        ["CATEGORY", "TABLE", "CHANGED SINCE", "NEW SINCE", "DELETED SINCE"], rows,
        numbers=("CHANGED SINCE", "NEW SINCE", "DELETED SINCE"),
    )  # fmt: skip


def ask(call: Invocation, plan: RestorePlan, found: Sequence[Loss], *, force: bool) -> None:
    """Ask before anything is replaced: for everything the checkpoint's name has to be typed.

    Raises:
        errors.ConfirmationRequired: there is no terminal to ask on, and neither --yes nor --force was given.
        errors.Refused: the answer was no.
    """
    if force or call.yes:
        return
    name = plan.manifest.name
    lost = sum(one.total for one in found)
    question = f"Go back to {name}, and lose {counted(lost, 'written row')}?"
    if not plan.whole or not (sys.stdin.isatty() and sys.stderr.isatty()):
        call.confirm(question, flag="--yes, or --force")
        return
    answer = click.prompt(f"{question} Every category is replaced. Type the checkpoint's name", err=True)
    if answer != name:
        raise errors.Refused("That is not its name; nothing was changed.", hint="")


def safety(call: Invocation, checkpoints: Checkpoints, plan: RestorePlan) -> str:
    """Take a full checkpoint of what is about to be replaced, and return its name.

    Raises:
        errors.HAL9Error: it could not be taken; nothing was changed.
    """
    from hal9mig.engine.checkpoint.orders import CheckpointOrder

    order = CheckpointOrder(
        name=taking.stamped("before-restore"), description=f"what was replaced by {plan.manifest.name}", full=True,
        categories=plan.categories, label="safety", tuning={"rate-limit": "off"},
    )  # fmt: skip
    try:
        run, saved = checkpoints.take(order)
        taking.announce(call, run, saved, order)
        (run,) = outcome.wait(call, [run], expected={run.id: saved.rows}, timeout=None)
    except errors.ArchiveFull as error:
        raise errors.ArchiveFull(
            f"No safety checkpoint: {error.message}", hint="make room, or add --no-safety-checkpoint"
        ) from None
    problem = outcome.problem(run)
    if problem is not None:
        raise errors.RunFailed(
            f"No safety checkpoint of what would be replaced; nothing was changed. {problem.message}",
            hint="mend it, or add --no-safety-checkpoint",
        )
    call.console.say(f"safety checkpoint {order.name} holds what is being replaced")
    return order.name


def conclude(
    call: Invocation, checkpoints: Checkpoints, run: model.Run, *, timeout: float | None, extra: dict[str, Any]
) -> None:
    """Wait for a restore, and say what it did.

    Raises:
        errors.RunFailed: it failed; nothing was changed.
        errors.RecordsQuarantined: some records could not be read.
    """
    (run,) = outcome.wait(call, [run], timeout=timeout)
    problem = outcome.problem(run)
    if problem is not None:
        call.conclude({"run": outcome.document(run), **extra, "next_steps": []}, problem)
        return
    done = checkpoints.outcome(run)
    if done.quarantined:
        problem = errors.RecordsQuarantined(
            f"{counted(done.quarantined, 'record')} of {done.name} could not be read, and went to quarantine; "
            f"the other store has {units.format_count(done.offered)} of them.",
            hint="; ".join(done.next_steps),
        )
    if not call.json:
        _show(call, done, run)
    call.conclude({"run": outcome.document(run), **extra, "restored": document(done)} | {
        "next_steps": list(done.next_steps)}, problem)  # fmt: skip


def _show(call: Invocation, done: Restored, run: model.Run) -> None:
    rows = sum(count for _, count in done.tables)
    call.console.verdict(
        not done.damages,
        f"{counted(rows, 'row')} of {counted(len(done.tables), 'table')} restored from {done.name}; "
        f"writers were kept out {units.format_duration(max(0.01, done.seconds))} ({run.name})",
    )
    for damage in done.damages[:_MOST_DAMAGES]:
        low, high = ("/".join(key) if key else "the end" for key in (damage.after, damage.upto))
        call.console.line(
            f"  {damage.file}, frame {damage.frame}: {damage.why}; {counted(damage.rows, 'row')} "
            f"between {low} and {high}"
        )
    if len(done.damages) > _MOST_DAMAGES:
        call.console.line(f"  and {len(done.damages) - _MOST_DAMAGES} more")
    if done.brought:
        call.console.line(f"{counted(done.brought, 'record')} will be brought again from the store that rules")
    for one in done.untouched:
        text = f"{one.category} in the {one.store} store: {counted(one.before.records, 'record')}"
        if one.same:
            call.console.verdict(True, f"{text}, digest {one.before.digest:016x} before and after")
        else:
            call.console.line(f"- {text} before, {units.format_count(one.after.records)} after; written to meanwhile")
    if done.mode_then != done.mode_now:
        call.console.say(f"the write mode is still {done.mode_now}; the checkpoint was taken in {done.mode_then}")
    for step in done.next_steps:
        call.console.say(f"next: {step}")


def document(done: Restored) -> dict[str, object]:
    """Return what a restore did as it stands in a JSON document."""
    return {
        "checkpoint": done.name,
        "tables": dict(done.tables),
        "untouched": [
            {
                "category": one.category, "store": one.store, "records": one.after.records,
                "digest_before": f"{one.before.digest:016x}", "digest_after": f"{one.after.digest:016x}",
                "same": one.same,
            }
            for one in done.untouched
        ],
        "damages": [
            {
                "file": one.file, "frame": one.frame, "rows": one.rows, "why": one.why,
                "after": None if one.after is None else list(one.after),
                "upto": None if one.upto is None else list(one.upto),
            }
            for one in done.damages
        ],
        "quarantined": done.quarantined,
        "offered": done.offered,
        "brought": done.brought,
        "mode_then": done.mode_then,
        "mode_now": done.mode_now,
        "writers_kept_out_seconds": done.seconds,
    }  # fmt: skip


def loss_document(found: Sequence[Loss]) -> list[dict[str, object]]:
    """Return losses as they stand in a JSON document."""
    return [
        {"store": one.store, "category": one.category, "table": one.table, "changed": one.changed,
         "added": one.added, "removed": one.removed}
        for one in found
    ]  # fmt: skip
