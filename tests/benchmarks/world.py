"""The servers, stores and workers of a benchmark: the product's own settings, fsync on as shipped."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg2
import psycopg2.extras

from hal9mig import sample
from hal9mig.categories import neurons
from hal9mig.embedded.postgres import Cluster
from hal9mig.embedded.redis import RedisServer
from hal9mig.stores import schema
from tests import servers

SLUG = neurons.CATEGORY.slug
TARGETS = [target.qualified for target in neurons.CATEGORY.targets]
#: Rows of the sample data at scale 1.
FULL = 1_000_000
SEED = 42
Say = Callable[[str], None]


class Pair:
    """A flat and a hierarchical database with their queue, and the environment of processes that use them."""

    def __init__(self, world: World, name: str, redis_db: int):
        self.name = name
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
        self.rows = 0

    def load(self, rows: int) -> None:
        """Make the schemas and fill the flat table."""
        schema.upgrade(self.flat_url, self.hier_url)
        sample.load(
            self.flat_url, scale=rows / FULL, seed=SEED, categories=[SLUG], workers=os.cpu_count() or 1, replace=True
        )
        with query(self.flat_admin) as cursor:
            cursor.execute("VACUUM ANALYZE flat.neuron_states")
            cursor.execute("SELECT count(*) FROM flat.neuron_states")
            self.rows = int(cursor.fetchone()["count"])

    def empty(self) -> None:
        """Empty the tables that a copy fills, and write out what is dirty, so that no run pays for another."""
        with query(self.hier_admin) as cursor:
            cursor.execute(f"TRUNCATE {', '.join(TARGETS)}")
        self.settle()

    def settle(self) -> None:
        """Checkpoint both clusters."""
        for url in (self.flat_admin, self.hier_admin):
            with query(url) as cursor:
                cursor.execute("CHECKPOINT")

    def counts(self) -> tuple[int, ...]:
        """Return the rows of each target table."""
        with query(self.hier_admin) as cursor:
            columns = [f"(SELECT count(*) FROM {name}) AS c{at}" for at, name in enumerate(TARGETS)]
            cursor.execute(f"SELECT {', '.join(columns)}")
            return tuple(cursor.fetchone().values())

    def batches(self, run_id: int) -> list[dict[str, Any]]:
        """Return a run's copying or comparing batches as the ledger has them, in order."""
        with query(self.hier_admin) as cursor:
            cursor.execute(
                "SELECT b.*, r.created_at AS ordered_at, r.finished_at AS ended_at FROM hal9mig.batches b "
                "JOIN hal9mig.runs r ON r.id = b.run_id WHERE run_id = %s AND b.kind <> 'plan' ORDER BY seq",
                (run_id,),
            )
            return [dict(row) for row in cursor.fetchall()]

    def last_run(self) -> dict[str, Any]:
        """Return the newest run."""
        with query(self.hier_admin) as cursor:
            cursor.execute(
                "SELECT *, extract(epoch FROM finished_at - created_at)::float8 AS seconds "
                "FROM hal9mig.runs ORDER BY id DESC LIMIT 1"
            )
            return dict(cursor.fetchone())


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

    @contextlib.contextmanager
    def workers(self, pair: Pair, count: int = 2) -> Iterator[list[servers.Running]]:
        """Run real workers of one process each, and a beat, for the length of a block."""
        folder = pair.folder / f"w{time.monotonic_ns()}"
        folder.mkdir()
        programs = servers.Programs(dict(pair.env), folder)
        try:
            started = programs.workers(count)
            programs.beat()
            # A worker tells the ledger of itself every two seconds.
            time.sleep(1)
            yield started
        finally:
            for running in programs.running:
                running.stop()
            programs.close()

    def close(self) -> None:
        """End everything and remove the folder."""
        self._session.close()


class Failed(Exception):
    """A command of the product failed, or did not do what was asked."""


def command(pair: Pair, *args: str, codes: Sequence[int] = (0,), timeout: float = 1800) -> tuple[float, str]:
    """Run a command line of the product to its end; return its seconds and what it printed."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "hal9mig.cli", *args],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, env=pair.env, cwd=pair.folder, timeout=timeout,
        check=False,
    )  # fmt: skip
    seconds = time.monotonic() - started
    if done.returncode not in codes:
        raise Failed(f"hal9-migrate {' '.join(args)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"[:4000])
    return seconds, done.stdout


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
