"""``state validate`` and ``ux-test`` as an operator sees them: outputs, exit codes, what is kept and mended."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support import servers
from tests.support.live_state import SESSIONS, World

Workers = Callable[..., list[servers.Running]]
VALIDATE = ("state", "validate", "--category", SESSIONS, "--bound", "1000")


@pytest.fixture
def world(world: World) -> World:
    world.load(0.0002, SESSIONS)
    return world


def test_fails_is_shown_again_and_mended(cli: servers.Cli, world: World, workers: Workers) -> None:
    assert "No check has run yet" in cli.run("state", "validate", "--failed-only", "--debug", "--suggestions").stdout
    world.migrate(SESSIONS)
    told = cli.run(*VALIDATE, "--tests", "continuity,integrity,performance").stdout
    assert "5 of 5 checks passed" in told.splitlines()[0]
    world.hier_sql("UPDATE hier.sessions SET token_hash = token_hash || '!'")
    assert "2 failed" in cli.run(*VALIDATE, code=3).stdout.splitlines()[0]
    told = cli.run("state", "validate", "--failed-only", "--debug", "--suggestions", code=3).stdout
    assert "2 checks failed when last run" in told.splitlines()[0]
    assert "next: hal9-migrate state validate --category user-sessions --fix-and-retry" in told
    assert "differing" in told
    workers(1)
    document = cli.document(*VALIDATE, "--fix-and-retry")
    assert document["repaired"] > 0
    assert {one["verdict"] for one in document["checks"]} == {"passed"}
    assert "None of the newest results" in cli.run("state", "validate", "--failed-only").stdout
    told = cli.run("ux-test", "--sample-users", "3", "--verify-sessions").stdout
    assert "3 users logged in" in told.splitlines()[0]
    assert "valid sessions keep user_id, token_hash, expires_at in both stores" in told
