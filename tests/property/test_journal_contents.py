"""Whatever stands in a journal, what can be brought over is, and what cannot is told and stands in nobody's way."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis
import hypothesis.strategies as st
import pytest

from hal9mig import model
from hal9mig.engine.reconcile import full_pass
from hal9mig.engine.reconcile.repair import RepairPolicy
from hal9mig.engine.transfer.quarantine_retry import RetryOutcome, drop, retry
from hal9mig.ledger import quarantine
from hal9mig.stores import capture
from tests.support import live_state, servers
from tests.support.live_state import CONFIGURATION, SESSIONS, World

_TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
_ODD = st.one_of(
    st.lists(_TEXTS, max_size=3),
    st.sampled_from(
        [["x"], [], [""], [None], [None, None], ["NULL"], [["a"], ["b"]], ["' OR true --"], ["$1"], ["%s"], ["{}"],
         ["00000000-0000-4000-8000-000000000001", "2"], ["{00000000-0000-4000-8000-000000000001"]]
    ),
)  # fmt: skip
_INSERT = "INSERT INTO hal9cap.journal (category, key) VALUES (%s, %s::text[])"


@pytest.fixture(scope="module")
def world(databases: servers.Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    stores = databases.open()
    with live_state.opened(stores, servers.environ(stores, tmp_path_factory.mktemp("world"))) as opened:
        opened.only(SESSIONS, CONFIGURATION)
        opened.load(0.0002, SESSIONS, CONFIGURATION)
        opened.prepare()
        yield opened
    databases.close(stores)


def held(world: World) -> list[quarantine.Held]:
    with world.system.ledger.begin() as session:
        return list(quarantine.find(session, limit=1000))


@hypothesis.settings(max_examples=30, deadline=None, derandomize=True)
@hypothesis.given(odd=st.lists(st.tuples(st.sampled_from([SESSIONS, CONFIGURATION, "of-nobody"]), _ODD), max_size=5))
def test_odd_lines_keep_nobody_from_being_brought_over(world: World, odd: list[tuple[str, list[str]]]) -> None:
    for category, key in odd:
        world.flat_sql(_INSERT, category, key)
    world.flat_sql("UPDATE flat.user_sessions SET version = version + 1")
    followed = world.follow()
    assert followed is not None
    assert followed.emptied
    # What belongs to nobody here waits for a worker that knows it.
    left = world.flat_sql("DELETE FROM hal9cap.journal RETURNING category")
    assert {category for (category,) in left} <= {"of-nobody"}
    world.assert_equal()
    for one in held(world):
        assert one.error.startswith(f"It is no key of {one.category}")
        assert one.payload is None
        assert retry(world.system, one).outcome is not RetryOutcome.RELEASED
    world.hier_sql("DELETE FROM hal9mig.quarantine")


@pytest.mark.parametrize("key", [["x"], [], ["a", "b"], [None]])
def test_on_the_way_back_they_stay_and_are_counted(world: World, key: list[str]) -> None:
    """Nothing is thrown away there, and nothing else is held up."""
    world.clean()
    world.pretend_worker()
    world.leave()
    world.hier_sql(_INSERT, SESSIONS, key)
    world.hier_sql("UPDATE hier.sessions SET user_agent = 'back'")
    followed = world.follow()
    assert followed is not None
    assert (followed.rejected, world.waiting(model.StoreName.HIERARCHICAL)) == (1, 1)
    world.hier_sql("DELETE FROM hal9cap.journal")
    world.switch.return_to_flat()
    world.assert_equal()
    world.switch.enable()
    world.drain()


def test_what_is_held_and_is_no_key_stops_no_comparison(world: World) -> None:
    """Such as the line of a recovery about records that are lost without a trace."""
    with world.system.ledger.begin() as session:
        for key in (("between a and b",), ("x", "y"), ()):
            quarantine.hold(
                session, category=SESSIONS, key=key, error="lost", payload=None, transform_version=1, run_id=None,
                origin="recover",
            )  # fmt: skip
    world.hier_sql(f"{capture.APPLY}; UPDATE hier.sessions SET user_agent = 'drift'")
    one = full_pass.PassOrder(category=SESSIONS, policy=RepairPolicy.AUTO)
    run = full_pass.start(world.system, one, actor="test")
    world.work(run.id)
    world.assert_equal()
    for record in held(world):
        if record.key == ("between a and b",):
            assert retry(world.system, record).outcome is RetryOutcome.HELD
        drop(world.system, record)
    assert not held(world)
