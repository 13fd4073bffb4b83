"""Flower through its HTTP API: batches have readable rows, errands have none, and nobody enters without the login."""

from __future__ import annotations

import base64
import collections
import contextlib
import http.client
import json
import re
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from hal9mig import model
from hal9mig.embedded import process
from hal9mig.queue import app as queue_app
from hal9mig.queue.broker import Message
from tests.support.migration_driver import NEURONS, Driver, drivers, until
from tests.support.servers import Programs, Stores

LOGIN = "hal9:open sesame"


@pytest.fixture
def driver(stores: Stores, stack_env: dict[str, str]) -> Iterator[Driver]:
    with drivers(stores, stack_env) as make:
        yield make()


class Flower:
    """Asks a Flower on loopback."""

    def __init__(self, port: int):
        self._port = port

    def get(self, path: str, login: str | None = LOGIN, *, method: str = "GET") -> tuple[int, str]:
        """Return the status and the text of an answer; 0 while nobody answers."""
        headers = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"} if login else {}
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)) as connection:
            try:
                connection.request(method, path, headers=headers)
                answer = connection.getresponse()
                return answer.status, answer.read().decode()
            except OSError:
                return 0, ""

    def document(self, path: str) -> dict[str, Any]:
        """Return a JSON answer."""
        status, text = self.get(path)
        assert status == 200, text
        found = json.loads(text)
        assert isinstance(found, dict)
        return found


def waiting(seq: int) -> Message:
    """A batch of no run: its worker finds nothing to do."""
    return Message(
        run_id=999, seq=seq, attempt=1, priority=model.Priority.NORMAL, category=NEURONS, kind="copy", range="(.., ..]"
    )  # fmt: skip


def test_flower_shows_batches_and_nothing_else(driver: Driver, programs: Programs) -> None:
    port = process.free_port()
    (worker,) = programs.workers()
    programs.beat()
    running = programs.flower(port, LOGIN)
    flower = Flower(port)
    until(lambda: flower.get("/healthcheck")[0] == 200, "Flower's start")
    driver.load(NEURONS, 1500)
    run = driver.migrate(NEURONS)

    # A row says what is done, of which category, run, batch and attempt, and for which range.
    def rows() -> dict[str, Any]:
        return flower.document("/api/tasks?limit=1000")

    def done() -> bool:
        found = [row for row in rows().values() if row["name"] == f"copy {NEURONS}"]
        return len(found) == run.total_batches and all(row["state"] == "SUCCESS" for row in found)

    until(done, "all rows of the run")
    first = rows()[f"{NEURONS}-r{run.id}-b1-a1"]
    assert first["args"] == f"run {run.id}, batch 1, attempt 1"
    assert re.fullmatch(rf"{NEURONS} \(\.\., \S+\]", first["kwargs"])
    assert (first["result"], first["worker"].partition("@")[0]) == ("'done'", worker.name)
    assert list(flower.document(f"/api/tasks?taskname=plan%20{NEURONS}")) == [f"{NEURONS}-r{run.id}-b0-a1"]

    # The beat's errands are worked on, and no event tells of them.
    def totals() -> dict[str, int]:
        (found,) = flower.document("/api/workers?refresh=1").values()
        return dict(found["stats"]["total"])

    until(lambda: queue_app.TICK_TASK in totals(), "an errand of the beat")
    names = collections.Counter(row["name"] for row in rows().values())
    assert names == {f"plan {NEURONS}": 1, f"copy {NEURONS}": run.total_batches}

    _, metrics = flower.get("/metrics", login=None)
    counted = re.findall(rf'flower_events_total{{task="copy {NEURONS}",type="task-succeeded",\S+ (\S+)', metrics)
    assert [float(count) for count in counted] == [run.total_batches]
    assert queue_app.TICK_TASK not in metrics

    # Queue lengths count every priority's list.
    worker.pause()
    driver.system.broker.publish([waiting(seq) for seq in range(5)])
    found = {queue["name"]: queue["messages"] for queue in flower.document("/api/queues/length")["active_queues"]}
    worker.resume()
    assert set(found) == set(queue_app.QUEUES)
    # The worker had asked for one when it was stopped.
    assert found[queue_app.BATCH_QUEUE] >= 4

    # It looks and does not steer: what it did would be in no audit.
    for act in (f"worker/shutdown/{first['worker']}", f"task/send-task/{queue_app.BATCH_TASK}"):
        assert flower.get(f"/api/{act}", method="POST")[0] == 403, act
    assert flower.get("/api/workers", login=None)[0] == 401
    assert flower.get("/api/workers", login="hal9:guessed")[0] == 401
    listening = [one.laddr for one in psutil.Process(running.pid).net_connections("inet") if one.status == "LISTEN"]
    assert {(address.ip, address.port) for address in listening} == {("127.0.0.1", port)}
    assert LOGIN.partition(":")[2] not in running.text()
