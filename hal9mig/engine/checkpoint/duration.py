"""How long a checkpoint or a restore is going to take, from how long one took."""

from __future__ import annotations

from hal9mig import units
from hal9mig.engine.checkpoint.types import Expected
from hal9mig.ledger.runs import Precedent

#: Rows a second that are expected of a first checkpoint or restore, whole, with both stores on one small machine.
GUESS = 20_000
#: How many times as large as what was measured something may be, and be expected to go at the same pace.
LIKE = 10


def expected(measured: Precedent | None, rows: int) -> Expected:
    """Return how long something of so many rows takes.

    What begins and ends a run takes the most of a small one's time, so its pace says little of a large one: between
    this pace and the guess lies an interval, and it is told as one.
    """
    if measured is None:
        guess = rows / GUESS
        return Expected(
            least=guess, seconds=guess, basis=f"at {GUESS:,} rows a second, a guess: nothing like it was done yet"
        )
    most = rows * measured.seconds / measured.rows
    basis = f"as run {measured.run_id} took {units.format_duration(measured.seconds)} for {measured.rows:,} rows"
    least = most if rows <= LIKE * measured.rows else min(most, measured.seconds + rows / GUESS)
    return Expected(least=least, seconds=most, basis=basis)


def within(free: Expected, rate: units.Rate, cost: int) -> Expected:
    """Return how long it takes where it is held to a rate and costs so much of it in all."""
    seconds = cost / rate.per_second
    if seconds <= free.least:
        return free
    return Expected(least=seconds, seconds=max(seconds, free.seconds), basis=f"at its budget of {rate}")
