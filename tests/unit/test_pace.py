"""How fast what can wait goes, by what the application feels of it."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal9mig.engine import pace
from hal9mig.ledger.pace import UNKNOWN, Felt, Pace
from hal9mig.ledger.tuning import Bounds
from hal9mig.stores.probe import Probe

BOUNDS = Bounds(impact=0.2, replica=10.0, query=None)
QUIET = Felt(write=0.004, read=0.001, active=2, waiting=0)
CALM = Pace(now=QUIET, quiet=QUIET, share=1.0, reason="", age=0.2, quiet_age=5.0)


def probe(**changed: object) -> Probe:
    usual = Probe(write=0.004, read=0.001, active=2, waiting=0, replica=0.0, answer=False)
    return dataclasses.replace(usual, **changed)  # type: ignore[arg-type]


def after(before: Pace, *found: Probe, quiet: bool = False, anew: bool = False) -> Pace:
    return pace.felt(before, list(found), BOUNDS, quiet=quiet, anew=anew)


def many(before: Pace, looks: int, **changed: object) -> Pace:
    for _ in range(looks):
        before = after(before, probe(**changed))
    return before


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"write": 0.006}, "the application's writes take 5"),
        ({"read": 0.003}, "the application's reads take 19"),
        ({"waiting": 9}, "the application has 9 sessions more that wait for locks"),
        ({"active": 30}, "the application has 28 sessions more that are at work at once"),
    ],
)
def test_it_slows_down_while_the_application_feels_it_and_says_what(changed: dict[str, object], reason: str) -> None:
    slowed = many(CALM, 40, **changed)
    assert slowed.share < 0.1
    assert slowed.reason.startswith(reason)
    again = many(slowed, 60)
    assert (again.share, again.reason) == (1.0, "")


def test_a_little_over_slows_a_little_and_within_the_bound_nothing() -> None:
    assert many(CALM, 50, write=0.0047).share == 1.0
    assert 0.5 < many(CALM, 12, write=0.0052).share < 1.0


def test_one_slow_look_is_none() -> None:
    assert after(CALM, probe(write=3.0)).share >= 0.5
    assert many(after(CALM, probe(write=3.0)), 25).share == 1.0


def test_what_nobody_feels_is_no_reason() -> None:
    quick = dataclasses.replace(CALM, quiet=Felt(write=0.0001, read=0.0001), now=Felt(write=0.0001, read=0.0001))
    assert many(quick, 40, write=0.0009, read=0.0009, active=0).share == 1.0
    # Who has sessions at work all the while feels it in each of many small statements.
    assert many(quick, 40, write=0.0009, read=0.0009, active=3).share < 0.1


@pytest.mark.parametrize(("changed", "reason"), [({"answer": True}, "own query"), ({"replica": 11.0}, "11 s behind")])
def test_what_says_stop_stops_at_once(changed: dict[str, object], reason: str) -> None:
    stopped = after(CALM, probe(**changed))
    assert stopped.share == 0
    assert reason in pace.stops(stopped)
    # Then everything rests, and what is quiet is looked at.
    assert after(stopped, probe(), quiet=True, anew=True).share == 0.25


def test_quiet_is_looked_at_anew_before_the_application_is_thought_slow_for_long() -> None:
    """Its own load may have grown since; then it is not for us to stand still for ever."""
    old = dataclasses.replace(CALM, quiet_age=31.0)
    rests = many(old, 10, write=0.02)
    assert rests.share == 0
    for _ in range(4):
        anew = after(rests, *[probe(write=0.02)] * 20, quiet=True, anew=True)
        assert anew.share == 0.25
        assert rests.quiet.write < anew.quiet.write <= 0.02
        rests = dataclasses.replace(anew, share=0.0)
    assert many(anew, 40, write=0.02).share == 1.0


@pytest.mark.parametrize(("active", "share"), [(0, 1.0), (2, 0.25)])
def test_a_first_look_is_what_quiet_is_and_beside_a_busy_application_work_begins_slowly(
    active: int, share: float
) -> None:
    never = Pace(now=Felt(), quiet=Felt(), share=0.3, reason="of another day", age=None, quiet_age=None)
    found = [probe(write=value, active=active) for value in (0.004, 0.9, 0.003, 0.004, 0.005)]
    first = after(never, *found, quiet=True, anew=True)
    assert (first.share, first.reason) == (share, "")
    assert 0.004 < first.quiet.write < 0.006, "one slow look is a moment in which nothing was done and no more"


@given(st.floats(0.05, 3.0))
def test_it_settles_where_the_bound_is_reached(slowdown: float) -> None:
    """An application that is slower by so much beside us at full speed, and in between by our share of the time."""
    now = CALM
    for _ in range(300):
        speed = (1 - now.share) + now.share / (1 + slowdown)
        now = after(now, probe(write=QUIET.write / speed))
    lost = slowdown / (1 + slowdown)
    assert now.share == pytest.approx(min(1.0, (1 - 1 / 1.2) / lost), rel=0.15)


def test_what_is_not_known_stands_still() -> None:
    assert pace.stops(dataclasses.replace(CALM, age=None)) == UNKNOWN
    assert pace.stops(dataclasses.replace(CALM, age=7.0)) == UNKNOWN
    refused = dataclasses.replace(CALM, age=7.0, share=0.0, reason=f"{UNKNOWN}: the query fails")
    assert pace.stops(refused) == refused.reason
    assert pace.stops(CALM) == ""


@given(share=st.floats(0, 1), worked=st.floats(0, 100))
def test_a_rest_is_bounded_and_none_at_full_pace(share: float, worked: float) -> None:
    assert 0 <= pace.rest(share, worked) <= 3.0
    assert pace.rest(1.0, worked) == 0


@given(records=st.integers(1, 10_000), seconds=st.floats(0, 100), most=st.integers(1, 10_000))
def test_a_step_holds_what_takes_a_quarter_of_a_second(records: int, seconds: float, most: int) -> None:
    size = pace.sized(records, seconds, most=most)
    assert 1 <= size <= min(most, 2 * records)
    if 1 < size < min(most, 2 * records):
        assert size * seconds / records <= 0.25 < (size + 1) * seconds / records


@given(st.lists(st.builds(probe, write=st.floats(0, 10), read=st.floats(0, 10), active=st.integers(0, 500),
                          waiting=st.integers(0, 500), replica=st.floats(0, 60), answer=st.booleans())))  # fmt: skip
def test_a_share_is_one_whatever_comes_and_less_has_a_reason(looks: list[Probe]) -> None:
    now = CALM
    for one in looks:
        now = after(now, one)
        assert 0 <= now.share <= 1
        assert now.share > 0 or now.reason
