"""``hal9-migrate attest``: what only people can know."""

from __future__ import annotations

import click

from hal9mig import errors
from hal9mig.cli import options
from hal9mig.cli.invocation import Invocation, pass_call

_HELP = """Attest something that no program can look at, such as that ten sessions were looked at by hand.

It is kept with who said it and when, and the report shows it; nothing is ever ticked by itself.
`phase show state-migration` lists the items.

\b
Examples:
  hal9-migrate attest spot-check-sessions
  hal9-migrate attest team-confidence --note "all five agree"
"""


@click.command(help=_HELP)
@click.argument("item", metavar="ITEM")
@click.option("--phase", default="state-migration", show_default=True, metavar="PHASE", help="The phase it is about.")
@click.option("--note", default="", metavar="TEXT", help="What was seen.")
@options.output
@pass_call
def attest(call: Invocation, item: str, phase: str, note: str) -> None:
    from hal9mig.checks import phase as phase_checks
    from hal9mig.ledger import audit, database, phases

    phase_checks.known(phase)
    if item not in phases.ITEMS:
        raise errors.UsageError(f"There is no item {item!r} to attest.", hint=f"one of {', '.join(phases.ITEMS)}")
    call.system.require_ready()
    actor = database.actor()
    with call.ledger.begin() as session:
        phases.attest(session, phase, item, note=note, actor=actor)
        audit.log(session, "attested", actor=actor, detail={"phase": phase, "item": item, "note": note})
    if not call.json:
        call.console.verdict(True, f"{actor} attests that {phases.ITEMS[item]}")
    call.conclude(
        {"phase": phase, "item": item, "by": actor, "note": note, "next_steps": [f"hal9-migrate phase show {phase}"]}
    )
