"""Log lines as JSON: each is a document, and one word leads from the command to what a worker did for it."""

from __future__ import annotations

import json
import urllib.parse
from typing import Any

from hal9mig.sample import loading
from tests.support import servers
from tests.support.servers import Cli, Programs


def documents(log: str) -> list[dict[str, Any]]:
    """Return the lines of a log from the first document on: before it Celery shows its banner."""
    lines = [line for line in log.splitlines() if line.strip()]
    first = next(number for number, line in enumerate(lines) if line.startswith("{"))
    return [json.loads(line) for line in lines[first:]]


def test_one_word_leads_from_the_command_to_the_batches(
    stores: servers.Stores, stack_env: dict[str, str], programs: Programs, cli: Cli
) -> None:
    loading.load(stores.flat_url, scale=0.0002, seed=1, categories=["user-sessions"])
    (worker,) = programs.workers(1, env={"HAL9_LOG_FORMAT": "json"})
    beat = programs.beat(env={"HAL9_LOG_FORMAT": "json"})
    migrate = ("state", "migrate", "--category", "user-sessions", "--json")
    cli(*migrate, env={"HAL9_CORRELATION": "ticket-4711"})
    cli(*migrate, "--merge", "--yes")
    worker.wait_for("done in")
    beat.wait_for("Sending due task")

    found = [one for one in documents(worker.text()) if one.get("correlation") == "ticket-4711"]
    (run,) = {one["run"] for one in found}
    assert {one["category"] for one in found} == {"user-sessions"}
    assert any("done in" in one["message"] for one in found)
    shown = json.loads(cli("runs", "show", str(run), "--json").stdout)
    assert shown["run"]["correlation"] == "ticket-4711"
    assert "ordered as ticket-4711" in cli("runs", "show", str(run)).stdout
    events = json.loads(cli("audit", "--limit", "50", "--json").stdout)["events"]
    assert any(one["detail"].get("correlation") == "ticket-4711" for one in events)
    # Without a word of its own each command has another.
    words = {one["correlation"] for one in json.loads(cli("runs", "list", "--json").stdout)["runs"]}
    assert len(words) == 2
    assert "" not in words
    for one in documents(beat.text()):
        assert {"ts", "level", "logger", "message"} <= set(one)
    secret = urllib.parse.urlsplit(stores.redis_url).password
    assert secret
    assert secret not in worker.text() + beat.text()
