"""A restore ends with both stores alike, and with what was written since, wherever it is killed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.convergence.restore_model import LINE_THEN, Applier, Rules, Side, State, Store, explore

#: There and back: at the end the store rules again that ruled at the checkpoint.
THERE_AND_BACK: tuple[Side, ...] = ("hier", "flat")


def start(*orders: Side, writes: int = 1, kills: int = 1, appliers: int = 1, **more: Any) -> State:
    """Return both stores alike, with a record that was written since the checkpoint."""
    flat, hier = Store(value=2, journal=frozenset({LINE_THEN})), Store(value=1)
    return State(
        flat=flat, hier=hier, written=2, truth=2, orders=orders, writes=writes, kills=kills,
        appliers=(Applier(),) * appliers, **more,
    )  # fmt: skip


def apart(**more: Any) -> State:
    """Return stores of which the hierarchical one rules, though the flat one did at the checkpoint and was ahead."""
    flat, hier = Store(value=2), Store(value=3, journal=frozenset({LINE_THEN + 1}))
    return State(flat=flat, hier=hier, written=3, truth=3, ruling="hier", apart=True, appliers=(Applier(),), **more)


STARTS = [
    start(kills=2),
    start(appliers=2, kills=0),
    start(writes=2, behind=False),
    start(refusing=True),
    start(may_cancel=True, kills=2),
    start(*THERE_AND_BACK, behind=False, kills=2),
    start(*THERE_AND_BACK, behind=False, refusing=True, may_cancel=True),
    start(refusing=True, for_good=True, may_cancel=True),
    apart(writes=1, kills=2),
]
IDS = [
    "killed twice", "two appliers", "nothing behind", "in use", "cancelled", "switched", "all", "in use for good",
    "apart",
]  # fmt: skip


@pytest.mark.parametrize("begun", STARTS, ids=IDS)
def test_every_interleaving_ends_alike(begun: State) -> None:
    states, wrong = explore(begun, Rules())
    assert states > 100
    assert not wrong, wrong[0]


@pytest.mark.parametrize(
    "without",
    [
        Rules(ruling_store_first=False),
        Rules(holds_the_other=False),
        Rules(hold_outlives_a_crash=False),
        Rules(waits_for_appliers=False),
        Rules(notes_with_the_swap=False),
        Rules(restores_the_journal=False),
        Rules(restored_lines_are_new=False),
        Rules(both_ready_before_the_first_commits=False),
        Rules(goes_on_once_one_is_swapped=False),
        Rules(switch_asks_for_the_hold=False),
        Rules(asks_whether_it_was_restored=False),
    ],
    ids=["the other first", "no hold", "a hold that is lost", "appliers in flight", "no note", "no journal",
         "lines with their old numbers", "one ready", "ends half way", "a switch past the hold",
         "applies what a restore has taken back"],
)  # fmt: skip
def test_each_rule_is_needed(without: Rules) -> None:
    """Leaving out any one rule loses a write, or leaves the stores unlike, in some interleaving."""
    assert any(explore(one, without, first=True)[1] for one in STARTS)
