"""``hal9-migrate state diff``: which records differ, and in which fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from hal9mig import errors
from hal9mig.cli import comparison, options
from hal9mig.cli.console import counted
from hal9mig.cli.invocation import Invocation, pass_call

if TYPE_CHECKING:
    from hal9mig.ledger.verify_results import Difference

_HELP = """Compare both stores and list the records that differ, a line each; exit 3 when there are any.

Records that no run has migrated yet are counted, and are no difference.

\b
Examples:
  hal9-migrate state diff --systems flat,hierarchical --verbose
  hal9-migrate state diff --category neuron-states --jsonl
"""


@click.command(help=_HELP)
@options.categories
@comparison.stores
@options.filter_
@click.option("--verbose", is_flag=True, help="A line for each field, with its value in both stores.")
@click.option("--jsonl", is_flag=True, help="One JSON document a difference, each on a line of its own.")
@click.option(
    "--limit", type=options.COUNT, default="1000", show_default=True, help="At most so many records of each category."
)
@options.timeout
@options.output
@pass_call
def diff(
    call: Invocation,
    names: tuple[str, ...],
    everything: bool,
    named: bool,
    filter_: str,
    verbose: bool,
    jsonl: bool,
    limit: int,
    timeout: float | None,
) -> None:
    if jsonl and call.json:
        raise errors.ConflictingFlags(
            "--json and --jsonl exclude each other: one is a single document, the other a stream of them.",
            hint="leave one of them out",
        )
    found = comparison.compare(
        call,
        call.categories(options.chosen(names, everything)),
        filter=filter_,
        deep=True,
        timeout=timeout,
        limit=limit,
    )
    listed = [(one.category, item) for one in found for item in one.differences]
    differing = sum(one.differing for one in found)
    if jsonl:
        for slug, item in listed:
            call.console.json_line(_document(slug, item))
    elif not call.json:
        _table(call, listed, verbose=verbose)
    pending = sum(one.pending for one in found)
    if differing > len(listed):
        call.console.say(f"{counted(differing, 'difference')}, {len(listed)} of them listed; more: --limit")
    if pending:
        call.console.say(f"{counted(pending, 'record')} not migrated yet")
    if not differing:
        call.console.say("no differences")
    problem = comparison.problem(found)
    if problem is not None and isinstance(problem, errors.DifferencesFound):
        problem = errors.DifferencesFound(
            problem.message, hint="" if verbose else "see both values of each field: add --verbose"
        )
    document = {
        "differences": [_document(slug, item) for slug, item in listed],
        "counted": differing,
        "pending": pending,
        "next_steps": [f"hal9-migrate quarantine list --category {one.category}" for one in found if one.quarantined],
    }
    call.conclude(document, problem)


def _table(call: Invocation, listed: Sequence[tuple[str, Difference]], *, verbose: bool) -> None:
    rows: list[list[object]] = []
    for slug, item in listed:
        start: list[object] = [slug, str(item.kind), "/".join(item.key)]
        if not verbose:
            rows.append([*start, ", ".join(field.field for field in item.fields)])
        elif not item.fields:
            rows.append([*start, None, None, None])
        for field in item.fields if verbose else ():
            rows.append([*start, field.field, _value(field.flat), _value(field.hier)])
    if listed:
        fields = ["FIELD", "FLAT", "HIERARCHICAL"] if verbose else ["FIELDS"]
        call.console.table(["CATEGORY", "DIFFERENCE", "KEY", *fields], rows)


def _value(text: str | None) -> str:
    # An empty text is a value and not an empty cell.
    return "NULL" if text is None else text or "''"


def _document(slug: str, item: Difference) -> dict[str, object]:
    return {
        "category": slug,
        "difference": str(item.kind),
        "key": list(item.key),
        "fields": [dataclasses.asdict(field) for field in item.fields],
    }
