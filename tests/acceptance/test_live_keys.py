"""Deletes, keys that begin again, and unique values that pass on, each where it meets the copy or the applier."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any
from unittest import mock

import psycopg2
import pytest

from hal9mig import model
from hal9mig.engine.transfer import applier, copier, exchange, follower
from hal9mig.ledger import quarantine
from hal9mig.stores import capture
from tests.support import migration_driver
from tests.support.live_state import SESSIONS, World

KEY = "00000000-0000-4000-8000-{:012d}".format


def assert_nothing_held(world: World) -> None:
    """Assert that no record is in quarantine."""
    with world.system.ledger.begin() as opened:
        assert not quarantine.counts(opened)


class TestDeletesAndUniqueValues:
    """In this process, so that each meets the copy where it hurts."""

    @pytest.fixture(autouse=True)
    def few(self, world: World) -> None:
        world.only(SESSIONS)
        world.configure(batch_size="4", checkpoint_interval="2")
        with migration_driver.connected(world.stores.flat_url) as cursor:
            for number in range(12):
                self.insert(cursor, number, 50)
        world.switch.enable()

    @staticmethod
    def insert(cursor: Any, number: int, version: int) -> None:
        cursor.execute(
            'INSERT INTO flat.user_sessions SELECT %s, %s, %s, NULL, NULL, true, \'{"a": 1, "b": 2}\', now(), now(), '
            "NULL, %s",
            (KEY(number), f"user {number % 3}", f"token {number}", version),
        )

    @staticmethod
    def copying(world: World, number: int, act: Callable[[], object]) -> None:
        """Copy everything, and do something after the record of a number was read and before it is written."""
        original, transform, done = copier.Copier._write, world.system.transform(SESSIONS), []

        def late(work: copier.Copier, step: Any) -> None:
            if not done and (KEY(number),) in map(transform.key, step.records):
                done.append(act())
            original(work, step)

        with mock.patch.object(copier.Copier, "_write", late):
            world.migrate()
        assert done

    def ends(self, world: World, *, records: int) -> None:
        world.drain()
        world.assert_equal()
        assert world.hier_sql("SELECT count(*) FROM hier.sessions") == [(records,)]
        assert_nothing_held(world)

    @pytest.mark.parametrize("applied", [True, False])
    def test_deleted_before_during_and_after_the_copy(self, world: World, applied: bool) -> None:
        def delete(*numbers: int) -> None:
            world.flat_sql("DELETE FROM flat.user_sessions WHERE session_id = ANY(%s::uuid[])", [*map(KEY, numbers)])
            if applied:
                world.drain()

        delete(0, 1)
        self.copying(world, 6, lambda: delete(2, 6, 7, 10))
        delete(11)
        self.ends(world, records=5)

    def test_deleted_after_the_copys_look_for_marks(self, world: World) -> None:
        """The row that was copied is not to be seen yet, and would be there when the copy commits."""
        marked, applied = copier.Copier._marked, []

        def delete() -> None:
            flat, hier = world.system.flat(), world.system.hier()
            with contextlib.closing(flat), contextlib.closing(hier):
                applied.append(follower.work(world.system, flat, hier, lane=0, lanes=1))

        def late(work: copier.Copier, records: Any) -> Any:
            found = marked(work, records)
            if not threads and (KEY(6),) in map(world.system.transform(SESSIONS).key, records):
                world.flat_sql("DELETE FROM flat.user_sessions WHERE session_id = %s", KEY(6))
                threads.append(threading.Thread(target=delete, daemon=True))
                threads[0].start()
                waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                migration_driver.until(lambda: applied or world.hier_sql(waiting), "an applier that waits or ends")
            return found

        threads: list[threading.Thread] = []
        with mock.patch.object(copier.Copier, "_marked", late):
            world.migrate()
        threads[0].join(60)
        self.ends(world, records=11)

    @pytest.mark.parametrize("applied", [True, False])
    def test_deleted_by_cascade(self, world: World, applied: bool) -> None:
        """The application never named the sessions that go."""
        world.flat_sql(
            "CREATE TABLE flat.people (user_id text PRIMARY KEY); "
            "INSERT INTO flat.people SELECT DISTINCT user_id FROM flat.user_sessions; "
            "ALTER TABLE flat.user_sessions ADD FOREIGN KEY (user_id) REFERENCES flat.people ON DELETE CASCADE"
        )

        def leave() -> None:
            world.flat_sql("DELETE FROM flat.people WHERE user_id = 'user 1'")
            if applied:
                world.drain()

        self.copying(world, 4, leave)
        self.ends(world, records=8)

    @pytest.mark.parametrize("applied", [True, False])
    def test_deleted_and_begun_again_with_a_lower_version(self, world: World, applied: bool) -> None:
        def again() -> None:
            with migration_driver.connected(world.stores.flat_url) as cursor:
                for number in (1, 6, 11):
                    cursor.execute("DELETE FROM flat.user_sessions WHERE session_id = %s", (KEY(number),))
                    self.insert(cursor, number, 1)
            if applied:
                world.drain()

        self.copying(world, 6, again)
        again()
        self.ends(world, records=12)

    @pytest.mark.parametrize("applied", [True, False])
    @pytest.mark.parametrize("other", [5, 9], ids=["in the step", "in another batch"])
    def test_unique_values_swapped(self, world: World, other: int, applied: bool) -> None:
        def swap() -> None:
            self.exchange(world, 4, other)
            if applied:
                world.drain()

        self.copying(world, 4, swap)
        assert world.flat_sql("SELECT token_hash FROM flat.user_sessions WHERE session_id = %s", KEY(4)) == [
            (f"token {other}",)
        ]
        self.ends(world, records=12)
        # Once more with nothing to copy, round in a ring of three, and one that goes and leaves its value.
        world.flat_sql(
            "UPDATE flat.user_sessions SET token_hash = 'away ' || token_hash; "
            "UPDATE flat.user_sessions SET token_hash = 'token ' || (right(session_id::text, 2)::int + 1) % 12"
        )
        world.drain()
        world.flat_sql(
            f"DELETE FROM flat.user_sessions WHERE session_id = '{KEY(0)}'; "
            f"UPDATE flat.user_sessions SET token_hash = 'token 1' WHERE session_id = '{KEY(7)}'"
        )
        self.ends(world, records=11)

    def test_a_chain_of_values_longer_than_what_one_transaction_brings(self, world: World) -> None:
        """Each needs the value of the next, through more records than are brought along for one."""
        world.migrate()
        self.more(world, 400)
        world.drain()
        self.shift(world.flat_sql, "flat.user_sessions")
        with mock.patch.object(follower, "CHUNK", 7):
            self.in_lanes(world)
        self.ends(world, records=412)

    def test_the_same_chain_on_the_way_back(self, world: World) -> None:
        self.more(world, 400)
        world.migrate()
        world.drain()
        world.pretend_worker()
        world.clean()
        world.leave()
        self.shift(world.hier_sql, "hier.sessions")
        with mock.patch.object(follower, "CHUNK", 7):
            self.in_lanes(world)
        world.switch.return_to_flat()
        world.assert_equal()

    @staticmethod
    def more(world: World, count: int) -> None:
        world.flat_sql(
            "INSERT INTO flat.user_sessions SELECT ('00000000-0000-4000-9000-' || lpad(n::text, 12, '0'))::uuid, "
            "'user', 'more ' || n, NULL, NULL, true, '{}', now(), now(), NULL, 1 FROM generate_series(1, %s) n",
            count,
        )

    @staticmethod
    def shift(sql: Callable[..., object], table: str) -> None:
        """Give each record the value of the next, in the order of their keys, and the last that of the first."""
        sql(
            f"CREATE TEMP TABLE next AS SELECT session_id, coalesce(lead(token_hash) OVER w, first_value(token_hash) "
            f"OVER w) AS token FROM {table} WINDOW w AS (ORDER BY session_id); "
            f"UPDATE {table} SET token_hash = 'away ' || token_hash; "
            f"UPDATE {table} t SET token_hash = n.token FROM next n WHERE n.session_id = t.session_id"
        )

    @staticmethod
    def in_lanes(world: World) -> None:
        """Follow in two lanes, in turn, as long as anything waits."""
        flat, hier = world.system.flat(), world.system.hier()
        while world.waiting() + world.waiting(model.StoreName.HIERARCHICAL):
            for lane in (0, 1):
                follower.work(world.system, flat, hier, lane=lane, lanes=2)
        flat.close()
        hier.close()

    def test_a_value_that_is_taken_only_after_the_look_for_its_holder(self, world: World) -> None:
        """By somebody who applies another record, read while that still had the value, and commits after the look."""
        world.migrate()
        for number, token in ((5, "away"), (4, "token 5")):
            world.flat_sql("UPDATE flat.user_sessions SET token_hash = %s WHERE session_id = %s", token, KEY(number))
        # Whose line comes first: what has the value now is brought before what had it.
        world.flat_sql("DELETE FROM hal9cap.journal WHERE key = %s", [KEY(5)])
        world.flat_sql("INSERT INTO hal9cap.journal (category, key) VALUES (%s, %s)", SESSIONS, [KEY(5)])
        original, looks = exchange.holders, []

        def too_early(*args: Any) -> list[model.Key]:
            found = original(*args)
            looks.append(found)
            return found if len(looks) > 1 else []

        with mock.patch.object(exchange, "holders", too_early), mock.patch.object(follower, "CHUNK", 1):
            world.drain()
        assert looks[0] == [(KEY(5),)]
        self.ends(world, records=12)

    @pytest.mark.parametrize("waits", [True, False], ids=["its holder waits", "its holder does not"])
    def test_a_value_that_goes_back_to_its_holder_meanwhile(self, world: World, waits: bool) -> None:
        """After the record was read that has it for a moment: both are as they were, and neither is to blame."""
        world.migrate()
        self.exchange(world, 4, 5)
        read, waiting = applier._Target.read, applier._Target.waiting
        reads = []

        def slowly(target: Any, keys: Any) -> Any:
            found = read(target, keys)
            reads.append(keys)
            if len(reads) == 1:
                self.exchange(world, 4, 5)
            return found

        with (
            mock.patch.object(exchange, "_MOST_GROWTHS", 0),
            mock.patch.object(applier._Target, "read", slowly),
            mock.patch.object(applier._Target, "waiting", waiting if waits else lambda *_: set()),
            contextlib.closing(world.system.flat()) as flat,
        ):
            transform = world.system.transform(SESSIONS)
            assert not applier.apply(world.system.ledger, flat, transform, [(KEY(4),)]).rejected
        assert len(reads) > 1
        # Not only after the lines of the journal that are left: its holder's may be about to be pruned.
        assert world.hier_sql("SELECT count(*) FROM hier.sessions") == [(12,)]
        self.ends(world, records=12)

    @staticmethod
    def exchange(world: World, one: int, other: int) -> None:
        """Exchange the values of two records."""
        sql = "SELECT session_id::text, token_hash FROM flat.user_sessions WHERE session_id IN (%s, %s)"
        tokens = dict(world.flat_sql(sql, KEY(one), KEY(other)))
        with migration_driver.connected(world.stores.flat_url) as cursor:
            for key, token in ((one, "away"), (other, tokens[KEY(one)]), (one, tokens[KEY(other)])):
                cursor.execute("UPDATE flat.user_sessions SET token_hash = %s WHERE session_id = %s", (token, KEY(key)))

    def test_stale_rows_in_the_target(self, world: World) -> None:
        """Left by a copy from before capture: older, gone at the source, and holding values of others by now."""
        world.migrate()
        world.switch.return_to_flat()
        world.flat_sql(
            f"{capture.APPLY}; DELETE FROM flat.user_sessions WHERE session_id IN ('{KEY(0)}', '{KEY(1)}'); "
            f"UPDATE flat.user_sessions SET token_hash = 'token 0', version = 51 WHERE session_id = '{KEY(8)}'; "
            f"UPDATE flat.user_sessions SET user_agent = 'newer', version = 51 WHERE session_id = '{KEY(9)}'"
        )
        world.switch.enable()
        world.migrate()
        world.pass_over()
        world.drain()
        world.assert_equal()
        assert world.hier_sql("SELECT count(*) FROM hier.sessions") == [(10,)]

    def test_a_transaction_that_commits_late_is_not_passed_over(self, world: World) -> None:
        """It journals first; what was journalled after it has long been applied when it commits."""
        world.migrate()
        with contextlib.closing(psycopg2.connect(world.stores.flat_url)) as late, late.cursor() as cursor:
            cursor.execute("UPDATE flat.user_sessions SET user_agent = 'late' WHERE session_id = %s", (KEY(3),))
            world.flat_sql("UPDATE flat.user_sessions SET user_agent = 'early' WHERE session_id = %s", KEY(4))
            world.drain()
            assert world.hier_sql("SELECT user_agent FROM hier.sessions WHERE user_agent IS NOT NULL") == [("early",)]
            late.commit()
        self.ends(world, records=12)
        assert world.hier_sql("SELECT count(*) FROM hier.sessions WHERE user_agent = 'late'") == [(1,)]
