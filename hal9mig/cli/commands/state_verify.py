"""``hal9-migrate state verify``: whether both stores hold the same."""

from __future__ import annotations

import datetime
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from hal9mig import errors, units
from hal9mig.cli import comparison, options, report_file
from hal9mig.cli.console import counted
from hal9mig.cli.invocation import Invocation, pass_call

if TYPE_CHECKING:
    from hal9mig.engine.compare.verify_report import CategoryVerdict

_HELP = """Compare both stores, record by record, in both directions; exit 3 when something differs.

The databases hash every record of both stores in its flat form, so each is compared whatever the options.
A category's line is about what was migrated so far, and says how much that is. With --checksums,
--cross-reference or --all-categories the totals follow, and then what was not migrated yet is a problem too.
What the application changes meanwhile is looked at again and is no difference.

\b
Examples:
  hal9-migrate state verify --deep --compare flat,hierarchical --report consistency-report.json
  hal9-migrate state verify --all-categories --checksums --cross-reference
  hal9-migrate state verify --category neuron-states --filter "layer=substrate"
"""


@click.command(help=_HELP)
@options.categories
@comparison.stores
@options.filter_
@click.option("--deep", is_flag=True, help="Note which fields of a record differ, and how.")
@click.option("--checksums", is_flag=True, help="Print the totals; the report has each category's digests.")
@click.option("--cross-reference", is_flag=True, help="Print the totals; missing and extra records of both stores.")
@options.report
@options.timeout
@options.output
@pass_call
def verify(
    call: Invocation,
    names: tuple[str, ...],
    everything: bool,
    named: bool,
    filter_: str,
    deep: bool,
    checksums: bool,
    cross_reference: bool,
    report: pathlib.Path | None,
    timeout: float | None,
) -> None:
    from hal9mig.engine.compare import verify_report

    totals = checksums or cross_reference or everything
    if report is not None:
        report_file.require_folder(report)
    found = comparison.compare(
        call,
        call.categories(options.chosen(names, everything)),
        filter=filter_,
        deep=deep or named or checksums or cross_reference or report is not None,
        timeout=timeout,
    )
    document = verify_report.report(found, at=datetime.datetime.now(datetime.UTC))
    if report is not None:
        report_file.write(report, document)
        call.console.say(f"written: {report}")
    problem = comparison.problem(found)
    pending = sum(one.pending for one in found)
    if problem is None and totals and pending:
        problem = _not_migrated(found, pending)
    if not call.json:
        for one in found:
            call.console.verdict(one.consistent, verify_report.sentence(one))
        if totals:
            _show_totals(call, found)
    call.conclude(document, problem)


def _show_totals(call: Invocation, found: Sequence[CategoryVerdict]) -> None:
    total, verified = sum(one.total for one in found), sum(one.verified for one in found)
    compared = total + sum(one.extra for one in found)
    for name, value in (
        ("Total Records", units.format_count(total)),
        ("Verified", f"{units.format_count(verified)} ({units.format_percent(verified, compared)})"),
        ("Mismatches", units.format_count(sum(one.mismatches for one in found))),
        ("Missing", units.format_count(sum(one.missing for one in found))),
        ("Extra", units.format_count(sum(one.extra for one in found))),
    ):
        call.console.line(f"{name}: {value}")
    for name, count in (
        ("Not migrated", sum(one.pending for one in found)),
        ("Quarantined", sum(one.quarantined for one in found)),
        ("Changing", sum(one.moving for one in found)),
    ):
        if count:
            call.console.line(f"{name}: {units.format_count(count)}")


def _not_migrated(found: Sequence[CategoryVerdict], pending: int) -> errors.HAL9Error:
    names = ",".join(one.category for one in found if one.pending)
    return errors.DifferencesFound(
        f"{counted(pending, 'record')} not migrated yet: {names}.",
        hint=f"hal9-migrate state migrate --category {names}",
    )
