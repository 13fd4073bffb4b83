"""What stands still is said first, with since when and what to do, and makes the exit code 3."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from hal9mig import settings
from tests.support import servers
from tests.support.live_state import World

Workers = Callable[..., list[servers.Running]]
VIEWS = (("state", "status"), ("mode",), ("reconcile",))
#: Where nobody listens.
GONE = "redis://127.0.0.1:1/0"


@pytest.fixture
def world(world: World) -> World:
    world.load()
    return world


def looked(cli: servers.Cli, *words: str, code: int, **more: Any) -> dict[str, dict[str, Any]]:
    """Return what a view says stands still, by name, having checked that people are told the same first."""
    told = cli(*words, **more)
    assert told.exit_code == code, f"{told.stdout}\n{told.stderr}"
    result = cli(*words, "--json", **more)
    assert result.exit_code == code
    document = json.loads(result.stdout)
    assert ("error" in document) == (code != 0)
    problems = {one["problem"]: one for one in document["problems"]}
    for line, one in zip(told.stdout.splitlines(), document["problems"], strict=False):
        # What has gone on since is in the seconds of the one or the other.
        assert one["message"].split(" for ")[0].split(" waited ")[0] in line
        assert line.endswith(f"-> {one['next_command']}")
        assert one["next_command"] in document["next_steps"]
    if problems:
        assert document["error"]["code"] == "STANDS_STILL"
        assert "error: Something stands still" in told.stderr
    return problems


def test_nothing_has_to_go_on(cli: servers.Cli, world: World) -> None:
    """With the flat store alone and no run nobody misses a worker; a queue that was named is missed at once."""
    for words in VIEWS:
        assert looked(cli, *words, code=0) == {}
        assert list(looked(cli, *words, code=3, env={"HAL9_REDIS_URL": GONE})) == ["queue"]


def test_no_worker_and_no_queue(cli: servers.Cli, world: World) -> None:
    world.prepare()
    world.hier_sql("DELETE FROM hal9mig.workers")
    for words in VIEWS:
        found = looked(cli, *words, code=3)
        assert found["workers"]["message"].startswith("No worker is alive")
        assert found["workers"]["since"] is None
        assert found["workers"]["next_command"] == settings.WORKER_LINE
        both = looked(cli, *words, code=3, env={"HAL9_REDIS_URL": GONE})
        assert list(both)[:2] == ["queue", "workers"]
        assert "Redis cannot be reached" in both["queue"]["message"]
        assert both["queue"]["next_command"] == settings.OWN_SERVERS


def test_a_run_waits_for_a_worker(cli: servers.Cli, world: World) -> None:
    """A worker that was killed is missed as soon as something waits for it, and since when it is."""
    world.pretend_worker()
    world.hier_sql("UPDATE hal9mig.workers SET seen_at = '2026-01-02T03:04:05Z'")
    assert looked(cli, "mode", code=0) == {}
    world.start("configuration")
    for words in VIEWS:
        assert looked(cli, *words, code=3)["workers"]["since"] == "2026-01-02T03:04:05Z"


def test_rounds_and_the_journal(cli: servers.Cli, world: World) -> None:
    """A worker lives and no beat calls for rounds: that is said, with the line that starts one."""
    world.prepare()
    world.keep_worker()
    assert looked(cli, "mode", code=0) == {}
    world.flat_sql("UPDATE flat.configuration SET version = version + 1")
    world.flat_sql("UPDATE hal9cap.journal SET at = at - interval '1 hour'")
    world.hier_sql("UPDATE hal9mig.mode SET since = since - interval '1 hour'")
    for words in VIEWS:
        found = looked(cli, *words, code=3)
        assert list(found) == ["rounds", "journal"]
        assert found["rounds"]["next_command"] == settings.BEAT_LINE
        assert found["rounds"]["since"]
        assert found["journal"]["since"]


def test_rounds_that_fail(cli: servers.Cli, world: World) -> None:
    world.prepare()
    world.keep_worker()
    for number in range(3):
        assert looked(cli, "mode", code=0) == {}
        world.hier_sql("INSERT INTO hal9mig.rounds (ended, error) VALUES (clock_timestamp(), %s)", f"no {number}")
    found = looked(cli, "mode", code=3)
    assert list(found) == ["failing rounds"]
    assert found["failing rounds"]["message"] == "The last 3 rounds failed: no 2"


def test_all_goes_on(cli: servers.Cli, world: World, workers: Workers) -> None:
    world.prepare()
    workers(1)
    for words in VIEWS:
        assert looked(cli, *words, code=0) == {}


def test_done_is_what_is_covered(cli: servers.Cli, world: World) -> None:
    """Records that came and went since the migration are covered by capture; what is in quarantine is not."""
    world.prepare()
    world.keep_worker()
    before = len(world.flat_sql("SELECT key FROM flat.configuration"))
    world.flat_sql(
        "INSERT INTO flat.configuration (key, value, version, updated_by, updated_at) "
        "SELECT 'new.' || n, '{}', 1, 'test', now() FROM generate_series(1, 50) n"
    )
    world.drain()
    (one,) = [one for one in cli.document("state", "status")["categories"] if one["category"] == "configuration"]
    assert (one["migrated"], one["covered"], one["flat_records"]) == (before, before + 50, before + 50)
    (row,) = [row.split("\t") for row in cli("state", "status").stdout.splitlines() if row.startswith("configuration")]
    assert row[5] == "100%"
    assert world.assert_equal() is None
