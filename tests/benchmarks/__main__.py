"""``python -m tests.benchmarks``: measures, prints one table, writes JSON."""

from __future__ import annotations

import argparse
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable

from tests.benchmarks import (
    capture,
    checkpoints,
    copying,
    gentle,
    growth,
    limits,
    overhead,
    profile,
    report,
    rounds,
    verifying,
)
from tests.benchmarks.copying import Copies
from tests.benchmarks.report import Figure, Talk
from tests.benchmarks.world import Failed, World, version

PARTS = (
    "copy", "verify", "reladiff", "overhead", "memory", "rates", "capture", "checkpoints", "gentle", "scaling",
    "growth", "rounds",
)  # fmt: skip


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000, metavar="N", help="neuron states; default 500000")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="NAME", help=", ".join(PARTS))
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("bench.json"), metavar="FILE")
    parser.add_argument("--rounds", type=int, default=2, metavar="N", help="times each variant runs; default 2")
    parser.add_argument("--profile", action="store_true", help="by what the time of each job is taken; nothing else")
    parser.add_argument("--scale-down", action="store_true", help="100,000 rows and short runs: whether it works")
    given = parser.parse_args()
    if given.profile:
        given.only = ("profile",)
    if given.scale_down:
        given.rows = min(given.rows, 100_000)
    return given


def main() -> int:
    """Run the parts; return the exit code, which says whether all ran and not whether all goals were met."""
    given = _arguments()
    say = Talk()
    started = time.monotonic()
    about = {"rows": given.rows, "rounds": given.rounds, "machine": report.machine()}
    if about["machine"]["load"][0] > 0.5:
        say(f"the machine is busy, its load is {about['machine']['load'][0]}: only ratios inside this run count")
    figures: list[Figure] = []
    failures: list[str] = []
    world = World(say)
    try:
        about["postgres"] = version(world)
        _measure(world, given, figures, failures)
    finally:
        say("stopping the servers")
        world.close()
    about |= {"seconds": round(time.monotonic() - started, 1), "failures": failures}
    report.show(figures, about)
    for failure in failures:
        say(f"not measured: {failure}")
    report.write(given.output, figures, about)
    say(f"written: {given.output}")
    return 1 if failures else 0


def _measure(world: World, given: argparse.Namespace, figures: list[Figure], failures: list[str]) -> None:
    copies: list[Copies] = []
    upserts, limit, seconds = (10_000, 1_000, 10) if given.scale_down else (30_000, 2_000, 25)
    # A tenth for the memory, and enough for the rates' seconds.
    few = max(given.rows // 10, 5_000)
    most = given.rows * (2 if given.scale_down else 5)

    def copy() -> list[Figure]:
        found, kept = copying.measure(world, world.pair(given.rows), rounds=given.rounds, upserts=upserts)
        copies.append(kept)
        return found

    parts: dict[str, Callable[[], list[Figure]]] = {
        "copy": copy,
        "verify": lambda: verifying.against_copy(
            world, world.pair(given.rows), copies[0] if copies else None, rounds=given.rounds
        ),
        "reladiff": lambda: verifying.against_reladiff(world, world.pair(given.rows), rounds=given.rounds),
        "overhead": lambda: overhead.measure(world, world.pair(given.rows)),
        "memory": lambda: limits.memory(world, world.pair(few), world.pair(given.rows)),
        "rates": lambda: limits.rates(world, world.pair(limit * seconds), limit=limit, seconds=seconds),
        "capture": lambda: [_capture(world, rounds=2 * given.rounds, seconds=3 if given.scale_down else 10)],
        "gentle": lambda: gentle.measure(
            world, world.pair(given.rows), rounds=given.rounds, seconds=4 if given.scale_down else 10
        ),
        "scaling": lambda: limits.scaling(world, world.pair(given.rows), rounds=given.rounds),
        "growth": lambda: growth.measure(world, [world.pair(rows) for rows in (given.rows // 5, given.rows, most)]),
        "rounds": lambda: rounds.measure(world, world.pair(given.rows), seconds=20 if given.scale_down else 120),
        "profile": lambda: profile.measure(world, world.pair(given.rows)),
        "checkpoints": lambda: checkpoints.measure(world, world.pair(given.rows), rounds=given.rounds),
    }
    for name, run in parts.items():
        if name not in given.only:
            continue
        world.say(name)
        try:
            figures += run()
        except (Failed, AssertionError, OSError, subprocess.SubprocessError) as error:
            # One part that cannot run, as for want of a network, is no reason to lose the others.
            failures.append(f"{name}: {error}")
            world.say(f"{name} failed: {error}")


def _capture(world: World, *, rounds: int, seconds: int) -> Figure:
    found = capture.measure(world.flat, world.hier, rounds=rounds, seconds=seconds, say=world.say)
    cost = found["cost_percent"]
    return Figure(
        what="the application's writes with capture / without (TPC-B-like)",
        ours=f"{found['with_tps']:.0f}/s", peer=f"{found['without_tps']:.0f}/s", ratio=f"{cost:.1f} % cost",
        goal="<= 8 %", met=cost <= 8, detail=dict(found),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
