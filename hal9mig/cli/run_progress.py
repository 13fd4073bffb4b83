"""How far runs are: as a line, as a rate and an estimate, and as something that moves on stderr."""

from __future__ import annotations

import collections
import datetime
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hal9mig import model, safe_text, units
from hal9mig.cli.console import Console

if TYPE_CHECKING:
    import rich.progress

#: Seconds between two lines where nothing can move.
LINE_EVERY = 10.0
_WINDOW = 10.0  # seconds a rate is the mean of; the ledger's recent_records has the same
_WIDE = 80  # columns below which a line holds no bar, count and speed
_ETA_FROM = 0.01  # share done below which an estimate would be a guess
_THROTTLES = ("rate-limit", "the budget", "the application")
#: Kinds whose work is all in their records.
_BY_RECORD = (model.RunKind.MIGRATE, model.RunKind.VERIFY, model.RunKind.EXPORT, model.RunKind.TRANSFORM)
_PLAIN = (model.RunKind.MIGRATE, model.RunKind.VERIFY)  # kinds that go without saying


def state(run: model.Run) -> str:
    """Return where a run stands, and why it does not go on when it does not."""
    if run.waiting and run.status in (model.RunStatus.PLANNING, model.RunStatus.RUNNING):
        word = "throttled" if run.waiting.startswith(_THROTTLES) else "waiting"
        # While batches are under way a wait is only that of the next one.
        word = run.status if word == "waiting" and run.leased else word
        return f"{word} ({run.waiting})"
    if run.status in (model.RunStatus.FAILED, model.RunStatus.PAUSED, model.RunStatus.CANCELLED) and run.reason:
        return f"{run.status} ({run.reason})"
    if run.undone_at is not None:
        return f"{run.status}, taken back by a restore"
    if run.kind not in _BY_RECORD and run.status is model.RunStatus.RUNNING and run.planned:
        left = run.total_batches - run.done_batches
        return f"{run.status} ({left} step{'' if left == 1 else 's'} left)"
    return str(run.status)


def label(run: model.Run) -> str:
    """Return what a run is called while it is watched: its category, and what it does unless that is plain."""
    return run.category if run.kind in _PLAIN else f"{run.kind} {run.category}"


def share(run: model.Run, total: int) -> str:
    """Return how much of a run is done; never all of it while steps are left that count no records."""
    if not total:
        return "100%" if run.ended else "0%"
    done = run.done_records
    return units.format_percent(done, total if run.ended or run.kind in _BY_RECORD else max(total, done + 1))


def seconds(run: model.Run) -> float:
    """Return how long a run took, or has been going."""
    return ((run.finished_at or datetime.datetime.now(datetime.UTC)) - run.created_at).total_seconds()


def rate(run: model.Run) -> float:
    """Return records a second: of the last seconds, or of the whole run when it has ended."""
    passed = max(0.001, seconds(run))
    if run.ended:
        return run.done_records / passed
    return run.recent_records / min(_WINDOW, max(1.0, passed))


def eta(run: model.Run, total: int, speed: float) -> float | None:
    """Return the seconds that remain, None where that would be a guess."""
    if run.ended or not speed or not total or run.done_records / total < _ETA_FROM:
        return None
    if run.kind not in _BY_RECORD and run.done_records >= total:
        return None  # what is left, indexes and proofs, has no records to go by
    return max(0, total - run.done_records) / speed


def line(run: model.Run, *, total: int, speed: float) -> str:
    """Return a run's progress as one line."""
    counted = f"{units.format_count(run.done_records)}/{units.format_count(total)}"
    parts = [
        f"{label(run)}: {counted} {share(run, total)}",
        f"{units.format_count(round(speed))}/s",
        f"state: {state(run)}",
    ]
    remaining = eta(run, total, speed)
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
        return (run.done_records - seen[0][1]) / passed if passed >= 1.0 else rate(run)

    def _move(self, bars: rich.progress.Progress, run: model.Run, speed: float) -> None:
        total = self._total(run)
        remaining = eta(run, total, speed)
        text: dict[str, Any] = {
            "narrow": narrow(label(run), share(run, total), state(run), bars.console.width),
            "counts": f"{units.format_count(run.done_records)}/{units.format_count(total)}",
            "share": share(run, total),
            "speed": f"{units.format_count(round(speed))}/s",
            "state": state(run) + ("" if remaining is None else f", eta {units.format_duration(remaining)}"),
        }
        text = {name: safe_text.printable(value) for name, value in text.items()}
        if run.id not in self._tasks:
            self._tasks[run.id] = bars.add_task(safe_text.printable(label(run)), total=total or None, **text)
        bars.update(self._tasks[run.id], completed=run.done_records, total=total or None, **text)


def _bars(console: Console) -> rich.progress.Progress:
    import sys

    from rich import progress

    def text(name: str) -> progress.TextColumn:
        # A reason may hold what a record holds: it is text, and no markup.
        return progress.TextColumn(f"{{task.{name}}}", markup=False)

    shown = console.rich(sys.stderr)
    if shown.width < _WIDE:
        return progress.Progress(text("fields[narrow]"), console=shown)
    fields = (text(f"fields[{name}]") for name in ("counts", "share", "speed", "state"))
    return progress.Progress(text("description"), progress.BarColumn(bar_width=20), *fields, console=shown)
