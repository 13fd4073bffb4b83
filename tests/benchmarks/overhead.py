"""What the machinery costs: the queue's and the ledger's share of a batch, memory, and how well a rate is met."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Sequence

import psutil

from tests.benchmarks.copying import ours
from tests.benchmarks.world import SLUG, Pair, World, command, query
from tests.servers import Running

_FLAGS = ("--validation-mode", "off")


def share(world: World, pair: Pair) -> dict[str, float]:
    """Return the part of the workers' time in which no batch was read, transformed, written or committed.

    A batch's ``busy_seconds`` in the ledger runs from after its claim to its last commit. What is left of
    two slots' time between the first claim and the last commit went into Celery, claims, dispatching, and
    waiting for a batch. The last stretch, when one slot has no batch left to do, is left out.
    """
    with world.workers(pair):
        ours(world, pair, _FLAGS)
    batches = [one for one in pair.batches(pair.last_run()["id"]) if one["records"]]
    slots = len({one["owner"] for one in batches})
    began = min(one["started_at"] for one in batches)
    # The moment at which the first slot has run out of batches.
    ended = min(
        max(one["finished_at"] for one in batches if one["owner"] == owner)
        for owner in {one["owner"] for one in batches}
    )
    total = (ended - began).total_seconds() * slots
    busy = sum(
        one["busy_seconds"] * _within(one["started_at"], one["finished_at"], ended) for one in batches
    )  # fmt: skip
    return {"share_percent": round(100 * (1 - busy / total), 2), "batches": len(batches), "slots": slots}


def _within(began: datetime.datetime, finished: datetime.datetime, ended: datetime.datetime) -> float:
    whole = (finished - began).total_seconds()
    return max(0.0, min(1.0, (ended - began).total_seconds() / whole)) if whole else 1.0


def memory(world: World, pair: Pair) -> float:
    """Return the largest resident size in MB that a pool process had while it copied, strictly validated."""
    peak = 0
    ended = threading.Event()

    def watch(workers: Sequence[Running]) -> None:
        nonlocal peak
        while not ended.wait(0.05):
            for worker in workers:
                for child in worker.children():
                    try:
                        peak = max(peak, child.memory_info().rss)
                    except psutil.Error:
                        continue

    with world.workers(pair) as workers:
        watcher = threading.Thread(target=watch, args=(workers,), daemon=True)
        watcher.start()
        ours(world, pair, ("--validation-mode", "strict"))
        ended.set()
        watcher.join()
    return peak / 1e6


def rate(world: World, pair: Pair, *, workers: int, limit: int, batches: int) -> float:
    """Return the rate that was met, in records a second, from the second batch's end to the last one's.

    The batches are one second of budget each; the first is granted at once and so is not counted.
    """
    pair.empty()
    with query(pair.hier_admin) as cursor:
        cursor.execute("DELETE FROM hal9mig.runs")
    with world.workers(pair, workers):
        command(
            pair, "state", "migrate", "--category", SLUG, "--rate-limit", f"{limit}/s", "--validation-mode", "off",
            "--timeout", f"{batches + 2}s", codes=(124,),
        )  # fmt: skip
        run = pair.last_run()["id"]
        command(pair, "runs", "cancel", str(run))
    done = sorted(
        (one for one in pair.batches(run) if one["status"] == "done"), key=lambda one: one["finished_at"]
    )  # fmt: skip
    first, last = done[0]["finished_at"], done[-1]["finished_at"]
    return float(sum(one["records"] for one in done[1:]) / (last - first).total_seconds())
