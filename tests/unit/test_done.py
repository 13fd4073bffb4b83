"""DONE is what is covered, and no more than that."""

from __future__ import annotations

import dataclasses
import datetime

import pytest

from hal9mig import model
from hal9mig.engine import category_standing
from hal9mig.ledger.mode import ModeLine
from hal9mig.ledger.sweeps import Sweep
from tests.unit.runs import START, run

HOUR = datetime.timedelta(hours=1)
WHOLE = run(id=3, status=model.RunStatus.SUCCEEDED, finished_at=START + HOUR)


def line(mode: str, since: datetime.datetime) -> ModeLine:
    """Return the ledger's line."""
    return ModeLine(mode=mode, epoch=2, target=None, step=None, actor="me", since=since, attested={})


def clean(moment: datetime.datetime) -> Sweep:
    """Return a category's passes, of which the newest clean one began at a moment."""
    return Sweep(
        category="neuron-states", position=None, number=2, began=moment, records=0, differing=0, clean_from=moment,
        clean_until=moment,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "since", "swept", "followed"),
    [
        ("dual-write", START - HOUR, None, True),
        ("hierarchical-only", START + 2 * HOUR, None, True),
        ("flat-only", START - HOUR, clean(START + 3 * HOUR), False),
        ("dual-write", START + 2 * HOUR, None, False),
        ("dual-write", START + 2 * HOUR, clean(START + 1.5 * HOUR), False),
        ("dual-write", START + 2 * HOUR, clean(START + 3 * HOUR), True),
    ],
)
def test_what_is_followed(mode: str, since: datetime.datetime, swept: Sweep | None, followed: bool) -> None:
    assert category_standing.followed([WHOLE], line(mode, since), swept) is followed


def test_a_filter_or_an_unfinished_run_covers_no_more_than_it_wrote() -> None:
    since = START - HOUR
    assert not category_standing.followed([], line("dual-write", since), None)
    assert not category_standing.followed(
        [dataclasses.replace(WHOLE, filter="layer=motor")], line("dual-write", since), None
    )
    assert not category_standing.followed([run()], line("dual-write", since), None)
