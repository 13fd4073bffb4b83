"""``hal9-migrate benchmark``: whether the hierarchical store is as fast for the application as the flat one."""

from __future__ import annotations

import pathlib

import click

from hal9mig import errors
from hal9mig.cli import check_table, options, report_file
from hal9mig.cli.invocation import Invocation, pass_call

_HELP = """Measure reads, writes and updates of both stores in rounds that take turns, category by category.

Every operation is made as the client makes it in that store. What is written is undone before it commits, and its log
flushed all the same: it costs what it costs, and nobody ever sees it, so this may run in any write mode. Slower means
that the hierarchical store's p50, p95 or throughput is worse by more than the noise from round to round, and at
least 10%; exit 3 where it is slower and its p95 is over the SLA. With --sla 0ms nothing but the comparison counts.

\b
Examples:
  hal9-migrate benchmark --operations read,write,update --categories all --compare-systems
  hal9-migrate benchmark --categories neuron-states --rounds 15 --sla 5ms --plot benchmark.png
"""


@click.command(help=_HELP)
@click.option("--operations", default="read,write,update", show_default=True, metavar="A,B", help="Which.")
@options.categories
@click.option("--compare-systems", is_flag=True, help="Compare both stores; it always does.")
@click.option("--rounds", type=click.IntRange(5, 1000), default=5, show_default=True, help="How often they take turns.")
@click.option("--samples", type=click.IntRange(1, 10_000), default=30, show_default=True, help="Operations of a turn.")
@click.option("--sla", type=options.ANY_DURATION, default="50ms", show_default=True, help="A p95 that is fast enough.")
@click.option("--seed", type=options.SEED, default=1, show_default=True, help="Which records are used.")
@click.option("--plot", type=options.PATH, metavar="FILE", help="Draw it: .png, .svg or .pdf.")
@click.option("--report", type=options.PATH, metavar="FILE", help="Write the figures as JSON.")
@options.output
@pass_call
def benchmark(
    call: Invocation,
    operations: str,
    names: tuple[str, ...],
    everything: bool,
    compare_systems: bool,
    rounds: int,
    samples: int,
    sla: float,
    seed: int,
    plot: pathlib.Path | None,
    report: pathlib.Path | None,
) -> None:
    from hal9mig.checks import benchmark as engine
    from hal9mig.checks import benchmark_plot
    from hal9mig.ledger import database

    order = engine.BenchmarkOrder(
        operations=engine.operations(operations), rounds=rounds, samples=samples,
        sla=sla * 1000, seed=seed,
    )  # fmt: skip
    chosen = call.categories(options.chosen(names, everything))
    if plot is not None and plot.suffix.lower() not in benchmark_plot.FORMATS:
        raise errors.UsageError(
            f"No picture of the kind {plot.suffix or 'of ' + plot.name} can be drawn.",
            hint=f"name it {plot.stem}.png; {', '.join(benchmark_plot.FORMATS)} are known",
        )
    for file in filter(None, (plot, report)):
        report_file.require_folder(file, undone="nothing was measured")
    call.system.require_ready()
    outcomes = []
    for outcome in engine.run(call.system, chosen, order, actor=database.actor()):
        outcomes.append(outcome)
        if not call.json:
            check_table.show(call, outcome)
    if not call.json:
        rows = [
            [one.category, one.name.partition(":")[2], store,
             *(f"{one.measured[f'{store}_{name}']:,}" for name in ("p50_ms", "p95_ms", "p99_ms", "per_second"))]
            for one in outcomes if one.measured
            for store in ("flat", "hierarchical")
        ]  # fmt: skip
        columns = ["P50 MS", "P95 MS", "P99 MS", "PER SECOND"]
        call.console.table(["CATEGORY", "OPERATION", "STORE", *columns], rows, numbers=columns)
    document: dict[str, object] = {
        "checks": check_table.document(outcomes), "next_steps": check_table.next_steps(outcomes)
    }  # fmt: skip
    if plot is not None:
        benchmark_plot.draw(outcomes, plot)
        call.console.say(f"drawn: {plot}")
    if report is not None:
        report_file.write(report, document)
        call.console.say(f"report: {report}")
    call.conclude(document, check_table.problem(outcomes))
