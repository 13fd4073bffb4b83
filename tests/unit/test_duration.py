"""How long a checkpoint or a restore is said to take."""

from __future__ import annotations

import pytest

from hal9mig import units
from hal9mig.engine.checkpoint import duration
from hal9mig.engine.checkpoint.types import Expected
from hal9mig.ledger.runs import Precedent

SMALL = Precedent(run_id=3, rows=350, seconds=2.0)


def test_without_any_before_it_is_told_as_a_guess() -> None:
    told = str(duration.expected(None, 1_000_000))
    assert told == "about 50s (at 20,000 rows a second, a guess: nothing like it was done yet)"


def test_what_is_alike_goes_as_it_went() -> None:
    told = str(duration.expected(Precedent(run_id=3, rows=1_000_000, seconds=60.0), 2_000_000))
    assert told == "about 2m00s (as run 3 took 1m00s for 1,000,000 rows)"


def test_of_a_small_one_a_large_one_is_told_as_an_interval() -> None:
    """By the small one's pace alone ten million rows would take sixteen hours."""
    told = str(duration.expected(SMALL, 10_000_000))
    assert told == "between 8m22s and 15h52m (as run 3 took 2s for 350 rows)"


@pytest.mark.parametrize("pace", [SMALL, Precedent(run_id=3, rows=350, seconds=0.001)])
@pytest.mark.parametrize("rows", [0, 1, 3500, 3501, 10**9])
def test_the_interval_is_in_order(pace: Precedent, rows: int) -> None:
    told = duration.expected(pace, rows)
    assert 0 <= told.least <= told.seconds


def test_a_budget_only_makes_it_longer() -> None:
    free = Expected(least=10.0, seconds=100.0, basis="as run 3")
    rate = units.parse_rate("10/s")
    assert rate is not None
    assert duration.within(free, rate, 50) == free
    assert duration.within(free, rate, 500) == Expected(least=50.0, seconds=100.0, basis="at its budget of 10/s")
    assert duration.within(free, rate, 5000) == Expected(least=500.0, seconds=500.0, basis="at its budget of 10/s")
