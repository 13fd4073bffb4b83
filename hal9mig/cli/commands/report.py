"""``hal9-migrate report``: the whole story of a phase as a document."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

import click

from hal9mig import errors
from hal9mig.cli import options, report_file
from hal9mig.cli.invocation import Invocation, pass_call

if TYPE_CHECKING:
    from hal9mig.report.model import Report

_HELP = """Write what happened in a phase, from the ledger: the migration log, counts, the course as pictures, drift and
quarantine with their causes, validations, the benchmark, checkpoints, the switches with their certificates, the manual
checklist with who attests what, and the audit trail with its chain of hashes.

The file's name tells its form: .pdf, .html, .md or .json. The same ledger gives the same file, byte for byte.

\b
Examples:
  hal9-migrate report --phase state-migration --detailed --output state-migration-report.pdf
  hal9-migrate report --phase state-migration --output report.md
"""
_FORMS = (".pdf", ".html", ".md", ".json")


@click.command(help=_HELP)
@click.option("--phase", required=True, metavar="PHASE", help="The phase: state-migration.")
@click.option("--detailed", is_flag=True, help="With every run, all evidence, and the newest events of the audit.")
@click.option("--output", required=True, type=options.PATH, metavar="FILE", help="Where to write it.")
@options.output
@pass_call
def report(call: Invocation, phase: str, detailed: bool, output: pathlib.Path) -> None:
    from hal9mig.checks import phase as phase_checks
    from hal9mig.report import phase_report

    phase_checks.known(phase)
    form = output.suffix.lower()
    if form not in _FORMS:
        raise errors.UsageError(
            f"A report cannot be written as {form or output.name!r}.",
            hint=f"--output {output.stem}.pdf; {', '.join(_FORMS)} are known",
        )
    report_file.require_folder(output, undone="nothing was written")
    with call.ledger.snapshot() as session:
        made = phase_report.make(session, call.registry.ordered(), detailed=detailed)
    data = _rendered(made, form)
    report_file.write_bytes(output, data)
    if not call.json:
        call.console.line(f"{output}: {len(made.sections)} sections, as of {made.state}")
    call.conclude({"report": str(output), "bytes": len(data), "state": made.state, "next_steps": []})


def _rendered(made: Report, form: str) -> bytes:
    from hal9mig.report import pdf, text

    return {".pdf": pdf.render, ".html": text.as_html, ".md": text.as_markdown, ".json": text.as_json}[form](made)
