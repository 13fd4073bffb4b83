"""What must not grow or be overstepped: memory, and rates."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from tests.benchmarks.copying import peak, peak_of_child
from tests.benchmarks.report import Figure
from tests.benchmarks.world import Failed, Pair, World, migrate, working


def memory(world: World, small: Pair, large: Pair) -> list[Figure]:
    """Compare the memory of fresh workers after few rows and after ten times as many."""
    found = {}
    for pair in (small, large):
        pair.empty()
        with working(pair) as workers:
            migrate(pair)
            found[pair.rows] = (
                max(map(peak_of_child, workers)),
                max(peak(worker.pid) for worker in workers),
            )
        world.say(f"memory after {pair.rows:,} rows: {_megabytes(found[pair.rows][0])}")
    (few, _), (many, parent) = found[small.rows], found[large.rows]
    growth = many / few - 1
    return [
        Figure(
            what="memory of a worker's pool process, at most",
            ours=_megabytes(many),
            goal="<= 150 MB",
            met=many <= 150e6,
            detail={"bytes": many, "parent_bytes": parent},
        ),
        Figure(
            what=f"the same at {large.rows:,} rows / at {small.rows:,}",
            ours=_megabytes(many),
            peer=_megabytes(few),
            ratio=f"{100 * growth:+.1f} %",
            goal="the same (+-5 %)",
            met=abs(growth) <= 0.05,
            detail={str(rows): sizes for rows, sizes in found.items()},
        ),
    ]


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.0f} MB"


def rates(world: World, pair: Pair, *, limit: int, seconds: int, counts: Sequence[int] = (1, 2, 4)) -> list[Figure]:
    """Copy under a rate limit with several numbers of workers, and compute what rate the ledger shows."""
    figures = []
    for count in counts:
        pair.empty()
        with working(pair, count):
            run = migrate(pair, "--rate-limit", f"{limit}/s", "--timeout", f"{4 * seconds + 60}s")
        reached = steady_rate(pair, run["id"])
        off = reached / limit - 1
        world.say(f"rate with {count} workers: {reached:,.1f} rows/s")
        figures.append(
            Figure(
                what=f"rate limit {limit}/s with {count} worker{'s' if count > 1 else ''}",
                ours=f"{reached:,.0f} rows/s",
                ratio=f"{100 * off:+.2f} %",
                goal="+-2 %",
                met=abs(off) <= 0.02,
                detail={"rows_per_second": reached, "rows": pair.rows, "goal_seconds": seconds},
            )
        )
    return figures


def scaling(world: World, pair: Pair, *, rounds: int, counts: Sequence[int] = (1, 2, 4)) -> list[Figure]:
    """Copy as fast as it goes with several numbers of workers, in turns, against one worker."""
    taken: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(rounds):
        for count in counts:
            pair.empty()
            with working(pair, count):
                run = migrate(pair)
            taken[count].append(pair.rows / (run["finished_at"] - run["started_at"]).total_seconds())
            world.say(f"{count} worker{'s' if count > 1 else ''}: {taken[count][-1]:,.0f} rows/s")
    alone = statistics.median(taken[counts[0]])
    return [
        Figure(
            what=f"copy with {count} workers / with one",
            ours=f"{statistics.median(taken[count]):,.0f} rows/s", peer=f"{alone:,.0f} rows/s",
            ratio=f"{statistics.median(taken[count]) / alone:.2f}x", goal="state it", met=None,
            detail={"rows_per_second": taken[count]},
        )
        for count in counts[1:]
    ]  # fmt: skip


def steady_rate(pair: Pair, run_id: int) -> float:
    """Return the rows a second between the first batches' ends and the last ones', from the ledger."""
    batches = sorted(pair.batches(run_id), key=lambda batch: batch["finished_at"])
    # The last batch is a rest of any size, and one that ends while others still run says little.
    batches = [batch for batch in batches if batch["records"] == max(other["records"] for other in batches)]
    # At the start the budget may be ahead by a quarter of a second.
    batches = batches[3:]
    if len(batches) < 5:
        raise Failed(f"{len(batches)} batches are too few to compute a rate")
    # A straight line through all ends, so that one batch that was slow to end does not decide.
    started = batches[0]["finished_at"]
    ends = [(batch["finished_at"] - started).total_seconds() for batch in batches]
    rows = [batch["records"] * number for number, batch in enumerate(batches)]
    return statistics.linear_regression(ends, rows).slope
