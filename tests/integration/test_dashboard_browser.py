"""The dashboard in a real browser: it renews itself, its buttons work by keyboard, and it is whole without scripts."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator

import pytest

from hal9mig.model import RunStatus
from tests.support import browser, dashboard
from tests.support.browser import Browser
from tests.support.dashboard import TOKEN
from tests.support.migration_driver import Driver, until


@pytest.fixture(scope="module")
def address(shared: Driver) -> Iterator[str]:
    """Where the dashboard answers."""
    shared.load("neuron-states", 40)
    with dashboard.running(dataclasses.replace(shared.system.settings, dashboard_token=TOKEN)) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One tab of a browser."""
    program = browser.ready()
    if program is None:
        pytest.skip(f"there is no {' nor '.join(browser.NAMES)} here (Debian: apt-get install chromium)")
    opened = Browser(program, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


def test_the_page_renews_itself_and_works_by_keyboard(
    shared: Driver, address: str, tab: Browser, tmp_path: pathlib.Path
) -> None:
    run_id = shared.start()
    tab.look()
    tab.open(f"{address}login")
    assert tab.js("document.activeElement.id") == "name"
    tab.type("maria")
    tab.tab_to("token")
    tab.type(TOKEN)
    tab.key("Enter")
    tab.wait(f"document.getElementById('pause-{run_id}')")
    # What a reload would take away: a mark, a place, the focus, and an opened question.
    tab.js("window.mark = 'the same page'")
    tab.tab_to(f"ask-cancel-{run_id}")
    tab.key("Enter")
    tab.look(height=400)
    tab.js("scrollTo(0, 200)")
    shared.coordinator.pause(run_id)
    tab.wait(f"document.getElementById('resume-{run_id}')")
    assert tab.js("window.mark") == "the same page"
    assert tab.js("scrollY") == 200
    assert tab.js("document.activeElement.id") == f"ask-cancel-{run_id}"
    assert tab.js(f"document.getElementById('more-cancel-{run_id}').open")
    assert "paused" in tab.js("document.getElementById('announcer').textContent")

    tab.tab_to(f"resume-{run_id}")
    tab.key("Enter")
    until(lambda: shared.run(run_id).status in (RunStatus.RUNNING, RunStatus.PLANNING), "the run goes on")
    tab.wait(f"document.getElementById('pause-{run_id}')")
    # The button that was pressed is gone: the keyboard is at its run, and not at the page's top.
    assert tab.js("document.activeElement.id") == f"run-{run_id}"
    assert tab.js("window.mark") == "the same page"

    # Held still it asks for nothing, not even when somebody comes back to its tab; and then it does again.
    tab.js("window.asked = 0; window.fetch = () => { window.asked += 1; return Promise.reject(new Error('away')); }")
    for expected in (0, 1):
        tab.js("document.getElementById('live').click()")
        tab.js("document.dispatchEvent(new Event('visibilitychange'))")
        assert (tab.js("window.asked") > 0) is bool(expected)
    tab.wait("!document.getElementById('lost').hidden")
    assert "has not answered since" in tab.js("document.getElementById('lost').textContent")
    shared.coordinator.cancel(run_id)
    assert tab.complaints == []


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_nothing_is_cut_off_on_a_narrow_screen_and_nothing_is_missing_without_scripts(
    shared: Driver, address: str, tab: Browser, scripts: bool
) -> None:
    tab.look(width=380, height=800, scripts=scripts)
    tab.open(address)
    assert tab.js("document.documentElement.scrollWidth") == 380
    assert tab.js("document.querySelectorAll('.categories > li').length") == len(shared.system.registry.ordered())
    assert tab.js("document.getElementById('live').hidden") is not scripts
    tab.look()
    assert tab.complaints == []
