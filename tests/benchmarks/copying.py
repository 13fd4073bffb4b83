"""How fast a copy is, against the same work done in other ways."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable
from typing import Any

from tests.benchmarks import peers
from tests.benchmarks.report import Figure, percent, rate, times
from tests.benchmarks.world import Failed, Pair, World, migrate, working
from tests.support import servers

#: Ours, by the options of `state migrate`.
MODES = {
    "off": ("--validation-mode", "off"),
    "strict": ("--validation-mode", "strict"),
    "batch mode": ("--validation-mode", "strict", "--batch-mode"),
}
#: Times the speed of the peer, which reads nothing back.
_GOALS = {"off": 1.2, "strict": 0.85}
INSERT_SELECT = "INSERT..SELECT in one server, 2 sessions"
STRAIGHT = "binary COPY without transform, 2 streams"
UPSERT = "SQLAlchemy Core upserts, 2 processes"


@dataclasses.dataclass
class Copies:
    """Seconds of each variant, round by round, and what came of it; read by the other parts."""

    seconds: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    command: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    memory: dict[str, list[int]] = dataclasses.field(default_factory=dict)

    def median(self, name: str) -> float:
        """Return a variant's middle time."""
        return statistics.median(self.seconds[name])


def measure(world: World, pair: Pair, *, rounds: int, upserts: int) -> tuple[list[Figure], Copies]:
    """Run every variant in turn, several times, and compare the medians."""
    peers.prepare(world, pair)
    copies = Copies()
    contents: dict[str, Any] = {}

    def ours(mode: str) -> float:
        with working(pair) as workers:
            run = migrate(pair, *MODES[mode])
            copies.memory.setdefault(mode, []).append(max(map(peak_of_child, workers)))
        copies.command.setdefault(mode, []).append(run["command_seconds"])
        return float(run["seconds"])

    variants: dict[str, Callable[[], float]] = {
        "off": lambda: ours("off"),
        INSERT_SELECT: lambda: peers.insert_select(pair),
        "strict": lambda: ours("strict"),
        STRAIGHT: lambda: peers.straight_copy(world, pair),
        "batch mode": lambda: ours("batch mode"),
    }
    upserted = []
    for number in range(rounds):
        for name, run in variants.items():
            pair.empty("straight.neuron_states")
            seconds = run()
            copies.seconds.setdefault(name, []).append(seconds)
            world.say(f"round {number + 1} of {rounds}: {name}: {seconds:.1f} s, {rate(pair.rows, seconds)}")
            if number == 0 and name != STRAIGHT:
                contents[name] = pair.contents()
        pair.empty()
        upserted.append(peers.upsert(pair, upserts))
        world.say(f"round {number + 1} of {rounds}: {UPSERT}: {rate(upserted[-1], 1)} over {upserts:,} rows")
    if any(found != contents["off"] for found in contents.values()):
        raise Failed(f"the variants did not write the same: {contents}")
    return _figures(pair.rows, copies, statistics.median(upserted), upserts), copies


def _figures(rows: int, copies: Copies, upserted: float, sample: int) -> list[Figure]:
    figures = []
    for mode in MODES:
        mine, peer = copies.median(mode), copies.median(INSERT_SELECT)
        goal: dict[str, Any] = {"goal": "state it"}
        if mode in _GOALS:
            goal = {"goal": f">= {_GOALS[mode]}x", "met": peer / mine >= _GOALS[mode]}
        figures.append(
            Figure(
                what=f"copy, validation {mode} / {INSERT_SELECT}",
                ours=rate(rows, mine), peer=rate(rows, peer), ratio=times(peer / mine), **goal,
                detail={
                    "seconds": copies.seconds[mode], "peer_seconds": copies.seconds[INSERT_SELECT],
                    "command_seconds": copies.command[mode],
                },
            )
        )  # fmt: skip
    for mode in ("off", "strict"):
        ratio = rows / copies.median(mode) / upserted
        figures.append(
            Figure(
                what=f"copy, validation {mode} / {UPSERT}",
                ours=rate(rows, copies.median(mode)), peer=rate(upserted, 1), ratio=times(ratio),
                goal=">= 10x", met=ratio >= 10, detail={"rows_of_peer": sample},
            )
        )  # fmt: skip
    for mode in ("off", "strict"):
        share = copies.median(STRAIGHT) / copies.median(mode)
        figures.append(
            Figure(
                what=f"copy, validation {mode} / {STRAIGHT}",
                ours=rate(rows, copies.median(mode)), peer=rate(rows, copies.median(STRAIGHT)),
                ratio=percent(share), goal="state it", detail={"peer_seconds": copies.seconds[STRAIGHT]},
            )
        )  # fmt: skip
    return figures


def peak_of_child(worker: servers.Running) -> int:
    """Return the most memory in bytes that a worker's pool process has had."""
    return max((peak(child.pid) for child in worker.children()), default=0)


def peak(pid: int) -> int:
    """Return the most resident memory in bytes that a process has had, as the kernel keeps it."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as stream:
        for line in stream:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    raise Failed(f"the kernel does not say how much memory process {pid} has had")
