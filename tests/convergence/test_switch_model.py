"""Switches there and back lose no acknowledged write, in whatever order writers, appliers and kills come."""

from __future__ import annotations

import pytest

from tests.convergence.switch_model import Applier, Mode, Rules, State, Store, Writer, explore

DUAL: Mode = "dual-write"
HIER: Mode = "hierarchical-only"
FLAT: Mode = "flat-only"


def start(*orders: Mode, writes: tuple[int, ...] = (1,), appliers: int = 1, kills: int = 0) -> State:
    """Return both stores in dual-write and alike, and orders that are to be carried out one after another."""
    return State(
        flat=Store(mode=DUAL), hier=Store(mode=DUAL), orders=orders, kills=kills,
        writers=tuple(Writer(left=left) for left in writes), appliers=(Applier(),) * appliers,
    )  # fmt: skip


@pytest.mark.parametrize(
    "begun",
    [
        start(HIER, writes=(1, 1), kills=1),
        start(HIER, writes=(2,), appliers=2),
        start(HIER, FLAT, kills=1),
        start(HIER, FLAT, writes=(1, 1)),
        start(HIER, FLAT, DUAL, writes=(2,)),
        start(HIER, FLAT, DUAL, HIER, kills=1),
        start(FLAT, DUAL, writes=(1,), appliers=2, kills=1),
    ],
    ids=["over", "over with two appliers", "back", "back with two writers", "and again", "twice", "given up"],
)
def test_every_interleaving_keeps_what_was_acknowledged(begun: State) -> None:
    states, wrong = explore(begun, Rules())
    assert states > 100
    assert not wrong, wrong[0]


@pytest.mark.parametrize(
    "without",
    [
        Rules(barrier_waits_for_writers=False),
        Rules(writer_asks_behind_the_barrier=False),
        Rules(drains_behind_the_barrier=False),
        Rules(closes_before_it_opens=False),
        Rules(applier_holds_the_fence=False),
        Rules(applier_asks_who_rules=False),
        Rules(switch_closes_the_fence=False),
    ],
    ids=["no wait for writers", "asks too early", "drains too early", "both open", "no fence held", "never asks",
         "fence left open"],
)  # fmt: skip
def test_each_rule_is_needed(without: Rules) -> None:
    """Leaving out any one rule loses an acknowledged write in some interleaving."""
    starts = [
        start(HIER, writes=(1, 1), kills=1),
        start(HIER, FLAT, writes=(1, 1), kills=1),
        start(HIER, writes=(2,), appliers=2),
        start(HIER, FLAT, writes=(2,), appliers=2),
    ]
    assert any(explore(one, without, first=True)[1] for one in starts)
