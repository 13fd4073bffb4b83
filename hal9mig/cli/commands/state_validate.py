"""``hal9-migrate state validate``: named checks of one category, run, kept, shown and mended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from hal9mig import errors, units
from hal9mig.cli import error_text, full_pass, options
from hal9mig.cli.console import counted
from hal9mig.cli.invocation import Invocation, pass_call

if TYPE_CHECKING:
    from hal9mig.categories.declaration import Category
    from hal9mig.checks.validation import Effort, Head
    from hal9mig.ledger.check_results import CheckOutcome

_HELP = """Run the named checks of a category on both stores; exit 3 when one fails.

continuity reads a random sample as the application does: a valid session keeps its user, token and expiry.
integrity counts rows that break a constraint or point at nothing, and compares digests of every range; the audit
trail's hash chain is recomputed. performance reads by key from both stores in turns. A check that has nothing to
look at is skipped, and has not passed. Records that the application writes meanwhile are looked at again.

It reads in every write mode; in flat-only only what is migrated is compared. --failed-only shows the newest
failures that the ledger holds and runs nothing; --debug adds what was measured; --suggestions the next commands.
--fix-and-retry repairs on the workers what failed, where nothing can be lost by it, and runs the failed checks again.

\b
Examples:
  hal9-migrate state validate --category user-sessions --tests continuity,integrity,performance
  hal9-migrate state validate --failed-only --debug --suggestions
  hal9-migrate state validate --category user-sessions --fix-and-retry
"""


def _heads(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    known = ("continuity", "integrity", "performance")
    names = tuple(dict.fromkeys(name.strip() for name in value.split(",")))
    for name in names:
        if name not in known:
            raise errors.UsageError(f"There is no test {name!r}.", hint=f"--tests {','.join(known)}")
    return names


def _factor(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise errors.InvalidUnit(f"{text!r} is no factor.", hint="for example 3 or 1.5")
    return value


@click.command(help=_HELP)
@options.categories
@click.option(
    "--tests",
    "heads",
    metavar="A,B",
    callback=_heads,
    help="Some of continuity, integrity, performance.  [default: all]",
)
@click.option("--failed-only", is_flag=True, help="Show the newest failures in the ledger; run nothing.")
@click.option("--suggestions", is_flag=True, help="Name the next command for each failure.")
@click.option("--fix-and-retry", is_flag=True, help="Repair what can be repaired safely, and run again what failed.")
@click.option("--sample", type=options.COUNT, default="200", show_default=True, help="Records of a random sample.")
@click.option("--seed", type=options.SEED, default=1, show_default=True, help="Of what is drawn at random.")
@click.option(
    "--bound",
    type=options.Quantity("FACTOR", _factor),
    default="3",
    show_default=True,
    help="Reads of the hierarchical store may take so many times as long as the flat store's.",
)
@click.option(
    "--sla",
    type=options.ANY_DURATION,
    default="10ms",
    show_default=True,
    help="A read that is fast enough, however fast the flat store is; 0ms leaves --bound alone to judge.",
)
@click.option("--timeout", type=options.DURATION, help="Stop waiting for repairs after this time, with exit code 124.")
@options.output
@pass_call
def validate(
    call: Invocation,
    names: tuple[str, ...],
    everything: bool,
    heads: tuple[str, ...] | None,
    failed_only: bool,
    suggestions: bool,
    fix_and_retry: bool,
    sample: int,
    seed: int,
    bound: float,
    sla: float,
    timeout: float | None,
) -> None:
    from hal9mig.checks.validation import Effort, Head

    if failed_only and fix_and_retry:
        raise errors.ConflictingFlags(
            "--failed-only runs nothing, and --fix-and-retry does.", hint="leave one of them out"
        )
    categories = call.categories(options.chosen(names, everything))
    if failed_only:
        _show_failures(call, categories, heads, suggestions=suggestions)
        return
    effort = Effort(sample=sample, seed=seed, bound=bound, sla=sla * 1000)
    chosen = [Head(name) for name in heads] if heads else list(Head)
    call.system.require_ready()
    found = _run(call, categories, chosen, effort)
    fixed: dict[str, object] = {}
    if fix_and_retry:
        found, fixed = _fix(call, categories, chosen, effort, found, timeout=timeout)
    if not call.json:
        _show(call, found, suggestions=suggestions)
    document = {"checks": [_document(one) for one in found], "next_steps": _next(found)} | fixed
    _conclude(call, document, _problem(found))


def _run(
    call: Invocation,
    categories: Sequence[Category],
    heads: Sequence[Head],
    effort: Effort,
    only: Sequence[CheckOutcome] | None = None,
) -> list[CheckOutcome]:
    from hal9mig.checks import validation
    from hal9mig.ledger import database

    wanted = None if only is None else [(one.category, one.name) for one in only]
    found = []
    # The declarations with the types that domains are over.
    resolved = [call.system.category(one.slug) for one in categories]
    for outcome in validation.validate(
        call.system, resolved, heads, effort=effort, actor=database.actor(), only=wanted
    ):
        found.append(outcome)
        if call.console.talk_is_terminal:
            call.console.say(f"{outcome.category} {outcome.name}: {outcome.verdict}")
    return found


def _fix(
    call: Invocation,
    categories: Sequence[Category],
    heads: Sequence[Head],
    effort: Effort,
    found: Sequence[CheckOutcome],
    *,
    timeout: float | None,
) -> tuple[list[CheckOutcome], dict[str, object]]:
    """Repair the categories of checks that failed, and return the newest outcome of each check."""
    from hal9mig.engine.reconcile.repair import RepairPolicy

    failed = [one for one in found if one.verdict == "failed"]
    # What was measured too slow, or a table that is not there, no repair of records mends.
    mendable = {one.category for one in failed if one.name.startswith(("continuity", "integrity"))}
    broken = [one for one in categories if one.slug in mendable]
    if not broken:
        call.console.say("nothing to repair" if not failed else "nothing that failed can be mended by a repair")
        return list(found), {"repaired": 0, "runs": []}
    passes = full_pass.start(call, broken, RepairPolicy.SAFE, insist=True)
    ended = [one for _, one in full_pass.awaited(call, passes, timeout=timeout)]
    repaired = sum(outcome.repaired for one in ended for outcome in one.outcomes.values())
    left = sum(len(full_pass.left(one)) for one in ended)
    runs = [run.id for run in passes]
    call.audit("state validate", {"policy": RepairPolicy.SAFE, "repaired": repaired, "runs": runs})
    call.console.say(f"{counted(repaired, 'record')} repaired, {left:,} left; running again what failed")
    again = {(one.category, one.name): one for one in _run(call, categories, heads, effort, failed)}
    newest = [again.get((one.category, one.name), one) for one in found]
    return newest, {"repaired": repaired, "left": left, "runs": runs}


def _show_failures(
    call: Invocation, categories: Sequence[Category], heads: tuple[str, ...] | None, *, suggestions: bool
) -> None:
    from hal9mig.checks import validation

    with call.ledger.begin() as session:
        count, failed = validation.failures(session, categories)
    if heads is not None:
        failed = [one for one in failed if one.name.partition(":")[0] in heads]
    if not call.json:
        if not count:
            call.console.line("No check has run yet; nothing is known to have failed.")
        elif not failed:
            call.console.verdict(True, f"None of the newest results of {counted(count, 'check')} is a failure.")
        else:
            call.console.verdict(False, f"{counted(len(failed), 'check')} failed when last run.")
            rows = [[call.console.when(one.at), one.category, one.name, one.detail] for one in failed]
            call.console.table(["AT", "CATEGORY", "CHECK", "FINDING"], rows)
            _more(call, failed, suggestions=suggestions)
    document = {
        "checks": [_document(one) | {"at": one.at, "command": one.command, "actor": one.actor} for one in failed],
        "known": count,
        "next_steps": _next(failed) if count else ["hal9-migrate state validate --all-categories"],
    }
    _conclude(call, document, _problem(failed))


def _show(call: Invocation, found: Sequence[CheckOutcome], *, suggestions: bool) -> None:
    failed = [one for one in found if one.verdict == "failed"]
    passed = [one for one in found if one.verdict == "passed"]
    skipped = len(found) - len(failed) - len(passed)
    told = f"{len(passed)} of {counted(len(found), 'check')} passed"
    told += f", {len(failed)} failed" if failed else ""
    told += f", {skipped} skipped" if skipped else ""
    if passed or failed:
        call.console.verdict(not failed, f"{told}.")
    else:
        call.console.line(f"Nothing could be checked: {told}.")
    rows = [[one.category, one.name, str(one.verdict), one.detail] for one in found]
    call.console.table(["CATEGORY", "CHECK", "VERDICT", "FINDING"], rows)
    _more(call, found, suggestions=suggestions)


def _more(call: Invocation, found: Sequence[CheckOutcome], *, suggestions: bool) -> None:
    if call.debug:
        rows = [[one.category, one.name, name, _figure(value)] for one in found for name, value in one.measured.items()]
        call.console.table(["CATEGORY", "CHECK", "MEASURED", "VALUE"], rows)
    if suggestions:
        for command in _next(found):
            call.console.line(f"next: {command}")


def _figure(value: object) -> str | None:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or None
    return None if value is None else units.format_count(value) if type(value) is int else str(value)


def _next(found: Sequence[CheckOutcome]) -> list[str]:
    return list(dict.fromkeys(one.next_command for one in found if one.verdict == "failed" and one.next_command))


def _document(one: CheckOutcome) -> dict[str, object]:
    return {
        "category": one.category,
        "check": one.name,
        "verdict": str(one.verdict),
        "detail": one.detail,
        "next_command": one.next_command or None,
        "measured": dict(one.measured),
    }


def _problem(found: Sequence[CheckOutcome]) -> errors.HAL9Error | None:
    failed = [one for one in found if one.verdict == "failed"]
    if not failed:
        return None
    names = ", ".join(f"{one.category} {one.name}" for one in failed)
    hint = next(iter(_next(failed)), "")
    return errors.DifferencesFound(f"{counted(len(failed), 'check')} failed: {names}.", hint=hint)


def _conclude(call: Invocation, document: dict[str, object], problem: errors.HAL9Error | None) -> None:
    if problem is not None and call.debug and not call.json:
        # Here --debug asks for what was measured; where a finding was raised is no part of that.
        for line in error_text.lines(problem):
            call.console.say(line)
        click.get_current_context().exit(problem.exit_code)
    call.conclude(document, problem)
