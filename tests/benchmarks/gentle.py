"""What an application keeps beside our work, with pace and without, and what the work pays for it.

The application is pgbench's TPC-B-like load on the flat store, as fast as it goes. Rounds alone and beside a job take
turns; a job goes on for the whole round, and what it did in the round is read from the ledger.
"""

from __future__ import annotations

import contextlib
import re
import statistics
import time
from collections.abc import Callable, Iterator

from tests.benchmarks.capture import pgbench
from tests.benchmarks.report import Figure, percent
from tests.benchmarks.world import SLUG, TARGETS, Failed, Pair, World, command, query, working

_TPS = re.compile(r"tps = ([0-9.]+)")
#: Clients of pgbench.
_CLIENTS = 2
#: The jobs, and what takes their traces away before the next round.
JOBS = {
    "copy": ("state", "migrate", "--category", SLUG, "--detach", "--merge", "--yes"),
    # It has no way to leave at once; a time limit leaves, and the run goes on.
    "verify": ("state", "verify", "--category", SLUG, "--timeout", "1s"),
    "checkpoint": ("state", "checkpoint", "--full-backup", "--category", SLUG, "--detach", "--name"),
}
PACES = {"off": "off", "20 %": "20%"}


def measure(world: World, pair: Pair, *, rounds: int, seconds: int) -> list[Figure]:
    """Return what the application keeps beside each job at each pace.

    Args:
        seconds: of a round; a job has to take longer at full speed.
    """
    pgbench(world.flat, pair.flat_url, ["--initialize", "--scale", "5", "--quiet"])
    kept: dict[tuple[str, str], list[float]] = {(job, pace): [] for job in JOBS for pace in PACES}
    done: dict[tuple[str, str], list[float]] = {key: [] for key in kept}
    with working(pair):
        command(pair, "state", "migrate", "--category", SLUG, "--max-impact", "off", "--merge", "--yes")
        for number in range(rounds):
            for job, pace in kept:
                alone = _load(world, pair, seconds)
                command(pair, "configure", "state-migration", "--max-impact", PACES[pace])
                with _going(pair, job, f"{job}{number}{pace[:2].strip()}"):
                    before = _records(pair)
                    beside = _load(world, pair, seconds)
                    done[job, pace].append((_records(pair) - before) / seconds)
                kept[job, pace].append(beside / alone)
                world.say(
                    f"{job} at {pace}: {alone:.0f}/s alone, {beside:.0f}/s beside; {done[job, pace][-1]:.0f} rows/s"
                )
    command(pair, "configure", "state-migration", "--max-impact", "off")
    figures = []
    for job in JOBS:
        free = statistics.median(done[job, "off"])
        for pace in PACES:
            share, speed = statistics.median(kept[job, pace]), statistics.median(done[job, pace])
            figures.append(Figure(
                what=f"the application beside a {job} / alone, max-impact {pace}",
                ours=f"{speed:,.0f} rows/s", peer=f"{free:,.0f} rows/s unpaced", ratio=percent(share),
                goal=">= 80 %" if pace != "off" else "state it", met=share >= 0.8 if pace != "off" else None,
                detail={"kept": kept[job, pace], "rows_per_second": done[job, pace]},
            ))  # fmt: skip
    return figures


def _load(world: World, pair: Pair, seconds: int) -> float:
    said = pgbench(world.flat, pair.flat_url, ["--no-vacuum", "--time", str(seconds), "--client", str(_CLIENTS)])
    return float(_TPS.findall(said)[-1])


@contextlib.contextmanager
def _going(pair: Pair, job: str, name: str) -> Iterator[None]:
    """Have a job go on for the length of a block."""
    if job == "copy":
        with query(pair.hier_admin) as cursor:
            cursor.execute(f"TRUNCATE {', '.join(TARGETS)}")
    command(pair, *JOBS[job], *([name] if job == "checkpoint" else []), codes=(0, 124))
    run = pair.last_run()["id"]
    _until(pair, run, lambda status: status == "running")
    yield
    with contextlib.suppress(Failed):  # it may have come to its end
        command(pair, "runs", "cancel", str(run), "--yes")
    _until(pair, run, lambda status: status in ("cancelled", "succeeded", "failed"))


def _until(pair: Pair, run: int, reached: Callable[[str], bool]) -> None:
    deadline = time.monotonic() + 120
    while not reached(pair.last_run()["status"]):
        if time.monotonic() > deadline:
            raise Failed(f"run {run} does not get there: {pair.last_run()['status']}")
        time.sleep(0.1)


def _records(pair: Pair) -> int:
    with query(pair.hier_admin) as cursor:
        cursor.execute("SELECT coalesce(sum(records), 0) AS records FROM hal9mig.batches WHERE kind <> 'plan'")
        return int(cursor.fetchone()["records"])
