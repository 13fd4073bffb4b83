"""A run's life on real workers: paused, cancelled, retried, handed on; deadly records; bounded memory."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable

import pytest

from hal9mig import errors, model
from hal9mig.ledger import batches
from hal9mig.ledger.workers import alive as live_workers
from tests.support import comparison, migration_driver
from tests.support.migration_driver import NEURONS, Driver
from tests.support.servers import Cli, Running, Stores

Status = model.RunStatus
Workers = Callable[..., list[Running]]
RECORDS = 4000
#: One batch for all records, forty transactions: whatever stops it stops it in the middle.
ONE_BATCH = {"batch-size": "5000", "checkpoint-interval": "100"}


def slow(folder: pathlib.Path) -> dict[str, str]:
    """Return the environment of a worker whose transactions take a while."""
    return migration_driver.obstacles(folder, {}, pause=0.05)


def stands(driver: Driver, run_id: int, status: Status) -> model.Run:
    """Wait until a run has a status and return it."""
    return migration_driver.until(
        lambda: (run := driver.run(run_id)).status is status and run, f"run {run_id} {status}"
    )


def only_batch(driver: Driver, run_id: int) -> dict[str, object]:
    """Return the row of the run's one batch."""
    (found,) = driver.batches(run_id)
    return found


def assert_copied_up_to_the_cursor(driver: Driver, run_id: int) -> None:
    """Assert that the records up to the batch's cursor are there, equal, and that no other is."""
    batch = only_batch(driver, run_id)
    found = comparison.differences(driver.stores, driver.system.category(NEURONS))
    (cursor,) = batch["cursor_key"]  # type: ignore[misc]
    with migration_driver.connected(driver.stores.flat_url) as rows:
        rows.execute("SELECT neuron_id::text FROM flat.neuron_states WHERE neuron_id > %s", (cursor,))
        left = frozenset(rows.fetchall())
    assert found == comparison.Differences(compared=RECORDS, missing=left)
    assert len(left) == RECORDS - driver.run(run_id).done_records > 0


class TestOrders:
    @pytest.fixture
    def begun(self, driver: Driver, workers: Workers, tmp_path: pathlib.Path) -> int:
        """A run whose one batch is in the middle."""
        driver.load(NEURONS, RECORDS)
        workers(1, env=slow(tmp_path))
        run_id = driver.start(tuned=ONE_BATCH)
        driver.reach(run_id, 300)
        return run_id

    def test_a_pause_acts_in_the_middle_of_a_batch(self, driver: Driver, begun: int) -> None:
        """After its transaction; a resumed run goes on behind it and does nothing twice."""
        driver.coordinator.pause(begun)
        stands(driver, begun, Status.PAUSED)
        assert_copied_up_to_the_cursor(driver, begun)
        assert driver.coordinator.pause(begun).status is Status.PAUSED
        driver.coordinator.resume(begun)
        driver.finish(begun)
        driver.assert_equal(records=RECORDS)
        driver.assert_once(begun)
        assert driver.coordinator.resume(begun).status is Status.SUCCEEDED
        for order in (driver.coordinator.pause, driver.coordinator.cancel):
            with pytest.raises(errors.IllegalTransition):
                order(begun)

    def test_a_cancelled_run_leaves_what_it_has_done_and_can_be_taken_up(self, driver: Driver, begun: int) -> None:
        """Another may be started in its place, too."""
        driver.coordinator.cancel(begun)
        stands(driver, begun, Status.CANCELLED)
        assert_copied_up_to_the_cursor(driver, begun)
        driver.coordinator.retry(begun)
        driver.finish(begun)
        driver.assert_equal(records=RECORDS)
        driver.assert_once(begun)
        driver.migrate(tuned=ONE_BATCH)

    def test_a_run_that_no_record_is_to_blame_for_fails_and_can_be_retried(
        self, driver: Driver, workers: Workers
    ) -> None:
        """It says why; nothing goes to quarantine."""
        driver.load(NEURONS, 1000)
        workers(1)
        with migration_driver.connected(driver.stores.hier_url) as cursor:
            cursor.execute(
                "CREATE FUNCTION hier.refuse() RETURNS trigger LANGUAGE plpgsql AS "
                "$$BEGIN RAISE EXCEPTION 'nobody may write here' USING ERRCODE = '42501'; END$$; "
                "CREATE TRIGGER refuse BEFORE INSERT ON hier.units EXECUTE FUNCTION hier.refuse()"
            )
            run = driver.start()
            failed = stands(driver, run, Status.FAILED)
            assert "nobody may write here" in failed.reason
            assert not driver.held()
            cursor.execute("DROP TRIGGER refuse ON hier.units")
        driver.coordinator.retry(run)
        driver.finish(run)
        driver.assert_equal(records=1000)

    def test_a_run_that_nobody_works_on_says_so(self, driver: Driver, workers: Workers) -> None:
        """And goes on as soon as somebody does."""
        driver.load(NEURONS, 100)
        run = driver.start()
        assert driver.run(run).waiting == "no worker is alive"
        workers(1)
        assert driver.finish(run).waiting == ""


class TestWorkers:
    def test_a_worker_that_is_told_to_stop_hands_its_batch_on_at_once(
        self, driver: Driver, workers: Workers, tmp_path: pathlib.Path
    ) -> None:
        """It ends by itself in the middle of a batch, and the other goes on from there."""
        driver.load(NEURONS, RECORDS)
        # A lease longer than the test: nobody waits for it to run out.
        first, second = workers(2, env={"HAL9_LEASE": "10m", **slow(tmp_path)})
        run = driver.start(tuned=ONE_BATCH)
        driver.reach(run, 300)
        (owner,) = [one for one in (first, second) if one.name in str(only_batch(driver, run)["owner"])]
        assert owner.stop(migration_driver.PATIENCE)
        other = second if owner is first else first
        driver.finish(run)
        batch = only_batch(driver, run)
        assert other.name in str(batch["owner"])
        assert batch["attempt"] == 2
        driver.assert_equal(records=RECORDS)
        driver.assert_once(run)
        with driver.system.ledger.begin() as session:
            assert [worker.name.partition("@")[0] for worker in live_workers(session)] == [other.name]

    def test_a_record_that_kills_its_process_is_held_after_a_bounded_number_of_attempts(
        self, stores: Stores, stack_env: dict[str, str], workers: Workers
    ) -> None:
        """Wherever it stands in its batch; the others of it are copied."""
        env = {**stack_env, "HAL9_CATEGORIES": str(pathlib.Path(__file__).parent / "deadly.py")}
        with migration_driver.drivers(stores, env) as make:
            driver = make()
            driver.load(NEURONS, 1000)
            with migration_driver.connected(stores.flat_url) as cursor:
                cursor.execute(
                    "UPDATE flat.neuron_states SET momentum = -9 FROM (SELECT neuron_id AS id, row_number() OVER "
                    "(ORDER BY neuron_id) AS n FROM flat.neuron_states) k WHERE id = neuron_id AND n IN (1, 707) "
                    "RETURNING neuron_id::text"
                )
                deadly = frozenset(cursor.fetchall())
            workers(1, env=env, args=["--concurrency", "4"])
            run = driver.finish(driver.start("deadly-neurons"))
            assert (run.done_records, run.quarantined) == (1000, 2)
            driver.assert_equal("deadly-neurons", missing=deadly)
            driver.assert_once(run.id)
            held = driver.held("deadly-neurons")
            assert held.keys() == deadly
            assert all("process died" in record.error and record.payload for record in held.values())
            assert sum(batch["attempt"] for batch in driver.batches(run.id)) <= 3 + 2 * (batches.MOST_CRASHES + 1)


class TestMemory:
    """A worker's memory depends on neither the size of the table nor the number of large records in it."""

    def test_of_a_worker_is_the_same_for_ten_times_the_records(self, driver: Driver, workers: Workers) -> None:
        """The peak of its one pool process, with as many records in a batch as there are."""
        peaks = []
        for records in (3000, 30000):
            (worker,) = workers(1)
            with migration_driver.connected(driver.stores.flat_url) as cursor:
                cursor.execute("TRUNCATE flat.neuron_states")
            driver.load(NEURONS, records)
            driver.migrate(tuned={"batch-size": "1000000"}, merge=True)
            peaks.append(peak(worker))
            worker.kill()
        assert peaks[1] < peaks[0] + 30

    @pytest.mark.long
    def test_of_a_worker_is_the_same_for_many_large_records(self, driver: Driver, workers: Workers) -> None:
        """A few are in hand at a time: one that is written, one that waits, one that is read."""
        peaks = []
        for count in (4, 12):
            (worker,) = workers(1)
            with migration_driver.connected(driver.stores.flat_url) as cursor:
                cursor.execute("TRUNCATE flat.user_sessions")
                cursor.execute(
                    "INSERT INTO flat.user_sessions SELECT gen_random_uuid(), 'u', 'token ' || n, NULL, NULL, true, d, "
                    "now(), now(), NULL, 1 FROM generate_series(1, %s) n, (SELECT jsonb_object_agg('part ' || p, "
                    "repeat('x', 1000000)) AS d FROM generate_series(1, 10) p) k",
                    (count,),
                )
            driver.migrate("user-sessions", merge=True)
            driver.assert_equal("user-sessions", records=count)
            peaks.append(peak(worker))
            with migration_driver.connected(driver.stores.hier_url) as cleaner:
                cleaner.execute("TRUNCATE hier.users, hier.sessions, hier.session_attributes")
            worker.kill()
        assert peaks[1] < peaks[0] + 30

    def test_of_a_worker_bears_a_record_of_thirty_megabytes(self, driver: Driver, workers: Workers) -> None:
        """It is copied like any other, and takes a small multiple of its size."""
        (worker,) = workers(1)
        driver.load("metadata", 10)
        driver.migrate("metadata")
        before = peak(worker)
        with migration_driver.connected(driver.stores.flat_url) as cursor:
            cursor.execute(
                "INSERT INTO flat.operational_metadata SELECT 1000000, 'logs', 'large', "
                "jsonb_build_object('m', repeat('0123456789', 3000000)), now(), 1"
            )
        driver.migrate("metadata")
        driver.assert_equal("metadata", records=11)
        assert peak(worker) < before + 30 * 10


def peak(worker: Running) -> float:
    """Return the most memory that a worker's one pool process has had, in MB."""
    (process,) = worker.children()
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.M)
    assert found
    return int(found[1]) / 1000


@pytest.mark.parametrize("verb", ["pause", "cancel", "retry"])
def test_what_is_over_is_said_to_be_over(driver: Driver, workers: Workers, cli: Cli, verb: str) -> None:
    driver.load(NEURONS, 10)
    workers(1)
    run = driver.finish(driver.start())
    told = cli("runs", verb, str(run.id))
    assert told.exit_code == 4
    assert f"Run {run.id} has succeeded already; there is nothing to {verb}." in told.stderr


def test_a_filter_that_takes_nothing_is_told(driver: Driver, workers: Workers, cli: Cli) -> None:
    driver.load(NEURONS, 10)
    workers(1)
    told = cli("state", "migrate", "--category", NEURONS, "--filter", "layer=nowhere")
    assert told.exit_code == 0
    assert "0 records match the filter 'layer=nowhere', so there is nothing to migrate" in told.stderr
