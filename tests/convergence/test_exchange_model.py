"""Unique values that pass between records end where they are at the source, in whatever order they are brought."""

from __future__ import annotations

import pytest

from tests.convergence.exchange_model import Applier, Rows, Rules, State, explore


def rows(*values: int | None) -> Rows:
    """Return records by the values of the keys 0, 1 and so on; None is no record."""
    return tuple((key, value) for key, value in enumerate(values) if value is not None)


TWO, THREE = rows(0, 1), rows(0, 1, 2)
#: What is there, and what it becomes, one transaction after another.
SHORT = [
    (TWO, (rows(1, 0), TWO)),
    (TWO, (rows(1, 0), TWO, rows(1, 0))),
    (TWO, (rows(1, None),)),
    (TWO, (rows(1, None), rows(None, 0))),
    (THREE, (rows(1, 2, 0),)),
    (THREE, (rows(1, 0, 2), rows(1, 2, 0))),
    (THREE, (rows(3, 0, 1),)),
    (THREE, (rows(1, None, 2), THREE)),
]
LONG = [
    (TWO, (rows(1, None), rows(None, 0), TWO)),
    (THREE, (rows(1, 2, 0), rows(2, 0, 1))),
    (THREE, (rows(1, 0, 2), rows(0, 2, 1))),
    (THREE, (rows(3, 0, 1), rows(1, 2, 0))),
]


def start(there: Rows, ops: tuple[Rows, ...], *, lanes: int, kills: int = 0) -> State:
    """Return both stores alike, and appliers that have nothing to do yet."""
    appliers = tuple(Applier(lane=lane) for lane in range(lanes))
    return State(source=there, target=there, ops=ops, appliers=appliers, kills=kills)


@pytest.mark.parametrize("growths", [0, 1])
@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize(("there", "ops"), SHORT)
def test_every_interleaving_ends_equal(there: Rows, ops: tuple[Rows, ...], lanes: int, growths: int) -> None:
    """Nobody in quarantine at any moment, an applier killed anywhere, holders brought along or only taken out."""
    states, wrong = explore(start(there, ops, lanes=lanes, kills=len(there) == 2), Rules(growths=growths))
    assert states > 10
    assert not wrong, wrong[0]


@pytest.mark.long
@pytest.mark.parametrize("growths", [0, 1])
@pytest.mark.parametrize(("there", "ops"), SHORT + LONG)
def test_every_interleaving_of_three_appliers_ends_equal(there: Rows, ops: tuple[Rows, ...], growths: int) -> None:
    _, wrong = explore(start(there, ops, lanes=3), Rules(growths=growths))
    assert not wrong, wrong[0]


@pytest.mark.parametrize(
    "without",
    [
        Rules(reads_all_anew=False, growths=0),
        Rules(looks_again=False),
        Rules(leaves_what_is_not_needed=False, growths=0),
        Rules(locks_before_it_reads_anew=False, growths=0),
        Rules(begins_anew_after_a_circle=False),
    ],
    ids=["reads only the new ones", "one look", "takes out what is not needed", "no lock", "ends in a circle"],
)
def test_each_rule_is_needed(without: Rules) -> None:
    """Leaving out any one rule puts a sound record into quarantine, or loses one, in some interleaving."""
    starts = [start(there, ops, lanes=2) for there, ops in (*SHORT, *LONG)]
    assert any(explore(one, without, first=True)[1] for one in starts)
