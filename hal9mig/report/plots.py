"""The pictures of a report: when each run went on, and how fast records were migrated."""

from __future__ import annotations

import datetime
import io
from collections.abc import Sequence
from typing import Any

from hal9mig import model
from hal9mig.ledger.history import PacePoint
from hal9mig.report.model import Picture

_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb")
_KINDS = {"migrate": "#4477aa", "verify": "#228833", "reconcile": "#ccbb44", "checkpoint": "#aa3377"}
_WIDTH, _DPI = 7.2, 150  # inches, and dots of each
_POINTS = 500  # of the page that a picture is wide
#: Runs that a timeline shows; further ones would only be dots.
_MOST_RUNS = 40


def timeline(runs: Sequence[model.Run], switches: Sequence[tuple[datetime.datetime, str]]) -> Picture:
    """Return the runs as bars over time, with the switches of the write mode as lines."""
    from matplotlib.patches import Patch

    shown = [run for run in runs if run.started_at is not None][-_MOST_RUNS:]
    figure, axis = _figure(1.2 + 0.17 * max(3, len(shown)))
    for place, run in enumerate(shown):
        assert run.started_at is not None
        ended = run.finished_at or run.status_since
        colour = _KINDS.get(run.kind, "#888888")
        axis.barh(place, max((ended - run.started_at).total_seconds(), 0.5) / 86400, left=_days(run.started_at),
                  color=colour, height=0.7)  # fmt: skip
    axis.set_yticks(range(len(shown)), [f"run {run.id}, {run.category}" for run in shown], fontsize=6)
    axis.invert_yaxis()
    for at, name in switches:
        axis.axvline(_days(at), color="#333333", linewidth=0.8, linestyle="--")
        axis.annotate(name, (_days(at), -0.8), fontsize=6, rotation=30, ha="left", va="bottom", annotation_clip=False)
    colours = {str(run.kind): _KINDS.get(run.kind, "#888888") for run in shown}
    figure.legend(handles=[Patch(color=colour, label=kind) for kind, colour in colours.items()],
                  frameon=False, fontsize=6, loc="outside lower left", ncols=4)  # fmt: skip
    _dated(axis)
    return _picture("timeline", figure, "Runs over time; dashed lines are changes of the write mode.")


def rates(points: Sequence[PacePoint]) -> Picture:
    """Return records a second over time, a line for each category."""
    figure, axis = _figure(2.6)
    for colour, category in zip(_COLOURS * 9, dict.fromkeys(point.category for point in points), strict=False):
        own = [point for point in points if point.category == category]
        steps = [point.at + datetime.timedelta(seconds=point.seconds / 2) for point in own]
        axis.plot([_days(at) for at in steps], [point.records / point.seconds for point in own],
                  marker="o", markersize=3, linewidth=1, color=colour, label=category)  # fmt: skip
    axis.set_ylabel("records a second", fontsize=7)
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, fontsize=6)
    _dated(axis)
    return _picture("rate", figure, "Records a second of the migrations, by category.")


def _figure(height: float) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(_WIDTH, height), layout="constrained")
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    axis.tick_params(labelsize=6)
    return figure, axis


def _dated(axis: Any) -> None:
    from matplotlib import dates

    axis.xaxis_date(tz=datetime.UTC)
    locator = dates.AutoDateLocator(minticks=3, maxticks=7, tz=datetime.UTC)  # type: ignore[no-untyped-call]
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator, tz=datetime.UTC))  # type: ignore[no-untyped-call]
    axis.xaxis.get_offset_text().set_fontsize(6)
    axis.set_xlabel("UTC", fontsize=6)


def _days(at: datetime.datetime) -> float:
    from matplotlib import dates

    return float(dates.date2num(at.astimezone(datetime.UTC)))  # type: ignore[no-untyped-call]


def _picture(name: str, figure: Any, caption: str) -> Picture:
    from matplotlib import pyplot

    kept = io.BytesIO()
    # Without the name and version of who drew it: the same ledger gives the same bytes.
    figure.savefig(kept, format="png", dpi=_DPI, metadata={"Software": None})
    pyplot.close(figure)
    height = _POINTS * float(figure.get_figheight()) / _WIDTH
    return Picture(name=name, png=kept.getvalue(), width=_POINTS, height=height, caption=caption)
