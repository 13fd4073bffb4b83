"""``hal9-migrate sample-data``: a deterministic HAL9 state in the flat store, and live traffic on it."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import signal
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from hal9mig import errors, units
from hal9mig.cli import confirm, lazy_group, options
from hal9mig.cli.invocation import Invocation, pass_call

if TYPE_CHECKING:
    from hal9mig.cli.console import Console
    from hal9mig.sample import Loaded, LoadProgress, Shape
    from hal9mig.sample.traffic import Summary

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
_TRAFFIC = """Write like a live application, and note every acknowledged write in a file.

Each writer inserts, updates, deletes and re-inserts records of its own, changes keys, and lets unique
values swap; all of it follows from the seed. What it does goes through the client library, and so
follows every switch; with --bypass-client it is plain SQL on the flat store, and rests while that store
takes no writes. A line is written before each write and one after its commit: killing it is fine.
check-traffic compares the file with the stores; a further run may append to the same file.

\b
Examples:
  hal9-migrate sample-data traffic --writers 4 --rate 50/s --duration 5m
  hal9-migrate sample-data traffic --writers 8 --rate 200/s --duration 1h --hot 20 --file live.jsonl
  hal9-migrate sample-data traffic --writers 2 --rate 20/s --duration 60s --bypass-client
"""
_CHECK = """Compare what traffic was told is written with what the ruling store holds; exit 3 when it differs.

missing: an acknowledged write is not there. old: the store holds a state before the last acknowledged
one. resurrected: the last acknowledged write was a deletion, and the record is there. other: the store
holds what no write of the file was.

\b
Examples:
  hal9-migrate sample-data check-traffic traffic.jsonl
  hal9-migrate sample-data check-traffic live.jsonl --store both
"""
_MOST_SHOWN = 20
_INTERVAL = 10.0  # seconds between lines where there is no terminal
_BLINK = 0.2  # seconds between two looks of the line on a terminal


@click.group("sample-data", cls=lazy_group.Group)
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
@pass_call
def load(
    call: Invocation,
    scale: float,
    seed: int,
    names: tuple[str, ...],
    everything: bool,
    workers: int | None,
    edge_cases: bool,
    replace: bool,
    dry_run: bool,
) -> None:
    # Late: the driver takes its time, and --help does without.
    from hal9mig import sample
    from hal9mig.categories import registry

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
        confirm.ask(call, f"Delete these rows of the flat store: {_listed(held)}?")
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

    def __call__(self, progress: LoadProgress) -> None:
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
    if not call.json:
        cells = [
            (slug, units.format_count(count), units.format_count(held.get(slug, 0))) for slug, count in rows.items()
        ]
        call.console.table(("CATEGORY", "ROWS", "DELETED BEFORE"), cells, numbers=("ROWS", "DELETED BEFORE"))
        call.console.say("dry run: nothing was changed")
    call.conclude({"dry_run": True, "rows": rows, "deletes": held})


def _show(call: Invocation, loaded: Sequence[Loaded], shape: Shape) -> None:
    steps = ["hal9-migrate state status", "hal9-migrate state migrate --category all"]
    if not call.json:
        cells = [_cells(one.category, one.rows, one.bytes, one.seconds) for one in loaded]
        sums = (sum(one.rows for one in loaded), sum(one.bytes for one in loaded), sum(one.seconds for one in loaded))
        cells.append(_cells("total", *sums))
        call.console.table(("CATEGORY", "ROWS", "BYTES", "TIME"), cells, numbers=("ROWS", "BYTES", "TIME"))
        call.console.suggest(steps[-1])
    rows = [
        {"category": one.category, "rows": one.rows, "bytes": one.bytes, "seconds": round(one.seconds, 3)}
        for one in loaded
    ]
    call.conclude({"scale": shape.scale, "seed": shape.seed, "loaded": rows, "next_steps": steps})


def _cells(name: str, rows: int, size: int, seconds: float) -> tuple[str, str, str, str]:
    return name, units.format_count(rows), units.format_bytes(size), units.format_duration(seconds)


def _per_second(text: str) -> float:
    rate = units.parse_rate(text if "/" in text else f"{text}/s")
    if rate is None or rate.unit is not units.RateUnit.RECORDS:
        raise errors.InvalidUnit(f"{text!r} is not a rate of writes.", hint="write it like 50/s")
    return rate.per_second


@sample_data.command(help=_TRAFFIC)
@click.option("--writers", type=click.IntRange(1, 256), default=4, show_default=True, metavar="N", help="Writers.")
@click.option(
    "--rate",
    type=options.Quantity("RATE", _per_second),
    default="50/s",
    show_default=True,
    metavar="RATE",
    help="Transactions a second, of all writers together.",
)
@click.option(
    "--duration",
    type=options.DURATION,
    default="60s",
    show_default=True,
    metavar="TIME",
    help="How long; Ctrl-C ends it earlier.",
)
@click.option("--writes", type=options.COUNT, metavar="N", help="End after so many acknowledged writes.")
@click.option(
    "--file",
    "path",
    type=options.FILE,
    default="traffic.jsonl",
    show_default=True,
    metavar="FILE",
    help="Where to note the writes; a file that is there is appended to.",
)
@options.categories
@click.option(
    "--hot",
    type=click.IntRange(0, 100_000),
    default=0,
    show_default=True,
    metavar="K",
    help="Keys of each category that all writers share.",
)
@click.option(
    "--existing",
    type=click.IntRange(0, 1_000_000),
    default=1000,
    show_default=True,
    metavar="N",
    help="Records of each category that are there already and are written too.",
)
@click.option("--seed", type=int, default=1, show_default=True, metavar="N", help="Another seed, other writes.")
@click.option("--bypass-client", is_flag=True, help="Plain SQL on the flat store, while it takes writes.")
@options.output
@pass_call
def traffic(
    call: Invocation,
    writers: int,
    rate: float,
    duration: float,
    writes: int | None,
    path: pathlib.Path,
    names: tuple[str, ...],
    everything: bool,
    hot: int,
    existing: int,
    seed: int,
    bypass_client: bool,
) -> None:
    from hal9mig import client
    from hal9mig.categories import registry
    from hal9mig.sample import bypass, traffic, traffic_records

    known = registry.builtin()
    plan = traffic.TrafficPlan(
        categories=[category.slug for category in known.select(options.chosen(names, everything))],
        writers=writers,
        rate=rate,
        duration=duration,
        writes=writes,
        hot=hot,
        existing=existing,
        seed=seed,
    )
    assert set(plan.categories) <= set(traffic_records.CATEGORIES)
    with client.connect(call.settings, application_name="hal9-traffic") as opened:
        # Before the file is opened: where nothing can be read there is nothing to write either.
        opened.place()
        stop = threading.Event()
        port = bypass.Bypass(call.settings.require_flat(), opened.registry, stop) if bypass_client else opened
        run = traffic.Traffic(plan, port, path, traffic.existing_of(opened), stop=stop)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        # As an application does: configuration that changes is seen while it runs.
        listener = client.Subscription(
            call.settings, lambda key: opened.get("configuration", key), lambda *_: None, name="hal9-traffic"
        )
        listener.start()
        done = run.run()
        listener.stop()
        counters = dataclasses.asdict(opened.counters)
    _show_traffic(call, path, done, {} if bypass_client else counters)


def _show_traffic(call: Invocation, path: pathlib.Path, done: Summary, counters: dict[str, int]) -> None:
    steps = [f"hal9-migrate sample-data check-traffic {path}"]
    if not call.json:
        line = call.console.line
        line(f"Writes acknowledged: {units.format_count(done.writes)} in {units.format_duration(done.seconds)}")
        for name, count in done.operations.items():
            line(f"  {name}: {units.format_count(count)}")
        line(f"Outcome unknown: {units.format_count(done.maybe)}")
        failed = ", ".join(f"{code} {units.format_count(count)}" for code, count in done.failed.items())
        line(f"Not made: {failed or 'none'}")
        for code, reason in done.reasons.items():
            call.console.say(f"{code}: {reason}")
        line(
            f"Latency: p50 {done.p50 * 1000:.1f} ms, p95 {done.p95 * 1000:.1f} ms, longest {done.most * 1000:.1f} ms; "
            f"longest stall {done.stall:.2f} s"
        )
        if counters.get("mirrored") or counters.get("left"):
            line(
                f"Dual writes: {units.format_count(counters['mirrored'])} brought over at once, "
                f"{units.format_count(counters['left'])} left to the workers"
            )
        call.console.suggest(steps[0])
    call.conclude(
        {
            "file": str(path),
            "seconds": round(done.seconds, 3),
            "writes": done.writes,
            "operations": done.operations,
            "failed": done.failed,
            "reasons": done.reasons,
            "maybe": done.maybe,
            "latency_ms": {
                "p50": round(done.p50 * 1000, 3),
                "p95": round(done.p95 * 1000, 3),
                "max": round(done.most * 1000, 3),
            },
            "longest_stall_seconds": round(done.stall, 3),
            "client": counters,
            "next_steps": steps,
        }
    )


@sample_data.command("check-traffic", help=_CHECK)
@click.argument("path", metavar="FILE", type=options.PATH)
@click.option(
    "--store",
    type=click.Choice(["ruling", "flat", "hierarchical", "both"]),
    default="ruling",
    show_default=True,
    help="Which store to compare; both need empty journals.",
)
@options.output
@pass_call
def check_traffic(call: Invocation, path: pathlib.Path, store: str) -> None:
    from hal9mig import client, model
    from hal9mig.sample import check_traffic as checking

    stores = {"ruling": (), "both": tuple(model.StoreName)}.get(store)
    with client.connect(call.settings, application_name="hal9-traffic") as opened:
        done = checking.check(path, opened, (model.StoreName(store),) if stores is None else stores)
    counts = {problem: done.count(problem) for problem in checking.TrafficProblem}
    listed = ", ".join(f"{units.format_count(count)} {problem}" for problem, count in counts.items())
    if not call.json:
        call.console.verdict(
            not done.findings,
            f"{units.format_count(done.keys)} records compared in {' and '.join(done.stores)}: {listed}",
        )
        call.console.line(
            f"Of the file: {units.format_count(done.acknowledged)} writes acknowledged, "
            f"{units.format_count(done.maybe)} with an unknown outcome, {units.format_count(done.failed)} not made; "
            f"{units.format_count(done.undecided)} records without any acknowledged write"
        )
        if done.findings:
            rows = [
                (one.problem, one.store, one.category, "/".join(one.key), one.expected, one.found)
                for one in done.findings[:_MOST_SHOWN]
            ]
            call.console.table(("PROBLEM", "STORE", "CATEGORY", "KEY", "ACKNOWLEDGED", "FOUND"), rows)
        if len(done.findings) > _MOST_SHOWN:
            call.console.say(f"and {units.format_count(len(done.findings) - _MOST_SHOWN)} more; --json lists all")
    problem = errors.DifferencesFound(f"Acknowledged writes are not as they were: {listed}.", hint="")
    call.conclude(
        {
            "file": str(path),
            "stores": list(done.stores),
            "acknowledged": done.acknowledged,
            "maybe": done.maybe,
            "failed": done.failed,
            "records": done.keys,
            "undecided": done.undecided,
            "problems": counts,
            "findings": [dataclasses.asdict(one) for one in done.findings],
        },
        problem if done.findings else None,
    )
