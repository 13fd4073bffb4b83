"""Which checkpoint is meant, and which ones retention lets go."""

from __future__ import annotations

import datetime
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal9mig import errors
from hal9mig.engine.checkpoint import choose, retention
from hal9mig.engine.checkpoint.manifest import Manifest
from tests.unit.manifests import NOON, manifest

SESSIONS, NEURONS = "user-sessions", "neuron-states"
SCOPES = ((SESSIONS,), (NEURONS,), (SESSIONS, NEURONS))


def at(hours: float) -> datetime.datetime:
    return NOON + datetime.timedelta(hours=hours)


class TestByName:
    """A name, the beginning of one, and ``latest``."""

    ALL = (manifest("pre", hours=2), manifest("pre-1", hours=1), manifest("nightly", hours=3, kind="marker"))

    @pytest.mark.parametrize(
        ("text", "name"),
        [("pre", "pre"), ("pre-", "pre-1"), ("n", "nightly"), ("nightly", "nightly"), ("latest", "nightly")],
    )
    def test_a_name_or_its_beginning_is_found(self, text: str, name: str) -> None:
        assert choose.find(self.ALL, text).name == name

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("p", ["beginning of several", "pre, pre-1"]),
            ("x", ["There is no checkpoint 'x'", "pre, pre-1, nightly"]),
            ("", ["There is no checkpoint ''"]),
            ("PRE", ["There is no checkpoint 'PRE'"]),
            ("nightly-1", ["There is no checkpoint"]),
        ],
    )
    def test_what_is_not_found_says_what_there_is(self, text: str, words: list[str]) -> None:
        with pytest.raises(errors.NotFound) as caught:
            choose.find(self.ALL, text)
        assert all(word in caught.value.message for word in words)
        assert caught.value.exit_code == errors.EXIT_REFUSED

    @pytest.mark.parametrize("text", ["latest", "one"])
    def test_there_is_none(self, text: str) -> None:
        with pytest.raises(errors.NotFound, match="no checkpoint"):
            choose.find([], text)

    def test_not_all_of_many_are_listed(self) -> None:
        with pytest.raises(errors.NotFound, match="n7 and 12 more"):
            choose.find([manifest(f"n{number}") for number in range(20)], "x")


class TestForRollback:
    """``latest`` is the newest that a rollback makes sense to."""

    def test_the_newest_from_before_the_migration(self) -> None:
        every = [manifest("old", hours=0), manifest("before", hours=1), manifest("after", hours=3)]
        assert choose.for_rollback(every, "latest", [SESSIONS], {SESSIONS: at(2)}).name == "before"
        assert choose.for_rollback(every, "latest", [SESSIONS], {SESSIONS: None}).name == "after"
        assert choose.for_rollback(every, "latest", [SESSIONS], {}).name == "after"

    def test_of_the_same_moment_is_not_before(self) -> None:
        with pytest.raises(errors.NotFound, match="from before 2026-03-01 12:00:00 UTC"):
            choose.for_rollback([manifest()], "latest", [SESSIONS], {SESSIONS: NOON})

    def test_before_the_migration_of_each_category(self) -> None:
        both = (SESSIONS, NEURONS)
        every = [manifest(f"at-{hour}", hours=hour, scope=both) for hour in range(4)]
        found = choose.for_rollback(every, "latest", both, {SESSIONS: at(2.5), NEURONS: at(1.5)})
        assert found.name == "at-1"

    @pytest.mark.parametrize("changes", [{"kind": "marker"}, {"verified": False}, {"label": "safety"}, {"scope": ()}])
    def test_what_is_passed_over(self, changes: dict[str, object]) -> None:
        every = [manifest("good"), manifest("other", hours=1, **changes)]
        assert choose.for_rollback(every, "latest", [SESSIONS], {}).name == "good"
        with pytest.raises(errors.NotFound, match="no verified full checkpoint of user-sessions"):
            choose.for_rollback(every[1:], "latest", [SESSIONS], {})

    @pytest.mark.parametrize("changes", [{"verified": False}, {"label": "safety"}, {"hours": 9}])
    def test_by_name_anything_that_holds_the_data(self, changes: dict[str, object]) -> None:
        assert choose.for_rollback([manifest(**changes)], "on", [SESSIONS], {SESSIONS: at(2)}).name == "one"  # type: ignore[arg-type]

    def test_a_marker_cannot_be_gone_back_to(self) -> None:
        with pytest.raises(errors.NotRestorable, match="one is a marker"):
            choose.for_rollback([manifest(kind="marker")], "one", [SESSIONS], {})

    def test_a_category_that_it_does_not_hold(self) -> None:
        with pytest.raises(errors.NotRestorable, match="holds user-sessions, and not neuron-states") as caught:
            choose.for_rollback([manifest()], "one", [SESSIONS, NEURONS], {})
        assert caught.value.hint == "add --category user-sessions"


class TestForRecovery:
    """The newest that can be relied on, where none is named."""

    def test_the_newest_is_taken(self) -> None:
        every = [
            manifest("old"), manifest("good", hours=1), manifest("marker", hours=2, kind="marker"),
            manifest("unverified", hours=3, verified=False), manifest("safety", hours=4, label="safety"),
        ]  # fmt: skip
        assert choose.for_recovery(every, "latest", [SESSIONS]).name == "good"
        with pytest.raises(errors.NotFound, match="no verified full checkpoint of user-sessions to recover from"):
            choose.for_recovery(every[2:], "latest", [SESSIONS])

    def test_the_newest_that_holds_what_is_wanted(self) -> None:
        """In the runbook's order the neurons' own checkpoint is newer than that of everything."""
        every = [manifest("all", scope=(SESSIONS, NEURONS)), manifest("neurons", hours=1, scope=(NEURONS,))]
        assert choose.for_recovery(every, "latest", [SESSIONS, NEURONS]).name == "all"
        assert choose.for_recovery(every, "latest", [NEURONS]).name == "neurons"
        with pytest.raises(errors.NotRestorable, match="and not user-sessions"):
            choose.for_recovery(every, "neurons", [SESSIONS])

    def test_one_that_is_named_is_taken(self) -> None:
        every = [manifest("unverified", verified=False), manifest("marker", kind="marker")]
        assert choose.for_recovery(every, "unv", ()).name == "unverified"
        with pytest.raises(errors.NotRestorable):
            choose.for_recovery(every, "marker", ())


class TestRetention:
    """What goes, and what never does."""

    def test_the_oldest_go(self) -> None:
        every = [manifest(f"at-{hour}", hours=hour) for hour in (3, 1, 0, 2)]
        assert retention.prunable(every, 2) == ["at-1", "at-0"]
        assert retention.prunable(every, 4) == []
        assert retention.prunable(every, 9) == []
        assert retention.prunable([], 1) == []

    @pytest.mark.parametrize("keep", [0, -1])
    def test_all_are_kept(self, keep: int) -> None:
        assert retention.prunable([manifest(f"at-{hour}", hours=hour) for hour in range(9)], keep) == []

    def test_markers_go_with_their_time(self) -> None:
        every = [
            manifest("marker-0", hours=0, kind="marker"), manifest("full-1", hours=1),
            manifest("marker-2", hours=2, kind="marker"), manifest("full-3", hours=3),
            manifest("marker-4", hours=4, kind="marker"),
        ]  # fmt: skip
        assert retention.prunable(every, 1) == ["marker-2", "full-1", "marker-0"]
        assert retention.prunable(every, 2) == ["marker-0"]
        assert retention.prunable(every, 3) == []

    def test_the_last_good_one_of_a_category_stays(self) -> None:
        every = [
            manifest("both", hours=0, scope=(SESSIONS, NEURONS)),
            manifest("unverified", hours=1, scope=(NEURONS,), verified=False),
            *(manifest(f"at-{hour}", hours=hour) for hour in (2, 3, 4)),
        ]
        assert retention.prunable(every, 1) == ["at-3", "at-2", "unverified"]

    def test_the_last_good_one_of_several_together_stays(self) -> None:
        every = [
            manifest("both", scope=(SESSIONS, NEURONS)), manifest("sessions", hours=1),
            manifest("neurons", hours=2, scope=(NEURONS,)), manifest("again", hours=3),
        ]  # fmt: skip
        assert retention.prunable(every, 1) == ["sessions"]

    def test_the_one_to_go_back_to_stays(self) -> None:
        """While a migration goes on for longer than retention reaches, a rollback still has where to go."""
        every = [manifest(f"at-{hour}", hours=hour) for hour in range(6)]
        assert retention.prunable(every, 2, {SESSIONS: at(1.5)}) == ["at-3", "at-2", "at-0"]
        left = [every[hour] for hour in (1, 4, 5)]
        assert choose.for_rollback(left, "latest", [SESSIONS], {SESSIONS: at(1.5)}).name == "at-1"

    def test_taking_one_for_safety_takes_none_away(self) -> None:
        """The next step is to restore another one, which may be the oldest."""
        every = [manifest("at-0"), manifest("at-1", hours=1), manifest("before-rollback", hours=2, label="safety")]
        assert retention.prunable(every, 1) == []

    def test_ones_for_safety_take_no_others_place(self) -> None:
        every = [
            manifest("pre"), *(manifest(f"safe-{hour}", hours=hour, label="safety") for hour in (1, 2, 3)),
            manifest("new", hours=4, verified=False),
        ]  # fmt: skip
        assert retention.prunable(every, 2) == ["safe-1"]
        # As old as "pre", which stays as the last verified one, and older than what is kept for its age.
        assert retention.prunable(every, 1) == ["safe-3", "safe-2", "safe-1"]

    @given(
        st.lists(
            st.builds(
                dict,
                kind=st.sampled_from(["full", "marker"]), verified=st.booleans(),
                label=st.sampled_from(["", "safety", "pre-migration"]),
                scope=st.sampled_from(SCOPES),
            ),
            max_size=12,
        ),
        st.integers(1, 4), st.integers(0, 12), st.randoms(use_true_random=False),
    )  # fmt: skip
    def test_what_can_be_gone_back_to_can_be_afterwards(
        self, every: list[dict[str, object]], keep, began, shuffled
    ) -> None:  # type: ignore[no-untyped-def]
        """Whatever there is: retention changes no answer to ``latest``, and keeps as many as it should."""
        made = [manifest(f"n{hour}", hours=hour, **one) for hour, one in enumerate(every)]  # type: ignore[arg-type]
        shuffled.shuffle(made)
        current = {SESSIONS: at(began - 0.5)}
        gone = retention.prunable(made, keep, current)
        left = [one for one in made if one.name not in gone]
        for slugs, moments in itertools.product(SCOPES, [{}, current]):
            assert chosen(left, slugs, moments) == chosen(made, slugs, moments)
        full = [one for one in made if one.restorable and one.label != "safety"]
        assert len([one for one in left if one in full]) >= min(keep, len(full))
        # Done again, it finds nothing.
        assert retention.prunable(left, keep, current) == []


def chosen(manifests: list[Manifest], slugs: tuple[str, ...], current: dict[str, datetime.datetime]) -> str | None:
    """Return what a rollback to ``latest`` would take."""
    try:
        return choose.for_rollback(manifests, "latest", slugs, dict(current)).name
    except errors.NotFound:
        return None
