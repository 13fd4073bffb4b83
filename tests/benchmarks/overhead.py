"""What Celery and the ledger take of a worker's time."""

from __future__ import annotations

import collections
import json
from typing import Any

from tests.benchmarks.report import Figure, percent
from tests.benchmarks.world import Pair, World, migrate, working


def measure(world: World, pair: Pair) -> list[Figure]:
    """Copy as shipped with workers that note their times, and sum up what was not work on records.

    A worker's slot is all its time from its first batch's begin to its last one's end, so the way of a
    message through Redis and Celery is in it. Work is waiting for the source's rows, transforming,
    writing, reading back and committing them, without the ledger's statements in between. Everything
    else is overhead, whatever it is.
    """
    file = world.folder / f"probe{pair.name}.jsonl"
    file.unlink(missing_ok=True)
    pair.empty()
    with working(pair, env={"HAL9_BENCH_PROBE": str(file)}, args=["--include", "tests.benchmarks.probe"]):
        run = migrate(pair)
    seqs = {batch["seq"] for batch in pair.batches(run["id"])}
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    slots: dict[int, list[dict[str, Any]]] = collections.defaultdict(list)
    for line in lines:
        if line["seq"] in seqs:
            slots[line["pid"]].append(line)
    slot = sum(max(one["ended"] for one in own) - min(one["began"] for one in own) for own in slots.values())
    spent = {name: sum(line[name] for own in slots.values() for line in own) for name in ("read", "write", "commit")}
    ledger = sum(line["ledger"] for own in slots.values() for line in own)
    inside = sum(line["ledger in write"] for own in slots.values() for line in own)
    tasks = sum(line["ended"] - line["began"] for own in slots.values() for line in own)
    share = 1 - (sum(spent.values()) - inside) / slot
    world.say(f"overhead: {percent(share)} of {slot:.1f} s in {len(slots)} worker slots")
    return [
        Figure(
            what="Celery's and the ledger's share of a batch",
            ours=f"{1000 * share * slot / len(seqs):.0f} ms of {1000 * slot / len(seqs):.0f} ms",
            ratio=percent(share),
            goal="<= 5 %",
            met=share <= 0.05,
            detail={
                "slot_seconds": slot, "between_tasks_seconds": slot - tasks, "ledger_statement_seconds": ledger,
                "batches": len(seqs), **{f"{name}_seconds": seconds for name, seconds in spent.items()},
            },
        )
    ]  # fmt: skip
