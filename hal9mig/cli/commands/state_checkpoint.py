"""``hal9-migrate state checkpoint``: taking one, and deleting one."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

import click

from hal9mig import errors, units
from hal9mig.cli import invocation, options, run_result
from hal9mig.cli.console import counted

if TYPE_CHECKING:
    from hal9mig import model
    from hal9mig.cli.invocation import Invocation
    from hal9mig.engine.checkpoint.manifest import Manifest
    from hal9mig.engine.checkpoint.orders import CheckpointOrder, Checkpoints, Listing, SavePlan

_HELP = """Keep both stores as they are at this instant, while the application goes on writing.

With --full-backup it holds the data itself and can be restored. Without, it is a marker: counts, digests,
positions and the write mode. It waits for the end; Ctrl-C leaves the run going. --delete removes one.

\b
Examples:
  hal9-migrate state checkpoint --name before-monday --full-backup --verify
  hal9-migrate state checkpoint --category neuron-states --full-backup --verify --rate-limit 20MB/s
  hal9-migrate state checkpoint --delete before-monday
"""


@click.command(help=_HELP)
@click.option("--name", metavar="NAME", help="Its name.  [default: checkpoint- and the time]")
@click.option("--description", metavar="TEXT", help="What it is for.")
@click.option("--full-backup", is_flag=True, help="Keep the data itself, so that it can be restored.")
@click.option("--verify", is_flag=True, help="Read everything back, and compare it with the stores as of the instant.")
@options.categories
@click.option("--rate-limit", type=options.RATE, help="Budget of this checkpoint: 20MB/s, 5000/s.  [default: off]")
@click.option("--dry-run", is_flag=True, help="Show what would be kept, and change nothing.")
@click.option("--detach", is_flag=True, help="Print the run's number and return at once.")
@click.option("--timeout", type=options.DURATION, help="Stop waiting after this time, with exit code 124.")
@click.option("--delete", "deleted", type=options.DELETED, metavar="NAME", help="Delete this checkpoint; asks first.")
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
        "--name": name is not None, "--description": description is not None, "--full-backup": full_backup,
        "--verify": verify, "--category": bool(names) or everything, "--rate-limit": rate_limit is not None,
        "--detach": detach, "--timeout": timeout is not None, "--dry-run": dry_run,
    }  # fmt: skip
    if deleted is not None:
        for flag, is_given in given.items():
            if is_given:
                refuse("--delete", flag, "one removes a checkpoint, the other is about a new one")
        _delete(call, deleted)
        return
    check_waiting(dry_run=dry_run, detach=detach, timeout=timeout)
    from hal9mig.engine.checkpoint.orders import CheckpointOrder

    order = CheckpointOrder(
        # An empty name is one that a script has lost, and no wish for the default.
        name=stamped("checkpoint") if name is None else name,
        description=description or "",
        full=full_backup,
        verify=verify,
        categories=tuple(options.chosen(names, everything)),
        tuning={} if rate_limit is None else {"rate-limit": rate_limit},
    )
    if verify and not full_backup:
        call.console.say(
            "note: without --full-backup it keeps no data that could be read back; its counts and digests are "
            "computed in the stores, so --verify adds nothing"
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
        steps = [f"hal9-migrate runs show {run.id} --watch"]
        if not call.json:
            call.console.line(str(run.id))
            call.console.say(f"watch: {steps[0]}")
        call.conclude({"run": run_result.document(run), "checkpoint": order.name, "next_steps": steps})
        return
    (run,) = run_result.wait(
        call, [run], expected={run.id: plan.rows}, timeout=None if timeout is None else units.parse_duration(timeout)
    )
    tell(call, checkpoints, run)


def tell(call: Invocation, checkpoints: Checkpoints, run: model.Run) -> None:
    """Say what a checkpoint whose run has ended holds, and end the command.

    Raises:
        errors.HAL9Error: how its run ended.
    """
    name = str(run.options["checkpoint"])
    problem = run_result.problem(run)
    out = checkpoints.left_out(run)
    for worker in out:
        call.console.say(f"warning: worker {worker} was left out: its HAL9_CHECKPOINT_URL is another place")
    if problem is not None:
        call.conclude({"run": run_result.document(run), "checkpoint": name, "next_steps": []}, problem)
        return
    try:
        made = checkpoints.find(name)
    except errors.NotFound:
        # It may have been deleted since; but most likely the workers were started with another setting.
        raise errors.NotFound(
            f"Checkpoint {name} was taken, and does not lie at {errors.masked(call.settings.checkpoint_url)}.",
            hint="give this command and the workers the same HAL9_CHECKPOINT_URL",
        ) from None
    if not call.json:
        call.console.verdict(True, f"checkpoint {made.name}: {summary(made)} ({run.name})")
    steps = [f"hal9-migrate state export-manifest --checkpoint {made.name} --output manifest.json"]
    call.conclude({"run": run_result.document(run), "checkpoint": document(made), "left_out": out, "next_steps": steps})


def announce(call: Invocation, run: model.Run, plan: SavePlan, order: CheckpointOrder) -> None:
    """Say what a checkpoint is going to keep."""
    call.console.say(f"{run.name}: {_sentence(plan, order)}")
    if order.full:
        call.console.say(f"this takes {plan.expected}")
    for warning in plan.warnings:
        call.console.say(f"warning: {warning}")


def summary(made: Manifest) -> str:
    """Return what a checkpoint holds, as one line."""
    if made.restorable:
        size = f"{units.format_bytes(made.bytes)} ({units.format_bytes(made.raw_bytes)} uncompressed)"
        kind = f"{counted(made.rows, 'row')}, {size}, {'verified' if made.verified else 'not verified'}"
    else:
        records = sum(both["flat"].records for both in made.digests.values() if "flat" in both)
        kind = f"a marker, counts and digests of {counted(records, 'flat record')}; restorable: no"
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
            call.console.line(f"takes {plan.expected}")
        for warning in plan.warnings:
            call.console.say(f"warning: {warning}")
        call.console.say("dry run: nothing was changed")
    call.conclude(
        {
            "dry_run": True, "name": plan.name, "full": order.full, "scope": list(plan.scope), "rows": plan.rows,
            "bytes": plan.bytes, "free_bytes": plan.free_bytes, "chunks": plan.chunks,
            "expected_seconds": round(plan.expected.seconds, 1),
            "rate_limit": str(plan.rate or "off"), "url": plan.url, "warnings": list(plan.warnings), "next_steps": [],
        }
    )  # fmt: skip


def _delete(call: Invocation, text: str) -> None:
    from hal9mig.engine.checkpoint.orders import Checkpoints

    checkpoints = Checkpoints(call.system)
    listing = checkpoints.listing()
    left = {one.name: one.reason for one in listing.unusable}
    with named(checkpoints, text):
        name = text if text in left else checkpoints.find(text).name
    if name != text:
        call.console.say(f"{text}: {name}")
    what = left.get(name) or next(summary(one) for one in listing.manifests if one.name == name)
    last = only_one_of(listing, name)
    more = f" There is no other verified full checkpoint of {', '.join(last)}." if last else ""
    call.confirm(f"Delete checkpoint {name} ({what}) for good?{more}")
    freed = checkpoints.delete(name)
    if not call.json:
        call.console.line(f"checkpoint {name} deleted; {units.format_bytes(freed)} are free again")
    call.conclude({"deleted": name, "bytes": freed, "next_steps": ["hal9-migrate state list-checkpoints"]})


def only_one_of(listing: Listing, name: str) -> list[str]:
    """Return the categories of which a checkpoint is the only verified full one."""
    kept = [one for one in listing.manifests if one.restorable and one.verified]
    others = {slug for one in kept if one.name != name for slug in one.scope}
    return [slug for one in kept if one.name == name for slug in one.scope if slug not in others]


@contextlib.contextmanager
def named(checkpoints: Checkpoints, text: str) -> Iterator[None]:
    """Look a checkpoint up by its name; where it is there and is none that can be used, say why.

    Raises:
        errors.CheckpointDamaged: it was never finished, or its manifest is damaged.
        errors.NotFound: there is none, or it is being taken just now.
    """
    try:
        yield
    except errors.NotFound:
        found = checkpoints.listing()
        for run in found.under_way:
            if run.options["checkpoint"] == text:
                raise errors.NotFound(
                    f"Checkpoint {text} is not there yet: {run.name} is taking it ({run.status}).",
                    hint=f"hal9-migrate runs show {run.id} --watch",
                ) from None
        for left in found.unusable:
            if left.name == text:
                raise errors.CheckpointDamaged(
                    f"Checkpoint {text} cannot be used: {left.reason}",
                    hint="choose another: hal9-migrate state list-checkpoints",
                ) from None
        raise


def check_waiting(*, dry_run: bool, detach: bool, timeout: str | None) -> None:
    """Raise where options about waiting exclude each other.

    Raises:
        errors.ConflictingFlags: they do.
    """
    if detach and timeout is not None:
        refuse("--detach", "--timeout", "nothing is waited for")
    for given, flag in ((detach, "--detach"), (timeout is not None, "--timeout")):
        if dry_run and given:
            refuse("--dry-run", flag, "a dry run starts nothing that could be waited for")


def refuse(one: str, other: str, reason: str) -> NoReturn:
    """Refuse two options together.

    Raises:
        errors.ConflictingFlags: always.
    """
    raise errors.ConflictingFlags(f"{one} and {other} exclude each other: {reason}.", hint="leave one of them out")
