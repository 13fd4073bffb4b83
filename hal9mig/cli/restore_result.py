"""What a restore did, or why it did nothing."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from hal9mig import errors, model, units
from hal9mig.cli import run_result
from hal9mig.cli.console import counted
from hal9mig.engine import run_standing
from hal9mig.ledger.run_options import KeptOptions, RestoreOptions

if TYPE_CHECKING:
    from hal9mig.cli.invocation import Invocation
    from hal9mig.engine.checkpoint.manifest import Manifest
    from hal9mig.engine.checkpoint.orders import Checkpoints, Damage, Restored

_MOST_DAMAGES = 20


def tell(call: Invocation, checkpoints: Checkpoints, run: model.Run, extra: dict[str, Any]) -> None:
    """Say what a restore that has ended did, and end the command.

    Args:
        extra: what the JSON document holds beside it.

    Raises:
        errors.RunFailed, errors.CheckpointDamaged: it failed; nothing was changed.
        errors.RecordsQuarantined: some records could not be read.
    """
    problem = run_result.problem(run)
    if problem is not None:
        made = None
        with contextlib.suppress(errors.HAL9Error):
            made = checkpoints.find(KeptOptions.of(run.options).checkpoint)
        kept, steps = extra.get("safety_checkpoint"), [f"hal9-migrate runs show {run.id}"]
        found = damaged(run, made)
        # Loading it was all that was done, so that nothing has been replaced.
        if found is not None and kept is not None:
            call.console.say(f"safety checkpoint {kept} is not needed: hal9-migrate state checkpoint --delete {kept}")
            steps.append(f"hal9-migrate state checkpoint --delete {kept}")
        call.conclude({"run": run_standing.document(run), **extra, "next_steps": steps}, found or problem)
        return
    done = checkpoints.outcome(run)
    if not call.json:
        show(call, done, run)
    call.conclude(
        {"run": run_standing.document(run), **extra, "restored": document(done), "next_steps": list(done.next_steps)},
        quarantined(done),
    )


def damaged(run: model.Run, made: Manifest | None) -> errors.CheckpointDamaged | None:
    """Return the error of a restore that failed since the checkpoint is damaged, None where it failed otherwise."""
    if made is None or run.status is not model.RunStatus.FAILED:
        return None
    # The ledger keeps the sentence of an error, and a damage's names the file that it is in.
    if not any(chunk.file in run.reason for table in made.tables for chunk in table.chunks):
        return None
    hint = f"hal9-migrate state recover --from-backup {made.name} --validate-each --quarantine-corrupted"
    return errors.CheckpointDamaged(
        f"Checkpoint {made.name} is damaged, and nothing was changed: {run.reason}",
        hint="add --quarantine-corrupted to go on without it" if RestoreOptions.of(run.options).recover else hint,
    )


def quarantined(done: Restored) -> errors.RecordsQuarantined | None:
    """Return the error that records in quarantine amount to."""
    if not done.quarantined:
        return None
    return errors.RecordsQuarantined(
        f"{counted(done.quarantined, 'record')} of {done.name} could not be read, and went to quarantine; "
        f"the other store's part of it has {units.format_count(done.offered)} of them.",
        hint=" ; ".join(done.next_steps),
    )


def show(call: Invocation, done: Restored, run: model.Run) -> None:
    """Print what a restore did."""
    rows = sum(count for _, count in done.tables)
    call.console.verdict(
        not done.quarantined,
        f"{counted(rows, 'row')} of {counted(len(done.tables), 'table')} restored from {done.name}; "
        f"writers were kept out {units.format_duration(max(0.01, done.seconds))} ({run.name})",
    )
    for damage in done.damages[:_MOST_DAMAGES]:
        call.console.line(f"  {place(damage)}")
    if len(done.damages) > _MOST_DAMAGES:
        call.console.line(f"  and {len(done.damages) - _MOST_DAMAGES} more; all of them: add --json")
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
    if not done.quarantined:  # there the error's hint says them
        call.console.suggest(*done.next_steps)


def place(damage: Damage) -> str:
    """Return a damage as one line: where, why, and between which keys."""
    low = "the beginning" if damage.after is None else "/".join(damage.after)
    high = "the end" if damage.upto is None else "/".join(damage.upto)
    return f"{damage.file}, frame {damage.frame}: {damage.why}; {counted(damage.rows, 'row')} between {low} and {high}"


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
