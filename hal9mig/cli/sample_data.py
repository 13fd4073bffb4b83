"""``hal9-migrate sample-data``: a deterministic HAL9 state in the flat store."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from hal9mig import errors, units
from hal9mig.cli import invocation, options

if TYPE_CHECKING:
    from hal9mig.cli.console import Console
    from hal9mig.cli.invocation import Invocation
    from hal9mig.sample import Loaded, Progress, Shape

_LOAD = """Fill the flat store with sample data of HAL9's shape.

Scale 1 is 100,000 sessions, 1,000,000 neurons, 10 GB of learning data, 1,000 configuration keys and
100 MB of metadata. The same scale and seed give the same data, whatever the number of workers. Tables
that hold rows are left alone and the command is refused, unless --replace is given.

\b
Examples:
  hal9-migrate sample-data load --scale 0.01
  hal9-migrate sample-data load --scale 1 --category user-sessions,neuron-states
  hal9-migrate sample-data load --scale 0.001 --edge-cases --replace --yes
"""
_INTERVAL = 10.0  # seconds between lines where there is no terminal
_BLINK = 0.2  # seconds between two looks of the line on a terminal


@click.group("sample-data")
def sample_data() -> None:
    """Make sample data to try a migration on."""


@sample_data.command(help=_LOAD)
@click.option("--scale", type=float, default=0.01, show_default=True, metavar="F", help="Size; 1 is HAL9's own.")
@click.option("--seed", type=int, default=42, show_default=True, metavar="N", help="Another seed, other data.")
@options.categories
@click.option("--workers", type=click.IntRange(1, 64), metavar="N", help="Processes.  [default: one a processor]")
@click.option("--edge-cases", is_flag=True, help="Add records with edge values: NaN, infinities, NULLs, 2 MB texts.")
@click.option("--replace", is_flag=True, help="Delete the rows that the tables hold first.")
@click.option("--dry-run", is_flag=True, help="Show what would be deleted and loaded, and change nothing.")
@options.yes
@options.output
@click.pass_context
def load(
    context: click.Context,
    scale: float,
    seed: int,
    names: tuple[str, ...],
    everything: bool,
    workers: int | None,
    edge_cases: bool,
    replace: bool,
    dry_run: bool,
) -> None:
    # Late: SQLAlchemy and the driver take their time, and --help does without.
    from hal9mig import sample
    from hal9mig.categories import registry

    call = invocation.current(context)
    flat_url = call.settings.require_flat()
    wanted = options.chosen(names, everything)
    shape = sample.Shape(scale=scale, seed=seed)
    held = sample.occupied(flat_url, wanted)
    if held and not replace:
        raise errors.Refused(
            f"The flat store holds rows already: {_listed(held)}.", hint="--replace deletes them first"
        )
    if dry_run:
        chosen = registry.builtin().select(wanted)
        _show_plan(call, {category.slug: shape.records(category.slug) for category in chosen}, held)
        return
    if held:
        call.confirm(f"Delete these rows of the flat store: {_listed(held)}?")
    loaded = sample.load(
        flat_url,
        scale=scale,
        seed=seed,
        categories=wanted,
        workers=workers or os.cpu_count() or 1,
        on_progress=_Lines(call.console),
        replace=replace,
        edge_cases=edge_cases,
    )
    _show(call, loaded, shape)


class _Lines:
    """Says on stderr how far it is: over and over on one line of a terminal, else a line each ten seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        now, terminal = time.monotonic(), self._console.talk_is_terminal
        over = terminal and progress.done >= progress.total
        if not over and now - self._said < (_BLINK if terminal else _INTERVAL):
            return
        self._said = now
        rate = progress.done / max(progress.seconds, 0.001)
        line = (
            f"{progress.category}: {units.format_count(progress.done)}/{units.format_count(progress.total)} "
            f"{units.format_percent(progress.done, progress.total)}; {units.format_count(round(rate))}/s; "
            f"{units.format_bytes(progress.bytes)}"
        )
        if terminal:
            click.echo(f"\r{line:<78}", err=True, nl=over)
        else:
            self._console.say(line)


def _listed(held: dict[str, int]) -> str:
    return ", ".join(f"{slug} (about {units.format_count(rows)} rows)" for slug, rows in held.items())


def _show_plan(call: Invocation, rows: dict[str, int], held: dict[str, int]) -> None:
    if call.json:
        call.console.document({"dry_run": True, "rows": rows, "deletes": held})
        return
    cells = [(slug, units.format_count(count), units.format_count(held.get(slug, 0))) for slug, count in rows.items()]
    call.console.table(("CATEGORY", "ROWS", "DELETED BEFORE"), cells, numbers=("ROWS", "DELETED BEFORE"))
    call.console.say("dry run: nothing was changed")


def _show(call: Invocation, loaded: Sequence[Loaded], shape: Shape) -> None:
    steps = ["hal9-migrate state status", "hal9-migrate state migrate --category all"]
    if call.json:
        rows = [
            {"category": one.category, "rows": one.rows, "bytes": one.bytes, "seconds": round(one.seconds, 3)}
            for one in loaded
        ]
        call.console.document({"scale": shape.scale, "seed": shape.seed, "loaded": rows, "next_steps": steps})
        return
    cells = [_cells(one.category, one.rows, one.bytes, one.seconds) for one in loaded]
    sums = (sum(one.rows for one in loaded), sum(one.bytes for one in loaded), sum(one.seconds for one in loaded))
    call.console.table(
        ("CATEGORY", "ROWS", "BYTES", "TIME"), [*cells, _cells("total", *sums)], numbers=("ROWS", "BYTES", "TIME")
    )
    call.console.say(f"next: {steps[-1]}")


def _cells(name: str, rows: int, size: int, seconds: float) -> tuple[str, str, str, str]:
    return name, units.format_count(rows), units.format_bytes(size), units.format_duration(seconds)
