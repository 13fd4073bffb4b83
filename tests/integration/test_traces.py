"""Traces: what a command ordered is found under it, down to the batches in other processes."""

from __future__ import annotations

import gzip
import http.server
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from hal9mig.sample import loading
from tests.support import servers
from tests.support.migration_driver import until
from tests.support.servers import Cli, Programs


class Receiver(http.server.ThreadingHTTPServer):
    """Takes what is sent to /v1/traces."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[bytes] = []

    def spans(self) -> list[Any]:
        """Return every span that arrived, by now."""
        found = []
        for body in list(self.bodies):
            request = ExportTraceServiceRequest()
            request.ParseFromString(body)
            found += [span for one in request.resource_spans for scope in one.scope_spans for span in scope.spans]
        return found


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def attributes(span: Any) -> dict[str, str]:
    return {one.key: one.value.string_value or str(one.value.int_value) for one in span.attributes}


def test_from_a_command_to_its_batches(
    stores: servers.Stores, programs: Programs, cli: Cli, receiver: Receiver
) -> None:
    loading.load(stores.flat_url, scale=0.0002, seed=1, categories=["user-sessions"])
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.server_port}"}
    programs.workers(1, env=env)
    assert cli("state", "migrate", "--category", "user-sessions", env=env).exit_code == 0
    assert cli("state", "migrate", "--category", "nothing", env=env).exit_code == 2

    def copied() -> list[Any]:
        return [one for one in receiver.spans() if attributes(one).get("hal9.kind") == "copy"]

    (batch,) = until(copied, "the batch's span")
    by_id = {one.span_id: one for one in receiver.spans()}
    ordered = by_id[batch.parent_span_id]
    command = by_id[ordered.parent_span_id]
    assert (batch.name, ordered.name, command.name) == (
        "migrate batch", "order migrate", "hal9-migrate state migrate"
    )  # fmt: skip
    assert batch.trace_id == ordered.trace_id == command.trace_id
    told = attributes(batch)
    assert (told["hal9.category"], told["hal9.outcome"]) == ("user-sessions", "done")
    failed = [attributes(one).get("hal9.error") for one in receiver.spans() if one.name == command.name]
    assert sorted(failed, key=str) == [None, "UNKNOWN_CATEGORY"]
    everything = b"".join(receiver.bodies)
    for url in (stores.flat_url, stores.hier_url, stores.redis_url):
        secret = urllib.parse.urlsplit(url).password
        assert secret
        assert secret.encode() not in everything


def test_without_being_asked_nothing_of_it_is_loaded() -> None:
    script = """
import sys
from hal9mig import traces
with traces.span("nothing") as made:
    assert made is None and traces.carried() == ""
sys.exit(any(name.startswith("opentelemetry") for name in sys.modules))
"""
    assert subprocess.run([sys.executable, "-c", script], env={"PATH": "/bin"}, check=False).returncode == 0
