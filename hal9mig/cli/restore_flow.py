"""What rollback and recovery share on the command line: what would be lost, the question, and the order itself."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from hal9mig import errors, model, units
from hal9mig.cli import checkpoint_flow, confirm, options, restore_result, run_result, wait
from hal9mig.cli.console import counted

if TYPE_CHECKING:
    from hal9mig.cli.invocation import Invocation
    from hal9mig.engine.checkpoint.orders import Checkpoints, Loss, RestorePlan


@dataclasses.dataclass(frozen=True, kw_only=True)
class RestoreFlags:
    """How a restore is gone about, as the options say."""

    force: bool
    reason: str
    no_safety_checkpoint: bool
    dry_run: bool
    timeout: float | None
    detach: bool = False

    def check(self) -> None:
        """Raise where options exclude each other.

        Raises:
            errors.ConflictingFlags: they do; the message says why.
        """
        if self.detach and self.timeout is not None:
            options.refuse("--detach", "--timeout", "nothing is waited for")
        if self.detach and self.dry_run:
            options.refuse("--dry-run", "--detach", "a dry run starts nothing that could be left alone")


def flags(command: options.F) -> options.F:
    """Add the options of ``RestoreFlags`` that every restore has."""
    for option in reversed(
        (
            click.option("--force", is_flag=True, help="Do not ask, and cancel runs that stand in the way."),
            click.option("--reason", default="", metavar="TEXT", help="Why; kept in the audit."),
            click.option("--no-safety-checkpoint", is_flag=True, help="Do not keep what is replaced."),
            click.option(
                "--dry-run", is_flag=True, help="Show what would be restored and lost, and change nothing."
            ),
            click.option(
                "--timeout", type=options.DURATION,
                help="Stop waiting after this time, with exit code 124; a restore that has begun goes on.",
            ),
        )
    ):  # fmt: skip
        command = option(command)
    return command


class Restore:
    """One restore on its way from the plan to the run that carries it out.

    Args:
        verb: what it does, for the question: ``Go back to`` or ``Recover from``.
    """

    def __init__(
        self, call: Invocation, checkpoints: Checkpoints, plan: RestorePlan, flags: RestoreFlags, *, verb: str
    ):
        self._call = call
        self._checkpoints = checkpoints
        self._plan = plan
        self._flags = flags
        self._verb = verb
        self._deadline = None if flags.timeout is None else time.monotonic() + flags.timeout

    def carry_out(self, begin: Callable[[], model.Run]) -> None:
        """Show what would be lost, ask, keep what is replaced, and restore.

        Args:
            begin: starts the run; called once everything else is settled.

        Raises:
            errors.HAL9Error: it was refused, or failed; nothing was changed.
        """
        call, plan, flags = self._call, self._plan, self._flags
        show_plan(call, plan, force=flags.force)
        if not flags.dry_run:
            require_free(plan, force=flags.force)
            require_answer(call, plan, force=flags.force, verb=self._verb)
        found = self._losses()
        extra: dict[str, Any] = {
            "checkpoint": plan.manifest.name, "categories": list(plan.categories), "lost": loss_document(found),
        }  # fmt: skip
        if flags.dry_run:
            call.console.say("dry run: nothing was changed")
            call.conclude({"dry_run": True, **extra, **plan_document(plan), "next_steps": []})
            return
        ask(call, plan, found, force=flags.force, verb=self._verb)
        if not flags.no_safety_checkpoint:
            extra["safety_checkpoint"] = self._keep()
        run = begin()
        self._audit(run, found, extra.get("safety_checkpoint"))
        call.console.say(f"{run.name}: restoring {plan.manifest.name} beside the live tables")
        if flags.detach:
            wait.detached(call, run, **extra)
            return
        (run,) = wait.for_end(call, [run], timeout=self._left())
        restore_result.tell(call, self._checkpoints, run, extra)

    def _left(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def _losses(self) -> Sequence[Loss]:
        run = self._prepared(lambda: (self._checkpoints.weigh(self._plan), 0))
        found = self._checkpoints.losses(run)
        if not self._call.json:
            show_losses(self._call, found)
        return found

    def _keep(self) -> str:
        """Take a full checkpoint of what is about to be replaced, and return its name."""
        from hal9mig.engine.checkpoint.orders import CheckpointOrder

        order = CheckpointOrder(
            name=checkpoint_flow.stamped("before-restore"),
            description=f"what was replaced by {self._plan.manifest.name}",
            full=True, categories=self._plan.categories, label="safety",
            # The way back does not wait for an application that is in trouble already.
            tuning={"max-impact": "off"},
        )  # fmt: skip

        def begin() -> tuple[model.Run, int]:
            run, saved = self._checkpoints.take(order)
            checkpoint_flow.announce(self._call, run, saved, order)
            return run, saved.rows

        try:
            self._prepared(begin)
        except (errors.ArchiveFull, errors.RunFailed) as error:
            full = isinstance(error, errors.ArchiveFull)
            raise (errors.ArchiveFull if full else errors.RunFailed)(
                f"No safety checkpoint of what would be replaced, and nothing was changed: {error.message}",
                hint=f"{'make room' if full else 'mend it'}, or add --no-safety-checkpoint",
            ) from None
        self._call.console.say(f"safety checkpoint {order.name} holds what is being replaced")
        return order.name

    def _prepared(self, begin: Callable[[], tuple[model.Run, int]]) -> model.Run:
        """Wait for a run that comes before the restore; who no longer waits for it has no use for it.

        Args:
            begin: orders the run; returns it, and how many rows it is expected to go through.
        """
        # An interrupt that came between the order and the wait would leave a run behind that nobody was told of.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            run, expected = begin()
        except BaseException:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            raise
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            (ended,) = wait.for_end(self._call, [run], expected={run.id: expected}, timeout=self._left())
        except (errors.TimedOut, errors.Interrupted, KeyboardInterrupt) as error:
            with contextlib.suppress(errors.HAL9Error):
                self._call.coordinator.cancel(run.id)
            late = isinstance(error, errors.TimedOut)
            why = "The time limit passed" if late else "Interrupted"
            raise (errors.TimedOut if late else errors.Interrupted)(
                f"{why} before the restore began; {run.name} is cancelled, and nothing was changed.", hint=""
            ) from None
        problem = run_result.problem(ended)
        if problem is not None:
            raise problem
        return ended

    def _audit(self, run: model.Run, found: Sequence[Loss], kept: str | None) -> None:
        from hal9mig.ledger import audit, database

        lost: dict[str, int] = {}
        for one in found:
            lost[one.category] = lost.get(one.category, 0) + one.total
        detail = {
            "checkpoint": self._plan.manifest.name, "categories": list(self._plan.categories), "lost_rows": lost,
            "safety_checkpoint": kept, "forced": self._flags.force, "reason": self._flags.reason,
        }  # fmt: skip
        with self._call.system.ledger.begin() as session:
            audit.log(session, "restore ordered", actor=database.actor(), run_id=run.id, detail=detail)


def show_plan(call: Invocation, plan: RestorePlan, *, force: bool) -> None:
    """Say what is about to be restored, and what will come of it."""
    from hal9mig.ledger import workers

    made = plan.manifest
    scope = "every category" if plan.whole else ", ".join(plan.categories)
    call.console.say(f"checkpoint {made.name}: {checkpoint_flow.summary(made)}")
    call.console.say(f"restores {scope} in both stores; the write mode stays {plan.mode_now}")
    call.console.say(f"this takes {plan.expected}, and is not held to the budget of migrations")
    call.console.warn(*plan.warnings)
    with call.system.ledger.begin() as session:
        slots = workers.slots(session)
    if not slots:
        call.console.warn(f"no worker is alive; nothing happens until one is: {call.settings.workers_hint}")
    if plan.refills:
        call.console.say(f"readers of {', '.join(plan.refills)} wait while they are refilled")
    for run in plan.active:
        more = "; --force cancels it" if force else ""
        call.console.say(f"under way: {run.name} ({run.kind} {run.category}, {run.status}){more}")


def require_free(plan: RestorePlan, *, force: bool) -> None:
    """Raise where a run stands in the way.

    Raises:
        errors.RunActive: one does, and is not to be cancelled.
    """
    if plan.active and not force:
        run = plan.active[0]
        raise errors.RunActive(
            f"{run.name} stands in the way ({run.kind} of {run.category}, {run.status}); nothing was changed.",
            hint=f"wait for it with hal9-migrate runs show {run.id} --watch, cancel it with "
            f"hal9-migrate runs cancel {run.id}, or add --force",
        )


def require_answer(call: Invocation, plan: RestorePlan, *, force: bool, verb: str) -> None:
    """Raise, before long work, where the question could not be asked after it.

    Raises:
        errors.ConfirmationRequired: there is no terminal, and neither --yes nor --force was given.
    """
    if not (force or call.yes or confirm.can_ask()):
        raise errors.ConfirmationRequired(
            f"{verb} {plan.manifest.name}? This needs a yes, and there is no terminal to ask on; nothing was changed.",
            hint="--dry-run shows what would be lost; to go on, add --yes, or --force",
        )


def show_losses(call: Invocation, found: Sequence[Loss]) -> None:
    """Print what would be lost, by category and table."""
    if not any(one.total for one in found):
        call.console.line("Nothing was written since the checkpoint; nothing would be lost.")
        return
    call.console.line(f"This would be lost, counted in the {found[0].store} store, which takes the writes now:")
    rows = [
        [one.category, one.table, *(units.format_count(value) for value in (one.changed, one.added, one.removed))]
        for one in found
        if one.total
    ]
    columns = ["CATEGORY", "TABLE", "CHANGED SINCE", "NEW SINCE", "DELETED SINCE"]
    call.console.table(columns, rows, numbers=columns[2:])


def ask(call: Invocation, plan: RestorePlan, found: Sequence[Loss], *, force: bool, verb: str) -> None:
    """Ask before anything is replaced: for everything the checkpoint's name has to be typed.

    Raises:
        errors.ConfirmationRequired: there is no terminal to ask on, and neither --yes nor --force was given.
        errors.Refused: the answer was no.
    """
    if force or call.yes:
        return
    name = plan.manifest.name
    lost = sum(one.total for one in found)
    question = f"{verb} {name}, and lose {counted(lost, 'written row')}?" if lost else f"{verb} {name}?"
    try:
        if not plan.whole or not confirm.can_ask():
            confirm.ask(call, question, flag="--yes, or --force")
            return
        answer = click.prompt(f"{question} Every category is replaced. Type the checkpoint's name", err=True)
    except click.Abort:
        raise errors.Interrupted("Interrupted; nothing was changed.", hint="") from None
    if answer.strip() != name:
        raise errors.Refused("That is not its name; nothing was changed.", hint="")


def plan_document(plan: RestorePlan) -> dict[str, object]:
    """Return what a plan says beside its checkpoint, as it stands in a JSON document."""
    return {
        "mode": plan.mode_now,
        **plan.expected.document,
        "refilled": list(plan.refills),
        "warnings": list(plan.warnings),
        "active": [{"run": run.id, "kind": str(run.kind), "category": run.category} for run in plan.active],
    }


def loss_document(found: Sequence[Loss]) -> list[dict[str, object]]:
    """Return losses as they stand in a JSON document."""
    return [
        {"store": one.store, "category": one.category, "table": one.table, "changed": one.changed,
         "added": one.added, "removed": one.removed}
        for one in found
    ]  # fmt: skip
