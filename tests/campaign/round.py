"""One round: a migration's course in a storm, then quiet, then the judgement."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import pathlib
import threading
import time
from collections import Counter
from collections.abc import Iterator

from hal9mig.engine.switch.switch import Switch
from tests.campaign import accidents, orders, site
from tests.campaign.host import Host
from tests.campaign.kept import kept, last_writes
from tests.campaign.site import Site
from tests.support import comparison
from tests.support.live_traffic import check, drained
from tests.support.migration_driver import connected
from tests.support.servers import Stores


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a round was: seconds, what happened how often, and writes that were acknowledged in it."""

    seed: int
    seconds: float
    happened: Counter[str]
    writes: int
    mode: str


def go(
    stores: Stores, folder: pathlib.Path, seed: int, *, short: bool = False, hosts: dict[str, Host] | None = None
) -> Outcome:
    """Go through a round.

    Args:
        short: only as far as the hierarchical store, with half the accidents.
        hosts: what the servers run on, where clocks shall step and disks be full.

    Raises:
        AssertionError: something was lost, stuck or untrue; ``folder`` holds the logs.
    """
    started = time.monotonic()
    with site.opened(stores, folder, seed, hosts or {}) as opened:
        opened.gap *= 2 if short else 1
        opened.write("")
        with _storm(opened, seed):
            _course(opened, short=short)
        writes = _judge(opened)
        if not short and opened.course.random() < 0.5:
            writes += _restored(opened, seed)
        mode = Switch(opened.driver.system, actor="campaign").line().mode
        return Outcome(
            seed=seed, seconds=time.monotonic() - started, happened=opened.happened, writes=writes, mode=mode
        )


@contextlib.contextmanager
def _storm(opened: Site, seed: int) -> Iterator[None]:
    """Have accidents and contrary orders within; everything is put right at the end."""
    failures: list[BaseException] = []
    threads = [
        threading.Thread(target=accidents.storm, args=(opened,), daemon=True),
        threading.Thread(target=orders.contradict, args=(opened, seed + 1, failures), daemon=True),
    ]
    opened.over.clear()
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        opened.over.set()
        for thread in threads:
            thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    opened.heal()
    if failures:
        raise failures[0]


def _course(opened: Site, *, short: bool) -> None:
    for last in (False, True):
        orders.enable(opened)
        orders.migrate(opened)
        if opened.course.random() < 0.2 and not short:
            return  # judged in dual-write
        orders.leave_flat(opened)
        if short or last or opened.course.random() < 0.5:
            return
        orders.return_to_flat(opened)


def _restored(opened: Site, seed: int) -> int:
    """Go back to a checkpoint under traffic, in a storm; assert that what was there then is there again."""
    orders.checkpoint(opened)
    before = kept(opened)
    opened.write("replaced-")
    with _storm(opened, seed + 2):
        ordered = datetime.datetime.now(datetime.UTC)
        orders.go_back(opened)
        opened.note("restored to a checkpoint")
        writes = opened.read()
        opened.write("restored-")
    writes += _judge(opened)
    after, last = kept(opened), last_writes(opened.folder)
    for slug, rows in before.items():
        for key in rows.keys() | after[slug].keys():
            # What was written last before the order is not there any more, whoever wrote it.
            if (at := last.get((slug, key))) is None or at < ordered:
                assert after[slug].get(key) == rows.get(key), (slug, key)
    return writes


def _judge(opened: Site) -> int:
    """Assert that nothing was lost, that nothing is stuck, and that both stores are alike; return the writes."""
    orders.last_word(opened)
    writes = opened.read()
    assert writes, "the application wrote nothing"
    driver = opened.driver
    drained(driver)
    for one in opened.traffic:
        if one.acknowledged():
            check(opened.cli, one.file.name, "--store", "both")
    for slug in driver.system.registry.categories:
        found = comparison.differences(opened.stores, driver.system.category(slug))
        assert found == comparison.Differences(compared=found.compared), slug
        assert not driver.held(slug), slug
    with connected(opened.stores.hier_url) as cursor:
        cursor.execute("SELECT run_id, seq, status FROM hal9mig.batches WHERE status IN ('queued', 'leased')")
        assert not cursor.fetchall(), "batches are in hand, and no run is"
    orders.audit(opened)
    return writes
