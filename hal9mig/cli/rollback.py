"""``hal9-migrate state rollback``: back to a checkpoint."""

from __future__ import annotations

import click

from hal9mig import errors, units
from hal9mig.cli import invocation, options, outcome, restoring

_HELP = """Go back to a checkpoint: both stores, of every category or of some.

It shows first what would be lost, counted, and asks. What is replaced is kept in a safety checkpoint. The
tables are restored beside the live ones and swapped in at one moment; the write mode stays what it is.

\b
Examples:
  hal9-migrate state rollback --to-checkpoint pre-state-migration --dry-run
  hal9-migrate state rollback --to-checkpoint pre-state-migration-20250114-080000 --force
  hal9-migrate state rollback --category neuron-states --to-checkpoint latest --preserve-others
"""


@click.command(help=_HELP)
@click.option(
    "--to-checkpoint", "text", required=True, type=options.CHECKPOINT, metavar="NAME",
    help="Its name, the beginning of it, or latest: the newest verified one from before the present migration.",
)  # fmt: skip
@options.categories
@click.option("--preserve-others", is_flag=True, help="Leave other categories alone; so it is anyway.")
@click.option("--force", is_flag=True, help="Do not ask, and cancel runs that stand in the way.")
@click.option("--reason", default="", metavar="TEXT", help="Why; kept in the audit.")
@click.option("--no-safety-checkpoint", is_flag=True, help="Do not keep what is replaced.")
@click.option("--dry-run", is_flag=True, help="Show what would be restored and lost, and change nothing.")
@click.option("--detach", is_flag=True, help="Print the run's number and return once it has begun.")
@click.option("--timeout", type=options.DURATION, help="Stop waiting after this time, with exit code 124.")
@options.yes
@options.output
@click.pass_context
def rollback(
    context: click.Context,
    /,
    text: str,
    names: tuple[str, ...],
    everything: bool,
    preserve_others: bool,
    force: bool,
    reason: str,
    no_safety_checkpoint: bool,
    dry_run: bool,
    detach: bool,
    timeout: str | None,
) -> None:
    from hal9mig.engine.checkpoint.orders import Checkpoints

    call = invocation.current(context)
    wanted = options.chosen(names, everything)
    if preserve_others and not wanted:
        raise errors.UsageError(
            "--preserve-others without --category: every category is restored, so there are no others.",
            hint="add --category NAME, or leave --preserve-others out",
        )
    if detach and timeout is not None:
        raise errors.ConflictingFlags("--detach and --timeout exclude each other: nothing is waited for.",
                                      hint="leave one of them out")  # fmt: skip
    limit = None if timeout is None else units.parse_duration(timeout)
    slugs = [category.slug for category in call.categories(wanted)]
    checkpoints = Checkpoints(call.system)
    plan = checkpoints.plan_restore(text, slugs)
    restoring.show_plan(call, plan)
    found = restoring.losses(call, checkpoints, plan, limit)
    extra: dict[str, object] = {
        "checkpoint": plan.manifest.name, "categories": list(plan.categories),
        "lost": restoring.loss_document(found),
    }  # fmt: skip
    if dry_run:
        call.console.say("dry run: nothing was changed")
        call.conclude({"dry_run": True, **extra, "refilled": list(plan.refills), "warnings": list(plan.warnings),
                       "next_steps": []})  # fmt: skip
        return
    restoring.ask(call, plan, found, force=force)
    if not no_safety_checkpoint:
        extra["safety_checkpoint"] = restoring.safety(call, checkpoints, plan)
    run = checkpoints.rollback(plan, cancel_runs=force, reason=reason)
    call.console.say(f"{run.name}: restoring {plan.manifest.name} beside the live tables")
    if detach:
        if not call.json:
            call.console.line(str(run.id))
        steps = [f"hal9-migrate runs show {run.id} --watch"]
        call.conclude({"run": outcome.document(run), **extra, "next_steps": steps})
        return
    restoring.conclude(call, checkpoints, run, timeout=limit, extra=extra)
