"""What a copy is measured against: INSERT..SELECT in one server, straight COPY, and a SQLAlchemy Core script."""

from __future__ import annotations

import concurrent.futures
import json
import pathlib
import re
import subprocess
import sys
import time

import psycopg2

from tests.benchmarks.world import Failed, Pair, World, query

#: Sessions, streams and processes of every peer: as many as we have workers.
SESSIONS = 2
_WHOLE = ("00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff")
_HALVES = (
    ("00000000-0000-0000-0000-000000000000", "7fffffff-ffff-ffff-ffff-ffffffffffff"),
    ("80000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
)


def _statements() -> list[str]:
    text = (pathlib.Path(__file__).parent / "peers.sql").read_text(encoding="utf-8")
    return re.split(r"^-- name: \w+\n", text, flags=re.M)[1:]


def _copy_command(world: World, url: str, statement: str) -> list[str]:
    return [str(world.hier.bin / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement, url]


def _piped(world: World, source_url: str, source: str, target_url: str, target: str) -> None:
    with subprocess.Popen(_copy_command(world, source_url, source), stdout=subprocess.PIPE) as reading:
        written = subprocess.run(_copy_command(world, target_url, target), stdin=reading.stdout, check=False)
    if reading.returncode or written.returncode:
        raise Failed(f"psql ended with {reading.returncode} and {written.returncode}")


def prepare(world: World, pair: Pair) -> None:
    """Give the hierarchical server a flat table of its own, and an empty one for straight copies."""
    with query(pair.hier_url) as cursor:
        cursor.execute("SELECT to_regclass('flat.neuron_states') IS NOT NULL AS there")
        if cursor.fetchone()["there"]:
            return
    shape = subprocess.run(
        [str(world.flat.bin / "pg_dump"), "--schema-only", "--no-owner", "--no-privileges",
         "--table=flat.neuron_states", pair.flat_admin],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    # Triggers of the application's own have no business in a copy of its table.
    shape = "\n".join(line for line in shape.splitlines() if not line.startswith("CREATE TRIGGER"))
    for name in ("flat", "straight"):
        with query(pair.hier_url) as cursor:
            cursor.execute(f"CREATE SCHEMA {name}")
        subprocess.run(
            [str(world.hier.bin / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", pair.hier_url],
            input=shape.replace("flat.neuron_states", f"{name}.neuron_states"), text=True, check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
    _piped(
        world, pair.flat_url, "COPY (SELECT * FROM flat.neuron_states) TO STDOUT (FORMAT binary)",
        pair.hier_url, "COPY flat.neuron_states FROM STDIN (FORMAT binary)",
    )  # fmt: skip
    with query(pair.hier_admin) as cursor:
        cursor.execute("VACUUM ANALYZE flat.neuron_states")


def insert_select(pair: Pair) -> float:
    """Transform inside the hierarchical server, a transaction for each session; return the seconds."""

    def session(half: tuple[str, str]) -> None:
        connection = psycopg2.connect(pair.hier_url, application_name="benchmark peer")
        try:
            with connection, connection.cursor() as cursor:
                for statement in _statements():
                    cursor.execute(statement, {"low": half[0], "high": half[1]})
        finally:
            connection.close()

    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(SESSIONS) as pool:
        list(pool.map(session, _HALVES))
    return time.monotonic() - started


def straight_copy(world: World, pair: Pair, *, streams: int = SESSIONS) -> float:
    """Copy the flat table as it is from server to server, in key order, by one stream or two; return the seconds."""

    def stream(half: tuple[str, str]) -> None:
        _piped(
            world, pair.flat_url,
            f"COPY (SELECT * FROM flat.neuron_states WHERE neuron_id >= '{half[0]}' AND neuron_id <= '{half[1]}' "
            "ORDER BY neuron_id) TO STDOUT (FORMAT binary)",
            pair.hier_url, "COPY straight.neuron_states FROM STDIN (FORMAT binary)",
        )  # fmt: skip

    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(streams) as pool:
        list(pool.map(stream, _HALVES if streams == SESSIONS else [_WHOLE]))
    return time.monotonic() - started


def upsert(pair: Pair, rows: int) -> float:
    """Run the SQLAlchemy Core script in two processes over a part of the table; return rows a second."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.upsert", low, high, str(rows // SESSIONS)],
            env={**pair.env, "BENCH_SOURCE": pair.flat_url, "BENCH_TARGET": pair.hier_url},
            stdout=subprocess.PIPE,
            text=True,
        )
        for low, high in _HALVES
    ]
    # Both say how long they took from their first row to their last commit; imports do not count.
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise Failed("the SQLAlchemy script failed")
    found = [json.loads(output) for output in outputs]
    return float(sum(one["rows"] for one in found) / max(one["seconds"] for one in found))
