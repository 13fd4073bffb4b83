"""Acting as users: on both stores where both have the writes, with nothing left behind, and able to fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from hal9mig import errors
from hal9mig.checks import acting_users
from hal9mig.checks.acting_users import Trial
from hal9mig.checks.subject import Subject
from hal9mig.model import StoreName
from tests.support import live_state, servers
from tests.support.live_state import SESSIONS, World

USERS = 3


@pytest.fixture
def world(stores: servers.Stores, stack_env: dict[str, str]) -> Iterator[World]:
    with live_state.opened(stores, stack_env) as opened:
        opened.only(SESSIONS)
        opened.load(0.0002, SESSIONS)
        yield opened


@pytest.fixture
def act(world: World) -> Iterator[Callable[[], Trial]]:
    with world.client() as client:
        yield lambda: acting_users.act(subject(world, client), USERS, patience=20)


def subject(world: World, client: object) -> Subject:
    return Subject(system=world.system, client=client, desk=world.desk, category=world.system.category(SESSIONS))  # type: ignore[arg-type]


def contents(world: World) -> tuple[object, ...]:
    return (
        world.flat_sql("SELECT * FROM flat.user_sessions ORDER BY session_id"),
        world.hier_sql("SELECT * FROM hier.sessions ORDER BY session_id"),
        world.hier_sql("SELECT * FROM hier.users ORDER BY user_id"),
    )


def test_in_flat_only_the_flat_store_alone_is_compared(world: World, act: Callable[[], Trial]) -> None:
    before = contents(world)
    for _ in range(2):
        trial = act()
        assert (trial.problems, "flat store alone" in trial.compared) == ([], True)
        assert {"log in", "touch", "expire", "read flat", "look up flat"} == set(trial.seconds)
    assert contents(world) == before


@pytest.mark.parametrize("over", [False, True])
def test_both_stores_are_compared_and_nothing_stays(world: World, act: Callable[[], Trial], over: bool) -> None:
    world.prepare(over=over)
    before = contents(world)
    with world.followed():
        trial = act()
    assert trial.problems == []
    assert {f"read {side}" for side in StoreName} < set(trial.seconds)
    assert contents(world) == before


def test_what_an_interrupted_test_left_is_cleared(world: World) -> None:
    before = contents(world)
    with world.client() as client:
        client.put(SESSIONS, acting_users._session(70))
        acted = acting_users.act(subject(world, client), 1, patience=20)
    assert acted.problems == []
    assert contents(world) == before


def test_a_session_of_others_under_our_ids_is_left_alone(world: World, act: Callable[[], Trial]) -> None:
    with world.client() as client:
        client.put(SESSIONS, acting_users._session(0) | {"user_id": "somebody"})
    before = contents(world)
    with pytest.raises(errors.Refused, match="nothing was changed"):
        act()
    assert contents(world) == before


def test_a_store_that_keeps_something_else_is_found_out(world: World, act: Callable[[], Trial]) -> None:
    world.flat_sql(
        "CREATE FUNCTION public.lose() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN NEW.expires_at := NULL; RETURN NEW; END $$; "
        "CREATE TRIGGER lose BEFORE INSERT OR UPDATE ON flat.user_sessions FOR EACH ROW "
        "EXECUTE FUNCTION public.lose()"
    )
    trial = act()
    assert len(trial.problems) == USERS * 3
    assert "after log in the session is another in the flat store" in trial.problems[0]
    assert "hal9-migrate ux-test 0" not in " ".join(trial.problems)
