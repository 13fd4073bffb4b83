"""The journal: what waits is bounded by the records that were written, not by the writes, and goes once applied."""

from __future__ import annotations

import pytest

from hal9mig.engine.reconcile import alarm_rules
from hal9mig.engine.transfer import follower
from hal9mig.ledger import tuning
from hal9mig.stores import capture
from tests.support.live_state import SESSIONS, World


@pytest.fixture
def world(world: World) -> World:
    world.only(SESSIONS)
    world.load(0.0002, SESSIONS)
    return world


def update(world: World, times: int, *, but: str = "") -> None:
    for _ in range(times):
        world.flat_sql("UPDATE flat.user_sessions SET version = version + 1 WHERE session_id::text <> %s", but)


def test_it_is_bounded_while_nobody_applies(world: World) -> None:
    world.switch.enable()
    world.migrate()
    world.configure(journal_alarm="300")
    with world.system.ledger.begin() as paused:
        assert follower.lane_lock(paused, 0)
        assert world.follow() is None
        update(world, 10)
        assert world.waiting() == 200
        with world.system.ledger.begin() as opened:
            tuned = tuning.reconciliation(opened)
        source = world.desk.flat("test")
        assert alarm_rules.journal(world.system, source, tuned).records == 20
    world.drain()
    world.assert_equal()


def test_it_is_bounded_in_flat_only(world: World) -> None:
    """After a way back capture goes on, so that nothing has to be copied again."""
    world.prepare()
    world.switch.return_to_flat()
    update(world, 30)
    assert world.waiting() == 600
    assert follower.Caller(world.system).call(world.desk.flat("test"), world.desk.hier("test")) == 0
    assert world.waiting() == 20
    world.switch.enable()
    world.drain()
    world.assert_equal()


def test_what_came_while_it_was_applied_and_shortened_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An applier prunes the lines that it saw; a line that stands for them and for a later one is another."""
    world.switch.enable()
    world.migrate()
    update(world, 1)
    source = world.desk.flat("test")
    one = capture.entries(source, [SESSIONS], limit=1)[0].key[0]
    update(world, 1, but=one)
    seen = capture.entries(source, [SESSIONS], limit=100)
    with monkeypatch.context() as patch:
        patch.setattr(capture, "prune", lambda *_: None)
        world.follow()
    update(world, 1, but=one)
    assert capture.compact(source) == 19 * 2
    capture.prune(source, seen)
    left = capture.entries(source, [SESSIONS], limit=100)
    assert [len(entry.ids) for entry in left] == [1] * 19
    assert one not in {entry.key[0] for entry in left}
    world.drain()
    world.assert_equal()


def test_it_is_shortened_while_somebody_prunes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for nobody who may wait for it, part by part."""
    monkeypatch.setattr(capture, "_PART", 25)
    world.switch.enable()
    world.migrate()
    update(world, 5)
    source, pruning = world.desk.flat("test"), world.desk.flat("pruning")
    with pruning, pruning.cursor() as cursor:
        cursor.execute("DELETE FROM hal9cap.journal WHERE id IN (SELECT id FROM hal9cap.journal ORDER BY id LIMIT 7)")
        assert capture.compact(source) == 20 * 5 - 7 - 20
    assert world.waiting() == 20
    assert capture.compact(source) == 0
    world.drain()
    world.assert_equal()


def test_few_keys_that_are_written_often_are_applied_once(world: World) -> None:
    """All rows of a hot key are taken together, in the journal's order, and no more keys than asked for."""
    world.switch.enable()
    update(world, 100)
    source = world.desk.flat("test")
    (few, every) = (capture.entries(source, [SESSIONS], limit=limit) for limit in (5, 100))
    assert len(few) == 5
    assert len(every) == 20
    assert sum(len(entry.ids) for entry in every) == world.waiting() == 2000
    assert {entry.key for entry in every[:5]} == {entry.key for entry in few}
    assert world.follow() == follower.Followed(written=20, deleted=0, rejected=0, emptied=True)
    world.assert_equal()
