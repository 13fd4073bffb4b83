"""``hal9-migrate learning test``: whether both stores recall the same patterns."""

from __future__ import annotations

import functools

import click

from hal9mig.cli import check_table, options
from hal9mig.cli.invocation import Invocation, pass_call

_HELP = """Recall stored patterns from noisy cues in both stores, and compare the answers, their distances and how often
they are right; exit 3 where a cue recalls another pattern, or the same at another distance.

\b
Examples:
  hal9-migrate learning test --patterns 100 --compare-systems
"""


@click.command("test", help=_HELP)
@click.option("--patterns", type=click.IntRange(1, 2000), default=100, show_default=True, help="How many patterns.")
@click.option("--compare-systems", is_flag=True, help="Compare both stores; it always does.")
@click.option(
    "--noise", type=options.FiniteRange(0, 10), default=0.2, show_default=True, help="Noise of a cue, as a share."
)
@click.option("--seed", type=options.SEED, default=1, show_default=True, help="Which patterns, and which noise.")
@options.output
@pass_call
def test(call: Invocation, patterns: int, compare_systems: bool, noise: float, seed: int) -> None:
    from hal9mig.checks import recall, single
    from hal9mig.ledger import database

    call.system.require_ready()
    outcome = single.run(
        call.system, "learning-data", functools.partial(recall.check, noise=noise), command="learning test",
        actor=database.actor(), sample=patterns, seed=seed,
    )  # fmt: skip
    check_table.conclude(call, outcome)
