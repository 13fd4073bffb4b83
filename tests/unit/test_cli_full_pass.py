"""What is said of a pass over everything, from hand-made findings."""

from __future__ import annotations

import pytest

from hal9mig import errors
from hal9mig.cli import full_pass
from hal9mig.engine.reconcile.full_pass import Found
from hal9mig.engine.reconcile.repair import Action, Outcome
from hal9mig.ledger.drifts import Cause
from hal9mig.ledger.verify_results import DifferenceKind


def drifted(key: str, action: Action) -> Outcome:
    return Outcome(
        category="metadata", key=(key,), kind=DifferenceKind.MISSING, cause=Cause.MISSED_CAPTURE, action=action
    )


def found(*actions: Action, unlisted: int = 0) -> Found:
    outcomes = [drifted(str(number), action) for number, action in enumerate(actions)]
    return Found(category="metadata", outcomes={one.key: one for one in outcomes}, unlisted=unlisted)


@pytest.mark.parametrize("one", [found(), found(Action.WRITTEN, Action.DELETED)])
def test_where_everything_was_repaired_nothing_is_left(one: Found) -> None:
    assert full_pass.remaining(one) == 0
    assert full_pass.problem([one]) is None
    assert full_pass.next_steps([one]) == []


@pytest.mark.parametrize(
    ("one", "count", "hint"),
    [
        (found(Action.WRITTEN, Action.LEFT), 1, "hal9-migrate state fix --interactive --guidance"),
        (found(Action.LEFT, unlisted=2), 3, "hal9-migrate state fix --interactive --guidance"),
        (found(Action.WRITTEN, unlisted=2), 2, "hal9-migrate reconcile --full"),
    ],
)
def test_what_may_still_differ_is_counted_and_has_a_next_command(one: Found, count: int, hint: str) -> None:
    problem = full_pass.problem([one])
    assert isinstance(problem, errors.DifferencesFound)
    assert problem.message.startswith(f"{count} record")
    assert problem.hint == hint


def test_what_is_in_quarantine_is_told_so() -> None:
    assert isinstance(full_pass.problem([found(Action.QUARANTINED)]), errors.RecordsQuarantined)
