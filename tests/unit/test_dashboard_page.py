"""The dashboard's pages from made-up data: what is shown, what may be pressed, and that every value is only text."""

from __future__ import annotations

import dataclasses
import datetime
import html.parser
import pathlib
import re
from typing import Any

import pytest

from hal9mig import errors, model, units
from hal9mig.dashboard import document, page, plot
from hal9mig.dashboard.overview import Overview, Pace, Server
from hal9mig.dashboard.page import Pages, Visitor
from hal9mig.dashboard.reader import Away
from hal9mig.dashboard.run_view import RunView
from hal9mig.engine import run_standing
from hal9mig.engine.reconcile.alarm_rules import JournalBacklog
from hal9mig.ledger.audit import Event
from hal9mig.ledger.history import PacePoint
from hal9mig.ledger.phases import Finish
from hal9mig.ledger.rounds import Round
from hal9mig.model import RunOrder, RunStatus
from tests.unit.overviews import NOW, ago, held, made, run, watched

EVIL = "<script>alert(1)</script>\" onload='x' \x1b[31m\u202e\x9b \udcff password=geheim postgresql://u:geheim@h/d"
PACKAGE = pathlib.Path(page.__file__).parent
PAGES = Pages()


def run_view(text: str = "plain", **changes: Any) -> RunView:
    batch = {"seq": 1, "kind": "copy", "subject": text, "status": "failed", "attempt": 1, "records": 1, "error": text,
             "planned_records": 2, "quarantined": 0, "busy_seconds": 0.1, "owner": text}  # fmt: skip
    return RunView(
        read_at=NOW,
        watched=watched(category=text, filter=text, reason=text, requested_by=text, options={text: text}, **changes),
        statuses={model.BatchStatus.FAILED: 1}, batches=[batch], verdict=None, held=[held(text)], pace=None,
        events=[Event(id=1, at=ago(5), actor=text, action=text, run_id=7, detail={})],
    )  # fmt: skip


def visitor(name: str | None = None, *, has_token: bool = True) -> Visitor:
    return Visitor(name=name, has_token=has_token, form_key="<input name='key'>", up="./")


def shown(found: Overview | RunView | Away, who: Visitor | None = None) -> str:
    who = who or visitor()
    if isinstance(found, Away):
        return PAGES.away(found, who).decode()
    return (PAGES.run(found, who) if isinstance(found, RunView) else PAGES.overview(found, who)).decode()


class Elements(html.parser.HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self, text: str):
        super().__init__()
        self.all: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs)))


@pytest.mark.parametrize(
    "found",
    [
        made(text=EVIL),
        run_view(EVIL),
        Away(error=errors.StoreUnreachable(EVIL, hint=EVIL), servers=[Server(name=EVIL, trouble=EVIL)]),
    ],
    ids=["overview", "run", "away"],
)
def test_every_value_is_text_and_nothing_else(found: Overview | RunView | Away) -> None:
    text = shown(found, visitor(EVIL))
    elements = Elements(text).all
    assert [attributes for tag, attributes in elements if tag == "script"] == [
        {"src": f"./assets/dashboard.js?{PAGES._loader.namespace['assets_version']}", "defer": None}
    ]
    assert not [name for _, attributes in elements for name in attributes if name.startswith("on") or name == "style"]
    assert "&lt;script&gt;alert(1)" in text
    assert "\\x1b[31m\\u202e\\x9b \\udcff" in text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)
    assert "geheim" not in text


def test_the_json_twin_holds_no_control_characters_either() -> None:
    for found in (document.of_overview(made(text="key\x9b\u202e\x1b")), document.of_run(run_view("key\x9b\u202e\x1b"))):
        assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e]", document.text(found))


@pytest.mark.parametrize(
    ("status", "orders"),
    [
        (RunStatus.PLANNING, "pause cancel"),
        (RunStatus.RUNNING, "pause cancel"),
        (RunStatus.PAUSING, "resume cancel"),
        (RunStatus.PAUSED, "resume cancel"),
        (RunStatus.CANCELLING, ""),
        (RunStatus.CANCELLED, "retry"),
        (RunStatus.FAILED, "retry"),
        (RunStatus.SUCCEEDED, ""),
    ],
)
def test_only_what_is_legal_can_be_pressed_and_each_button_shows_its_command(status: RunStatus, orders: str) -> None:
    for text in (
        shown(run_view(status=status), visitor("maria")),
        shown(made(under_way=[watched(status=status)], failed=[]), visitor("maria")),
    ):
        forms = [attributes for tag, attributes in Elements(text).all if tag == "form" and "data-order" in attributes]
        assert [form["action"] for form in forms] == [f"./run/7/{order}" for order in orders.split()]
        for order in RunOrder:
            assert (f"<code>hal9-migrate runs {order} 7</code>" in text) is (order in orders.split())
        assert text.count("<input name='key'>") == len(forms) + 1  # and that of logging out


def test_who_has_not_logged_in_sees_the_commands_and_no_button() -> None:
    for who, offered in ((visitor(), "Log in"), (visitor(has_token=False), "read-only")):
        text = shown(made(), who)
        assert not [tag for tag, attributes in Elements(text).all if tag == "form"]
        assert "<code>hal9-migrate runs pause 7</code>" in text
        assert offered in text


def test_a_run_tells_how_far_it_is_how_fast_how_long_and_why_it_waits() -> None:
    one = watched(100.0, 200.0, waiting="rate-limit 100/s")
    # By the fastest and the slowest rate: 98, 100 and 200 a second.
    assert one.remains == pytest.approx((539_100 / 200, 539_100 / 98))
    text = shown(made(under_way=[one], failed=[]))
    for part in ("460,900 of 1,000,000", "46.1%", "98/s", "44m56s to 1h31m", "throttled", "rate-limit 100/s"):
        assert part in text, part


def test_no_time_is_told_where_it_would_be_a_guess() -> None:
    assert watched(100.0, planned=False).remains is None
    assert watched(100.0, done_records=100).remains is None
    assert watched(0.0, recent_records=0).remains is None
    assert run_standing.eta_interval(run(), 1_000_000, [0.0, 50.0]) == (10_782.0, 10_782.0)
    assert page.remains((10.0, 10.2)) == "about 10s"
    assert page.remains(None) == "–"


def test_what_is_wrong_comes_first_and_says_what_to_do() -> None:
    text = shown(made(text="words"))
    assert text.index("What stands still") < text.index('class="tiles"') < text.index("Categories")
    finished = made(finish=Finish(over=True, at=ago(5), actor="root@vm", keep="hierarchical"), problems=[], unlooked="")
    text = shown(finished)
    assert "the hierarchical store goes on by itself" in text
    assert 'aria-current="step"' not in text


def test_a_screen_reader_is_told_in_steps_and_the_tab_in_short() -> None:
    found = made(under_way=[watched()], problems=[], failed=[])
    assert page.spoken(found) == "migrate neuron-states 45%, running"
    assert page.title(found) == "46.1% migrate neuron-states"
    assert page.title(made()) == "! dual-write"


def test_long_values_are_clipped_and_whole_in_a_tooltip() -> None:
    long = "k/" * 300
    text = shown(made(held=[dataclasses.replace(held("x"), key=(long,))]))
    assert f'title="{long}"' in text
    assert f">{long[: page._MOST - 1]}…<" in text


# Plots


def points(*rates: float, category: str = "metadata", step: int = 8) -> list[PacePoint]:
    first = datetime.datetime.fromtimestamp(NOW.timestamp() // step * step - len(rates) * step, datetime.UTC)
    return [
        PacePoint(category=category, at=first + datetime.timedelta(seconds=place * step), records=round(rate * step),
                  seconds=step)
        for place, rate in enumerate(rates) if rate
    ]  # fmt: skip


def test_the_pace_is_a_line_for_each_category_that_ends_where_it_stands_still() -> None:
    found = Pace(begin=ago(900), end=NOW, points=points(10, 20, 0, 0, 0, 40), run=None)
    drawn = plot.pace(found, now=NOW)
    (line,) = drawn.lines
    assert len(line.stretches) == 2
    assert drawn.heights == ["40", "20", "0"]
    ground, top = f"{plot.HEIGHT - 4:g}", "4"
    assert [pair.split(",")[1] for pair in line.stretches[0].split()] == [ground, "88", "60", ground]
    assert line.stretches[1].split()[-1].split(",")[1] == top
    assert drawn.moments[-1] == "12:00:00"


def test_the_budget_is_drawn_where_it_is_one_of_records_and_near() -> None:
    found = Pace(begin=ago(900), end=NOW, points=points(90, 100, 90, 95), run=None)
    assert plot.pace(found, limit=units.parse_rate("100/s"), now=NOW).limit_name == "budget 100/s"
    for far in ("900/s", "20MB/s", "off"):
        assert plot.pace(found, limit=units.parse_rate(far), now=NOW).limit is None


def test_the_lag_is_that_of_each_round_and_of_now() -> None:
    rounds = [
        Round(id=number, began=ago(300 - number), ended=ago(299 - number), applied=0, compared=0, found=0, repaired=0,
              lag_records=1, lag_seconds=number / 100, seconds=0, error=None)
        for number in range(3)
    ]  # fmt: skip
    drawn = plot.lag(rounds, NOW, span=900, present=JournalBacklog(records=9, seconds=3.0))
    assert drawn is not None
    assert drawn.heights == ["3s", "1.5s", "0"]
    assert drawn.lines[0].stretches[0].split()[-1] == f"{plot.WIDTH},4"
    assert "waited for 3s at last" in drawn.summary
    assert plot.lag([], NOW, span=900, present=None) is None


# Files


def test_nothing_comes_from_elsewhere_and_nothing_is_inline() -> None:
    for path in [*PACKAGE.glob("templates/*.html"), *PACKAGE.glob("assets/*")]:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|@import|url\(|\beval\(|innerHTML", text), path
        if path.suffix == ".html":
            assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! src=)|javascript:", text), path
            # A value goes through the escape; what does not is made by us.
            assert set(re.findall(r"\{% raw ([^%]*) %\}", text)) <= {"visitor.form_key"}, path
