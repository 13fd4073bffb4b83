"""``hal9-migrate state checkpoint``: taking one, and deleting one."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

import click

from hal9mig import errors, units
from hal9mig.cli import invocation, options, outcome
from hal9mig.cli.console import counted

if TYPE_CHECKING:
    from hal9mig import model
    from hal9mig.cli.invocation import Invocation
    from hal9mig.engine.checkpoint.manifest import Manifest
    from hal9mig.engine.checkpoint.orders import CheckpointOrder, SavePlan

_HELP = """Keep both stores as they are at this instant, while the application goes on writing.

With --full-backup it holds the data itself and can be restored. Without, it is a marker: counts, digests,
positions and the write mode. It waits for the end; Ctrl-C leaves the run going. --delete removes one.

\b
Examples:
  hal9-migrate state checkpoint --name before-monday --full-backup --verify
  hal9-migrate state checkpoint --category neuron-states --full-backup --verify --rate-limit off
  hal9-migrate state checkpoint --delete before-monday
"""


@click.command(help=_HELP)
@click.option("--name", metavar="NAME", help="Its name.  [default: checkpoint- and the time]")
@click.option("--description", metavar="TEXT", help="What it is for.")
@click.option("--full-backup", is_flag=True, help="Keep the data itself, so that it can be restored.")
@click.option("--verify", is_flag=True, help="Read everything back, and compare it with the stores as of the instant.")
@options.categories
@click.option("--rate-limit", type=options.RATE, help="Budget of this run alone, or off.  [default: as configured]")
@click.option("--dry-run", is_flag=True, help="Show what would be kept, and change nothing.")
@click.option("--detach", is_flag=True, help="Print the run's number and return at once.")
@click.option("--timeout", type=options.DURATION, help="Stop waiting after this time, with exit code 124.")
@click.option(
    "--delete", "deleted", type=options.CHECKPOINT, metavar="NAME", help="Delete this checkpoint; asks first."
)
@options.yes
@options.output
@click.pass_context
def checkpoint(
    context: click.Context,
    /,
    names: tuple[str, ...],
    everything: bool,
    name: str | None,
    description: str | None,
    full_backup: bool,
    verify: bool,
    rate_limit: str | None,
    dry_run: bool,
    detach: bool,
    timeout: str | None,
    deleted: str | None,
) -> None:
    call = invocation.current(context)
    given = {
        "--name": name, "--description": description, "--full-backup": full_backup, "--verify": verify,
        "--category": names or everything, "--rate-limit": rate_limit, "--detach": detach, "--timeout": timeout,
        "--dry-run": dry_run,
    }  # fmt: skip
    if deleted is not None:
        for flag, value in given.items():
            if value:
                _refuse("--delete", flag, "one removes a checkpoint, the other is about a new one")
        _delete(call, deleted)
        return
    if detach and timeout is not None:
        _refuse("--detach", "--timeout", "nothing is waited for")
    for value, flag in ((detach, "--detach"), (timeout, "--timeout")):
        if dry_run and value:
            _refuse("--dry-run", flag, "a dry run starts nothing that could be waited for")
    from hal9mig.engine.checkpoint.orders import CheckpointOrder

    order = CheckpointOrder(
        name=name or stamped("checkpoint"),
        description=description or "",
        full=full_backup,
        verify=verify,
        categories=tuple(options.chosen(names, everything)),
        tuning={} if rate_limit is None else {"rate-limit": rate_limit},
    )
    perform(call, order, dry_run=dry_run, detach=detach, timeout=timeout)


def stamped(begin: str) -> str:
    """Return a name that says when it was made, in UTC."""
    return f"{begin}-{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}"


def perform(
    call: Invocation, order: CheckpointOrder, *, dry_run: bool = False, detach: bool = False, timeout: str | None = None
) -> None:
    """Take a checkpoint and say what it holds.

    Raises:
        errors.HAL9Error: as ``Checkpoints.take``, or how its run ended.
    """
    from hal9mig.engine.checkpoint.orders import Checkpoints

    checkpoints = Checkpoints(call.system)
    if dry_run:
        _show_plan(call, checkpoints.plan(order), order)
        return
    run, plan = checkpoints.take(order)
    announce(call, run, plan, order)
    if detach:
        if not call.json:
            call.console.line(str(run.id))
            call.console.say(f"watch: hal9-migrate runs show {run.id} --watch")
        steps = [f"hal9-migrate runs show {run.id} --watch"]
        call.conclude({"run": outcome.document(run), "checkpoint": order.name, "next_steps": steps})
        return
    (run,) = outcome.wait(
        call, [run], expected={run.id: plan.rows}, timeout=None if timeout is None else units.parse_duration(timeout)
    )
    problem = outcome.problem(run)
    if problem is not None:
        call.conclude({"run": outcome.document(run), "checkpoint": order.name, "next_steps": []}, problem)
        return
    made = checkpoints.find(order.name)
    if not call.json:
        call.console.verdict(True, f"checkpoint {made.name}: {summary(made)} ({run.name})")
    steps = [f"hal9-migrate state export-manifest --checkpoint {made.name} --output manifest.json"]
    call.conclude({"run": outcome.document(run), "checkpoint": document(made), "next_steps": steps})


def announce(call: Invocation, run: model.Run, plan: SavePlan, order: CheckpointOrder) -> None:
    """Say what a checkpoint is going to keep."""
    call.console.say(f"{run.name}: {_sentence(plan, order)}")
    if plan.seconds is not None and plan.seconds > 60:
        call.console.say(
            f"at the budget of {plan.rate} this takes {units.format_duration(plan.seconds)}; "
            "--rate-limit gives this run a budget of its own"
        )
    for warning in plan.warnings:
        call.console.say(f"warning: {warning}")


def summary(made: Manifest) -> str:
    """Return what a checkpoint holds, as one line."""
    if made.restorable:
        kind = f"{counted(made.rows, 'row')}, {units.format_bytes(made.bytes)} of {units.format_bytes(made.raw_bytes)}"
        kind += ", verified" if made.verified else ", not verified"
    else:
        records = sum(both["flat"].records for both in made.digests.values())
        kind = f"a marker: counts and digests of {counted(records, 'flat record')}; restorable: no"
    return f"{kind}; as of {made.taken_at:%Y-%m-%dT%H:%M:%SZ}, mode {made.mode}"


def document(made: Manifest) -> dict[str, object]:
    """Return a checkpoint as it stands in a JSON document."""
    return {
        "name": made.name,
        "description": made.description or None,
        "kind": made.kind,
        "label": made.label or None,
        "scope": list(made.scope),
        "whole": made.whole,
        "restorable": made.restorable,
        "verified": made.verified,
        "taken_at": made.taken_at,
        "finished_at": made.finished_at,
        "by": made.by,
        "mode": made.mode,
        "epoch": made.epoch,
        "rows": made.rows,
        "bytes": made.bytes,
        "raw_bytes": made.raw_bytes,
        "digests": {
            slug: {store: {"records": one.records, "digest": f"{one.digest:016x}"} for store, one in both.items()}
            for slug, both in made.digests.items()
        },
    }


def _sentence(plan: SavePlan, order: CheckpointOrder) -> str:
    kind = "full checkpoint" if order.full else "marker"
    text = f"{kind} {plan.name} of {', '.join(plan.scope)}"
    if order.full:
        text += f", about {counted(plan.rows, 'row')} and {units.format_bytes(plan.bytes)}, to {plan.url}"
    return text


def _show_plan(call: Invocation, plan: SavePlan, order: CheckpointOrder) -> None:
    if not call.json:
        call.console.line(_sentence(plan, order))
        if order.full:
            room = "unknown there" if plan.free_bytes is None else units.format_bytes(plan.free_bytes)
            call.console.line(f"{counted(plan.chunks, 'chunk')}; room: {room}")
        if plan.seconds is not None:
            call.console.line(f"{units.format_duration(plan.seconds)} at {plan.rate}")
        for warning in plan.warnings:
            call.console.say(f"warning: {warning}")
        call.console.say("dry run: nothing was changed")
    call.conclude(
        {
            "dry_run": True, "name": plan.name, "full": order.full, "scope": list(plan.scope), "rows": plan.rows,
            "bytes": plan.bytes, "free_bytes": plan.free_bytes, "chunks": plan.chunks, "seconds": plan.seconds,
            "rate_limit": str(plan.rate or "off"), "url": plan.url, "warnings": list(plan.warnings), "next_steps": [],
        }
    )  # fmt: skip


def _delete(call: Invocation, text: str) -> None:
    from hal9mig.engine.checkpoint.orders import Checkpoints

    checkpoints = Checkpoints(call.system)
    listing = checkpoints.listing()
    left = [one.name for one in listing.unusable]
    name = text if text in left else checkpoints.find(text).name
    if name != text:
        call.console.say(f"{text}: {name}")
    what = next((summary(one) for one in listing.manifests if one.name == name), "it was never finished")
    call.confirm(f"Delete checkpoint {name} ({what}) for good?")
    freed = checkpoints.delete(name)
    if not call.json:
        call.console.line(f"checkpoint {name} deleted; {units.format_bytes(freed)} are free again")
    call.conclude({"deleted": name, "bytes": freed, "next_steps": ["hal9-migrate state list-checkpoints"]})


def _refuse(one: str, other: str, reason: str) -> None:
    raise errors.ConflictingFlags(f"{one} and {other} exclude each other: {reason}.", hint="leave one of them out")
