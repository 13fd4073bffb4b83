"""Copy, capture, dual write and repair of one record converge, in whatever order they come."""

from __future__ import annotations

import itertools

import pytest

from tests.convergence.model import Applier, Rules, State, explore

_OPS = ("update", "delete", "insert")


def _histories(length: int) -> list[tuple[int | None, tuple[str, ...]]]:
    """Every history of this length that a table allows, with a record there at first (version 5) and without."""
    found = []
    for there, ops in itertools.product((5, None), itertools.product(_OPS, repeat=length)):
        exists = there is not None
        for op in ops:
            if (op == "insert") == exists:
                break
            exists = op != "delete"
        else:
            found.append((there, ops))
    return found


@pytest.mark.parametrize(("there", "ops"), [one for length in (1, 2) for one in _histories(length)])
def test_every_interleaving_of_a_history_ends_equal(there: int | None, ops: tuple[str, ...]) -> None:
    """Two appliers and a copier beside the writer, one of them killed anywhere: equal at rest, never stuck."""
    states, wrong = explore(State(source=there, ops=ops, appliers=(Applier(), Applier()), kills=1), Rules())
    assert states > 500
    assert not wrong, wrong[0]


@pytest.mark.parametrize(("there", "ops"), _histories(3))
def test_every_interleaving_of_a_longer_history_ends_equal(there: int | None, ops: tuple[str, ...]) -> None:
    """The same with one applier that may be killed twice, and three changes of the record."""
    states, wrong = explore(State(source=there, ops=ops, appliers=(Applier(),), kills=2), Rules())
    assert states > 500
    assert not wrong, wrong[0]


@pytest.mark.parametrize("target", [1, 5, 9])
@pytest.mark.parametrize("ops", [("update",), ("delete",), ("delete", "insert")])
def test_an_older_or_newer_row_in_the_target_makes_no_difference(target: int, ops: tuple[str, ...]) -> None:
    """What an earlier run or an earlier life of the key has left there is replaced once the key is captured."""
    start = State(source=5, ops=ops, target=target, appliers=(Applier(), Applier()))
    _, wrong = explore(start, Rules())
    assert not wrong, wrong[0]


@pytest.mark.parametrize(
    "without",
    [
        Rules(copier_looks_for_marks=False),
        Rules(applier_marks_first=False),
        Rules(delete_waits_for_copies=False),
        Rules(lock_before_read=False),
        Rules(prune_after_apply=False),
    ],
    ids=["no look for marks", "no mark", "delete does not wait", "read before lock", "prune before apply"],
)
def test_each_rule_is_needed(without: Rules) -> None:
    """Leaving out any one rule loses, resurrects or outdates the record in some interleaving: the model can fail."""
    starts = [
        State(source=there, ops=ops, appliers=(Applier(), Applier()), kills=kills)
        for kills in (0, 1)
        for length in (1, 2)
        for there, ops in _histories(length)
    ]
    wrong = next((found for start in starts if (found := explore(start, without, first=True)[1])), [])
    assert wrong
