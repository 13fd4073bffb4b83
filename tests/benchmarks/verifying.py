"""How long comparing both stores takes: against the copy, and against reladiff on two tables of one shape."""

from __future__ import annotations

import json
import os
import pathlib
import statistics
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from tests.benchmarks import environments, peers, twins
from tests.benchmarks.copying import Copies
from tests.benchmarks.report import Figure, percent, rate, times
from tests.benchmarks.world import SLUG, Failed, Pair, World, command, migrate, query, working

CATEGORIES = {"HAL9_CATEGORIES": str(pathlib.Path(twins.__file__))}
DIFFERENT = 100
#: As anybody starts it, and with the threads a database that are fastest on two cores.
RELADIFF = {"reladiff": (), "reladiff --threads 4": ("--threads", "4")}


def against_copy(world: World, pair: Pair, copies: Copies | None, *, rounds: int) -> list[Figure]:
    """Verify what was migrated as shipped, and compare its time with the copy's."""
    pair.empty()
    seconds: list[float] = []
    with working(pair):
        copied = float(migrate(pair)["seconds"])
        for number in range(rounds):
            command(pair, "state", "verify", "--category", SLUG)
            seconds.append(float(pair.last_run()["seconds"]))
            world.say(f"verify {number + 1} of {rounds}: {seconds[-1]:.1f} s, {rate(pair.rows, seconds[-1])}")
    taken = statistics.median(seconds)
    figures = []
    for mode, reference in (("strict", copied if copies is None else copies.median("strict")),
                            *([] if copies is None else [("off", copies.median("off"))])):  # fmt: skip
        figures.append(
            Figure(
                what=f"verify of both stores / copy, validation {mode}",
                ours=rate(pair.rows, taken), peer=rate(pair.rows, reference), ratio=percent(taken / reference),
                **({"goal": "<= 35 %", "met": taken / reference <= 0.35} if mode == "strict" else {"goal": "state it"}),
                detail={"seconds": seconds, "copy_seconds": reference},
            )
        )  # fmt: skip
    return figures


def against_reladiff(world: World, pair: Pair, *, rounds: int) -> list[Figure]:
    """Compare two tables of the same shape, equal and with 100 rows that differ, with ours and with reladiff."""
    program = install(world, world.folder / "reladiff")
    make_twin(world, pair)
    figures = []
    for what, different in (("equal", 0), (f"{DIFFERENT} rows differ", DIFFERENT)):
        changed = change(pair, different)
        mine: list[float] = []
        theirs: dict[str, list[float]] = {name: [] for name in RELADIFF}
        for number in range(rounds):
            with working(pair, env=CATEGORIES):
                mine.append(compare_twins(pair, changed))
            world.say(f"two tables, {what}, {number + 1} of {rounds}: {mine[-1]:.1f} s")
            for name, options in RELADIFF.items():
                theirs[name].append(run_reladiff(program, pair, options, changed))
                world.say(f"two tables, {what}, {number + 1} of {rounds}: {name} {theirs[name][-1]:.1f} s")
        for name, seconds in theirs.items():
            ratio = statistics.median(seconds) / statistics.median(mine)
            figures.append(
                Figure(
                    what=f"compare two tables of one shape, {what} / {name}",
                    ours=f"{statistics.median(mine):.1f} s", peer=f"{statistics.median(seconds):.1f} s",
                    ratio=times(ratio), goal=">= 4x", met=ratio >= 4,
                    detail={"seconds": mine, "peer_seconds": seconds, "found": len(changed)},
                )
            )  # fmt: skip
    return figures


def install(world: World, folder: pathlib.Path) -> str:
    """Return the program of reladiff in an environment of its own, which is made unless it is there."""
    return str(environments.make(folder, ("reladiff[postgresql]",), say=world.say) / "reladiff")


def make_twin(world: World, pair: Pair) -> None:
    """Give the hierarchical server a second table of the flat one's shape and rows."""
    peers.prepare(world, pair)
    with query(pair.hier_url) as cursor:
        cursor.execute("CREATE SCHEMA IF NOT EXISTS twin")
        cursor.execute("DROP TABLE IF EXISTS twin.neuron_states")
        cursor.execute("CREATE TABLE twin.neuron_states (LIKE flat.neuron_states INCLUDING ALL)")
        # In the order of the keys, as the flat table is read.
        cursor.execute("INSERT INTO twin.neuron_states SELECT * FROM flat.neuron_states")
    with query(pair.hier_admin) as cursor:
        cursor.execute("VACUUM ANALYZE twin.neuron_states")


def change(pair: Pair, count: int) -> set[str]:
    """Change the activation of records that lie evenly over the table; return their keys."""
    if not count:
        return set()
    with query(pair.hier_url) as cursor:
        cursor.execute(
            "UPDATE twin.neuron_states SET activation = activation + 1 WHERE neuron_id IN "
            "(SELECT neuron_id FROM (SELECT neuron_id, row_number() OVER (ORDER BY neuron_id) AS n "
            "FROM twin.neuron_states) k WHERE n %% %s = 0 LIMIT %s) RETURNING neuron_id::text AS key",
            (pair.rows // count, count),
        )
        return {row["key"] for row in cursor.fetchall()}


def compare_twins(pair: Pair, changed: set[str]) -> float:
    """Compare the two tables by our command, which has to find what was changed; return its seconds."""
    file = pair.folder / "report.json"
    seconds = command(
        pair, "state", "verify", "--category", twins.CATEGORY.slug, "--report", str(file),
        codes=(3,) if changed else (0,), env=CATEGORIES,
    )  # fmt: skip
    document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    found = {one["key"][0] for category in document["categories"] for one in category["differences"]}
    if found != changed:
        raise Failed(f"verify found {len(found)} differences, not the {len(changed)} there are")
    return seconds


def run_reladiff(program: str, pair: Pair, options: Sequence[str], changed: set[str]) -> float:
    """Compare the two tables by reladiff, which has to find what was changed; return its seconds."""
    started = time.monotonic()
    done = subprocess.run(
        [program, pair.flat_url, "flat.neuron_states", pair.hier_url, "twin.neuron_states", "--key-columns",
         "neuron_id", "--columns", "%", "--json", *options],
        capture_output=True, text=True, check=False,
        env={**os.environ, "COLUMNS": "100000"},  # it breaks lines at the terminal's width
    )  # fmt: skip
    seconds = time.monotonic() - started
    if done.returncode:
        raise Failed(f"reladiff ended with {done.returncode}: {done.stderr[-2000:]}")
    found = {json.loads(line)[1][0] for line in done.stdout.splitlines() if line.startswith('["')}
    if found != changed:
        raise Failed(f"reladiff found {len(found)} differences, not the {len(changed)} there are")
    return seconds
