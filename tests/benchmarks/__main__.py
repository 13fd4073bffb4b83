"""``make bench``: every figure in one run, so that the ratios hold though the machine's speed does not."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import platform
import statistics
import sys
import time
from collections.abc import Callable

from tests.benchmarks import capture, copying, overhead, verifying
from tests.benchmarks.world import World

_PARTS = ("copy", "verify", "overhead", "rates", "capture")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """A line of the table; ``met`` is None where a figure has no goal."""

    what: str
    ours: str
    peer: str
    ratio: str
    goal: str
    met: bool | None


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000, help="neurons (default 500000)")
    parser.add_argument("--rounds", type=int, default=2, help="of each way (default 2)")
    parser.add_argument("--only", nargs="+", choices=_PARTS, default=_PARTS)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("bench.json"))
    args = parser.parse_args()
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - started:6.1f} s] {text}", file=sys.stderr, flush=True)

    world = World(say)
    figures: list[Figure] = []
    raw: dict[str, object] = {"rows": args.rows, "machine": _machine()}
    try:
        if {"copy", "verify"} & set(args.only):
            _copy_and_verify(world, args, figures, raw)
        if "overhead" in args.only:
            _overhead(world, args.rows, figures, raw)
        if "rates" in args.only:
            _rates(world, args.rows, figures, raw)
        if "capture" in args.only:
            _capture(world, figures, raw, say)
    finally:
        world.close()
    _print(figures)
    raw["figures"] = [dataclasses.asdict(one) for one in figures]
    raw["seconds"] = round(time.monotonic() - started, 1)
    draft = args.output.with_suffix(".tmp")
    draft.write_text(json.dumps(raw, indent=2), encoding="utf-8")
    draft.replace(args.output)
    print(f"{_machine()}; {raw['seconds']} s; {args.output}")


def _copy_and_verify(world: World, args: argparse.Namespace, figures: list[Figure], raw: dict[str, object]) -> None:
    pair = world.pair(args.rows)
    found = copying.measure(world, pair, rounds=args.rounds)
    raw["copy_seconds"] = found

    def row(what: str, mine: str, peer: str, goal: float | None) -> None:
        ratio = copying.median(found, peer) / copying.median(found, mine)
        figures.append(
            Figure(
                what=what,
                ours=_speed(args.rows, copying.median(found, mine)),
                peer=_speed(args.rows, copying.median(found, peer)),
                ratio=f"{ratio:.2f}x",
                goal="stated" if goal is None else f">= {goal:g}x",
                met=None if goal is None else ratio >= goal,
            )
        )

    for name in copying.OURS:
        row(f"copy, {name}, against INSERT..SELECT in one server", f"ours, {name}", "INSERT..SELECT",
            1.0 if name == "validation off" else None)  # fmt: skip
    row("copy, validation off, against SQLAlchemy Core upsert", "ours, validation off", "SQLAlchemy Core upsert", 10)
    row("copy, validation off, against straight COPY", "ours, validation off", "straight COPY", None)
    if "verify" not in args.only:
        return
    with world.workers(pair):
        copying.ours(world, pair, copying.OURS["validation off"])
        compared = [verifying.migrated(world, pair) for _ in range(args.rounds)]
    raw["verify_seconds"] = compared
    copied = copying.median(found, "ours, validation off")
    part = statistics.median(compared) / copied
    figures.append(
        Figure(what="verify of both sides, against the copy's time", ours=f"{statistics.median(compared):.1f} s",
               peer=f"{copied:.1f} s", ratio=f"{part:.2f}", goal="<= 0.5", met=part <= 0.5)
    )  # fmt: skip
    alike = verifying.twins(world, pair, rounds=args.rounds)
    raw["twins_seconds"] = alike
    for name in ("equal", f"{verifying.DIFFERING} differ"):
        mine, theirs = (statistics.median(alike[f"{who}, {name}"]) for who in ("ours", "reladiff"))
        figures.append(
            Figure(what=f"verify of tables of one shape, {name}, against reladiff", ours=f"{mine:.1f} s",
                   peer=f"{theirs:.1f} s", ratio=f"{theirs / mine:.1f}x", goal=">= 4x", met=theirs / mine >= 4)
        )  # fmt: skip


def _overhead(world: World, rows: int, figures: list[Figure], raw: dict[str, object]) -> None:
    large, small = world.pair(rows), world.pair(rows // 10)
    found = overhead.share(world, large)
    raw["overhead"] = found
    part = found["share_percent"]
    figures.append(Figure(what="the queue's and the ledger's share of a batch", ours=f"{part} %", peer="-", ratio="-",
                          goal="<= 5 %", met=part <= 5))  # fmt: skip
    sizes = {pair.rows: overhead.memory(world, pair) for pair in (small, large)}
    raw["memory_mb"] = sizes
    one, ten = sizes[small.rows], sizes[large.rows]
    figures.append(Figure(what=f"memory of a worker process at {large.rows:,} rows", ours=f"{ten:.0f} MB", peer="-",
                          ratio="-", goal="<= 150 MB", met=ten <= 150))  # fmt: skip
    figures.append(Figure(what="the same, against a tenth of the rows", ours=f"{ten:.0f} MB", peer=f"{one:.0f} MB",
                          ratio=f"{ten / one:.2f}", goal="<= 1.1", met=ten / one <= 1.1))  # fmt: skip


def _rates(world: World, rows: int, figures: list[Figure], raw: dict[str, object]) -> None:
    pair = world.pair(rows // 10)
    limit = 1000
    met = {}
    for workers in (1, 2, 4):
        found = overhead.rate(world, pair, workers=workers, limit=limit, batches=20)
        met[workers] = round(found, 2)
        off = 100 * (found / limit - 1)
        figures.append(
            Figure(what=f"rate-limit {limit}/s with {workers} workers", ours=f"{found:.1f}/s", peer=f"{limit}/s",
                   ratio=f"{off:+.2f} %", goal="within 2 %", met=abs(off) <= 2)
        )  # fmt: skip
    raw["rates"] = met


def _capture(world: World, figures: list[Figure], raw: dict[str, object], say: Callable[[str], None]) -> None:
    found = capture.measure(world.flat, world.hier, rounds=4, seconds=10, say=say)
    raw["capture"] = found
    figures.append(Figure(what="TPC-B-like load with capture, against without", ours=f"{found['with_tps']:.0f}/s",
                          peer=f"{found['without_tps']:.0f}/s", ratio=f"{found['cost_percent']:+.1f} % cost",
                          goal="<= 10 %", met=found["cost_percent"] <= 10))  # fmt: skip


def _speed(rows: int, seconds: float) -> str:
    return f"{rows / seconds:,.0f} rows/s"


def _machine() -> str:
    return f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


def _print(figures: list[Figure]) -> None:
    rows = [("what", "ours", "peer", "ratio", "goal", "met")]
    for one in figures:
        met = "" if one.met is None else "yes" if one.met else "NO"
        rows.append((one.what, one.ours, one.peer, one.ratio, one.goal, met))
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
