"""How far runs are: as a line, as a rate and an estimate, and as something that moves on stderr."""

from __future__ import annotations

import collections
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hal9mig import model, safe_text, units
from hal9mig.cli.console import Console
from hal9mig.engine import run_standing

if TYPE_CHECKING:
    import rich.progress

#: Seconds between two lines where nothing can move.
LINE_EVERY = 10.0
_WINDOW = 10.0  # seconds a rate is the mean of; the ledger's recent_records has the same
_WIDE = 80  # columns below which a line holds no bar, count and speed


def line(run: model.Run, *, total: int, speed: float) -> str:
    """Return a run's progress as one line."""
    counted = f"{units.format_count(run.done_records)}/{units.format_count(total)}"
    parts = [
        f"{run_standing.label(run)}: {counted} {run_standing.share(run, total)}",
        f"{units.format_count(round(speed))}/s",
        f"state: {run_standing.state(run)}",
    ]
    remaining = run_standing.eta(run, total, speed)
    if remaining is not None:
        parts.append(f"eta {units.format_duration(remaining)}")
    return "; ".join(parts)


def narrow(label: str, share: str, state: str, width: int) -> str:
    """Return a run's progress for a narrow terminal: the share and the state stay, the name gives way to them."""
    kept = f"{share} {state}"
    room = width - len(kept) - 2
    return f"{label[:room]} {kept}" if room > 0 else kept[: width - 1]


class Gauge:
    """Shows runs on stderr while they are waited for: bars on a terminal, else a line each ten seconds.

    Args:
        expected: records of each run by its number, for the time until all its batches are planned.
    """

    def __init__(
        self,
        console: Console,
        *,
        expected: Mapping[int, int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._console = console
        self._expected = dict(expected or {})
        self._clock = clock
        self._said = clock()
        self._seen: dict[int, collections.deque[tuple[float, int]]] = {}
        self._bars: rich.progress.Progress | None = None
        self._tasks: dict[int, rich.progress.TaskID] = {}

    def __enter__(self) -> Gauge:
        if self._console.talk_is_terminal:
            self._bars = _bars(self._console)
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def show(self, runs: Sequence[model.Run]) -> None:
        """Show the runs as they stand."""
        now = self._clock()
        speeds = {run.id: self._speed(run, now) for run in runs}
        if self._bars is not None:
            for run in runs:
                self._move(self._bars, run, speeds[run.id])
        elif now - self._said >= LINE_EVERY:
            self._said = now
            for run in runs:
                if not run.ended:
                    self._console.say(line(run, total=self._total(run), speed=speeds[run.id]))

    def _total(self, run: model.Run) -> int:
        return run.total_records if run.planned else max(run.total_records, self._expected.get(run.id, 0))

    def _speed(self, run: model.Run, now: float) -> float:
        seen = self._seen.setdefault(run.id, collections.deque())
        seen.append((now, run.done_records))
        while len(seen) > 2 and now - seen[0][0] > _WINDOW:
            seen.popleft()
        passed = now - seen[0][0]
        return (run.done_records - seen[0][1]) / passed if passed >= 1.0 else run_standing.rate(run)

    def _move(self, bars: rich.progress.Progress, run: model.Run, speed: float) -> None:
        total = self._total(run)
        remaining = run_standing.eta(run, total, speed)
        text: dict[str, Any] = {
            "narrow": narrow(
                run_standing.label(run), run_standing.share(run, total), run_standing.state(run), bars.console.width
            ),
            "counts": f"{units.format_count(run.done_records)}/{units.format_count(total)}",
            "share": run_standing.share(run, total),
            "speed": f"{units.format_count(round(speed))}/s",
            "state": run_standing.state(run)
            + ("" if remaining is None else f", eta {units.format_duration(remaining)}"),
        }
        text = {name: safe_text.printable(value) for name, value in text.items()}
        if run.id not in self._tasks:
            self._tasks[run.id] = bars.add_task(
                safe_text.printable(run_standing.label(run)), total=total or None, **text
            )
        bars.update(self._tasks[run.id], completed=run.done_records, total=total or None, **text)


def _bars(console: Console) -> rich.progress.Progress:
    from rich import progress

    def text(name: str) -> progress.TextColumn:
        # A reason may hold what a record holds: it is text, and no markup.
        return progress.TextColumn(f"{{task.{name}}}", markup=False)

    shown = console.rich(sys.stderr)
    if shown.width < _WIDE:
        return progress.Progress(text("fields[narrow]"), console=shown)
    fields = (text(f"fields[{name}]") for name in ("counts", "share", "speed", "state"))
    return progress.Progress(text("description"), progress.BarColumn(bar_width=20), *fields, console=shown)
