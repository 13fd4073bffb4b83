"""Alarms on their way to people: sent to a webhook, signed, and sent again."""

from __future__ import annotations

import http.server
import json
import pathlib
import threading
from collections.abc import Iterator

import pytest

from hal9mig.engine import alarms
from hal9mig.ledger import raised_alarms
from tests.support import reconciling, servers


class Receiver:
    """A webhook that fails as often as it is told to."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.failures = 0
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.append((dict(self.headers), body))
                failing, receiver.failures = receiver.failures > 0, max(0, receiver.failures - 1)
                self.send_response(503 if failing else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook/token123"
        self._thread = threading.Thread(target=self.server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    opened = Receiver()
    yield opened
    opened.close()


def test_an_alarm_is_sent_signed_and_sent_again(
    stores: servers.Stores, tmp_path: pathlib.Path, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    hook = {"HAL9_WEBHOOK_URL": receiver.url, "HAL9_WEBHOOK_SECRET": "s3cret"}
    with reconciling.opened(stores, tmp_path, **hook) as world:
        receiver.failures = 1
        with world.system.ledger.begin() as session:
            alarms.raise_(world.system, session, "a test", "Something is wrong.", detail={"n": 1})
            assert not alarms.raise_(world.system, session, "a test", "Something is wrong.")
        assert alarms.deliver(world.system, retry_after=3600) == 0
        assert alarms.deliver(world.system) == 0
        assert len(receiver.requests) == 1  # not before its time
        world.hier_sql("UPDATE hal9mig.alarms SET not_before = now()")
        assert alarms.deliver(world.system) == 1
        assert alarms.deliver(world.system) == 0
        (_, first), (headers, body) = receiver.requests
        assert headers[alarms.SIGNATURE] == alarms.signature("s3cret", body)
        assert json.loads(first) | {"attempt": 2} == json.loads(body)
        assert json.loads(body)["alarm"] == "a test"
        assert json.loads(body)["detail"] == {"n": 1}
        told = world.log.read_text() + caplog.text
        assert "503" in told
        assert "token123" not in told
        assert "s3cret" not in told


def test_a_receiver_that_is_down_costs_nothing(stores: servers.Stores, tmp_path: pathlib.Path) -> None:
    with reconciling.opened(stores, tmp_path, HAL9_WEBHOOK_URL="http://127.0.0.1:9/hook") as world:
        with world.system.ledger.begin() as session:
            for number in range(5):
                alarms.raise_(world.system, session, "a test", "Wrong.", subject=str(number))
        assert alarms.deliver(world.system) == 0
        with world.system.ledger.begin() as session:
            assert sorted(alarm.attempts for alarm in raised_alarms.find(session)) == [0, 0, 0, 0, 1]
