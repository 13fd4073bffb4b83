"""Lines over time, as the points of an SVG: the records a second of migrations, and the lag of the journal."""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Callable, Sequence

from hal9mig import units
from hal9mig.dashboard.overview import Pace
from hal9mig.engine.reconcile.alarm_rules import JournalBacklog
from hal9mig.ledger.rounds import Round

#: The size of the drawing in its own units; the page stretches it.
WIDTH, HEIGHT = 600, 120
_ROOM = 4  # units kept free above the highest and below the lowest point
#: Seconds that a plot of what goes on covers at least.
_LEAST = 120.0
_STEPS = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """A line: its name, its stretches as SVG has points, and which of the colours it is drawn in."""

    name: str
    stretches: Sequence[str]
    colour: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plot:
    """A plot.

    Attributes:
        heights: what stands beside it, from the top to the bottom; moments: below it, from left to right.
        limit: the height of a line that is not to be passed, in the drawing's units; None without one.
        summary: what it shows, in words.
    """

    title: str
    lines: Sequence[Line]
    heights: Sequence[str]
    moments: Sequence[str]
    limit: float | None
    limit_name: str
    summary: str


def pace(found: Pace, *, limit: units.Rate | None = None, now: datetime.datetime) -> Plot:
    """Return the records a second over time, a line for each category.

    Args:
        limit: the budget, drawn where it is one of records and not far above the lines.
    """
    step = found.points[0].seconds
    begin = found.begin if found.run is not None else _from(found.points[0].at, found.begin, found.end)
    first = math.floor(begin.timestamp() / step) * step
    # A step that has not ended yet holds less than it will: the line would fall at its end each time.
    whole = math.floor(found.end.timestamp() / step) * step
    last = max(whole, first + step) if found.end >= now else math.ceil(found.end.timestamp() / step) * step
    moments = range(first, last, step)
    rates = {
        category: {int(one.at.timestamp()): one.records / step for one in found.points if one.category == category}
        for category in sorted({one.category for one in found.points})
    }
    total = [sum(own.get(at, 0.0) for own in rates.values()) for at in moments]
    highest = max((rate for own in rates.values() for rate in own.values()), default=0.0)
    budget = limit.per_second if limit is not None and limit.unit is units.RateUnit.RECORDS else None
    if budget is not None and budget > 3 * highest:
        budget = None  # so far above that the lines would lie on the ground
    top = _top(max(highest, budget or 0.0, 1.0))
    lines = []
    for colour, (name, own) in enumerate(rates.items()):
        stretches: list[list[tuple[float, float]]] = [[]]
        for at in moments:
            # Down to nothing where it begins and ends; along the ground no line, which would cover another's.
            if any(own.get(near) for near in (at - step, at, at + step)):
                stretches[-1].append((_across(at + step / 2, first, last), _up(own.get(at, 0.0), top)))
            elif stretches[-1]:
                stretches.append([])
        lines.append(Line(name=name, stretches=[_joined(one) for one in stretches if one], colour=colour % 6))
    of_run = "" if found.run is None else f" of run {found.run}"
    spoken = units.format_count(round(max(total, default=0.0)))
    return Plot(
        title=f"Records per second{of_run}",
        lines=lines,
        heights=_heights(top, lambda value: units.format_count(round(value)) if value >= 10 else f"{value:g}"),
        moments=_moments(begin, found.end, now),
        limit=None if budget is None else _up(budget, top),
        limit_name="" if budget is None else f"budget {limit}",
        summary=f"Records per second{of_run}: at most {spoken}, {', '.join(rates)}",
    )


def lag(rounds: Sequence[Round], now: datetime.datetime, *, span: float, present: JournalBacklog | None) -> Plot | None:
    """Return how long the oldest write has waited in the journal, at the end of each round; None without rounds."""
    found = [(one.ended, one.lag_seconds) for one in rounds if one.ended is not None]
    if not found:
        return None
    if present is not None:
        found.append((now, present.seconds))
    begin = _from(rounds[0].began, now - datetime.timedelta(seconds=span), now)
    longest = max(seconds for _, seconds in found)
    top = _top(max(longest, 1.0))
    points = [
        (_across(at.timestamp(), begin.timestamp(), now.timestamp()), _up(seconds, top)) for at, seconds in found
    ]  # fmt: skip
    last = units.format_duration(found[-1][1])
    return Plot(
        title="Lag of the journal: the oldest write that waits",
        lines=[Line(name="oldest write that waits", stretches=[_joined(points)], colour=0)],
        heights=_heights(top, lambda value: units.format_duration(value) if value else "0"),
        moments=_moments(begin, now, now),
        limit=None,
        limit_name="",
        summary=f"The oldest write in the journal waited for {last} at last, "
        f"and for {units.format_duration(longest)} at most",
    )


def _from(first: datetime.datetime, begin: datetime.datetime, end: datetime.datetime) -> datetime.datetime:
    """Return where a plot begins: with what there is to show, but not so late that it would be a moment."""
    return max(begin, min(first - (end - first) / 20, end - datetime.timedelta(seconds=_LEAST)))


def _top(highest: float) -> float:
    """Return the next round number above."""
    scale = 10.0 ** math.floor(math.log10(highest))
    return next(step * scale for step in _STEPS if step * scale >= highest)


def _across(at: float, begin: float, end: float) -> float:
    return round(WIDTH * min(1.0, max(0.0, (at - begin) / max(end - begin, 1e-9))), 1)


def _up(value: float, top: float) -> float:
    return round(HEIGHT - _ROOM - (HEIGHT - 2 * _ROOM) * value / top, 1)


def _joined(points: Sequence[tuple[float, float]]) -> str:
    if len(points) == 1:  # a line of one point would not be seen
        points = [(max(0.0, points[0][0] - 2), points[0][1]), points[0]]
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def _heights(top: float, written: Callable[[float], str]) -> list[str]:
    return [written(value) for value in (top, top / 2, 0.0)]


def _moments(begin: datetime.datetime, end: datetime.datetime, now: datetime.datetime) -> list[str]:
    middle = begin + (end - begin) / 2
    same_day = begin.date() == now.date()
    form = "%H:%M:%S" if (end - begin).total_seconds() < 300 else "%H:%M"
    form = form if same_day else f"%m-%d {form}"
    return [moment.astimezone(datetime.UTC).strftime(form) for moment in (begin, middle, end)]
