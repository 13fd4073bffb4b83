"""``hal9-migrate state fix``: records that drifted, repaired all at once or looked at one by one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from hal9mig import errors, units
from hal9mig.cli import full_pass, invocation, options
from hal9mig.cli.commands.reconcile import require_somebody
from hal9mig.cli.console import counted

if TYPE_CHECKING:
    from hal9mig.categories.declaration import Category
    from hal9mig.cli.invocation import Invocation
    from hal9mig.engine.reconcile.full_pass import FullPass
    from hal9mig.engine.reconcile.guidance import Choice, Guide
    from hal9mig.engine.reconcile.repair import Outcome, RepairPolicy

_HELP = """Compare both stores and repair the records that drifted; exit 3 when some are left.

--auto repairs them from the side that the write mode says is right, and asks first. With --safe-only it does not
ask, and leaves what would lose something: deletions, and records of which the other side is newer. --interactive
goes through them one by one on a terminal; --guidance explains each and says what can be done.

\b
Examples:
  hal9-migrate state fix --auto --safe-only
  hal9-migrate state fix --auto --category neuron-states --yes
  hal9-migrate state fix --interactive --guidance
"""


@click.command(help=_HELP)
@click.option("--auto", "automatic", is_flag=True, help="Repair all of them.")
@click.option("--safe-only", is_flag=True, help="Only where nothing can be lost by it; does not ask.")
@click.option("--interactive", is_flag=True, help="Ask about each, on a terminal.")
@click.option("--guidance", is_flag=True, help="Explain the likely cause, and what can be done.")
@click.option("--timeout", type=options.DURATION, help="Stop comparing after this time, with exit code 124.")
@options.categories
@options.yes
@options.output
@click.pass_context
def fix(
    context: click.Context,
    automatic: bool,
    safe_only: bool,
    interactive: bool,
    guidance: bool,
    timeout: str | None,
    names: tuple[str, ...],
    everything: bool,
) -> None:
    from hal9mig.engine.reconcile.repair import RepairPolicy

    call = invocation.current(context)
    _check(call, automatic=automatic, safe_only=safe_only, interactive=interactive, guidance=guidance)
    if automatic and not safe_only:
        require_somebody(call)
    categories = call.categories(options.chosen(names, everything))
    limit = None if timeout is None else units.parse_duration(timeout)
    policy = RepairPolicy.SAFE if safe_only else RepairPolicy.AUTO
    with full_pass.opened(call, categories, insist=True) as work:
        full_pass.run(call, work, RepairPolicy.OFF, timeout=limit)
        if interactive:
            _go_through(call, work, categories, guidance=guidance)
        elif work.outcomes:
            if not safe_only:
                if not call.json:
                    full_pass.show(call, work)
                call.confirm(f"Repair {counted(len(work.outcomes), 'record')} from the {work.mode.ruling} store?")
            _repair(call, work, categories, policy)
        if not call.json:
            full_pass.show(call, work)
        call.conclude(full_pass.document(work, RepairPolicy.ASK if interactive else policy), full_pass.problem(work))


def _check(call: Invocation, *, automatic: bool, safe_only: bool, interactive: bool, guidance: bool) -> None:
    if automatic == interactive:
        raise errors.UsageError("Say either --auto or --interactive.", hint="hal9-migrate state fix --auto --safe-only")
    if safe_only and not automatic:
        raise errors.ConflictingFlags("--safe-only is for --auto.", hint="hal9-migrate state fix --auto --safe-only")
    if guidance and not interactive:
        raise errors.ConflictingFlags(
            "--guidance is for --interactive.", hint="hal9-migrate state fix --interactive --guidance"
        )
    if interactive and (call.json or not (sys.stdin.isatty() and sys.stderr.isatty())):
        raise errors.Refused(
            "--interactive asks about each record, and there is no terminal to ask on; nothing was changed.",
            hint="hal9-migrate state fix --auto --safe-only",
        )


def _repair(call: Invocation, work: FullPass, categories: Sequence[Category], policy: RepairPolicy) -> None:
    for category in categories:
        keys = list(work.found[category.slug].outcomes)
        if keys:
            work.settle(policy, category, keys)
    _audit(call, {"policy": policy, "repaired": sum(one.repaired for one in work.outcomes)})


def _go_through(call: Invocation, work: FullPass, categories: Sequence[Category], *, guidance: bool) -> None:
    from hal9mig.engine.reconcile import guidance as guiding
    from hal9mig.engine.reconcile.repair import RepairPolicy

    waiting = [(category, one) for category in categories for one in list(work.found[category.slug].outcomes.values())]
    for place, (category, one) in enumerate(waiting, start=1):
        both = work.sides(category)
        guide = guiding.guide(both, one)
        _show(call, one, guide, f"{place} of {len(waiting)}", guidance=guidance)
        choice = _choose(guide)
        if choice is None:
            break
        if choice is guiding.Choice.QUARANTINE:
            guiding.quarantine(call.system, both, one.key)
            work.settle(RepairPolicy.OFF, category, [one.key])
        elif choice is not guiding.Choice.SKIP:
            found = work.settle(RepairPolicy.AUTO, category, [one.key], chosen=True)
            for outcome in found:
                call.console.say(f"{outcome.action}: {outcome.reason}")
        _audit(call, {"category": category.slug, "key": list(one.key), "choice": choice})


def _show(call: Invocation, one: Outcome, guide: Guide, place: str, *, guidance: bool) -> None:
    call.console.line()
    call.console.line(f"{place}: {one.category} {'/'.join(one.key)}: {one.kind}; likely cause: {one.cause}")
    rows = [[field.field, field.flat, field.hier] for field in guide.sides]
    call.console.table(["FIELD", "FLAT", "HIERARCHICAL"], rows)
    if guidance:
        call.console.line(guide.cause)
        call.console.line(guide.closed)


def _choose(guide: Guide) -> Choice | None:
    """Ask what to do; None to stop."""
    letters = {str(choice)[0]: choice for choice in guide.choices}
    texts = {"f": "take flat", "h": "take hierarchical", "q": "quarantine", "s": "skip"}
    listed = ", ".join(f"[{letter}] {texts[letter]}" for letter in letters)
    answer = click.prompt(
        f"{listed}, [x] stop", type=click.Choice([*letters, "x"]), default="s", show_choices=False, err=True
    )
    return letters.get(answer)


def _audit(call: Invocation, detail: dict[str, object]) -> None:
    from hal9mig.ledger import audit, database

    with call.ledger.begin() as session:
        audit.log(session, "state fix", actor=database.actor(), detail=detail)
