"""``hal9-migrate state validate``: the named checks of the categories."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hal9mig import errors, units
from hal9mig.cli import check_table, full_pass, invocation, options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hal9mig.categories.declaration import Category
    from hal9mig.cli.invocation import Invocation
    from hal9mig.ledger.check_results import CheckOutcome

_HELP = """Run named checks on samples of the categories' records, and keep what they find; exit 3 where one fails.

\b
continuity   what the application reads by its key is what it was, through the client and in both stores:
             of a session its user, its token and its expiry, of other records every column
integrity    constraints and indexes are valid, no row is without its record, the digests agree, and the
             audit chain of metadata is whole in its order
performance  a read by key takes no more than twice the flat store's time, or 5 ms more, at p95

A check with nothing to look at is skipped, and never passed. --failed-only shows what failed when it was last run,
and runs nothing. --fix-and-retry repairs what is safe to repair, and runs what failed again.

\b
Examples:
  hal9-migrate state validate --category user-sessions --tests continuity,integrity,performance
  hal9-migrate state validate --failed-only --debug --suggestions
  hal9-migrate state validate --category user-sessions --fix-and-retry
"""


@click.command(help=_HELP)
@options.categories
@click.option("--tests", default="continuity,integrity,performance", show_default=True, metavar="A,B", help="Which.")
@click.option("--sample", type=options.COUNT, default="200", show_default=True, help="Records that a check looks at.")
@click.option("--seed", type=int, default=1, show_default=True, help="Which records those are.")
@click.option("--failed-only", is_flag=True, help="Show the checks that failed last, from the ledger.")
@click.option("--suggestions", is_flag=True, help="Name the next command under each.")
@click.option("--fix-and-retry", is_flag=True, help="Repair what is safe to repair, and run what failed again.")
@click.option("--timeout", type=options.DURATION, help="Stop waiting for a repair after this time, with exit code 124.")
@options.output
@click.pass_context
def validate(
    context: click.Context,
    names: tuple[str, ...],
    everything: bool,
    tests: str,
    sample: str,
    seed: int,
    failed_only: bool,
    suggestions: bool,
    fix_and_retry: bool,
    timeout: str | None,
) -> None:
    from hal9mig.checks import validation

    call = invocation.current(context)
    if failed_only and fix_and_retry:
        raise errors.ConflictingFlags(
            "--failed-only shows what was found before, --fix-and-retry looks anew.", hint="leave one of them out"
        )
    chosen, wanted = call.categories(options.chosen(names, everything)), validation.tests(tests)
    call.coordinator.require_ready()
    if failed_only:
        outcomes = _failed(call, chosen, wanted)
        if not outcomes:
            call.console.say("no check has failed when it was last run")
    else:
        outcomes = _run(call, chosen, wanted, units.parse_count(sample), seed, suggestions=suggestions)
    if fix_and_retry and (bad := [one for one in outcomes if str(one.verdict) == "failed"]):
        outcomes = [one for one in outcomes if str(one.verdict) != "failed"]
        limit = None if timeout is None else units.parse_duration(timeout)
        outcomes += _fixed(call, bad, units.parse_count(sample), seed, limit, suggestions=suggestions)
    elif failed_only and not call.json:
        for outcome in outcomes:
            check_table.show(call, outcome, figures=call.debug, suggestions=suggestions)
    # What is shown from the ledger is no finding of this command's.
    problem = None if failed_only else check_table.problem(outcomes)
    document = {"checks": check_table.document(outcomes), "next_steps": check_table.next_steps(outcomes)}
    call.conclude(document, problem)


def _run(
    call: Invocation,
    categories: Sequence[Category],
    tests: Sequence[str],
    count: int,
    seed: int,
    *,
    suggestions: bool,
) -> list[CheckOutcome]:
    from hal9mig.checks import validation
    from hal9mig.ledger import database

    outcomes = []
    for outcome in validation.run(
        call.system, categories, tests, count=max(1, count), seed=seed, actor=database.actor()
    ):
        outcomes.append(outcome)
        if not call.json:
            check_table.show(call, outcome, figures=call.debug, suggestions=suggestions)
    return outcomes


def _failed(call: Invocation, categories: Sequence[Category], tests: Sequence[str]) -> list[CheckOutcome]:
    from hal9mig.ledger import check_results

    with call.ledger.begin() as session:
        found = check_results.newest(session, categories=[one.slug for one in categories])
    # Of every command that checks: only `state validate` knows its tests by these names.
    return [
        one for one in found if str(one.verdict) == "failed" and (one.command != "state validate" or one.name in tests)
    ]


def _fixed(
    call: Invocation, bad: Sequence[CheckOutcome], count: int, seed: int, limit: float | None, *, suggestions: bool
) -> list[CheckOutcome]:
    """Repair the categories of failed checks as far as it is safe, and run these checks again."""
    from hal9mig.engine.reconcile.repair import RepairPolicy

    slugs = list(dict.fromkeys(one.category for one in bad))
    call.console.say(f"repairing what is safe to repair in {', '.join(slugs)}")
    passes = full_pass.start(call, call.categories(slugs), RepairPolicy.SAFE, insist=True)
    found = [one for _, one in full_pass.wait(call, passes, timeout=limit)]
    if not call.json:
        full_pass.show(call, found)
    again: list[CheckOutcome] = []
    for slug in slugs:
        tests = [one.name for one in bad if one.category == slug]
        again += _run(call, call.categories([slug]), tests, count, seed, suggestions=suggestions)
    return again
