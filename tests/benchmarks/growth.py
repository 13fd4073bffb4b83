"""Whether more records take longer each, or more memory: the same work on fewer, as many and more records."""

from __future__ import annotations

from collections.abc import Sequence

from tests.benchmarks.copying import peak_of_child
from tests.benchmarks.report import Figure
from tests.benchmarks.world import SLUG, Pair, World, command, migrate, query, working

WORK = ("copy", "verify", "checkpoint", "restore")


def measure(world: World, pairs: Sequence[Pair]) -> list[Figure]:
    """Do everything once with each number of records; return what a record takes against the smallest number.

    Args:
        pairs: the fewest records first.
    """
    each: dict[int, dict[str, float]] = {}
    memory: dict[int, int] = {}
    for pair in pairs:
        each[pair.rows], memory[pair.rows] = _worked(pair)
        world.say(f"{pair.rows:,} records: " + ", ".join(f"{name} {us:.1f} us" for name, us in each[pair.rows].items()))
    least = pairs[0].rows
    figures = []
    for rows in (pair.rows for pair in pairs[1:]):
        for name in WORK:
            ratio = each[rows][name] / each[least][name]
            figures.append(Figure(
                what=f"{name}: a record of {rows:,} / one of {least:,}", ours=f"{each[rows][name]:.1f} us",
                peer=f"{each[least][name]:.1f} us", ratio=f"{100 * (ratio - 1):+.0f} %", goal="<= +10 %",
                met=ratio <= 1.1, detail={"microseconds": each[rows]},
            ))  # fmt: skip
        grown = memory[rows] / memory[least]
        figures.append(Figure(
            what=f"memory of a pool process with {rows:,} records / {least:,}", ours=f"{memory[rows] / 1e6:.0f} MB",
            peer=f"{memory[least] / 1e6:.0f} MB", ratio=f"{100 * (grown - 1):+.0f} %", goal="<= +10 %",
            met=grown <= 1.1, detail={"bytes": memory},
        ))  # fmt: skip
    return figures


def _worked(pair: Pair) -> tuple[dict[str, float], int]:
    pair.empty()
    found: dict[str, float] = {}
    with working(pair) as workers:

        def took(name: str) -> None:
            found[name] = 1e6 * float(pair.last_run()["seconds"]) / pair.rows

        migrate(pair)
        took("copy")
        with query(pair.hier_admin) as cursor:
            cursor.execute("VACUUM ANALYZE")
        command(pair, "state", "verify", "--category", SLUG)
        took("verify")
        command(pair, "state", "checkpoint", "--name", "grown", "--full-backup", "--category", SLUG)
        took("checkpoint")
        flags = ("--category", SLUG, "--yes", "--no-safety-checkpoint")
        command(pair, "state", "rollback", "--to-checkpoint", "grown", *flags)
        took("restore")
        memory = max(map(peak_of_child, workers))
    return found, memory
