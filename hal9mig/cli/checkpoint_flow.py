"""Taking a checkpoint on the command line: what rollback, recovery and snapshots share with the command itself."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hal9mig import errors, safe_text, units
from hal9mig.cli import run_result, wait
from hal9mig.cli.console import counted
from hal9mig.engine import run_standing
from hal9mig.ledger.run_options import KeptOptions

if TYPE_CHECKING:
    from hal9mig import model
    from hal9mig.cli.invocation import Invocation
    from hal9mig.engine.checkpoint.manifest import Manifest
    from hal9mig.engine.checkpoint.orders import CheckpointOrder, Checkpoints, SavePlan


def stamped(begin: str) -> str:
    """Return a name that says when it was made, in UTC."""
    return f"{begin}-{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}"


def perform(call: Invocation, order: CheckpointOrder, *, dry_run: bool, detach: bool, timeout: float | None) -> None:
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
        wait.detached(call, run, checkpoint=order.name)
        return
    (run,) = wait.for_end(call, [run], expected={run.id: plan.rows}, timeout=timeout)
    tell(call, checkpoints, run)


def tell(call: Invocation, checkpoints: Checkpoints, run: model.Run) -> None:
    """Say what a checkpoint whose run has ended holds, and end the command.

    Raises:
        errors.HAL9Error: how its run ended.
    """
    name = KeptOptions.of(run.options).checkpoint
    problem = run_result.problem(run)
    out = checkpoints.left_out(run)
    for worker in out:
        call.console.warn(f"worker {worker} was left out: its HAL9_CHECKPOINT_URL is another place")
    if problem is not None:
        call.conclude({"run": run_standing.document(run), "checkpoint": name, "next_steps": []}, problem)
        return
    try:
        made = checkpoints.find(name)
    except errors.NotFound:
        # It may have been deleted since; but most likely the workers were started with another setting.
        raise errors.NotFound(
            f"Checkpoint {name} was taken, and does not lie at {safe_text.masked(call.settings.checkpoint_url)}.",
            hint="give this command and the workers the same HAL9_CHECKPOINT_URL",
        ) from None
    if not call.json:
        call.console.verdict(True, f"checkpoint {made.name}: {summary(made)} ({run.name})")
    steps = [f"hal9-migrate state export-manifest --checkpoint {made.name} --output manifest.json"]
    call.conclude(
        {"run": run_standing.document(run), "checkpoint": document(made), "left_out": out, "next_steps": steps}
    )


def announce(call: Invocation, run: model.Run, plan: SavePlan, order: CheckpointOrder) -> None:
    """Say what a checkpoint is going to keep."""
    call.console.say(f"{run.name}: {_sentence(plan, order)}")
    if order.full:
        call.console.say(f"this takes {plan.expected}")
    call.console.warn(*plan.warnings)


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
        call.console.warn(*plan.warnings)
        call.console.say("dry run: nothing was changed")
    call.conclude(
        {
            "dry_run": True, "name": plan.name, "full": order.full, "scope": list(plan.scope), "rows": plan.rows,
            "bytes": plan.bytes, "free_bytes": plan.free_bytes, "chunks": plan.chunks,
            **plan.expected.document,
            "rate_limit": str(plan.rate or "off"), "url": plan.url, "warnings": list(plan.warnings), "next_steps": [],
        }
    )  # fmt: skip


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
            if KeptOptions.of(run.options).checkpoint == text:
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
