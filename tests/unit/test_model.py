"""The words of the model: which way a run and a batch may go, and why."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from hal9mig import errors, model
from hal9mig.model import BatchStatus, RunStatus


def reachable(edges: Mapping[tuple[object, object], str], start: object) -> set[object]:
    """Return what can be reached from a status."""
    found, new = {start}, {start}
    while new:
        new = {after for before, after in edges if before in new} - found
        found |= new
    return found


@pytest.mark.parametrize("edges", [model.RUN_TRANSITIONS, model.BATCH_TRANSITIONS], ids=["runs", "batches"])
def test_every_transition_has_its_reason(edges: Mapping[tuple[object, object], str]) -> None:
    """A sentence, and from one status to another."""
    assert all(reason and before is not after for (before, after), reason in edges.items())


def test_every_status_can_be_reached_and_left_but_success() -> None:
    """Nothing is a dead end: what failed or was cancelled can be taken up again."""
    assert reachable(model.RUN_TRANSITIONS, RunStatus.PLANNING) == set(RunStatus)
    assert reachable(model.BATCH_TRANSITIONS, BatchStatus.PLANNED) == set(BatchStatus)
    for status in RunStatus:
        ends = status is RunStatus.SUCCEEDED
        assert (RunStatus.SUCCEEDED in reachable(model.RUN_TRANSITIONS, status)) is True
        assert any(before is status for before, _ in model.RUN_TRANSITIONS) is not ends


def test_every_status_that_passes_by_itself_has_a_deadline() -> None:
    """Whoever waits for leases to end does not wait for ever."""
    assert set(model.RUN_DEADLINES) == {RunStatus.PAUSING, RunStatus.CANCELLING}
    assert all(seconds > 0 for seconds in model.RUN_DEADLINES.values())


@pytest.mark.parametrize("old", RunStatus)
@pytest.mark.parametrize("new", RunStatus)
def test_a_run_goes_only_along_its_transitions(old: RunStatus, new: RunStatus) -> None:
    """Any other way is refused, with both ends named."""
    if (old, new) in model.RUN_TRANSITIONS:
        model.check_transition(old, new)
    else:
        with pytest.raises(errors.IllegalTransition, match=f"{old} cannot become {new}"):
            model.check_transition(old, new)


def test_a_smaller_number_is_more_urgent() -> None:
    """As Redis has it; and no priority is the number that stands for none."""
    assert model.Priority.HIGH < model.Priority.NORMAL < model.Priority.LOW
    assert min(model.Priority) > 0


@pytest.mark.parametrize(
    ("validation", "text"),
    [
        (model.Validation(mode="strict"), "strict"),
        (model.Validation(mode="sample", share=0.1), "sample:0.1"),
        (model.Validation(mode="off"), "off"),
    ],
)
def test_a_validation_is_shown_as_it_is_written(validation: model.Validation, text: str) -> None:
    """So that what is shown can be given back."""
    assert str(validation) == text
