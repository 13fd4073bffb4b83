"""``hal9-migrate state fix``: records that drifted, repaired all at once or looked at one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from hal9mig import errors
from hal9mig.cli import confirm, full_pass, options
from hal9mig.cli.invocation import Invocation, pass_call

if TYPE_CHECKING:
    from hal9mig.engine.reconcile.full_pass import Found
    from hal9mig.engine.reconcile.guidance import Choice, Guide
    from hal9mig.engine.reconcile.repair import Outcome

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
@pass_call
def fix(
    call: Invocation,
    automatic: bool,
    safe_only: bool,
    interactive: bool,
    guidance: bool,
    timeout: float | None,
    names: tuple[str, ...],
    everything: bool,
) -> None:
    from hal9mig.engine.reconcile.repair import RepairPolicy

    _check(call, automatic=automatic, safe_only=safe_only, interactive=interactive, guidance=guidance)
    if automatic and not safe_only:
        full_pass.require_somebody(call)
    categories = call.categories(options.chosen(names, everything))
    policy = RepairPolicy.SAFE if safe_only else RepairPolicy.AUTO
    passes = full_pass.start(call, categories, RepairPolicy.OFF, insist=True)
    ended = full_pass.awaited(call, passes, timeout=timeout)
    found = [one for _, one in ended]
    if interactive:
        _go_through(call, found, guidance=guidance)
    elif any(one.outcomes or one.unlisted for one in found):
        found, more = full_pass.ask(call, ended, policy, timeout=timeout, insist=True, sure=safe_only)
        passes = [*passes, *more]
        repaired = sum(outcome.repaired for one in found for outcome in one.outcomes.values())
        call.audit("state fix", {"policy": policy, "repaired": repaired, "runs": [run.id for run in passes]})
    if not call.json:
        full_pass.show(call, found)
    shown = RepairPolicy.ASK if interactive else policy
    call.conclude(full_pass.document(call, found, shown, passes), full_pass.problem(found))


def _check(call: Invocation, *, automatic: bool, safe_only: bool, interactive: bool, guidance: bool) -> None:
    if automatic == interactive:
        raise errors.UsageError("Say either --auto or --interactive.", hint="hal9-migrate state fix --auto --safe-only")
    if safe_only and not automatic:
        raise errors.ConflictingFlags("--safe-only is for --auto.", hint="hal9-migrate state fix --auto --safe-only")
    if guidance and not interactive:
        raise errors.ConflictingFlags(
            "--guidance is for --interactive.", hint="hal9-migrate state fix --interactive --guidance"
        )
    if interactive and (call.json or not confirm.can_ask()):
        raise errors.Refused(
            "--interactive asks about each record, and there is no terminal to ask on; nothing was changed.",
            hint="hal9-migrate state fix --auto --safe-only",
        )


def _go_through(call: Invocation, found: Sequence[Found], *, guidance: bool) -> None:
    from hal9mig.engine.desk import Desk
    from hal9mig.engine.reconcile import full_pass as engine_pass
    from hal9mig.engine.reconcile import guidance as guiding

    desk = Desk(call.system)
    waiting = [(one, outcome) for one in found for outcome in list(one.outcomes.values())]
    try:
        for place, (one, outcome) in enumerate(waiting, start=1):
            both = engine_pass.sides(call.system, desk, call.system.category(one.category))
            guide = guiding.guide(both, outcome)
            _show(call, outcome, guide, f"{place} of {len(waiting)}", guidance=guidance)
            choice = _choose(guide)
            if choice is None:
                break
            became = guiding.carry_out(call.system, both, outcome.key, choice)
            if choice is not guiding.Choice.SKIP:
                one.outcomes.pop(outcome.key)
                one.outcomes |= {new.key: new for new in became}
            for new in became:
                if choice is not guiding.Choice.QUARANTINE:
                    call.console.say(f"{new.action}: {new.reason}")
            call.audit("state fix", {"category": one.category, "key": list(outcome.key), "choice": choice})
    finally:
        desk.clear()


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
