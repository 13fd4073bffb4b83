"""``state validate`` and ``ux-test`` as an operator sees them: outputs, exit codes, what is kept and mended."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from tests.support import live_state, servers
from tests.support.live_state import SESSIONS, World

Workers = Callable[..., list[servers.Running]]
VALIDATE = ("state", "validate", "--category", SESSIONS, "--bound", "1000")


@pytest.fixture
def world(stores: servers.Stores, stack_env: dict[str, str]) -> Iterator[World]:
    with live_state.opened(stores, stack_env) as opened:
        opened.load(0.0002, SESSIONS)
        yield opened


def run(cli: servers.Cli, *args: str, code: int = 0) -> str:
    result = cli(*args)
    assert result.exit_code == code, f"{result.stdout}\n{result.stderr}"
    assert "Traceback" not in result.stderr
    return str(result.stdout)


def test_fails_is_shown_again_and_mended(cli: servers.Cli, world: World, workers: Workers) -> None:
    assert "No check has run yet" in run(cli, "state", "validate", "--failed-only", "--debug", "--suggestions")
    world.migrate(SESSIONS)
    told = run(cli, *VALIDATE, "--tests", "continuity,integrity,performance")
    assert "5 of 5 checks passed" in told.splitlines()[0]
    world.hier_sql("UPDATE hier.sessions SET token_hash = token_hash || '!'")
    assert "2 failed" in run(cli, *VALIDATE, code=3).splitlines()[0]
    told = run(cli, "state", "validate", "--failed-only", "--debug", "--suggestions", code=3)
    assert "2 checks failed when last run" in told.splitlines()[0]
    assert "next: hal9-migrate state validate --category user-sessions --fix-and-retry" in told
    assert "differing" in told
    workers(1)
    document = json.loads(run(cli, *VALIDATE, "--fix-and-retry", "--json"))
    assert document["repaired"] > 0
    assert {one["verdict"] for one in document["checks"]} == {"passed"}
    assert "None of the newest results" in run(cli, "state", "validate", "--failed-only")
    told = run(cli, "ux-test", "--sample-users", "3", "--verify-sessions")
    assert "3 users logged in" in told.splitlines()[0]
    assert "valid sessions keep user_id, token_hash, expires_at in both stores" in told


def test_wrong_words(cli: servers.Cli, world: World) -> None:
    run(cli, *VALIDATE, "--tests", "speed", code=2)
    run(cli, *VALIDATE, "--sample", "0", code=2)
    run(cli, *VALIDATE, "--failed-only", "--fix-and-retry", code=2)
    run(cli, "ux-test", "--sample-users", "0", code=2)
