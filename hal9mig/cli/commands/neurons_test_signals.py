"""``hal9-migrate neurons test-signals``: whether signals take the same way through both stores."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from hal9mig import errors, units
from hal9mig.cli import connections, options
from hal9mig.cli.console import counted
from hal9mig.cli.invocation import Invocation, pass_call

if TYPE_CHECKING:
    from hal9mig.checks.signals import SignalFindings

_MOST_SHOWN = 20
_HELP = """Send signals along real connections in both stores; exit 3 when path, order or value differ.

From each sampled unit a signal starts with its activation and takes connections that the seed draws; the unit a
connection leads to receives tanh(signal x weight + its own activation). Each store finds its way by itself. With
--verify-paths every step is compared, and a difference names the first step at which the paths part; without,
where a signal ends and with which value. What the application writes meanwhile is walked again. A signal that comes
to a unit that is not migrated yet is compared as far as that. Starts are drawn from the store that rules.

\b
Examples:
  hal9-migrate neurons test-signals --samples 1000 --verify-paths
  hal9-migrate neurons test-signals --samples 200 --verify-paths --seed 7
"""


@click.command(name="test-signals", help=_HELP)
@click.option("--samples", type=options.COUNT, default="1000", show_default=True, help="How many signals.")
@click.option("--verify-paths", "whole", is_flag=True, help="Compare every step, and not only where a signal ends.")
@click.option("--seed", type=options.SEED, default=0, show_default=True, help="Draws starts and ways.")
@click.option(
    "--steps", type=click.IntRange(1, 1000), default=16, show_default=True, help="How far a signal goes at most."
)
@options.output
@pass_call
def test_signals(call: Invocation, samples: int, whole: bool, seed: int, steps: int) -> None:
    from hal9mig.checks import signals
    from hal9mig.ledger import check_results, database

    if samples > signals.MOST_SAMPLES:
        raise errors.UsageError(f"--samples takes 1 to {signals.MOST_SAMPLES:,}, not {samples:,}.")
    with connections.stores(call) as both:
        check = signals.SignalCheck(both, samples=samples, seed=seed, steps=steps, whole_paths=whole)
        found = check.run(connections.told(call, "signal"))
        with call.system.ledger.begin() as session:
            check_results.add(
                session, signals.outcome(found), command="neurons test-signals", actor=database.actor()
            )  # fmt: skip
    if not call.json:
        call.console.verdict(not found.differing, signals.sentence(found))
        _show(call, found)
        if 0 < found.signals < samples:
            call.console.say(f"only {counted(found.signals, 'migrated unit')} have connections")
    call.conclude(dataclasses.asdict(found) | {"next_steps": signals.next_steps(found)}, _problem(found))


def _show(call: Invocation, found: SignalFindings) -> None:
    rows = [[one.start, one.step, one.what, one.flat, one.hier] for one in found.differences[:_MOST_SHOWN]]
    if rows:
        call.console.table(["START", "STEP", "UNLIKE", "FLAT", "HIERARCHICAL"], rows, numbers=("STEP",))
    if len(found.differences) > _MOST_SHOWN:
        call.console.say(f"only the first {_MOST_SHOWN} differences are shown; more: --json")


def _problem(found: SignalFindings) -> errors.HAL9Error | None:
    if not found.differing:
        return None
    return errors.DifferencesFound(
        f"{counted(found.differing, 'signal')} of {units.format_count(found.signals)} differ between the stores.",
        hint="hal9-migrate state fix --auto --safe-only --category neuron-states",
    )
