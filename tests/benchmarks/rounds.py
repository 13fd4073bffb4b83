"""What the reconciler's rounds cost while nothing is written, and how long drift lives until it is found and mended."""

from __future__ import annotations

import random
import statistics
import time

import psutil

from tests.benchmarks.profile import processor, server
from tests.benchmarks.report import Figure, percent
from tests.benchmarks.world import Failed, Pair, World, command, migrate, query, working

#: Records that are changed behind everybody's back, one after the other.
_DRIFTS = 10
_INTERVAL = 30.0  # seconds, as shipped


def measure(world: World, pair: Pair, *, seconds: float) -> list[Figure]:
    """Have rounds go on over migrated records.

    Args:
        seconds: for which the cost is measured; then records are changed.
    """
    pair.empty()
    with working(pair) as workers:
        migrate(pair)
        command(pair, "mode", "migration", "--enable", "--attest", "--yes")
        _passed(pair, time.time())
        watched = [psutil.Process(worker.pid) for worker in workers]
        watched += [server(pair.flat_admin), server(pair.hier_admin)]
        compared, began = _compared(pair), _processors(watched)
        time.sleep(seconds)
        spent = sum(now - began.get(one, 0.0) for one, now in _processors(watched).items())
        records = _compared(pair) - compared
        world.say(f"rounds: {percent(spent / seconds)} of a core, {records / seconds:,.0f} records/s compared")
        lives = _drift(world, pair)
        command(pair, "mode", "flat-only")
    lives.sort()
    last = lives[min(len(lives) - 1, int(0.99 * len(lives)))]
    return [
        Figure(
            what="processor time of workers and servers while rounds go on and nothing is written",
            ours=f"{records / seconds:,.0f} records/s compared", ratio=f"{percent(spent / seconds)} of a core",
            goal="<= 5 %", met=spent / seconds <= 0.05, detail={"seconds": seconds, "processor_seconds": spent},
        ),
        Figure(
            what=f"drift until it is mended, p99 of {len(lives)}", ours=f"{last:.1f} s",
            peer=f"{statistics.median(lives):.1f} s in the middle", ratio=f"{last / _INTERVAL:.1f} intervals",
            goal="<= 1 interval", met=last <= _INTERVAL, detail={"seconds": lives},
        ),
    ]  # fmt: skip


def _processors(parents: list[psutil.Process]) -> dict[psutil.Process, float]:
    return dict(processor(one) for parent in parents for one in [parent, *parent.children(recursive=True)])


def _compared(pair: Pair) -> int:
    with query(pair.hier_admin) as cursor:
        cursor.execute("SELECT coalesce(sum(compared), 0) AS n FROM hal9mig.rounds")
        return int(cursor.fetchone()["n"])


def _passed(pair: Pair, since: float) -> None:
    """Wait until a round has begun and ended."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        with query(pair.hier_admin) as cursor:
            cursor.execute(
                "SELECT count(*) AS n FROM hal9mig.rounds WHERE began > to_timestamp(%s) AND ended IS NOT NULL",
                (since,),
            )
            if cursor.fetchone()["n"]:
                return
        time.sleep(0.5)
    raise Failed("no round came to its end")


def _drift(world: World, pair: Pair) -> list[float]:
    """Change records in the hierarchical store where no trigger sees it; return how long each stayed so."""
    lives = []
    with query(pair.hier_admin) as cursor:
        cursor.execute("SELECT unit_id::text AS key FROM hier.units ORDER BY unit_id")
        keys = [row["key"] for row in cursor.fetchall()]
        for number in range(_DRIFTS):
            key = random.choice(keys)
            time.sleep(random.uniform(0, _INTERVAL))  # at any moment between two rounds
            cursor.execute("SET session_replication_role = replica")
            cursor.execute("UPDATE hier.units SET kind = 'drifted' WHERE unit_id = %s", (key,))
            cursor.execute("SET session_replication_role = DEFAULT")
            began = time.monotonic()
            while True:
                cursor.execute("SELECT kind FROM hier.units WHERE unit_id = %s", (key,))
                if cursor.fetchone()["kind"] != "drifted":
                    break
                if time.monotonic() - began > 20 * _INTERVAL:
                    raise Failed(f"drift of {key} was not mended within {20 * _INTERVAL:.0f} s")
                time.sleep(0.2)
            lives.append(time.monotonic() - began)
            world.say(f"drift {number + 1} of {_DRIFTS}: mended after {lives[-1]:.1f} s")
    return lives
