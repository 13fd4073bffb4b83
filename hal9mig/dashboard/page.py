"""Pages as HTML: the templates, what they may call, and how a value is shown in them."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import pathlib
from collections.abc import Mapping, Sequence

from tornado import escape, template

import hal9mig
from hal9mig import errors, model, safe_text, units
from hal9mig.dashboard import overview, plot
from hal9mig.dashboard.overview import CategoryView, Overview, WatchedRun
from hal9mig.dashboard.reader import Away
from hal9mig.dashboard.run_view import RunView
from hal9mig.engine import run_standing
from hal9mig.engine.compare import verify_report
from hal9mig.stores.write_mode import Mode

_HERE = pathlib.Path(__file__).parent
#: What is served beside the pages, with the type of each.
ASSETS = {"dashboard.css": "text/css", "dashboard.js": "text/javascript", "icon.svg": "image/svg+xml"}
#: Characters of a key or an error that are shown; the whole stands in a tooltip.
_MOST = 140
#: Points below which a line over time says nothing.
_LEAST_POINTS = 4
_TONES = {
    "planning": "info", "running": "info", "throttled": "warn", "waiting": "warn", "pausing": "warn", "paused": "warn",
    "cancelling": "warn", "cancelled": "off", "failed": "bad", "succeeded": "good", "finished": "good",
}  # fmt: skip
_MODES = {
    Mode.FLAT_ONLY: "The flat store rules, and nothing is carried to the hierarchical one.",
    Mode.DUAL_WRITE: "The flat store rules; each write is carried to the hierarchical one.",
    Mode.HIERARCHICAL_ONLY: "The hierarchical store rules; each write is carried back to the flat one.",
}
_ORDERS = {
    model.RunOrder.PAUSE: "Stops it after the transactions that are open; it keeps its place.",
    model.RunOrder.RESUME: "Lets it go on.",
    model.RunOrder.CANCEL: "Ends it after the transactions that are open; what it has written stays.",
    model.RunOrder.RETRY: "Takes up what it has left.",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Visitor:
    """Who looks at a page.

    Attributes:
        name: by which somebody has logged in, so that the buttons work; None for nobody.
        has_token: whether they could, after a login.
        form_key: what every form carries against forged requests, as HTML.
        up: what leads from this page's address to the first page's.
    """

    name: str | None
    has_token: bool
    form_key: str
    up: str


class Pages:
    """Makes the pages."""

    def __init__(self) -> None:
        self.assets = {name: (_HERE / "assets" / name).read_bytes() for name in ASSETS}
        whole = hashlib.sha256(b"".join(self.assets.values())).hexdigest()[:12]
        self._loader = template.Loader(
            str(_HERE / "templates"),
            autoescape="shown",
            namespace={
                **_CALLED,
                "assets_version": whole,
                "version": hal9mig.__version__,
                # What cannot be encoded, as in the name of a file, is shown as an escape: see `shown`.
                "_tt_utf8": _encoded,
            },
        )

    def overview(self, found: Overview, visitor: Visitor, notice: errors.HAL9Error | None = None) -> bytes:
        """Return the first page.

        Args:
            notice: why an order was not carried out.
        """
        pace = found.pace and plot.pace(found.pace, limit=found.budget, now=found.read_at)
        lag = plot.lag(found.rounds, found.read_at, span=overview.SPAN, present=found.backlog)
        return self._made("overview", visitor, page=found, notice=notice, pace=pace, lag=lag, now=found.read_at)

    def run(self, view: RunView, visitor: Visitor, notice: errors.HAL9Error | None = None) -> bytes:
        """Return the page of a run."""
        pace = None
        if view.pace and len({point.at for point in view.pace.points}) >= _LEAST_POINTS:
            pace = plot.pace(view.pace, now=view.read_at)
        return self._made("run", visitor, page=view, notice=notice, pace=pace, now=view.read_at)

    def away(self, away: Away, visitor: Visitor) -> bytes:
        """Return the page that says why there is nothing to show."""
        now = datetime.datetime.now(datetime.UTC)
        return self._made("away", visitor, away=away, now=now)

    def trouble(self, title: str, message: str, visitor: Visitor) -> bytes:
        """Return a page that only says something."""
        return self._made("trouble", visitor, title=title, message=message)

    def login(self, visitor: Visitor, *, wrong: bool) -> bytes:
        """Return the login; ``wrong``: what was entered did not fit."""
        return self._made("login", visitor, wrong=wrong)

    def _made(self, name: str, visitor: Visitor, **values: object) -> bytes:
        return self._loader.load(f"{name}.html").generate(visitor=visitor, **values)


def _encoded(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")


def shown(value: str | bytes) -> str:
    """Return a value as HTML text: without secrets, and with control characters as escapes."""
    text = value if isinstance(value, str) else value.decode("utf-8", "surrogatepass")
    return escape.xhtml_escape(safe_text.printable(safe_text.masked(text)))


def clipped(text: str) -> str:
    """Return the beginning of a long text."""
    return text if len(text) <= _MOST else text[: _MOST - 1].rstrip() + "…"


def key_text(key: Sequence[str]) -> str:
    """Return a record's key in one line."""
    return ", ".join(key)


def tone(word: str) -> str:
    """Return the colour of a run's word: info, warn, good, bad or off."""
    return _TONES.get(word, "off")


def remains(interval: tuple[float, float] | None) -> str:
    """Return the time that remains as people say it."""
    if interval is None:
        return "–"
    low, high = (units.format_duration(max(1, round(seconds))) for seconds in interval)
    return f"about {low}" if low == high else f"{low} to {high}"


def iso(moment: datetime.datetime) -> str:
    """Return a moment in UTC, to the second."""
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def clock(moment: datetime.datetime, now: datetime.datetime) -> str:
    """Return a moment in UTC: the time of today, else with its day."""
    local, today = moment.astimezone(datetime.UTC), now.astimezone(datetime.UTC)
    return local.strftime("%H:%M:%S" if local.date() == today.date() else "%Y-%m-%d %H:%M")


def ago(moment: datetime.datetime, now: datetime.datetime) -> str:
    """Return how long ago a moment was."""
    seconds = (now - moment).total_seconds()
    return "just now" if seconds < 2 else f"{units.format_duration(round(seconds))} ago"


def share_text(share: float) -> str:
    """Return a share as a percentage that never rounds something to nothing."""
    if not share:
        return "0%"
    return "<0.001%" if share < 0.00001 else f"{share * 100:.3g}%"


def counted(count: int, noun: str) -> str:
    """Return ``1 record`` or ``1,234 records``."""
    return f"{units.format_count(count)} {noun}{'' if count == 1 else 's'}"


def command(run: model.Run, order: model.RunOrder) -> str:
    """Return the command that a button stands for."""
    return f"hal9-migrate runs {order} {run.id}"


def percent(part: int, whole: int) -> str:
    """Return a share of records in percent."""
    return units.format_percent(part, whole) if whole else "0%"


def name_of(run: model.Run) -> str:
    """Return what a run does, in two words."""
    return f"{run.kind} {run.category}"


def spoken(found: Overview | RunView) -> str:
    """Return what a screen reader is told where it has changed: in steps of five percent, not each second."""
    if isinstance(found, RunView):
        return _spoken_run(found.watched)
    if found.finish is not None and found.finish.over:
        return "The migration is finished"
    problems = [problem.message for problem in found.problems]
    return "; ".join([*problems, *map(_spoken_run, found.under_way)]) or f"Write mode {found.line.mode}; no run"


def _spoken_run(watched: WatchedRun) -> str:
    run = watched.run
    whole = 100 if run.status is model.RunStatus.SUCCEEDED else 0
    done = min(100, 100 * run.done_records // run.total_records // 5 * 5) if run.total_records else whole
    return f"{name_of(run)} {done}%, {run_standing.word_and_reason(run)[0]}"


def title(found: Overview | RunView) -> str:
    """Return what the browser's tab says."""
    if isinstance(found, RunView):
        return f"{run_standing.share(found.run, found.run.total_records)} run {found.run.id} · {name_of(found.run)}"
    if found.finish is not None and found.finish.over:
        return "finished"
    if found.problems or found.failed:
        return f"! {found.line.mode}"
    if found.under_way:
        run = found.under_way[0].run
        return f"{run_standing.share(run, run.total_records)} {name_of(run)}"
    return found.line.mode


def category_word(one: CategoryView) -> tuple[str, str]:
    """Return the word for where a category stands, and why it does not go on."""
    return ("never migrated", "") if one.run is None else run_standing.word_and_reason(one.run)


#: What templates may call, by name.
_CALLED: Mapping[str, object] = {
    "shown": shown, "clipped": clipped, "key_text": key_text, "tone": tone, "remains": remains, "iso": iso,
    "clock": clock, "ago": ago, "share_text": share_text, "counted": counted, "command": command, "percent": percent,
    "name_of": name_of, "spoken": spoken, "title_of": title, "category_word": category_word,
    "count": units.format_count, "duration": units.format_duration, "size": units.format_bytes,
    "rate": run_standing.rate, "share": run_standing.share, "taken": run_standing.seconds,
    "word_and_reason": run_standing.word_and_reason, "verdict": verify_report.sentence,
    "MODES": _MODES, "ORDERS": _ORDERS,
}  # fmt: skip
