"""``hal9-migrate sample-data``: a deterministic HAL9 state in the flat store."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from hal9mig import errors, units

if TYPE_CHECKING:
    from hal9mig.sample import Loaded, Progress

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


@click.group("sample-data")
def sample_data() -> None:
    """Make sample data to try a migration on."""


@sample_data.command(help=_LOAD)
@click.option("--scale", type=float, default=0.01, show_default=True, metavar="F", help="Size; 1 is HAL9's own.")
@click.option("--seed", type=int, default=42, show_default=True, metavar="N", help="Another seed, other data.")
@click.option("--category", "categories", multiple=True, metavar="NAME", help="Only these; repeat it, or use commas.")
@click.option("--workers", type=click.IntRange(1, 64), metavar="N", help="Processes.  [default: one a processor]")
@click.option("--edge-cases", is_flag=True, help="Add records with edge values: NaN, infinities, NULLs, 2 MB texts.")
@click.option("--replace", is_flag=True, help="Delete the rows that the tables hold first.")
@click.option("--yes", is_flag=True, help="Answer the question of --replace beforehand.")
@click.option("--dry-run", is_flag=True, help="Show what would be deleted and loaded, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_context
def load(
    context: click.Context,
    scale: float,
    seed: int,
    categories: tuple[str, ...],
    workers: int | None,
    edge_cases: bool,
    replace: bool,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    # Late: SQLAlchemy and the driver take their time, and --help does without.
    from hal9mig import sample
    from hal9mig.categories import registry

    flat_url = context.obj.settings.require_flat()
    shape = sample.Shape(scale=scale, seed=seed)
    held = sample.occupied(flat_url, categories)
    if dry_run:
        chosen = registry.builtin().select(categories)
        rows = {category.slug: shape.records(category.slug) for category in chosen}
        _show_plan(rows, held, as_json=as_json)
        if held and not replace:
            raise _refusal(held)
        return
    if held and not replace:
        raise _refusal(held)
    if held and not yes:
        _confirm(held)
    loaded = sample.load(
        flat_url,
        scale=scale,
        seed=seed,
        categories=categories,
        workers=workers or os.cpu_count() or 1,
        on_progress=_Lines(),
        replace=replace,
        edge_cases=edge_cases,
    )
    _show(loaded, scale, seed, as_json=as_json)


class _Lines:
    """Says on stderr how far it is: over and over on one line of a terminal, else a line each ten seconds."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._category = ""
        self._started = self._said = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.category != self._category:
            self._category, self._started = progress.category, now
            self._said = now if self._said == 0.0 else self._said
        over = self._terminal and progress.done >= progress.total
        if not over and now - self._said < (0.2 if self._terminal else _INTERVAL):
            return
        self._said = now
        rate = progress.done / max(now - self._started, 0.001)
        line = (
            f"{progress.category}: {units.format_count(progress.done)}/{units.format_count(progress.total)} "
            f"{units.format_percent(progress.done, progress.total)}; {units.format_count(round(rate))}/s; "
            f"{units.format_bytes(progress.bytes)}"
        )
        if self._terminal:
            click.echo(f"\r{line:<78}", err=True, nl=over)
        else:
            click.echo(line, err=True)


def _listed(held: dict[str, int]) -> str:
    return ", ".join(f"{slug} (about {units.format_count(rows)} rows)" for slug, rows in held.items())


def _refusal(held: dict[str, int]) -> errors.Refused:
    return errors.Refused(f"The flat store holds rows already: {_listed(held)}.", hint="--replace deletes them first")


def _confirm(held: dict[str, int]) -> None:
    if not sys.stdin.isatty():
        raise errors.ConfirmationRequired(f"This deletes rows of the flat store: {_listed(held)}.")
    if not click.confirm(f"Delete from the flat store {_listed(held)}?", err=True):
        raise errors.Refused("Not confirmed; nothing was changed.")


def _show_plan(rows: dict[str, int], held: dict[str, int], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "dry_run": True, "rows": rows, "deletes": held}, indent=2))
        return
    for slug, count in rows.items():
        deleted = f", after deleting about {units.format_count(held[slug])}" if slug in held else ""
        click.echo(f"{slug}: {units.format_count(count)} rows{deleted}")


def _show(loaded: Sequence[Loaded], scale: float, seed: int, *, as_json: bool) -> None:
    next_steps = ["hal9-migrate state status"]
    if as_json:
        document = {
            "schema_version": 1,
            "scale": scale,
            "seed": seed,
            "loaded": [
                {"category": one.category, "rows": one.rows, "bytes": one.bytes, "seconds": round(one.seconds, 3)}
                for one in loaded
            ],
            "next_steps": next_steps,
        }
        click.echo(json.dumps(document, indent=2))
        return
    rows = [("CATEGORY", "ROWS", "BYTES", "TIME")]
    rows += [_cells(one.category, one.rows, one.bytes, one.seconds) for one in loaded]
    rows.append(_cells("total", *(sum(column) for column in zip(*map(_numbers, loaded), strict=True))))
    if not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(row))
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    click.echo(f"next: {next_steps[0]}", err=True)


def _numbers(one: Loaded) -> tuple[int, int, float]:
    return one.rows, one.bytes, one.seconds


def _cells(name: str, rows: float, size: float, seconds: float) -> tuple[str, str, str, str]:
    return name, units.format_count(int(rows)), units.format_bytes(size), units.format_duration(seconds)
