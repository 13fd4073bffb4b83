"""What learning remembers: patterns recalled from cues, and gradients computed again, in both stores."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal9mig.categories import learning
from hal9mig.checks import gradients, recall, single
from hal9mig.ledger.check_results import CheckOutcome, CheckVerdict
from tests.support import live_state, servers
from tests.support.live_state import World

SLUG = "learning-data"
TRUSTED = "SELECT set_config('hal9.apply', (SELECT token FROM hal9cap.pass), false); "


@pytest.fixture
def world(stores: servers.Stores, stack_env: dict[str, str]) -> Iterator[World]:
    with live_state.opened(stores, stack_env) as opened:
        opened.only(SLUG)
        yield opened


def recalled(world: World, patterns: int = 40) -> CheckOutcome:
    check = functools.partial(recall.check, noise=0.2)
    return single.run(world.system, SLUG, check, command="learning test", actor="test", sample=patterns)


def computed(world: World) -> CheckOutcome:
    return single.run(world.system, SLUG, gradients.check, command="learning verify-gradients", actor="test", sample=30)


def test_nothing_is_no_success(world: World) -> None:
    for look in (recalled, computed):
        assert look(world).verdict is CheckVerdict.SKIPPED
    world.load(0.00002, SLUG)
    for look in (recalled, computed):
        assert (look(world).verdict, look(world).next_command) == (
            CheckVerdict.SKIPPED, f"hal9-migrate state migrate --category {SLUG}"
        )  # fmt: skip


@pytest.mark.parametrize("over", [False, True], ids=["dual-write", "hierarchical-only"])
def test_both_stores_remember_the_same(world: World, over: bool) -> None:
    world.load(0.0001, SLUG)
    world.prepare(over=over)
    found = recalled(world)
    assert found.verdict is CheckVerdict.PASSED, found.detail
    assert found.measured["flat_accuracy"] == found.measured["hierarchical_accuracy"] > 0.9
    right = computed(world)
    assert right.verdict is CheckVerdict.PASSED, right.detail
    assert right.measured["flat_checked"] == right.measured["hierarchical_checked"] > 0

    # A value of a stored pattern, and a byte of a stored gradient, in the store that does not answer for it.
    world.hier_sql(f"{TRUSTED} UPDATE hier.patterns SET pattern[1] = pattern[1] + 1")
    assert recalled(world).verdict is CheckVerdict.FAILED
    world.hier_sql(f"{TRUSTED} UPDATE hier.patterns SET pattern[1] = pattern[1] - 1; "
                   "UPDATE hier.pattern_gradients SET gradient = set_byte(gradient, 3, 66)")  # fmt: skip
    wrong = computed(world)
    assert wrong.verdict is CheckVerdict.FAILED
    assert "hierarchical: " in wrong.detail
    assert wrong.measured["flat_wrong"] == 0

    # A store that has lost what it takes to compute them has not passed either.
    world.hier_sql(f"{TRUSTED} UPDATE hier.pattern_gradients SET gradient = set_byte(gradient, 3, 66)")
    world.hier_sql(f"{TRUSTED} UPDATE hier.patterns SET meta = meta - 'loss'")
    assert computed(world).verdict is CheckVerdict.FAILED


@given(
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=40), st.integers(1, 9), st.floats(-4, 4), st.data()
)
def test_differences_agree_with_the_closed_form(
    values: list[float], outputs: int, gain: float, data: st.DataObject
) -> None:
    target = data.draw(st.integers(0, outputs - 1))
    wanted = learning.linear_gradients(values, outputs=outputs, gain=gain, target=target)
    found = gradients.numeric(values, outputs=outputs, gain=gain, target=target)
    assert found.keys() == wanted.keys()
    for name, packed in wanted.items():
        for ours, stored in zip(found[name], gradients._floats(packed), strict=True):
            assert abs(ours - stored) <= 1e-3 + 1e-4 * abs(ours)
