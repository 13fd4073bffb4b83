"""``hal9-migrate validate``: whether a phase has done what it was to do."""

from __future__ import annotations

import click

from hal9mig import errors
from hal9mig.cli import options, phase_validation
from hal9mig.cli.invocation import Invocation, pass_call

_HELP = """Judge a phase by all that shows how it went, a line each; exit 3 where one is not good.

With --comprehensive every category is compared anew, record by record, and the checks that only read are run; the
others are judged by what they have found since the migration began: `neurons validate-connections`, `neurons
test-signals`, `config test-reload` and `benchmark` leave it in the ledger. Without it the newest such judgement is
shown. `state verify` compares, `state validate` runs the checks of one category; this is the gate over all of them,
and `phase complete` asks for it.

\b
Examples:
  hal9-migrate validate --phase state-migration --comprehensive
  hal9-migrate validate --phase state-migration --json
"""


@click.command(help=_HELP)
@click.option("--phase", required=True, metavar="PHASE", help="The phase: state-migration.")
@click.option("--comprehensive", is_flag=True, help="Compare and judge now, and keep what comes of it.")
@options.timeout
@options.output
@pass_call
def validate(call: Invocation, phase: str, comprehensive: bool, timeout: float | None) -> None:
    from hal9mig.checks import phase as phase_checks

    phase_checks.known(phase)
    call.system.require_ready()
    if comprehensive:
        found = phase_validation.make(call, phase, timeout=timeout)
    else:
        newest = phase_checks.standing(call.system, phase).validation
        if newest is None:
            raise errors.NotFound(
                f"{phase} was never validated.", hint=f"hal9-migrate validate --phase {phase} --comprehensive"
            )
        found = newest
        call.console.say(f"validation {found.id}, of {call.console.when(found.at)}, by {found.actor}")
    if not call.json:
        phase_validation.show(call, found)
    steps = phase_validation.next_steps(found)
    call.conclude(phase_validation.document(found) | {"next_steps": steps}, phase_validation.problem(found))
