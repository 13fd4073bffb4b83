"""What a round happens to: two stores, Redis, workers, a beat, operators and an application that writes."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator

from hal9mig.sample import loading
from tests.campaign.cable import Cable
from tests.campaign.host import Host
from tests.support.live_traffic import Live
from tests.support.migration_driver import Driver
from tests.support.servers import Cli, Programs, Running, Stores, environ

#: Share of HAL9's own data that a round begins with.
SCALE = 0.0003
#: Small batches, so that accidents meet many of them.
TUNED = ("--batch-size", "100", "--checkpoint-interval", "20")


@dataclasses.dataclass(kw_only=True)
class Site:
    """One round's world.

    Attributes:
        hosts: of the servers and of the workers, where programs seem to run on several; empty where they do not.
        cables: between the system's processes and each server; the application has its own way.
        dice, course: the storm's, and those of the migration's course; each thread draws from its own.
        gap: seconds between two accidents, at most.
        happened: how often each accident and each order came, as ``worker killed``.
        over: set when no more accidents and contrary orders shall come.
    """

    stores: Stores
    folder: pathlib.Path
    driver: Driver
    programs: Programs
    cli: Cli
    hosts: dict[str, Host]
    cables: dict[str, Cable]
    traffic: list[Live]
    dice: random.Random
    course: random.Random
    gap: float = 2.0
    happened: Counter[str] = dataclasses.field(default_factory=Counter)
    over: threading.Event = dataclasses.field(default_factory=threading.Event)

    def workers(self) -> list[Running]:
        """Return the workers that live, as far as anybody sees."""
        return [one for one in self.programs.running if one.name.startswith("worker") and one.alive]

    def beats(self) -> list[Running]:
        """Return the beats that live."""
        return [one for one in self.programs.running if one.name.startswith("beat") and one.alive]

    def man(self) -> None:
        """Start what is missing of two workers and a beat, as a supervisor would."""
        if missing := 2 - len(self.workers()):
            self.programs.workers(missing)
        if not self.beats():
            self.programs.beat()

    def serve(self) -> None:
        """Start what is missing of the three servers."""
        self.stores.flat_cluster.start()
        self.stores.hier_cluster.start()
        self.stores.redis_server.start()

    def heal(self) -> None:
        """Put everything right that an accident may have left: cables, servers, processes."""
        for cable in self.cables.values():
            cable.plug()
        for host in self.hosts.values():
            host.fill(False)
        self.serve()
        for one in (*self.workers(), *self.beats()):
            one.resume()
        self.man()

    def write(self, name: str = "") -> None:
        """Have the application write from now on, and note it in files whose names begin with ``name``."""
        seed = self.course.randrange(1 << 20)
        self.traffic = [
            Live(
                self.cli, self.folder, f"{name}client.jsonl", "--writers", "4", "--hot", "3", "--existing", "50",
                "--rate", "40/s", "--seed", str(seed),
            ),
            # By plain SQL, which knows nothing of a switch; on keys of its own.
            Live(
                self.cli, self.folder, f"{name}plain.jsonl", "--bypass-client", "--writers", "2", "--existing", "0",
                "--category", "user-sessions,configuration", "--rate", "20/s", "--seed", str(seed + 1),
            ),
        ]  # fmt: skip
        # Plain SQL has to rest where the flat store takes no writes.
        self.traffic[0].go_on(20)

    def read(self) -> int:
        """End the application's writes; return how many were acknowledged."""
        return sum(one.stop()["writes"] for one in self.traffic)

    def rest(self, least: float, most: float) -> None:
        """Wait for a time that the dice say, in seconds, or until the round is over."""
        self.over.wait(self.dice.uniform(least, most))

    def note(self, what: str) -> None:
        """Count an accident or an order, and write it down with its time."""
        self.happened[what] += 1
        with (self.folder / "events.log").open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%H:%M:%S')} {what}\n")


@contextlib.contextmanager
def opened(stores: Stores, folder: pathlib.Path, seed: int, hosts: dict[str, Host]) -> Iterator[Site]:
    """Load the flat store, and open everything a round takes."""
    loading.load(stores.flat_url, scale=SCALE, seed=seed)
    direct = environ(stores, folder)
    with contextlib.ExitStack() as stack:
        cables = {
            "flat": Cable(stores.flat_url, stack), "hierarchical": Cable(stores.hier_url, stack),
            "queue": Cable(stores.redis_url, stack),
        }  # fmt: skip
        env = {
            **direct, "HAL9_FLAT_URL": cables["flat"].url, "HAL9_HIER_URL": cables["hierarchical"].url,
            "HAL9_REDIS_URL": cables["queue"].url,
        }  # fmt: skip
        there = folder / "workers"
        hosts = {**hosts, "workers": Host(there)} if hosts else {}
        driver, programs, cli = Driver(stores, direct), Programs(env, there if hosts else folder), Cli(direct, folder)
        stack.callback(driver.close)
        stack.callback(cli.close)
        stack.callback(programs.close)
        site = Site(
            stores=stores, folder=folder, driver=driver, programs=programs, cli=cli, hosts=hosts, cables=cables,
            traffic=[], dice=random.Random(seed), course=random.Random(-seed - 1),
        )  # fmt: skip
        for host in site.hosts.values():
            host.set(0)
        site.man()
        yield site
