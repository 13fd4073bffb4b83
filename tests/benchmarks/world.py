"""The servers, stores and workers of a benchmark: the product's own settings, fsync on as shipped."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import psycopg2
import psycopg2.extras

from hal9mig import sample
from hal9mig.categories import neurons
from hal9mig.embedded.postgres import Cluster
from hal9mig.embedded.redis import RedisServer
from hal9mig.stores import schema
from tests.support import servers

SLUG = neurons.CATEGORY.slug
TARGETS = [target.qualified for target in neurons.CATEGORY.targets]
#: Neurons of the sample data at scale 1.
FULL = 1_000_000
SEED = 42
Say = Callable[[str], None]


class Failed(Exception):
    """A command of the product failed, a worker ended, or something was not done as asked."""


class Pair:
    """A flat and a hierarchical database with their queue, and the environment of processes that use them."""

    def __init__(self, world: World, name: str, redis_db: int):
        self.name = name
        self.rows = 0
        self.flat_url = world.flat.create_database(f"flat_{name}")
        self.hier_url = world.hier.create_database(f"hier_{name}")
        self.flat_admin = world.flat.admin_url(f"flat_{name}")
        self.hier_admin = world.hier.admin_url(f"hier_{name}")
        self.folder = world.folder / name
        self.folder.mkdir(exist_ok=True)
        stores = servers.Stores(
            name=name,
            flat_url=self.flat_url,
            hier_url=self.hier_url,
            redis_url=world.redis.database_url(redis_db),
            queue_prefix=f"hal9-{name}:",
            flat_cluster=world.flat,
            hier_cluster=world.hier,
            redis_server=world.redis,
        )
        self.env = servers.environ(stores, self.folder)
        # Tests want a short lease; this is about the product as shipped.
        self.env.pop("HAL9_LEASE", None)

    def load(self, rows: int) -> None:
        """Make the schemas and fill the flat table."""
        schema.upgrade(self.flat_url, self.hier_url)
        # As on an empty machine; what an application keeps is measured by itself.
        with query(self.hier_url) as cursor:
            cursor.execute("INSERT INTO hal9mig.tuning (name, value, changed_by) VALUES ('max-impact', 'off', 'bench')")
        sample.load(
            self.flat_url, scale=rows / FULL, seed=SEED, categories=[SLUG], workers=os.cpu_count() or 1, replace=True
        )
        with query(self.flat_admin) as cursor:
            cursor.execute("VACUUM ANALYZE flat.neuron_states")
            cursor.execute("SELECT count(*) AS rows FROM flat.neuron_states")
            self.rows = int(cursor.fetchone()["rows"])

    def empty(self, *tables: str) -> None:
        """Empty the tables that a copy fills, and write out what is dirty, so that no run pays for another."""
        with query(self.hier_admin) as cursor:
            cursor.execute(f"TRUNCATE {', '.join([*TARGETS, *tables])}")
        for url in (self.flat_admin, self.hier_admin):
            with query(url) as cursor:
                cursor.execute("CHECKPOINT")

    def contents(self) -> dict[str, tuple[int, str]]:
        """Return the rows of each target table and the sum of their hashes: equal where the rows are."""
        found = {}
        with query(self.hier_admin) as cursor:
            for name in TARGETS:
                cursor.execute(f"SELECT count(*) AS rows, sum(hash_record_extended(t, 0))::text AS total FROM {name} t")
                row = cursor.fetchone()
                found[name] = (row["rows"], row["total"])
        return found

    def batches(self, run_id: int) -> list[dict[str, Any]]:
        """Return a run's batches without the planning one as the ledger has them, in order."""
        with query(self.hier_admin) as cursor:
            cursor.execute("SELECT * FROM hal9mig.batches WHERE run_id = %s AND kind <> 'plan' ORDER BY seq", (run_id,))
            return [dict(row) for row in cursor.fetchall()]

    def last_run(self) -> dict[str, Any]:
        """Return the newest run; ``seconds`` from the order to the end."""
        with query(self.hier_admin) as cursor:
            cursor.execute(
                "SELECT *, extract(epoch FROM finished_at - created_at)::float8 AS seconds "
                "FROM hal9mig.runs ORDER BY id DESC LIMIT 1"
            )
            return dict(cursor.fetchone())

    def alive(self) -> int:
        """Return how many workers the ledger has heard of lately."""
        with query(self.hier_admin) as cursor:
            cursor.execute(
                "SELECT count(*) AS n FROM hal9mig.workers WHERE seen_at > clock_timestamp() - interval '3 s'"
            )
            return int(cursor.fetchone()["n"])


class World:
    """Two clusters, a Redis, and a folder for everything; all of it ends with the process, however it ends."""

    def __init__(self, say: Say):
        self.say = say
        self._session = servers.Session()
        self.folder = self._session.folder
        self.flat = Cluster(self.folder / "flat").start()
        self.hier = Cluster(self.folder / "hier").start()
        self.redis = RedisServer(self.folder / "redis").start()
        self._pairs: dict[int, Pair] = {}

    def pair(self, rows: int) -> Pair:
        """Return the stores with that many neurons, loaded the first time they are asked for."""
        if rows not in self._pairs:
            self.say(f"loading {rows:,} neurons")
            pair = Pair(self, f"r{rows}", len(self._pairs) + 1)
            pair.load(rows)
            self._pairs[rows] = pair
        return self._pairs[rows]

    def close(self) -> None:
        """End everything and remove the folder."""
        self._session.close()


@contextlib.contextmanager
def working(
    pair: Pair, count: int = 2, *, env: Mapping[str, str] | None = None, args: Sequence[str] = ()
) -> Iterator[list[servers.Running]]:
    """Run real workers of one process each, and a beat, for the length of a block.

    They run only while our side is measured, so that a peer has the machine to itself.
    """
    folder = pair.folder / f"workers{time.monotonic_ns()}"
    folder.mkdir()
    programs = servers.Programs({**pair.env, **(env or {})}, folder)
    try:
        started = programs.workers(count, args=args)
        programs.beat()
        deadline = time.monotonic() + 30
        while pair.alive() < count:
            if time.monotonic() > deadline:
                raise Failed("the ledger does not hear of the workers")
            time.sleep(0.1)
        yield started
        for worker in started:
            if not worker.alive:
                raise Failed(f"{worker.name} ended meanwhile: {worker.process.ending()}\n{worker.text()[-2000:]}")
    finally:
        for running in programs.running:
            running.stop()
        programs.close()
        # Or the next run would count these among its own.
        with contextlib.suppress(psycopg2.Error), query(pair.hier_admin) as cursor:
            cursor.execute("DELETE FROM hal9mig.workers")


def command(pair: Pair, *args: str, codes: Sequence[int] = (0,), env: Mapping[str, str] | None = None) -> float:
    """Run a command line of the product to its end and return its seconds."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "hal9mig.cli", *args],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**pair.env, **(env or {})},
        cwd=pair.folder,
        timeout=1800,
        check=False,
    )
    seconds = time.monotonic() - started
    if done.returncode not in codes:
        said = f"{done.stdout}{done.stderr}"[-4000:]
        raise Failed(f"hal9-migrate {' '.join(args)} ended with {done.returncode}:\n{said}")
    return seconds


def migrate(pair: Pair, *args: str) -> dict[str, Any]:
    """Migrate all neurons by the command line; return the run with ``command_seconds``, the whole command's."""
    seconds = command(pair, "state", "migrate", "--category", SLUG, "--timeout", "20m", *args)
    run = pair.last_run()
    done = sum(batch["records"] for batch in pair.batches(run["id"]))
    if run["status"] != "succeeded" or done != pair.rows:
        raise Failed(f"run {run['id']} is {run['status']} after {done:,} of {pair.rows:,} records")
    return {**run, "command_seconds": seconds}


def version(world: World) -> str:
    """Return the version of the servers."""
    done = subprocess.run([str(world.hier.bin / "postgres"), "--version"], capture_output=True, text=True, check=True)
    return done.stdout.split()[-1]


@contextlib.contextmanager
def query(url: str) -> Iterator[Any]:
    """Open a connection that commits each statement, and give a cursor whose rows are dictionaries."""
    connection = psycopg2.connect(url, application_name="benchmark")
    try:
        connection.autocommit = True
        with connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
            yield cursor
    finally:
        connection.close()
