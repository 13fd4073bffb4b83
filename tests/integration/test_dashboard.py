"""The dashboard over HTTP, on a real ledger: what it tells, who may press what, and what it says of servers away."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest

from hal9mig import errors, model
from hal9mig.dashboard.reader import Reader
from hal9mig.ledger import audit, quarantine, runs, workers
from hal9mig.model import RunStatus
from hal9mig.settings import Settings
from tests.support import dashboard, servers
from tests.support.dashboard import TOKEN, Visitor
from tests.support.migration_driver import Driver, until

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
    "Server": "hal9-migrate",
}
NOBODY = "postgresql://somebody:geheim@127.0.0.1:1/nothing"


@pytest.fixture(scope="module")
def resolved(shared: Driver) -> Settings:
    """The settings of the shared stores, which hold some records, with a token."""
    shared.load("neuron-states", 40)
    return dataclasses.replace(shared.system.settings, dashboard_token=TOKEN)


@pytest.fixture(scope="module")
def port(resolved: Settings) -> Iterator[int]:
    """One dashboard for all tests that need nothing special."""
    with dashboard.running(resolved) as found:
        yield found


@pytest.fixture
def stranger(port: int) -> Visitor:
    """Somebody who has not logged in."""
    return Visitor(port)


@pytest.fixture
def maria(port: int) -> Visitor:
    """Somebody who has."""
    made = Visitor(port)
    assert made.log_in().status == 303
    return made


@pytest.fixture
def run_id(shared: Driver, resolved: Settings) -> Iterator[int]:
    """A run that nobody works on."""
    made = shared.start()
    yield made
    with contextlib.suppress(errors.IllegalTransition):
        shared.coordinator.cancel(made)
    with shared.system.ledger.begin() as session:
        runs.settle(session)


def status(visitor: Visitor) -> dict[str, Any]:
    found = json.loads(visitor.get("/api/status").text)
    assert isinstance(found, dict)
    return found


@contextlib.contextmanager
def visiting(resolved: Settings, *, anyone_may_read: bool = False) -> Iterator[Visitor]:
    with dashboard.running(resolved, anyone_may_read=anyone_may_read) as port:
        yield Visitor(port)


def policy(text: str) -> dict[str, str]:
    return dict(part.strip().split(" ", 1) for part in text.split(";"))


def test_every_answer_carries_what_keeps_others_out(stranger: Visitor, run_id: int) -> None:
    for path in ("/", f"/run/{run_id}", "/login", "/api/status", "/run/999999", "/nowhere", "/assets/dashboard.js"):
        found = stranger.get(path)
        expected = HEADERS | ({"Cache-Control": found.headers["Cache-Control"]} if "assets" in path else {})
        assert {name: found.headers[name] for name in HEADERS} == expected
        told = policy(found.headers["Content-Security-Policy"])
        assert (told.pop("default-src"), told.pop("frame-ancestors"), told.pop("base-uri")) == ("'none'",) * 3
        assert set(told.values()) == {"'self'"}
        for name, value in found.headers.items():
            if name == "Set-Cookie":
                assert "HttpOnly" in value
                assert "SameSite=Strict" in value


def test_the_page_tells_what_the_commands_tell(
    shared: Driver, stranger: Visitor, run_id: int, tmp_path: pathlib.Path
) -> None:
    with shared.system.ledger.begin() as session:
        workers.report(session, name="w", host="h", pid=1, slots=2, draining=False, memory_bytes=1, cpu_percent=0)
        quarantine.hold(session, category="neuron-states", key=("<b>\x1b",), error="no", payload=None,
                        transform_version=1, run_id=run_id)  # fmt: skip
    # What was read for the one who looked a moment ago is shown to the next, too.
    document = until(lambda: (read := status(stranger))["workers"]["slots"] == 2 and read, "the page is read anew")
    assert document["write_mode"] == "flat-only"
    assert document["servers"] == [
        {"server": name, "trouble": None} for name in ("flat store", "hierarchical store", "queue")
    ]
    assert [one["run"] for one in document["runs"]] == [run_id]
    assert document["runs"][0]["orders"] == ["pause", "cancel"]
    (neurons,) = [one for one in document["categories"] if one["category"] == "neuron-states"]
    assert (neurons["flat_records"], neurons["quarantined"], neurons["active_run"]) == (40, 1, run_id)
    told = json.loads(
        servers.Cli(servers.environ(shared.stores, tmp_path), tmp_path)("state", "status", "--json").stdout
    )
    for name in ("write_mode", "epoch", "switch", "lag"):
        assert document[name] == told[name]
    for one, other in zip(document["categories"], told["categories"], strict=True):
        assert one | other == one
    text = stranger.get("/").text
    for part in ("neuron-states", "flat-only", f"run/{run_id}", "&lt;b&gt;\\x1b", "No migration has run yet."):
        assert part in text, part
    one = json.loads(stranger.get(f"/api/run/{run_id}").text)
    assert one["run"]["run"] == run_id
    assert one["batch_list"][0]["kind"] == "plan"


def test_a_page_is_read_once_a_second_however_many_look(shared: Driver, resolved: Settings) -> None:
    reader = Reader(resolved, shared.system.registry.ordered())
    try:
        assert reader.overview() is reader.overview()
    finally:
        reader.close()


# Acting


def test_a_button_does_what_its_command_does_and_the_audit_knows_who(
    shared: Driver, maria: Visitor, run_id: int
) -> None:
    until(lambda: maria.get("/").buttons == {f"{run_id}/pause", f"{run_id}/cancel"}, "the run is on the page")
    pressed = maria.press(f"{run_id}/pause", back="overview")
    assert (pressed.status, pressed.location) == (303, "../../")
    until(lambda: shared.run(run_id).status is RunStatus.PAUSED, "the run is paused")
    assert maria.get(f"/run/{run_id}").buttons == {f"{run_id}/resume", f"{run_id}/cancel"}
    pressed = maria.press(f"{run_id}/resume")
    assert (pressed.status, pressed.location) == (303, f"../{run_id}")
    maria.press(f"{run_id}/cancel")
    until(lambda: shared.run(run_id).status is RunStatus.CANCELLED, "the run is cancelled")
    assert maria.get(f"/run/{run_id}").buttons == {f"{run_id}/retry"}
    maria.press(f"{run_id}/retry")
    assert not shared.run(run_id).ended
    with shared.system.ledger.begin() as session:
        done = [(one.action, one.actor) for one in audit.events(session, run_id=run_id)]
    assert done[:4] == [(order, "maria (dashboard)") for order in ("retry", "cancel", "resume", "pause")]


def test_an_order_that_is_not_legal_any_more_is_refused_with_the_page(
    shared: Driver, maria: Visitor, run_id: int
) -> None:
    key = maria.get(f"/run/{run_id}").form_key
    shared.coordinator.cancel(run_id)
    until(lambda: shared.run(run_id).ended, "the run is cancelled")
    refused = maria.post(f"/run/{run_id}/pause", {"_xsrf": key, "back": "run"})
    assert refused.status == 409
    assert "was cancelled; there is nothing to pause." in refused.text
    assert refused.buttons == {f"{run_id}/retry"}
    assert maria.post("/run/999999/pause", {"_xsrf": key}).status == 404


def test_a_form_of_another_page_does_nothing(shared: Driver, maria: Visitor, run_id: int) -> None:
    key = maria.get("/").form_key
    address = f"/run/{run_id}/cancel"
    for fields, headers in (
        ({}, {}),
        ({"_xsrf": "made up"}, {}),
        ({"_xsrf": key}, {"Origin": "https://evil.example"}),
        # Another port of this machine is the same site for a browser, which sends the cookies along.
        ({"_xsrf": key}, {"Origin": "http://127.0.0.1:1"}),
        ({"_xsrf": key}, {"Origin": "null"}),
    ):
        assert maria.post(address, fields, **headers).status == 403
    assert maria.get(address).status == 405
    assert not shared.run(run_id).ended


def test_without_a_login_no_button_works(shared: Driver, stranger: Visitor, run_id: int) -> None:
    assert stranger.get(f"/run/{run_id}").buttons == set()
    key = stranger.get("/login").form_key
    for cookies in ({}, {f"hal9_dashboard_{stranger.port}": "2|1:0|10:1|4:name|8:bWFyaWE=|00"}):
        stranger.cookies |= cookies
        assert stranger.post(f"/run/{run_id}/cancel", {"_xsrf": key}).status == 403
    assert not shared.run(run_id).ended


def test_a_wrong_token_is_none_and_logging_out_ends_it(maria: Visitor, stranger: Visitor) -> None:
    refused = stranger.log_in("a token that somebody guesses")
    assert (refused.status, "This is not the token." in refused.text) == (403, True)
    assert not stranger.get("/").text.count("Log out")
    assert "Logged in as maria" in maria.get("/").text
    assert TOKEN not in maria.get("/").text + str(maria.cookies)
    maria.post("/logout", {"_xsrf": maria.get("/").form_key})
    assert "Logged in as maria" not in maria.get("/").text
    assert maria.get("/").buttons == set()


def test_without_a_token_it_is_read_only(shared: Driver, run_id: int) -> None:
    with visiting(shared.system.settings) as visitor:
        page = visitor.get("/")
        assert (page.status, page.buttons, "read-only" in page.text) == (200, set(), True)
        assert visitor.get("/login").status == 404
        # A cookie that is signed with nothing is no login.
        key = re.search(r"hal9_dashboard_\d+_form", str(visitor.cookies))
        assert key
        sent = {"_xsrf": visitor.cookies[key[0]]}
        assert visitor.post("/login", sent | {"token": "", "name": "x"}).status == 403
        assert visitor.post(f"/run/{run_id}/cancel", sent).status == 403


# Who may read


def test_a_name_that_was_made_to_lead_here_is_not_answered(stranger: Visitor) -> None:
    for path in ("/", "/api/status", "/login"):
        found = stranger.get(path, Host="evil.example")
        assert found.status == 421
        assert "neuron-states" not in found.text
    assert stranger.get("/", Host=f"localhost:{stranger.port}").status == 200
    assert stranger.get("/healthz", Host="evil.example").text == "ok\n"


def test_behind_a_proxy_reading_asks_for_the_token_too(resolved: Settings) -> None:
    with visiting(dataclasses.replace(resolved, dashboard_hosts=("ops.example",))) as visitor:
        visitor.origin = "https://ops.example"
        named = {"Host": "ops.example", "X-Forwarded-Proto": "https"}
        assert visitor.get("/", **named).location == "./login"
        assert visitor.get("/run/1", **named).location == "../login"
        assert visitor.get("/api/status", **named).status == 401
        assert visitor.get("/api/status", Authorization=f"Bearer {TOKEN}", **named).status == 200
        assert visitor.get("/api/status", Authorization="Bearer guessed", **named).status == 401
        key = visitor.get("/login", **named).form_key
        entered = visitor.post("/login", {"_xsrf": key, "name": "maria", "token": TOKEN}, **named)
        assert "Secure" in entered.headers["Set-Cookie"]
        assert visitor.get("/", **named).status == 200
    with visiting(dataclasses.replace(resolved, dashboard_hosts=("ops.example",)), anyone_may_read=True) as visitor:
        assert visitor.get("/", Host="ops.example").buttons == set()


# Servers away


@pytest.mark.parametrize(
    ("field", "status", "name"),
    [("hier_url", 503, "hierarchical store"), ("flat_url", 200, "flat store"), ("redis_url", 200, "queue")],
)
def test_what_does_not_answer_is_said_and_the_rest_is_shown(
    resolved: Settings, run_id: int, field: str, status: int, name: str
) -> None:
    url = "redis://:geheim@127.0.0.1:1/0" if field == "redis_url" else NOBODY
    away: dict[str, Any] = {field: url}
    with visiting(dataclasses.replace(resolved, **away)) as visitor:
        visitor.log_in()
        page, document = visitor.get("/"), visitor.get("/api/status")
        assert (page.status, document.status, visitor.get(f"/run/{run_id}").status) == (status,) * 3
        found = json.loads(document.text)
        assert [one["server"] for one in found["servers"] if one["trouble"]] == [name]
        assert "cannot be reached" in page.text
        assert "Traceback" not in page.text
        assert "geheim" not in page.text + document.text
        assert visitor.get("/healthz").status == 200
        if status == 200:
            assert [one["run"] for one in found["runs"]] == [run_id]
            assert f'hal9_server_up{{server="{name}"}} 0.0' in visitor.get("/metrics").text
        else:
            assert "hal9_up 0.0" in visitor.get("/metrics").text
            assert "The ledger cannot be read" in page.text
            assert found["error"]["hint"] == "hal9-migrate configure show --origin"


def test_orders_are_given_while_the_queue_is_away(shared: Driver, resolved: Settings, run_id: int) -> None:
    with visiting(dataclasses.replace(resolved, redis_url="redis://127.0.0.1:1/0")) as visitor:
        visitor.log_in()
        assert visitor.press(f"{run_id}/pause").status == 303
    assert shared.run(run_id).status in (RunStatus.PAUSING, RunStatus.PAUSED)


def test_a_ledger_that_was_never_made_says_how_to_make_it(resolved: Settings) -> None:
    with visiting(dataclasses.replace(resolved, hier_url=resolved.flat_url)) as visitor:
        page = visitor.get("/")
    assert page.status == 503
    assert "hal9-migrate db upgrade" in page.text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/?before=x%00", 400), ("/?before=99999999999999999999", 400), ("/run/999999", 404), ("/run/x", 404),
        ("/%ff", 404), ("/assets/../access.py", 404), ("/api/run/999999", 404), ("/run/1/drop", 404),
    ],
)  # fmt: skip
def test_what_is_no_number_and_no_page_is_said_in_a_sentence(stranger: Visitor, path: str, status: int) -> None:
    found = stranger.get(path)
    assert found.status == status
    assert "Traceback" not in found.text
    assert ("There is no run 999999." in found.text) is ("999999" in path and status == 404)


def test_older_runs_are_on_the_next_page(shared: Driver, stranger: Visitor) -> None:
    with shared.system.ledger.begin() as session:
        for _ in range(15):
            made = runs.create(
                session, kind=model.RunKind.VERIFY, category="metadata", priority=model.Priority.NORMAL, filter="",
                options={}, serial=False, actor="test",
            )  # fmt: skip
            runs.move(session, made, RunStatus.CANCELLING, "test")
            runs.move(session, made, RunStatus.CANCELLED, "test")

    def past(path: str) -> list[int]:
        rows = stranger.get(path).text.partition('id="past-rows"')[2].partition("</table>")[0]
        return [int(number) for number in re.findall(r'aria-label="run (\d+)"', rows)]

    first = until(lambda: (found := past("/")) and found[0] == made and found, "the newest run is on the page")
    assert len(first) == 12
    older = re.search(r'href="\./(\?before=\d+)">Older runs', stranger.get("/").text)
    assert older
    assert past(f"/{older[1]}")[:3] == [first[-1] - 1, first[-1] - 2, first[-1] - 3]
