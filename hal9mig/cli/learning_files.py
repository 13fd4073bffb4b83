"""Folders of learning data on the command line: what exporting, transforming and importing share."""

from __future__ import annotations

import pathlib
import shlex
from typing import TYPE_CHECKING

from hal9mig import units
from hal9mig.cli import wait
from hal9mig.cli.console import counted

if TYPE_CHECKING:
    from hal9mig import model
    from hal9mig.cli.invocation import Invocation
    from hal9mig.engine.pattern_files.manifest import FolderManifest
    from hal9mig.engine.pattern_files.orders import FilesPlan


def show_plan(call: Invocation, plan: FilesPlan, verb: str) -> None:
    """Say what would be written, as ``verb`` names it, and that nothing was."""
    sentence = (
        f"would {verb} {counted(plan.records, 'record')}, about {units.format_bytes(plan.bytes)}, "
        f"to {plan.folder}"
    )  # fmt: skip
    if plan.done is not None:
        sentence = f"{plan.folder} holds this already; there would be nothing to do"
    elif plan.resumed is not None:
        sentence = f"would go on with {plan.resumed.name}, which fills {plan.folder}"
    if not call.json:
        call.console.line(sentence)
        _warn(call, plan)
        call.console.say("dry run: nothing was changed")
    call.conclude(
        {
            "dry_run": True,
            "folder": str(plan.folder),
            "records": plan.records,
            "bytes": plan.bytes,
            "resumes": None if plan.resumed is None else plan.resumed.id,
            "done_already": plan.done is not None,
            "warnings": list(plan.warnings),
            "next_steps": [],
        }
    )


def announce(call: Invocation, run: model.Run, plan: FilesPlan) -> None:
    """Say what is going to be written."""
    begun = "goes on with" if plan.resumed is not None else "takes"
    call.console.say(
        f"{run.name}: {begun} {counted(plan.records, 'record')}, about {units.format_bytes(plan.bytes)}, "
        f"to {plan.folder}"
    )
    _warn(call, plan)


def _warn(call: Invocation, plan: FilesPlan) -> None:
    call.console.warn(*plan.warnings)


def waited(call: Invocation, run: model.Run, *, records: int, timeout: float | None) -> model.Run:
    """Wait for a run's end, and say which workers were left out.

    Raises: as ``wait.for_end``.
    """
    from hal9mig.engine.checkpoint import place

    (run,) = wait.for_end(call, [run], expected={run.id: records}, timeout=timeout)
    with call.ledger.begin() as session:
        out = place.left_out(session, run.id)
    for worker in out:
        call.console.warn(f"worker {worker} was left out: it does not see the folder as this command does")
    return run


def sentence(made: FolderManifest, folder: object) -> str:
    """Return what a folder holds, as one line."""
    what = "flat records" if made.kind == "exported" else f"rows of {' and '.join(made.columns)}"
    verb = "read" if made.kind == "exported" else "transformed"
    layout = "in a tree" if made.layout == "hierarchical" else "in one folder"
    return (
        f"{folder}: {counted(made.records, 'record')} as {what}; {counted(len(made.files), 'file')} {layout}, "
        f"{units.format_bytes(made.bytes)} ({units.format_bytes(made.raw_bytes)} as binary COPY), and manifest.json "
        f"with their counts and SHA-256; {verb} {made.began_at:%Y-%m-%dT%H:%M:%SZ} to "
        f"{made.finished_at:%Y-%m-%dT%H:%M:%SZ}, mode {made.mode}"
    )


def table(call: Invocation, made: FolderManifest) -> None:
    """Print what a folder holds of each table."""
    rows = []
    for name in made.columns:
        files = [file for file in made.files if file.table == name]
        rows.append(
            [
                name, units.format_count(sum(file.rows for file in files)), units.format_count(len(files)),
                units.format_bytes(sum(file.bytes for file in files)),
            ]
        )  # fmt: skip
    call.console.table(["TABLE", "ROWS", "FILES", "BYTES"], rows, numbers=("ROWS", "FILES", "BYTES"))


def document(made: FolderManifest, folder: object) -> dict[str, object]:
    """Return what a folder holds as it stands in a JSON document."""
    return {
        "folder": str(folder),
        "kind": made.kind,
        "layout": made.layout,
        "category": made.category,
        "schema_version": made.schema_version,
        "records": made.records,
        "refused": made.refused,
        "files": len(made.files),
        "bytes": made.bytes,
        "raw_bytes": made.raw_bytes,
        "began_at": made.began_at,
        "finished_at": made.finished_at,
        "mode": made.mode,
        "manifest_sha256": made.sha256,
    }


def command(verb: str, given: pathlib.Path, *more: str) -> str:
    """Return a command on a folder that was given, as a shell takes it."""
    return " ".join(["hal9-migrate learning", verb, "--input", shlex.quote(str(given)), *more])
