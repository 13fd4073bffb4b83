"""What capture costs the application: pgbench's TPC-B-like load with and without the triggers.

The transaction updates an account, a teller and a branch and writes history; the accounts are captured.
Rounds with and without triggers take turns on the same database; the ratio is the median of that of each pair.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import urllib.parse
from collections.abc import Callable

from hal9mig import model
from hal9mig.embedded.postgres import Cluster
from hal9mig.stores import capture, capture_triggers, connection, schema
from tests.categories.accounts import ACCOUNTS

_TPS = re.compile(r"tps = ([0-9.]+)")
#: Clients of pgbench; the machine's cores serve them and the server.
CLIENTS = 4


def measure(
    flat: Cluster, hier: Cluster, *, rounds: int, seconds: int, say: Callable[[str], None]
) -> dict[str, float | int]:
    """Return transactions a second with and without capture, their ratio, and the keys journalled.

    Args:
        rounds: of each kind.
        seconds: of each round.
    """
    flat_url = flat.create_database("capture_flat")
    hier_url = hier.create_database("capture_hier")
    schema.upgrade(flat_url, hier_url)
    pgbench(flat, flat_url, ["--initialize", "--scale", "5", "--quiet"])
    opened = connection.connect(flat_url, application_name="hal9-migrate benchmark")
    side = model.StoreName.FLAT
    found: dict[bool, list[float]] = {True: [], False: []}
    journalled = 0
    try:
        pgbench(flat, flat_url, ["--time", str(seconds), "--client", str(CLIENTS)])  # warm-up
        for _ in range(rounds):
            for captured in (False, True):
                if captured:
                    capture_triggers.install(opened, ACCOUNTS, side)
                else:
                    capture_triggers.uninstall(opened, ACCOUNTS, side)
                capture.discard(opened)
                said = pgbench(flat, flat_url, ["--time", str(seconds), "--client", str(CLIENTS)])
                tps = float(_TPS.findall(said)[-1])
                found[captured].append(tps)
                say(f"capture {'on' if captured else 'off'}: {tps:.0f} transactions/s")
                if captured:
                    journalled = sum(one.records for one in capture.lag(opened).values())
    finally:
        opened.close()
    without, with_ = statistics.median(found[False]), statistics.median(found[True])
    ratio = statistics.median(with_ / without for with_, without in zip(found[True], found[False], strict=True))
    return {
        "without_tps": round(without, 1),
        "with_tps": round(with_, 1),
        "ratio": round(ratio, 3),
        "cost_percent": round(100 * (1 - ratio), 1),
        "journalled_in_last_round": journalled,
        "rounds": rounds,
        "seconds": seconds,
    }


def pgbench(cluster: Cluster, url: str, args: list[str]) -> str:
    """Run pgbench with these arguments and return what it says."""
    # A password on a command line is there for everybody on the machine to read.
    parts = urllib.parse.urlsplit(url)
    place = parts._replace(netloc=f"{parts.username}@{parts.hostname}:{parts.port}").geturl()
    done = subprocess.run(
        [str(cluster.bin / "pgbench"), *args, place],
        check=True,
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("PG")}
        | {"PGPASSWORD": urllib.parse.unquote(parts.password or "")},
    )
    return done.stdout + done.stderr
