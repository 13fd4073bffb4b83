"""Whatever is killed, frozen, restarted or emptied, and whenever: it costs time and nothing else."""

from __future__ import annotations

import concurrent.futures
import pathlib
import random
import threading
from collections.abc import Callable

import psutil
import pytest
import redis

from hal9mig import errors, model
from hal9mig.ledger import dispatch, runs
from hal9mig.queue.broker import Message
from tests.support import migration_driver
from tests.support.migration_driver import Driver
from tests.support.servers import Running

Workers = Callable[..., list[Running]]
Beat = Callable[..., Running]
#: Every point at which a batch can be cut short, in their order.
POINTS = ("claimed", "read", "transformed", "written", "noted", "committed", "finished", "copied", "answered")
#: Seconds for which each transaction is held open, so that accidents from outside meet one.
SLOW = 0.05
RECORDS = 4000


def assert_whole(driver: Driver, run_id: int) -> None:
    """Assert that a run succeeded, that both stores are equal, and that each record was counted once."""
    driver.finish(run_id)
    driver.assert_equal(records=RECORDS)
    driver.assert_once(run_id)
    assert not driver.held()


def message(run_id: int, seq: int, attempt: int) -> Message:
    """Return the message of a batch's attempt, to be published once more."""
    return Message(
        run_id=run_id, seq=seq, attempt=attempt, priority=model.Priority.HIGH, category="doubled", kind="copy", range=""
    )


def stopped(workers: list[Running]) -> list[psutil.Process]:
    """Return the processes of some workers that stand still."""
    found = [process for worker in workers for process in (psutil.Process(worker.pid), *worker.children())]
    return [process for process in found if process.status() == psutil.STATUS_STOPPED]


class TestKilled:
    def test_a_pool_process_at_any_point_of_a_batch(
        self, driver: Driver, workers: Workers, tmp_path: pathlib.Path
    ) -> None:
        """Between read, transform, write, commit and acknowledgement no record is lost and none doubled,
        and the batch is taken up without waiting for the lease to run out.
        """
        driver.load(migration_driver.NEURONS, RECORDS)
        # A lease longer than the test: whoever waits for its end fails.
        env = {"HAL9_LEASE": "10m", **migration_driver.obstacles(tmp_path, dict.fromkeys(POINTS, "kill"))}
        workers(1, env=env, args=["--concurrency", "6"])
        assert_whole(driver, driver.start())
        assert migration_driver.met(tmp_path) == set(POINTS)

    def test_whole_workers_with_their_parents(self, driver: Driver, workers: Workers, tmp_path: pathlib.Path) -> None:
        """Workers whose machine is lost leave their batches to the one that remains."""
        driver.load(migration_driver.NEURONS, RECORDS)
        points = ("read", "noted", "committed", "answered")
        alive = workers(len(points) + 1, env=migration_driver.obstacles(tmp_path, dict.fromkeys(points, "kill group")))
        assert_whole(driver, driver.start())
        assert migration_driver.met(tmp_path) == set(points)
        assert sum(one.alive for one in alive) == 1

    def test_workers_pool_processes_and_the_beat_at_random(
        self, driver: Driver, workers: Workers, beat: Beat, tmp_path: pathlib.Path
    ) -> None:
        """Whatever they were doing at that moment."""
        driver.load(migration_driver.NEURONS, RECORDS)
        env = migration_driver.obstacles(tmp_path, {}, pause=SLOW)
        alive, first_beat = workers(3, env=env), beat()
        run = driver.start()
        driver.reach(run, 1)
        alive[0].kill()
        first_beat.kill()
        driver.reach(run, random.randrange(200, RECORDS // 3))
        alive[1].kill_child()
        driver.reach(run, random.randrange(RECORDS // 3, RECORDS // 2))
        alive[2].kill_child()
        assert_whole(driver, run)


class TestFrozen:
    def test_pool_processes_past_their_lease_write_nothing_when_they_wake(
        self, driver: Driver, workers: Workers, beat: Beat, tmp_path: pathlib.Path
    ) -> None:
        """Others finish meanwhile, also where a process froze in a transaction that locks what they need."""
        driver.load(migration_driver.NEURONS, RECORDS)
        beat()
        points = ("claimed", "read", "written", "noted", "committed", "finished")
        (worker,) = workers(
            1, env=migration_driver.obstacles(tmp_path, dict.fromkeys(points, "stop")), args=["--concurrency", "8"]
        )
        run = driver.start()
        assert_whole(driver, run)
        assert migration_driver.met(tmp_path) == set(points)
        before = driver.batches(run)
        frozen = stopped([worker])
        assert len(frozen) == len(points)
        for process in frozen:
            process.resume()
        migration_driver.until(
            lambda: worker.text().count(": lost in") >= len(points), "each of them to find its lease lost"
        )
        assert driver.batches(run) == before
        driver.assert_equal(records=RECORDS)

    def test_a_whole_worker_past_its_lease(self, driver: Driver, workers: Workers, tmp_path: pathlib.Path) -> None:
        """Its parent, which may dispatch at that moment, holds nobody up either."""
        driver.load(migration_driver.NEURONS, RECORDS)
        both = workers(2, env=migration_driver.obstacles(tmp_path, {"noted": "stop group"}))
        run = driver.start()
        assert_whole(driver, run)
        before = driver.batches(run)
        (awake,) = [one for one in both if not stopped([one])]
        for process in stopped(both):
            process.resume()
        awake.kill()
        # It works on as if nothing had been.
        assert_whole(driver, driver.start())
        assert driver.batches(run) == before

    def test_who_holds_the_locks_of_the_dispatcher_or_of_a_run(self, driver: Driver, workers: Workers) -> None:
        """The server takes them from a worker, a beat or a command line that stands still with them."""
        driver.load(migration_driver.NEURONS, 10)
        run = driver.start()
        ledger = driver.system.ledger
        with ledger.connection() as dispatching, ledger.connection() as pausing:
            dispatching.begin(), pausing.begin()
            assert dispatch.leader(dispatching)
            runs.move(pausing, run, model.RunStatus.PAUSING, "an operator")
            workers(1)
            driver.finish(run)
            for session in (dispatching, pausing):
                with pytest.raises(errors.StoreUnreachable):
                    dispatch.leader(session)


class TestServers:
    def test_redis_is_emptied(self, driver: Driver, workers: Workers, tmp_path: pathlib.Path) -> None:
        """Queued messages, those in hand and the budget's account are gone, again and again."""
        driver.load(migration_driver.NEURONS, RECORDS)
        workers(2, env=migration_driver.obstacles(tmp_path, {}, pause=SLOW))
        run = driver.start()
        with redis.Redis.from_url(driver.stores.redis_url) as client:
            for share in (0, 1):
                driver.reach(run, 1 + share * RECORDS // 4)
                client.flushall()
        assert_whole(driver, run)

    def test_redis_is_restarted(self, driver: Driver, workers: Workers, tmp_path: pathlib.Path) -> None:
        """It may stay away for a while: batches in hand go on, and none starts twice."""
        driver.load(migration_driver.NEURONS, RECORDS)
        workers(2, env=migration_driver.obstacles(tmp_path, {}, pause=SLOW))
        run = driver.start()
        driver.reach(run, 1)
        driver.stores.redis_server.kill()
        done = driver.run(run).done_batches
        migration_driver.until(lambda: driver.run(run).done_batches > done, "a batch that ends without Redis")
        driver.stores.redis_server.start()
        driver.reach(run, RECORDS // 2)
        driver.stores.redis_server.stop()
        driver.stores.redis_server.start()
        assert_whole(driver, run)

    @pytest.mark.parametrize("immediate", [False, True], ids=["fast", "immediate"])
    @pytest.mark.parametrize("side", ["flat", "hierarchical"])
    def test_postgresql_is_restarted(
        self, driver: Driver, workers: Workers, tmp_path: pathlib.Path, side: str, immediate: bool
    ) -> None:
        """Either store's server, in good order or as in a crash."""
        driver.load(migration_driver.NEURONS, RECORDS)
        workers(2, env=migration_driver.obstacles(tmp_path, {}, pause=SLOW))
        run = driver.start()
        driver.reach(run, RECORDS // 10)
        cluster = driver.stores.flat_cluster if side == "flat" else driver.stores.hier_cluster
        cluster.restart(immediate=immediate)
        assert_whole(driver, run)


class TestDoubled:
    def test_two_coordinators_start_one_category_at_once(
        self, driver: Driver, stack_env: dict[str, str], workers: Workers, beat: Beat
    ) -> None:
        """One run comes of it, the other coordinator is told so; and two beats do no harm."""
        driver.load(migration_driver.NEURONS, RECORDS)
        beats, other = [beat(), beat()], Driver(driver.stores, stack_env)
        together = threading.Barrier(2)

        def start(one: Driver) -> int | errors.RunActive:
            together.wait()
            try:
                return one.start()
            except errors.RunActive as refusal:
                return refusal

        with concurrent.futures.ThreadPoolExecutor() as pool:
            answers = list(pool.map(start, [driver, other]))
        other.close()
        (run,) = [answer for answer in answers if isinstance(answer, int)]
        workers(2)
        assert_whole(driver, run)
        assert all(one.alive for one in beats)
        with driver.system.ledger.begin() as session:
            assert [found.id for found in runs.find(session)] == [run]

    def test_messages_delivered_twice(self, driver: Driver, workers: Workers, tmp_path: pathlib.Path) -> None:
        """A second delivery finds the lease taken, or the batch done, and ends at once."""
        driver.load(migration_driver.NEURONS, RECORDS)
        both = workers(2, env=migration_driver.obstacles(tmp_path, {}, pause=SLOW))
        run = driver.start()
        driver.reach(run, 1)
        again = 0
        for batch in driver.batches(run):
            if batch["status"] != "planned":
                again += 1
                driver.system.broker.publish([message(run, batch["seq"], batch["attempt"])])
        assert_whole(driver, run)
        driver.system.broker.publish([message(run, batch["seq"], batch["attempt"]) for batch in driver.batches(run)])
        again += len(driver.batches(run))
        migration_driver.until(
            lambda: sum(worker.text().count("'skipped'") for worker in both) >= again,
            "the end of every doubled message",
        )
        assert_whole(driver, run)
