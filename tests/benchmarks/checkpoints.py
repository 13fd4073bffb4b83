"""Checkpoints against pg_dump and pg_restore: the same data, in turns, in one run."""

from __future__ import annotations

import os
import pathlib
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import Any

import psycopg2

from tests.benchmarks import report
from tests.benchmarks.copying import peak_of_child
from tests.benchmarks.report import Figure
from tests.benchmarks.world import SLUG, TARGETS, Failed, Pair, World, command, migrate, query, working

#: The time limit of one program.
_PATIENCE = 1800


def measure(world: World, pair: Pair, *, rounds: int) -> list[Figure]:
    """Keep and restore both stores of a migrated category, and compare with PostgreSQL's own programs."""
    pair.empty()
    with working(pair):
        migrate(pair, "--batch-mode")
    for url in (pair.flat_admin, pair.hier_admin):
        with query(url) as cursor:
            cursor.execute("VACUUM ANALYZE")
            cursor.execute("CHECKPOINT")
    ours: dict[str, list[float]] = {"save": [], "verified": [], "load": []}
    theirs: dict[str, list[float]] = {"save": [], "load": []}
    made: dict[str, Any] = {}
    sizes: list[int] = []
    memory = 0
    phases: dict[str, dict[str, float]] = {}
    for number in range(rounds):
        with working(pair) as workers:
            for kind, flags in (("save", ()), ("verified", ("--verify",))):
                name = f"{kind}{number}"
                command(pair, "state", "checkpoint", "--name", name, "--full-backup", "--category", SLUG, *flags)
                run = pair.last_run()
                ours[kind].append(run["seconds"])
                made = _result(pair, run["id"])
            sure = ("--category", SLUG, "--yes", "--no-safety-checkpoint")
            command(pair, "state", "rollback", "--to-checkpoint", f"save{number}", *sure)
            run = pair.last_run()
            ours["load"].append(run["seconds"])
            phases = _phases(pair, run["id"])
            memory = max(memory, *map(peak_of_child, workers))
        world.say(f"checkpoint {ours['save'][-1]:.1f} s, verified {ours['verified'][-1]:.1f} s, "
                  f"restore {ours['load'][-1]:.1f} s")  # fmt: skip
        folder = pair.folder / f"dump{number}"
        theirs["save"].append(_dump(world, pair, folder))
        sizes.append(_size(folder))
        theirs["load"].append(_restore(world, pair, folder))
        world.say(f"pg_dump {theirs['save'][-1]:.1f} s, pg_restore {theirs['load'][-1]:.1f} s")
        shutil.rmtree(folder)
    median = {kind: statistics.median(found) for kind, found in ours.items()}
    peer = {kind: statistics.median(found) for kind, found in theirs.items()}
    raw = made["raw_bytes"]
    detail = {"ours": ours, "peer": theirs, "made": made, "dump_bytes": sizes, "restore_phases": phases}
    return [
        _against("checkpoint / pg_dump -Fd -j2", median["save"], peer["save"], raw, goal=1.0, detail=detail),
        _against("checkpoint with --verify / pg_dump -Fd -j2", median["verified"], peer["save"], raw, goal=None),
        _against("restore, proven and swapped / pg_restore -j2", median["load"], peer["load"], raw, goal=1.1),
        Figure(
            what="size of the checkpoint's files / pg_dump's", ours=_megabytes(made["bytes"]),
            peer=_megabytes(sizes[-1]), ratio=report.percent(made["bytes"] / sizes[-1]), goal="<= 100 %",
            met=made["bytes"] <= sizes[-1],
        ),
        Figure(
            what="memory of a worker's pool process in a checkpoint and a restore, at most", ours=_megabytes(memory),
            goal="<= 150 MB", met=memory <= 150e6, detail={"bytes": memory},
        ),
        _overhead(world, pair, median["save"]),
    ]  # fmt: skip


def _phases(pair: Pair, run_id: int) -> dict[str, dict[str, float]]:
    """Return of each kind of a run's batches how many, the slots' seconds, and the seconds from first to last."""
    found: dict[str, dict[str, float]] = {}
    for kind in dict.fromkeys(batch["kind"] for batch in pair.batches(run_id)):
        own = [batch for batch in pair.batches(run_id) if batch["kind"] == kind]
        span = max(one["finished_at"] for one in own) - min(one["started_at"] for one in own)
        busy = sum(one["busy_seconds"] for one in own)
        found[kind] = {"batches": len(own), "busy": round(busy, 2), "seconds": round(span.total_seconds(), 2)}
    return found


def _result(pair: Pair, run_id: int) -> dict[str, Any]:
    found = [batch["result"] for batch in pair.batches(run_id) if batch["kind"] == "seal"]
    if not found or not found[0]:
        raise Failed(f"run {run_id} has sealed nothing")
    return dict(found[0])


def _against(
    what: str, ours: float, peer: float, raw: int, *, goal: float | None, detail: dict[str, Any] | None = None
) -> Figure:
    return Figure(
        what=what, ours=f"{raw / ours / 1e6:.0f} MB/s", peer=f"{raw / peer / 1e6:.0f} MB/s",
        ratio=report.times(peer / ours), goal="state it" if goal is None else f">= {goal}x",
        met=None if goal is None else peer / ours >= goal,
        detail=detail or {"ours_seconds": ours, "peer_seconds": peer},
    )  # fmt: skip


def _dump(world: World, pair: Pair, folder: pathlib.Path) -> float:
    """Dump both stores' tables, one after the other, each with two jobs."""
    folder.mkdir()
    started = time.monotonic()
    for url, tables, name in _sides(pair):
        _program(world, "pg_dump", "-Fd", "-j2", *(f"--table={one}" for one in tables), "-f", str(folder / name), url)
    return time.monotonic() - started


def _restore(world: World, pair: Pair, folder: pathlib.Path) -> float:
    """Restore both dumps into empty databases, with their indexes."""
    for cluster, name in ((world.flat, "flat"), (world.hier, "hier")):
        with query(cluster.admin_url("postgres")) as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS back_{name}")
        cluster.create_database(f"back_{name}")
    started = time.monotonic()
    for cluster, name in ((world.flat, "flat"), (world.hier, "hier")):
        url = cluster.admin_url(f"back_{name}")
        with query(url) as cursor:
            cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {name}; CREATE SCHEMA IF NOT EXISTS hal9cap")
        _program(
            world, "pg_restore", "-j2", "--no-owner", "--no-privileges", "-d", url, str(folder / name), codes=(0, 1)
        )
    seconds = time.monotonic() - started
    for cluster, name, table in ((world.flat, "flat", "flat.neuron_states"), (world.hier, "hier", TARGETS[0])):
        with query(cluster.admin_url(f"back_{name}")) as cursor:
            cursor.execute(f"SELECT count(*) AS n FROM {table}")
            if cursor.fetchone()["n"] != pair.rows:
                raise Failed(f"pg_restore did not bring {table} back")
    return seconds


def _sides(pair: Pair) -> Sequence[tuple[str, Sequence[str], str]]:
    return ((pair.flat_admin, ["flat.neuron_states"], "flat"), (pair.hier_admin, TARGETS, "hier"))


def _program(world: World, name: str, *args: str, codes: Sequence[int] = (0,)) -> None:
    done = subprocess.run(
        [str(world.hier.bin / name), *args], capture_output=True, text=True, timeout=_PATIENCE, check=False,
        env=dict(os.environ),
    )  # fmt: skip
    # Triggers whose functions the empty database lacks are what pg_restore complains about, and goes on.
    if done.returncode not in codes:
        raise Failed(f"{name} ended with {done.returncode}: {done.stderr[-2000:]}")


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.0f} MB"


def _size(folder: pathlib.Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _overhead(world: World, pair: Pair, seconds: float) -> Figure:
    """Compare a writer's updates a second while a checkpoint is taken with those while none is."""
    counts: dict[str, list[float]] = {"alone": [], "beside": []}
    with working(pair):
        for number in range(2):
            counts["alone"].append(_writing(pair, lambda: time.sleep(max(2.0, seconds))))
            name = f"beside{number}"
            counts["beside"].append(
                _writing(
                    pair,
                    lambda name=name: command(
                        pair, "state", "checkpoint", "--name", name, "--full-backup", "--category", SLUG
                    ),
                )
            )
    alone, beside = statistics.median(counts["alone"]), statistics.median(counts["beside"])
    world.say(f"a writer: {alone:.0f}/s alone, {beside:.0f}/s beside a checkpoint")
    return Figure(
        what="a live writer beside a checkpoint / alone", ours=f"{beside:.0f}/s", peer=f"{alone:.0f}/s",
        ratio=f"{100 * (1 - beside / alone):.1f} % less", goal="state it", detail=dict(counts),
    )  # fmt: skip


def _writing(pair: Pair, act: Any) -> float:
    """Return one writer's updates a second for as long as something is done."""
    ended = threading.Event()
    done = [0]

    def write() -> None:
        connection = psycopg2.connect(pair.flat_url)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT neuron_id FROM flat.neuron_states LIMIT 200")
            keys = [row[0] for row in cursor.fetchall()]
            while not ended.is_set():
                key = keys[done[0] % len(keys)]
                cursor.execute("UPDATE flat.neuron_states SET activation = 0.5 WHERE neuron_id = %s", (key,))
                done[0] += 1
        connection.close()

    writer = threading.Thread(target=write)
    began = time.monotonic()
    writer.start()
    try:
        act()
    finally:
        ended.set()
        writer.join()
    return done[0] / (time.monotonic() - began)
