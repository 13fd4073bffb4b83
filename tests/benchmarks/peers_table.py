"""``python -m tests.benchmarks.peers_table``: the same rows moved and compared by us and by others, side by side."""

from __future__ import annotations

import argparse
import datetime
import pathlib
import sys
import time
from typing import Any

from tests.benchmarks import comparing, moving, report
from tests.benchmarks.report import Talk
from tests.benchmarks.ways import FAILURES, Row, document, lines, take_turns
from tests.benchmarks.world import World, version
from tests.support.servers import ROOT

COLUMNS = ("WAY", "ROWS/S", "RATIO", "MB", "MB OF ONE", "DOES NOT DO")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.peers_table", description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000, metavar="N", help="neuron states; default 200000")
    parser.add_argument("--rounds", type=int, default=2, metavar="N", help="times each way runs; default 2")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("bench-peers.json"), metavar="FILE")
    parser.add_argument("--scale-down", action="store_true", help="10,000 rows and one round: whether it works")
    given = parser.parse_args()
    if given.scale_down:
        given.rows, given.rounds = min(given.rows, 10_000), 1
    return given


def main() -> int:
    """Measure, print the table, write the file; return 1 where ours was not measured, since all is a ratio to it."""
    given = _arguments()
    say = Talk()
    started = time.monotonic()
    about: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "rows": given.rows, "rounds": given.rounds, "machine": report.machine(),
    }  # fmt: skip
    if about["machine"]["load"][0] > 0.5:
        say(f"the machine is busy, its load is {about['machine']['load'][0]}: only ratios inside this run count")
    found: list[Row] = []
    world = World(say)
    try:
        about["postgres"] = version(world)
        pair = world.pair(given.rows)
        build = ROOT / "build" / "peers"
        found += take_turns(say, moving.ways(world, pair, build), pair.rows, rounds=given.rounds)
        try:
            found += comparing.measure(world, pair, build, rounds=given.rounds)
        except FAILURES as error:
            say(f"comparing was not measured: {error}")
            found.append(Row(name="comparing two stores", reference="", rows=0, lacks=[], reason=str(error)))
    finally:
        say("stopping the servers")
        world.close()
    about["seconds"] = round(time.monotonic() - started, 1)
    report.table(COLUMNS, lines(found), about)
    print("; ".join(dict.fromkeys(row.version for row in found if row.version)))
    report.write(given.output, [document(row, found) for row in found], about)
    say(f"written: {given.output}")
    return 0 if found[0].speed else 1


if __name__ == "__main__":
    sys.exit(main())
