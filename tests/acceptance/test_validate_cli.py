"""The named checks and the acting users as an operator runs them: they pass, they can fail, what they found stays."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hal9mig import client as application
from hal9mig import model
from hal9mig.checks import users
from tests.support import live_state, servers
from tests.support.live_state import World

Workers = Callable[..., list[servers.Running]]
VALIDATE = ("state", "validate")


@pytest.fixture
def world(stores: servers.Stores, stack_env: dict[str, str]) -> Iterator[World]:
    with live_state.opened(stores, stack_env) as opened:
        yield opened


def document(cli: servers.Cli, *args: str, code: int = 0) -> Any:
    """Return the one JSON document of a command."""
    result = cli(*args, "--json")
    assert result.exit_code == code, f"{result.stdout}\n{result.stderr}"
    return json.loads(result.stdout)


def verdicts(found: Any) -> dict[tuple[str, str], str]:
    return {(one["category"], one["check"]): one["verdict"] for one in found["checks"]}


def test_an_empty_store_is_skipped_and_never_passed(cli: servers.Cli, world: World) -> None:
    found = document(cli, *VALIDATE)
    assert len(found["checks"]) == 15
    assert {one["verdict"] for one in found["checks"]} == {"skipped"}
    assert {one["verdict"] for one in document(cli, "ux-test")["checks"]} == {"skipped"}


def test_from_not_migrated_to_failed_and_repaired(cli: servers.Cli, world: World, workers: Workers) -> None:
    world.load()
    early = document(cli, *VALIDATE, "--category", "user-sessions", "--tests", "continuity")
    assert verdicts(early) == {("user-sessions", "continuity"): "skipped"}
    assert early["next_steps"] == ["hal9-migrate state migrate --category user-sessions"]

    world.prepare()
    good = document(cli, *VALIDATE, "--sample", "50")
    assert {one["verdict"] for one in good["checks"]} == {"passed"}
    chained = next(one for one in good["checks"] if (one["category"], one["check"]) == ("metadata", "integrity"))
    assert (
        chained["measured"]["chain"]
        == world.flat_sql("SELECT count(*) FROM flat.operational_metadata WHERE type = 'audit'")[0][0]
        > 0
    )

    # A user, a part's root, and the order of the audit, each broken behind the system's back.
    world.hier_sql("SELECT set_config('hal9.apply', (SELECT token FROM hal9cap.pass), false); "
                   "UPDATE hier.sessions SET user_id = (SELECT min(user_id) FROM hier.users), expires_at = now(); "
                   "DELETE FROM hier.patterns WHERE pattern_id = (SELECT pattern_id FROM hier.patterns LIMIT 1); "
                   "UPDATE hier.audit_events SET payload = payload || '{\"hash\": \"0\"}'")  # fmt: skip
    told = cli(*VALIDATE, "--tests", "continuity,integrity", "--suggestions")
    assert told.exit_code == 3
    assert "user-sessions, continuity: failed" in told.stdout
    assert "expires_at" in told.stdout or "mismatch" in told.stdout
    assert "records have rows without their root" in told.stdout
    assert "the audit chain of the hierarchical store breaks at entry" in told.stdout
    assert "-> hal9-migrate state diff --category user-sessions --verbose" in told.stdout

    # Kept, shown again without looking, and repaired.
    kept = cli(*VALIDATE, "--failed-only", "--debug", "--suggestions")
    assert (kept.exit_code, kept.stdout.count(": failed: ")) == (0, told.stdout.count(": failed: "))
    assert "sampled=" in kept.stdout
    workers(1)
    fixed = cli(*VALIDATE, "--category", "user-sessions", "--tests", "continuity", "--fix-and-retry")
    assert fixed.exit_code == 0, fixed.stdout + fixed.stderr
    assert "user-sessions, continuity: passed" in fixed.stdout
    assert "user-sessions" not in cli(*VALIDATE, "--failed-only").stdout.replace("user-sessions, integrity", "")


@pytest.mark.parametrize("over", [False, True], ids=["dual-write", "hierarchical-only"])
def test_users_notice_nothing(cli: servers.Cli, world: World, workers: Workers, over: bool) -> None:
    world.load()
    world.prepare(over=over)
    workers(1)
    before = len(world.flat_sql("SELECT FROM flat.user_sessions"))
    shown = cli("ux-test", "--sample-users", "5", "--verify-sessions")
    assert shown.exit_code == 0, shown.stdout + shown.stderr
    assert "no difference for 5 users" in shown.stdout
    assert "lookup\thierarchical\t" in shown.stdout
    world.drain()
    assert len(world.flat_sql("SELECT FROM flat.user_sessions")) == before
    with application.connect(world.system.settings) as client:
        assert [users.left_over(client, side) for side in model.StoreName] == [0, 0]

    world.hier_sql("SELECT set_config('hal9.apply', (SELECT token FROM hal9cap.pass), false); "
                   "UPDATE hier.sessions SET expires_at = now()")  # fmt: skip
    found = document(cli, "ux-test", "--sample-users", "5", "--verify-sessions", code=3)
    assert "is mismatch" in found["checks"][0]["detail"]


@pytest.mark.parametrize(("words", "code"), [
    ((*VALIDATE, "--tests", "nonsense"), 2), ((*VALIDATE, "--tests", ","), 2),
    ((*VALIDATE, "--failed-only", "--fix-and-retry"), 2), ((*VALIDATE, "--category", "nonsense"), 2),
    ((*VALIDATE, "--failed-only"), 0), (("ux-test", "--sample-users", "0"), 2),
])  # fmt: skip
def test_wrong_words(cli: servers.Cli, words: tuple[str, ...], code: int) -> None:
    result = cli(*words)
    assert result.exit_code == code, f"{result.stdout}\n{result.stderr}"
    assert "Traceback" not in result.stderr
