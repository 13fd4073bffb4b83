"""How fast both stores are compared: against the copy's time, and against reladiff on tables of one shape."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import time
import venv

from tests.benchmarks import copying
from tests.benchmarks.world import SLUG, Failed, Pair, World, command, query

#: Rows that differ in the second comparison of twins.
DIFFERING = 100
_TWINS = pathlib.Path(__file__).parent / "twins.py"


def migrated(world: World, pair: Pair) -> float:
    """Return the seconds of comparing neurons with the units they became, all equal."""
    return _verify(pair, SLUG, expected=0)


def _verify(pair: Pair, category: str, *, expected: int) -> float:
    pair.settle()
    _, said = command(pair, "state", "verify", "--category", category, "--json", codes=(0, 3))
    found = json.loads(said)["categories"][0]
    differing = found["mismatches"] + found["missing"] + found["extra"]
    if differing != expected:
        raise Failed(f"{differing} rows differ where {expected} do: {found}")
    return float(pair.last_run()["seconds"])


def twins(world: World, pair: Pair, *, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of ours and reladiff on two tables of the same shape, equal and with rows that differ."""
    found: dict[str, list[float]] = {}
    reladiff = _reladiff(world)
    pair.env["HAL9_CATEGORIES"] = str(_TWINS)
    try:
        with world.workers(pair):
            for name, differing in (("equal", 0), (f"{DIFFERING} differ", DIFFERING)):
                copying.straight(world, pair)
                with query(pair.hier_admin) as cursor:
                    cursor.execute(
                        "UPDATE flat.straight SET activation = activation + 1 WHERE neuron_id IN "
                        "(SELECT neuron_id FROM flat.straight TABLESAMPLE BERNOULLI (1) REPEATABLE (1) LIMIT %s)",
                        (differing,),
                    )
                    cursor.execute("VACUUM ANALYZE flat.straight")
                for _ in range(rounds):
                    mine = _verify(pair, "twins", expected=differing)
                    theirs = _run_reladiff(pair, reladiff, expected=differing)
                    found.setdefault(f"ours, {name}", []).append(mine)
                    found.setdefault(f"reladiff, {name}", []).append(theirs)
                    world.say(f"twins, {name}: ours {mine:.2f} s, reladiff {theirs:.2f} s")
    finally:
        del pair.env["HAL9_CATEGORIES"]
    return found


def _reladiff(world: World) -> pathlib.Path:
    folder = world.folder / "reladiff"
    world.say("installing reladiff into an environment of its own")
    venv.create(folder, with_pip=True)
    subprocess.run(
        [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "reladiff[postgresql]"],
        check=True, stdout=sys.stderr,
    )  # fmt: skip
    return folder / "bin" / "reladiff"


def _run_reladiff(pair: Pair, program: pathlib.Path, *, expected: int) -> float:
    pair.settle()
    started = time.monotonic()
    done = subprocess.run(
        [str(program), pair.flat_admin, "flat.neuron_states", pair.hier_admin, "flat.straight", "-k", "neuron_id",
         "-c", "%", "--threads", "4"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    seconds = time.monotonic() - started
    rows = [line for line in done.stdout.splitlines() if line.startswith(("- ", "+ "))]
    if done.returncode or len(rows) != 2 * expected:
        raise Failed(f"reladiff ended with {done.returncode} and {len(rows)} lines:\n{done.stderr[-2000:]}")
    return seconds
