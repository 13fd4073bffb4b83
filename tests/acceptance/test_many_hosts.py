"""Workers on hosts of their own, one of which is cut off in the middle, and others that come and go."""

from __future__ import annotations

import contextlib
import pathlib
import urllib.parse
from collections.abc import Iterator, Sequence

import pytest

from hal9mig.sample import loading
from tests.support import namespaces, servers
from tests.support.live_state import execute
from tests.support.migration_driver import Driver, until
from tests.support.namespaces import Host
from tests.support.servers import Programs, Running

NEURONS = "neuron-states"


@pytest.fixture
def driver(stores: servers.Stores, stack_env: dict[str, str]) -> Iterator[Driver]:
    loading.load(stores.flat_url, scale=0.006, seed=2, categories=[NEURONS])
    made = Driver(stores, stack_env)
    yield made
    made.close()


def done(driver: Driver, run_id: int) -> int:
    return driver.run(run_id).done_records


def equal(stores: servers.Stores) -> None:
    """Both stores hold the same neurons; asked of them, and not of what compares them for us."""
    flat = execute(stores.flat_url, "SELECT count(*), sum(version), count(DISTINCT neuron_id) FROM flat.neuron_states")
    hier = execute(stores.hier_url, "SELECT count(*), sum(source_version), count(DISTINCT unit_id) FROM hier.units")
    assert flat == hier


@contextlib.contextmanager
def on(host: Host, env: dict[str, str], folder: pathlib.Path) -> Iterator[Programs]:
    """Start programs on a host; it reaches the servers over its cable and nothing else of this machine."""
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        own = dict(env)
        for name in ("HAL9_FLAT_URL", "HAL9_HIER_URL", "HAL9_REDIS_URL"):
            parts = urllib.parse.urlsplit(env[name])
            assert parts.port
            port = stack.enter_context(namespaces.reachable(host, parts.port))
            own[name] = env[name].replace(f"127.0.0.1:{parts.port}", f"{host.here}:{port}")
        started = Programs(own, folder)
        stack.callback(started.close)
        yield started


@pytest.mark.timeout(300)
def test_a_host_is_cut_off_and_comes_back(
    stores: servers.Stores, stack_env: dict[str, str], driver: Driver, tmp_path: pathlib.Path
) -> None:
    if why := namespaces.impossible():
        pytest.skip(why)
    with namespaces.hosts(2) as (near, far), on(near, stack_env, tmp_path / "near") as here:
        with on(far, stack_env, tmp_path / "far") as there:
            here.workers(1, prefix=near.prefix)
            (cut_off,) = there.workers(1, prefix=far.prefix, args=("--hostname", "far@%h"))
            run_id = driver.start(NEURONS, tuned={"batch-size": "200", "rate-limit": "500/s"})
            until(lambda: workers_of(stores, run_id) == 2, "both hosts to have done something")
            far.cut()
            before = done(driver, run_id)
            # What it had in hand goes to the other host when its lease is over, and all goes on meanwhile.
            until(lambda: done(driver, run_id) > before + 1500, "the other host to go on")
            far.mend()
            finished = driver.finish(run_id, timeout=120)
            assert finished.quarantined == 0
            assert cut_off.process.alive()
        equal(stores)
    assert execute(stores.hier_url, "SELECT count(*) FROM hal9mig.batches WHERE status = 'leased'") == [(0,)]


def workers_of(stores: servers.Stores, run_id: int) -> int:
    """Return how many workers have done batches of a run."""
    ((count,),) = execute(
        stores.hier_url, "SELECT count(DISTINCT split_part(owner, '/', 1)) FROM hal9mig.batches "
        "WHERE run_id = %s AND status = 'done' AND kind <> 'plan'", run_id,
    )  # fmt: skip
    return int(count)


def test_workers_come_and_go_and_only_the_rate_changes(
    stores: servers.Stores, driver: Driver, programs: Programs
) -> None:
    crowd: Sequence[Running] = programs.workers(1)
    run_id = driver.start(NEURONS, tuned={"batch-size": "100", "rate-limit": "800/s"})
    until(lambda: done(driver, run_id) > 500, "the first to have done something")
    crowd = [*crowd, *programs.workers(2)]
    until(lambda: workers_of(stores, run_id) == 3, "all three to have done something")
    # One is asked to go, one is killed, and one stays.
    assert crowd[0].stop()
    crowd[1].kill()
    assert driver.finish(run_id, timeout=120).quarantined == 0
    equal(stores)
