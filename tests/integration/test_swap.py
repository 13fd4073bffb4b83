"""The swap on real servers: what readers see meanwhile, what stands in its way, and where it may be killed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import psycopg2
import psycopg2.errors
import pytest

from hal9mig import errors
from hal9mig.embedded.postgres import Cluster
from hal9mig.stores import connection, shadow, swap
from tests.support import shadow_tables
from tests.support.migration_driver import until
from tests.support.shadow_tables import PATIENCE, World, begun, opened

TWO = """
CREATE SCHEMA app;
CREATE TABLE app.a (id integer PRIMARY KEY, n integer NOT NULL);
CREATE TABLE app.b (id integer PRIMARY KEY, a integer REFERENCES app.a, n integer NOT NULL);
INSERT INTO app.a SELECT n, 0 FROM generate_series(1, 100) n;
INSERT INTO app.b SELECT n, n, 0 FROM generate_series(1, 100) n;
"""
NEW = {
    "app.a": "SELECT n, 1 FROM generate_series(1, 200) n",
    "app.b": "SELECT n, n, 1 FROM generate_series(1, 200) n",
}


@pytest.fixture
def world(flat_cluster: Cluster) -> Iterator[World]:
    """A database with nothing in it."""
    with shadow_tables.database(flat_cluster) as made:
        yield made


@pytest.fixture
def two(world: World) -> World:
    """A database with two tables, each with 100 rows."""
    world.execute(TWO)
    return world


@contextlib.contextmanager
def loaded(world: World, *tables: str) -> Iterator[tuple[psycopg2.extensions.cursor, list]]:
    """Give the cursor of a transaction in which these tables may be swapped, and the tables."""
    with contextlib.closing(connection.connect(world.url, application_name="test restore")) as made:
        relations = [world.relation(table, "id") for table in tables]
        world.load(made, relations, NEW)
        with made.cursor() as cursor:
            yield cursor, relations


def state(world: World) -> tuple[object, ...]:
    """Return which rows two tables hold."""
    (row,) = world.ask("SELECT (SELECT sum(n) FROM app.a), (SELECT sum(n) FROM app.b)")
    return row


OLD_STATE, NEW_STATE = (0, 0), (200, 200)


class TestReaders:
    """Whoever reads sees the old rows or the new ones."""

    @pytest.mark.parametrize("view", [False, True])
    def test_never_nothing_and_never_both(self, two: World, view: bool) -> None:
        """Sessions that read all the time: plainly, through a prepared plan, and two tables under one snapshot.

        Under one snapshot a table that is filled anew stays as it was, while one that is replaced does not.
        """
        if view:
            two.execute("CREATE VIEW app.v AS SELECT * FROM app.a")
            two.execute("CREATE VIEW app.w AS SELECT * FROM app.b")
        seen: list[set[object]] = []
        over = threading.Event()
        faults: list[BaseException] = []

        def read(statement: str, isolation: str) -> None:
            found: set[object] = set()
            seen.append(found)
            try:
                with begun(two.url) as cursor:
                    cursor.execute("PREPARE counted AS SELECT count(*), sum(n) FROM app.a")
                    cursor.connection.commit()
                    while not over.is_set():
                        cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
                        cursor.execute(statement)
                        one = cursor.fetchone()
                        if isolation == "REPEATABLE READ":
                            cursor.execute("SELECT count(*), sum(n) FROM app.b")
                            assert cursor.fetchone() == one
                        cursor.connection.commit()
                        found.add(one)
            except BaseException as error:
                faults.append(error)

        kinds = [
            ("SELECT count(*), sum(n) FROM app.a", "READ COMMITTED"),
            ("EXECUTE counted", "READ COMMITTED"),
            ("SELECT count(*), sum(n) FROM app.a", "REPEATABLE READ"),
        ]
        with loaded(two, "app.a", "app.b") as (cursor, relations):
            threads = [threading.Thread(target=read, args=kind) for kind in kinds]
            for thread in threads:
                thread.start()
            until(lambda: len(seen) == len(kinds) and all(seen), "a reader's first look")
            swap.swap(cursor, relations, lock_timeout=PATIENCE)
            cursor.connection.commit()
            until(lambda: faults or all((200, 200) in found for found in seen), "the new rows")
            over.set()
            for thread in threads:
                thread.join(20)
        assert faults == []
        assert seen == [{(100, 0), (200, 200)}] * len(kinds)

    def test_who_has_read_keeps_what_it_read_and_is_named(self, two: World) -> None:
        """The swap waits for it, gives up, and has changed nothing."""
        with loaded(two, "app.a", "app.b") as (cursor, relations), begun(two.url) as reader:
            reader.execute("SET application_name = 'a long report'; SELECT pg_backend_pid() FROM app.b")
            (pid,) = reader.fetchone()
            with pytest.raises(errors.WritersInFlight, match=rf"pid {pid} \(a long report, idle in transaction"):
                swap.swap(cursor, relations, lock_timeout=0.4)
            cursor.connection.rollback()
            assert state(two) == OLD_STATE
            assert not shadow.swapped(cursor.connection)
            reader.connection.rollback()
            swap.swap(cursor, relations, lock_timeout=PATIENCE)
            cursor.connection.commit()
        assert state(two) == NEW_STATE

    def test_nobody_is_ended_as_in_a_deadlock(self, two: World) -> None:
        """A transaction that reads the tables the other way round goes on, for longer than deadlocks are looked for."""
        done: list[object] = []
        with loaded(two, "app.a", "app.b") as (cursor, relations), begun(two.url) as reader:
            reader.execute("SELECT sum(n) FROM app.b")
            (first,) = reader.fetchone()

            def other() -> None:
                # Waits for the swap, which waits for what this transaction has read.
                until(lambda: two.ask("SELECT 1 FROM pg_locks WHERE NOT granted"), "the swap waits")
                reader.execute("SELECT pg_sleep(1.5), sum(n) FROM app.a")
                done.append((first, reader.fetchone()[1]))
                reader.connection.commit()

            thread = threading.Thread(target=other)
            thread.start()
            swap.swap(cursor, relations, lock_timeout=20)
            cursor.connection.commit()
            thread.join(20)
        assert done == [OLD_STATE]
        assert state(two) == NEW_STATE

    def test_readers_get_on_while_the_swap_waits(self, two: World) -> None:
        """It lets go of its place in the queue again and again, so one long report does not stop everybody."""
        stop = threading.Event()
        reads = []

        def read() -> None:
            with opened(two.url) as cursor:
                while not stop.is_set():
                    cursor.execute("SELECT 1 FROM app.a, app.b LIMIT 1")
                    reads.append(cursor.fetchone())

        with loaded(two, "app.a", "app.b") as (cursor, relations), begun(two.url) as report:
            report.execute("SELECT count(*) FROM app.b")
            thread = threading.Thread(target=read)
            until(lambda: not thread.is_alive() and thread.start() is None, "the reader")
            with pytest.raises(errors.WritersInFlight):
                swap.swap(cursor, relations, lock_timeout=3)
            stop.set()
            cursor.connection.rollback()
            thread.join(10)
        assert len(reads) > 10

    def test_a_vacuum_is_waited_for(self, two: World) -> None:
        """And for longer than a try for the locks lasts, so that the server ends an autovacuum."""
        with loaded(two, "app.a", "app.b") as (cursor, relations), begun(two.url) as vacuum:
            vacuum.execute("LOCK TABLE app.a IN SHARE UPDATE EXCLUSIVE MODE")
            timer = threading.Timer(1.5, vacuum.connection.rollback)
            timer.start()
            swap.swap(cursor, relations, lock_timeout=20)
            cursor.connection.commit()
            timer.join()
        assert state(two) == NEW_STATE


class TestCrashes:
    """Killed at any moment, it leaves the old tables or the new."""

    def test_in_the_middle(self, two: World) -> None:
        """The old tables are being dropped, which waits for a table that one of them refers to."""
        name, url = two.login("restorer")
        two.execute("CREATE TABLE app.o (id integer PRIMARY KEY); INSERT INTO app.o VALUES (1)")
        two.execute("ALTER TABLE app.b ADD COLUMN o integer DEFAULT 1 REFERENCES app.o")
        two.execute(
            f"GRANT CREATE ON DATABASE {two.name} TO {name}; GRANT ALL ON SCHEMA app TO {name};"
            f"GRANT REFERENCES, SELECT ON app.o TO {name};"
            f"ALTER TABLE app.a OWNER TO {name}; ALTER TABLE app.b OWNER TO {name}; GRANT {name} TO hal9",
            admin=True,
        )
        before = two.dump()
        rows = {**NEW, "app.b": "SELECT n, n, 1, 1 FROM generate_series(1, 200) n"}
        relations = [two.relation("app.a", "id"), two.relation("app.b", "id")]
        with contextlib.closing(connection.connect(url, application_name="test restore")) as made:
            two.load(made, relations, rows)
            faults: list[BaseException] = []

            def run() -> None:
                try:
                    with made.cursor() as cursor:
                        swap.swap(cursor, relations, lock_timeout=60)
                except BaseException as error:
                    faults.append(error)

            with begun(two.url) as writer:
                writer.execute("INSERT INTO app.o VALUES (2)")
                thread = threading.Thread(target=run)
                thread.start()
                waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'app.o'::regclass"
                until(lambda: faults or two.ask(waiting), "the swap waits for the other table")
                two.execute(f"SELECT pg_terminate_backend({made.info.backend_pid})", admin=True)
                thread.join(20)
        assert len(faults) == 1
        assert isinstance(faults[0], psycopg2.OperationalError)
        assert state(two) == OLD_STATE
        with opened(two.url) as cursor:
            assert not shadow.swapped(cursor.connection)
        # It goes on where it was, with the same shadows.
        with contextlib.closing(connection.connect(url, application_name="test restore")) as made:
            with made.cursor() as cursor:
                swap.swap(cursor, relations, lock_timeout=PATIENCE)
            made.commit()
        assert state(two) == NEW_STATE
        assert two.dump() == before

    @pytest.mark.parametrize("how", ["terminated", "rolled back", "closed"])
    def test_before_the_end(self, two: World, how: str) -> None:
        """All is done and nothing is committed."""
        before = two.dump()
        with loaded(two, "app.a", "app.b") as (cursor, relations):
            shadows = two.dump()
            swap.swap(cursor, relations, lock_timeout=PATIENCE)
            if how == "terminated":
                two.execute(f"SELECT pg_terminate_backend({cursor.connection.info.backend_pid})", admin=True)
                until(lambda: not two.ask("SELECT 1 FROM pg_locks WHERE relation = 'app.a'::regclass"), "its end")
            elif how == "rolled back":
                cursor.connection.rollback()
            else:
                cursor.connection.close()
                until(lambda: not two.ask("SELECT 1 FROM pg_locks WHERE relation = 'app.a'::regclass"), "its end")
            assert state(two) == OLD_STATE
            assert two.dump() == shadows
        with contextlib.closing(connection.connect(two.url, application_name="test")) as made:
            shadow.drop(made)
            made.commit()
        assert two.dump() == before
        assert state(two) == OLD_STATE


class TestHanging:
    """Tables that keep their identity are filled anew."""

    def test_a_view_and_those_who_may_read_it(self, two: World) -> None:
        """It shows the new rows, at the same moment as the tables beside."""
        two.execute("CREATE VIEW app.v AS SELECT sum(n) FROM app.a")
        oid = two.ask("SELECT 'app.a'::regclass::oid, 'app.b'::regclass::oid")[0]
        two.restore([two.relation("app.a", "id"), two.relation("app.b", "id")], NEW)
        assert two.ask("SELECT * FROM app.v") == [(200,)]
        assert state(two) == NEW_STATE
        now = two.ask("SELECT 'app.a'::regclass::oid, 'app.b'::regclass::oid")[0]
        assert (now[0] == oid[0], now[1] == oid[1]) == (True, False)

    @pytest.mark.parametrize("kept", ["a", "b"])
    def test_foreign_keys_between_a_table_that_stays_and_one_that_does_not(self, two: World, kept: str) -> None:
        """In either direction they lead to what is there now, and hold."""
        two.execute(f"CREATE VIEW app.v AS SELECT * FROM app.{kept}")
        before = two.dump()
        two.restore([two.relation("app.a", "id"), two.relation("app.b", "id")], NEW)
        assert state(two) == NEW_STATE
        assert two.dump() == before
        with pytest.raises(psycopg2.errors.ForeignKeyViolation):
            two.execute("DELETE FROM app.a")
        with pytest.raises(psycopg2.errors.ForeignKeyViolation):
            two.execute("INSERT INTO app.b VALUES (0, 0, 0)")

    def test_a_view_that_comes_meanwhile(self, two: World) -> None:
        """Between loading and the swap; found under the locks."""
        with loaded(two, "app.a", "app.b") as (cursor, relations):
            two.execute("CREATE VIEW app.v AS SELECT * FROM app.b")
            swap.swap(cursor, relations, lock_timeout=PATIENCE)
            cursor.connection.commit()
        assert two.ask("SELECT sum(n) FROM app.v") == [(200,)]

    def test_what_cannot_be_kept_that_comes_meanwhile(self, two: World) -> None:
        """A table whose rows are read as this one's."""
        with loaded(two, "app.a", "app.b") as (cursor, relations):
            two.execute("CREATE TABLE app.c () INHERITS (app.a)")
            with pytest.raises(errors.Refused, match=r"app\.a cannot be replaced, because of table app\.c"):
                swap.swap(cursor, relations, lock_timeout=PATIENCE)
            cursor.connection.rollback()
        assert state(two) == OLD_STATE

    def test_partitions_with_triggers_of_their_own(self, world: World) -> None:
        """Rows go to their parts; nobody's trigger acts on them, nor is one left switched off."""
        world.execute(
            "CREATE SCHEMA app; CREATE TABLE app.log (line text);"
            "CREATE FUNCTION app.f() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN INSERT INTO app.log VALUES (TG_NAME); RETURN NULL; END';"
            "CREATE TABLE app.t (id integer, n integer, PRIMARY KEY (id)) PARTITION BY RANGE (id);"
            "CREATE TABLE app.low PARTITION OF app.t FOR VALUES FROM (0) TO (10);"
            "CREATE TABLE app.high PARTITION OF app.t FOR VALUES FROM (10) TO (20) PARTITION BY LIST (id);"
            "CREATE TABLE app.rest PARTITION OF app.high DEFAULT; CREATE INDEX ON app.t (n);"
            "CREATE TRIGGER own AFTER DELETE ON app.low FOR EACH ROW EXECUTE FUNCTION app.f();"
            "CREATE TRIGGER every AFTER INSERT ON app.t FOR EACH ROW EXECUTE FUNCTION app.f();"
            "CREATE TRIGGER always AFTER INSERT ON app.t FOR EACH STATEMENT EXECUTE FUNCTION app.f();"
            "ALTER TABLE app.t ENABLE ALWAYS TRIGGER always; ALTER TABLE app.rest DISABLE TRIGGER every;"
            "INSERT INTO app.t VALUES (1, 1), (2, 2), (11, 1); DELETE FROM app.log"
        )
        before = world.dump()
        t = world.relation("app.t", "id")
        world.restore([t], {"app.t": "VALUES (2, 2), (3, 3), (11, 2), (12, 1)"})
        assert world.ask("SELECT tableoid::regclass::text, id, n FROM app.t ORDER BY id") == [
            ("app.low", 2, 2), ("app.low", 3, 3), ("app.rest", 11, 2), ("app.rest", 12, 1),
        ]  # fmt: skip
        assert world.ask("SELECT * FROM app.log") == []
        assert world.dump() == before
        world.execute("INSERT INTO app.t VALUES (4, 4), (14, 4); DELETE FROM app.t WHERE id = 4")
        assert sorted(world.ask("SELECT * FROM app.log")) == [("always",), ("every",), ("own",)]
        with pytest.raises(psycopg2.errors.CheckViolation, match="no partition"):
            world.restore([t], {"app.t": "VALUES (30, 1)"})
        assert world.ask("SELECT count(*) FROM app.t") == [(5,)]

    def test_only_what_differs_is_touched(self, world: World) -> None:
        """As it is stored: 1.0 is not 1.00, and an array of JSON can be compared by nothing else."""
        world.execute(
            "CREATE SCHEMA app; CREATE TABLE app.t (id text PRIMARY KEY, n numeric, j json[], f real);"
            "INSERT INTO app.t VALUES ('a', 1.0, ARRAY['1'::json], '-0'), ('b', 1.0, NULL, 0), ('c', 2, NULL, 'NaN');"
            "CREATE VIEW app.v AS TABLE app.t"
        )
        before = dict(world.ask("SELECT id, ctid::text FROM app.t"))
        world.restore(
            [world.relation("app.t", "id")],
            {"app.t": "SELECT id, CASE id WHEN 'b' THEN 1.00 ELSE n END, j, f FROM app.t"},
        )
        after = dict(world.ask("SELECT id, ctid::text FROM app.t"))
        assert {name for name in "abc" if before[name] == after[name]} == {"a", "c"}
        assert world.ask("SELECT n::text FROM app.t WHERE id = 'b'") == [("1.00",)]

    def test_unique_values_that_pass_from_one_row_to_another(self, world: World) -> None:
        """They may, as nobody refers to the rows."""
        world.execute(
            "CREATE SCHEMA app; CREATE TABLE app.t (id integer PRIMARY KEY, token text UNIQUE);"
            "INSERT INTO app.t VALUES (1, 'a'), (2, 'b'); CREATE VIEW app.v AS TABLE app.t"
        )
        world.restore([world.relation("app.t", "id")], {"app.t": "VALUES (1, 'b'), (2, 'a'), (3, 'c')"})
        assert world.ask("SELECT * FROM app.v ORDER BY 1") == [(1, "b"), (2, "a"), (3, "c")]
