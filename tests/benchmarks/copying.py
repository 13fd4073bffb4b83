"""How fast neurons are copied, against the peers: the same transform in SQL, SQLAlchemy Core, and a bare COPY."""

from __future__ import annotations

import multiprocessing
import pathlib
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import psycopg2
import sqlalchemy
from sqlalchemy.dialects.postgresql import insert

from tests.benchmarks.world import SLUG, Failed, Pair, World, command, query

_SESSIONS = 2
#: Records that the slow peer is given; its rate is that of the sample.
UPSERT_SAMPLE = 20_000
_BATCH = 1000
OURS: Mapping[str, tuple[str, ...]] = {
    "validation off": ("--validation-mode", "off"),
    "batch-mode": ("--batch-mode",),
    "strict": ("--validation-mode", "strict"),
}


def bounds(parts: int) -> list[tuple[str | None, str | None]]:
    """Return ranges of random uuids of equal size, open at both ends."""
    cuts = [f"{2**32 * at // parts:08x}-0000-4000-8000-000000000000" for at in range(1, parts)]
    return list(zip([None, *cuts], [*cuts, None], strict=True))


def _range(low: str | None, high: str | None) -> str:
    parts = [f"s.neuron_id >= '{low}'"] * (low is not None) + [f"s.neuron_id < '{high}'"] * (high is not None)
    return " AND ".join(parts) or "TRUE"


def _together(work: Callable[[str | None, str | None], None]) -> float:
    """Do a piece of work for each range, side by side; return the seconds."""
    failures: list[BaseException] = []

    def guarded(low: str | None, high: str | None) -> None:
        try:
            work(low, high)
        except BaseException as error:
            failures.append(error)

    started = time.monotonic()
    threads = [threading.Thread(target=guarded, args=pair) for pair in bounds(_SESSIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return time.monotonic() - started


def ours(world: World, pair: Pair, flags: tuple[str, ...]) -> float:
    """Migrate through the command line, the queue and two workers; return the run's seconds, planning included."""
    pair.empty()
    with query(pair.hier_admin) as cursor:
        cursor.execute("DELETE FROM hal9mig.runs")
    command(pair, "state", "migrate", "--category", SLUG, *flags)
    run = pair.last_run()
    if pair.counts()[0] != pair.rows:
        raise Failed(f"only {pair.counts()[0]} of {pair.rows} units were written")
    return float(run["seconds"])


def prepare_peers(world: World, pair: Pair) -> None:
    """Put a copy of the flat table into the hierarchical server, for the transform inside one server."""
    with query(pair.hier_admin) as cursor:
        cursor.execute("CREATE SCHEMA IF NOT EXISTS flat; DROP TABLE IF EXISTS flat.neuron_states, flat.straight")
    dumped = subprocess.run(
        [str(world.flat.bin / "pg_dump"), "-s", "-t", "flat.neuron_states", "--no-owner", pair.flat_admin],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    subprocess.run(
        [str(world.flat.bin / "psql"), "-q", pair.hier_admin], input=dumped.stdout, text=True, check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    _pipe(world, pair, None, None, "flat.neuron_states")
    with query(pair.hier_admin) as cursor:
        cursor.execute("CREATE TABLE flat.straight (LIKE flat.neuron_states INCLUDING ALL)")
        cursor.execute("GRANT ALL ON SCHEMA flat TO PUBLIC; GRANT ALL ON ALL TABLES IN SCHEMA flat TO PUBLIC")
        cursor.execute("VACUUM ANALYZE flat.neuron_states")


def insert_select(world: World, pair: Pair) -> float:
    """The whole transform as INSERT..SELECT inside one server, two sessions, in key order."""
    pair.empty()
    text = (pathlib.Path(__file__).parent / "peers.sql").read_text(encoding="utf-8")
    statements = [part.split("\n", 1)[1] for part in text.split("-- name: ")[1:]]

    def work(low: str | None, high: str | None) -> None:
        connection = psycopg2.connect(pair.hier_admin)
        with connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement.replace("{range}", _range(low, high)))
        connection.close()

    return _together(work)


def straight(world: World, pair: Pair) -> float:
    """Binary COPY of the same rows to the other server without any transform, two streams."""
    with query(pair.hier_admin) as cursor:
        cursor.execute("TRUNCATE flat.straight")
    pair.settle()
    return _together(lambda low, high: _pipe(world, pair, low, high, "flat.straight"))


def _pipe(world: World, pair: Pair, low: str | None, high: str | None, table: str) -> None:
    select = f"SELECT * FROM flat.neuron_states s WHERE {_range(low, high)} ORDER BY neuron_id"
    psql = str(world.flat.bin / "psql")
    with subprocess.Popen(
        [psql, "-qc", f"COPY ({select}) TO STDOUT (FORMAT binary)", pair.flat_admin], stdout=subprocess.PIPE
    ) as source:
        subprocess.run(
            [psql, "-qc", f"COPY {table} FROM STDIN (FORMAT binary)", pair.hier_admin], stdin=source.stdout, check=True
        )


def upsert(world: World, pair: Pair) -> float:
    """The straightforward script: SQLAlchemy Core, batches of 1000 with ON CONFLICT, two processes; a sample."""
    pair.empty()
    share = UPSERT_SAMPLE / pair.rows
    context = multiprocessing.get_context("spawn")
    started = time.monotonic()
    processes = []
    for number in range(_SESSIONS):
        low = f"{2**32 * number // _SESSIONS:08x}-0000-4000-8000-000000000000"
        high = f"{int(2**32 * (number + share) / _SESSIONS):08x}-0000-4000-8000-000000000000"
        processes.append(context.Process(target=_upsert_range, args=(pair.flat_url, pair.hier_url, low, high)))
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    seconds = time.monotonic() - started
    written = pair.counts()[0]
    if any(process.exitcode for process in processes) or not written:
        raise Failed("the upsert script failed")
    return seconds * pair.rows / written


def _upsert_range(flat_url: str, hier_url: str, low: str, high: str) -> None:
    flat = sqlalchemy.create_engine(flat_url.replace("postgresql://", "postgresql+psycopg2://"))
    hier = sqlalchemy.create_engine(hier_url.replace("postgresql://", "postgresql+psycopg2://"))
    meta = sqlalchemy.MetaData()
    source = sqlalchemy.Table("neuron_states", meta, schema="flat", autoload_with=flat)
    units, learning, connections = (
        sqlalchemy.Table(name, meta, schema="hier", autoload_with=hier)
        for name in ("units", "unit_learning", "unit_connections")
    )
    select = sqlalchemy.select(source).where(source.c.neuron_id >= low, source.c.neuron_id < high)
    with flat.connect().execution_options(yield_per=_BATCH) as reading, hier.connect() as writing:
        for rows in reading.execute(select.order_by(source.c.neuron_id)).mappings().partitions(_BATCH):
            for table, values in (
                (units, [_unit(row) for row in rows]),
                (learning, [_learning(row) for row in rows]),
                (connections, [one for row in rows for one in _connections(row)]),
            ):
                if not values:
                    continue
                statement = insert(table)
                keys = [column.name for column in table.primary_key]
                changes = {name: statement.excluded[name] for name in values[0] if name not in keys}
                writing.execute(statement.on_conflict_do_update(index_elements=keys, set_=changes), values)
            writing.commit()


def _unit(row: Any) -> dict[str, Any]:
    return {
        "unit_id": row["neuron_id"], "layer": row["layer"], "kind": row["neuron_type"],
        "activation": row["activation"], "attention_focus": row["context"], "working_memory": row["memory"],
        "processing_mode": "async" if row["is_async"] else "sync", "avg_response_time": row["avg_response_time"],
        "created_at": row["created_at"], "updated_at": row["updated_at"], "source_version": row["version"],
    }  # fmt: skip


def _learning(row: Any) -> dict[str, Any]:
    momentum = row["momentum"]
    return {
        "unit_id": row["neuron_id"], "weights": row["weights"], "biases": row["biases"],
        "learning_rate": row["learning_rate"], "momentum": 0.9 if momentum is None else momentum,
        "momentum_given": momentum is not None,
    }  # fmt: skip


def _connections(row: Any) -> list[dict[str, Any]]:
    return [
        {"unit_id": row["neuron_id"], "ordinal": at, "target_id": one["target"], "connection_type": one["conn_type"],
         "weight": one["weight"]}
        for at, one in enumerate(row["connections"], 1)
    ]  # fmt: skip


def measure(world: World, pair: Pair, *, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each way to copy, a number a round; the ways take turns."""
    prepare_peers(world, pair)
    found: dict[str, list[float]] = {}

    def note(name: str, seconds: float) -> None:
        found.setdefault(name, []).append(seconds)
        world.say(f"{name}: {seconds:.2f} s, {pair.rows / seconds:,.0f} rows/s")

    for _ in range(rounds):
        with world.workers(pair):
            for name, flags in OURS.items():
                note(f"ours, {name}", ours(world, pair, flags))
        note("INSERT..SELECT", insert_select(world, pair))
        note("straight COPY", straight(world, pair))
        note("SQLAlchemy Core upsert", upsert(world, pair))
    return found


def median(found: Mapping[str, list[float]], name: str) -> float:
    """Return a way's median seconds."""
    return statistics.median(found[name])
