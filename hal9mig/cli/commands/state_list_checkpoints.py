"""``hal9-migrate state list-checkpoints`` and ``state export-manifest``."""

from __future__ import annotations

import json
import pathlib
from typing import TYPE_CHECKING

import click

from hal9mig import units
from hal9mig.cli import checkpoint_flow, options, report_file
from hal9mig.cli.invocation import Invocation, pass_call
from hal9mig.ledger.run_options import KeptOptions

if TYPE_CHECKING:
    from hal9mig.engine.checkpoint.manifest import Manifest
    from hal9mig.engine.checkpoint.types import CheckpointListing

_LIST = """List checkpoints, newest first, with what each can be used for.

\b
Examples:
  hal9-migrate state list-checkpoints
  hal9-migrate state list-checkpoints --json
"""
_EXPORT = """Write a checkpoint's manifest to a file: its tables, chunks, hashes, digests and positions.

\b
Examples:
  hal9-migrate state export-manifest --checkpoint latest --output state-manifest.json
"""


@click.command("list-checkpoints", help=_LIST)
@options.output
@pass_call
def list_checkpoints(call: Invocation) -> None:
    from hal9mig.engine.checkpoint.orders import Checkpoints

    found = Checkpoints(call.system).listing()
    steps = [] if found.unknown else [f"hal9-migrate state checkpoint --delete {one.name}" for one in found.unusable]
    if not found.manifests and not found.under_way and not found.unknown:
        steps.append("hal9-migrate state checkpoint --full-backup --verify")
    if not call.json:
        columns = ["NAME", "TAKEN", "KIND", "RESTORABLE", "SCOPE", "MODE", "ROWS", "SIZE", "DESCRIPTION"]
        rows = [_row(one, call.console.when(one.taken_at), found) for one in found.manifests]
        call.console.table(columns, rows, numbers=("ROWS", "SIZE"), whole=("TAKEN", "KIND", "RESTORABLE", "MODE"))
        for run in found.under_way:
            call.console.say(f"{KeptOptions.of(run.options).checkpoint} is being taken by {run.name} ({run.status})")
        if found.unknown:
            call.console.say(f"which are being taken is not known: {found.unknown}")
        for sentence in found.lacking.values():
            call.console.say(sentence)
        for left in found.unusable:
            call.console.say(f"not usable: {left.name}: {left.reason}")
        call.console.suggest(*steps)
    call.conclude(
        {
            "checkpoints": [_document(one, found) for one in found.manifests],
            "under_way": [{"name": KeptOptions.of(run.options).checkpoint, "run": run.id, "status": run.status}
                          for run in found.under_way],
            "under_way_unknown": found.unknown or None,
            "unusable": [{"name": one.name, "reason": one.reason} for one in found.unusable],
            "next_steps": steps,
        }
    )  # fmt: skip


def _document(one: Manifest, found: CheckpointListing) -> dict[str, object]:
    lacking = found.lacking.get(one.name)
    return checkpoint_flow.document(one) | {"restorable": one.restorable and lacking is None, "lacking": lacking}


def _row(one: Manifest, when: str, found: CheckpointListing) -> list[object]:
    return [
        one.name,
        when,
        f"{one.kind}, {'verified' if one.verified else 'not verified'}" if one.restorable else one.kind,
        "yes" if one.restorable and one.name not in found.lacking else "no",
        "all" if one.whole else ",".join(one.scope),
        one.mode,
        units.format_count(one.rows) if one.restorable else None,
        units.format_bytes(one.bytes) if one.restorable else None,
        ": ".join(part for part in (one.label, one.description) if part),
    ]


@click.command("export-manifest", help=_EXPORT)
@click.option(
    "--checkpoint", "text", required=True, type=options.CHECKPOINT, metavar="NAME",
    help="Its name, the beginning of it, or latest.",
)  # fmt: skip
@click.option(
    "--output", required=True, metavar="FILE", type=options.FILE,
    help="Where to write it.",
)  # fmt: skip
@options.output
@pass_call
def export_manifest(call: Invocation, text: str, output: pathlib.Path) -> None:
    from hal9mig.engine.checkpoint.orders import Checkpoints

    report_file.require_folder(output, undone="nothing was written")
    kept = Checkpoints(call.system)
    with checkpoint_flow.named(kept, text):
        made = kept.find(text)
    # Read back from its own text, so that the file has the very hash that the checkpoint has.
    report_file.write(output, json.loads(made.to_text()))
    if not call.json:
        call.console.line(f"manifest of {made.name} written to {output}: {checkpoint_flow.summary(made)}")
    call.conclude({"checkpoint": made.name, "output": str(output), "next_steps": []})
