"""``python -m tests.campaign --rounds 20 --seed 1``: goes through rounds, and prints what happened how often.

A round that fails keeps its folder, with every log, and the campaign goes on; the exit code is 1 then.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter

import click

from hal9mig.embedded.postgres import Cluster
from hal9mig.embedded.redis import RedisServer
from tests.campaign import host
from tests.campaign import round as campaign_round
from tests.support.servers import Databases, Session


def main() -> int:
    """Go through the rounds; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="how many; default 20")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the first round, the next ones follow")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("campaign.json"), metavar="FILE")
    given = parser.parse_args()
    # A shell has its jobs in the background ignore Ctrl-C; what was found until then is told all the same.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    happened: Counter[str] = Counter()
    modes: Counter[str] = Counter()
    failed: list[int] = []
    rounds = writes = 0
    session = Session()
    started = time.monotonic()
    try:
        host.loaded(session.folder)
        databases = Databases(session.cluster("flat"), session.cluster("hier"), session.redis_server())
        hosts = _hosts(databases)
        for seed in range(given.seed, given.seed + given.rounds):
            folder = pathlib.Path(tempfile.mkdtemp(prefix=f"round-{seed}-"))
            stores = databases.open()
            try:
                done = campaign_round.go(stores, folder, seed, hosts=hosts)
            except Exception:
                failed.append(seed)
                (folder / "failure.txt").write_text(traceback.format_exc(), encoding="utf-8")
                click.echo(f"round {seed} FAILED, see {folder}/failure.txt")
                traceback.print_exc()
            else:
                happened += done.happened
                modes[done.mode] += 1
                writes += done.writes
                told = f"{sum(done.happened.values())} accidents and orders, {done.writes} writes, ended in {done.mode}"
                click.echo(f"round {seed}: {told}, {done.seconds:.0f} s")
                shutil.rmtree(folder)
            rounds += 1
            databases.close(stores)
    except KeyboardInterrupt:
        click.echo("interrupted; what was gone through until then:")
    finally:
        session.close()
    click.echo(f"\n{rounds} rounds from seed {given.seed}, {len(failed)} failed; {writes} acknowledged writes")
    for what, count in sorted(happened.items()):
        click.echo(f"  {count:6} {what}")
    document = {
        "rounds": rounds, "seed": given.seed, "failed": failed, "writes": writes, "happened": happened,
        "ended_in": modes, "seconds": round(time.monotonic() - started),
    }  # fmt: skip
    given.output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 1 if failed else 0


def _hosts(databases: Databases) -> dict[str, host.Host]:
    """Put each server on a host of its own."""
    servers: dict[str, Cluster | RedisServer]
    servers = {"flat": databases.flat, "hierarchical": databases.hier, "queue": databases.redis_server}
    hosts = {}
    for name, server in servers.items():
        hosts[name] = host.Host(server.directory)
        server.stop()
        server.start()
    return hosts


if __name__ == "__main__":
    sys.exit(main())
