"""The swap, where rows of other tables refer to the table's, and where a sequence numbers them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from hal9mig import errors
from hal9mig.embedded.postgres import Cluster
from hal9mig.stores import connection, swap
from tests.support import shadow_tables
from tests.support.shadow_tables import PATIENCE, World, opened

REFERRED = """
CREATE SCHEMA app;
CREATE TABLE app.t (id bigint GENERATED {kind} AS IDENTITY PRIMARY KEY, n integer,
    m bigint GENERATED ALWAYS AS (n) STORED);
CREATE TABLE app.o (id integer PRIMARY KEY, t bigint REFERENCES app.t ON DELETE {action} ON UPDATE {action});
INSERT INTO app.t OVERRIDING SYSTEM VALUE VALUES (1, 1), (2, 2), (3, 3);
INSERT INTO app.o VALUES (1, 1), (2, 2);
"""


@pytest.fixture
def world(flat_cluster: Cluster) -> Iterator[World]:
    """A database with nothing in it."""
    with shadow_tables.database(flat_cluster) as made:
        yield made


class TestReferred:
    """Rows of other tables keep what they refer to."""

    @pytest.mark.parametrize("kind", ["ALWAYS", "BY DEFAULT"])
    @pytest.mark.parametrize("action", ["NO ACTION", "RESTRICT", "CASCADE", "SET NULL"])
    def test_rows_that_stay_are_changed_in_place(self, world: World, action: str, kind: str) -> None:
        """No cascade acts, though every row that is referred to differs."""
        world.execute(REFERRED.format(action=action, kind=kind))
        before = world.dump()
        world.restore([world.relation("app.t", "id")], {"app.t": "VALUES (1, 10), (2, 20), (4, 40)"})
        assert world.ask("SELECT id, n, m FROM app.t ORDER BY id") == [(1, 10, 10), (2, 20, 20), (4, 40, 40)]
        assert world.ask("SELECT id, t FROM app.o ORDER BY id") == [(1, 1), (2, 2)]
        assert world.dump() == before
        world.execute("INSERT INTO app.t (n) VALUES (50)")
        assert world.ask("SELECT id FROM app.t WHERE n = 50") == [(5,)]

    @pytest.mark.parametrize("action", ["NO ACTION", "CASCADE", "SET NULL"])
    def test_rows_that_would_go_while_referred_to(self, world: World, action: str) -> None:
        """A reference that came after loading is found under the locks; nothing is changed."""
        world.execute(REFERRED.format(action=action, kind="ALWAYS"))
        t = world.relation("app.t", "id")
        with contextlib.closing(connection.connect(world.url, application_name="test")) as made:
            world.load(made, [t], {"app.t": "VALUES (1, 10), (2, 20), (4, 40)"})
            world.execute("INSERT INTO app.o VALUES (3, 3)")
            with (
                made.cursor() as cursor,
                pytest.raises(errors.Refused, match=r"1 rows of app\.o refer \(o_t_fkey\) to rows of app\.t that"),
            ):
                swap.swap(cursor, [t], lock_timeout=PATIENCE)
            made.rollback()
        assert world.ask("SELECT count(*), sum(n) FROM app.t") == [(3, 6)]
        assert world.ask("SELECT id, t FROM app.o ORDER BY id") == [(1, 1), (2, 2), (3, 3)]

    def test_a_table_that_refers_to_another_goes_on_doing_so(self, world: World) -> None:
        """A table of the application's; a row that has gone since is found when the foreign key is made again."""
        world.execute(
            "CREATE SCHEMA app; CREATE TABLE app.o (id integer PRIMARY KEY);"
            "CREATE TABLE app.t (id integer PRIMARY KEY, o integer REFERENCES app.o ON DELETE CASCADE);"
            "INSERT INTO app.o VALUES (1), (2); INSERT INTO app.t VALUES (1, 1)"
        )
        before = world.dump()
        t = world.relation("app.t", "id")
        world.restore([t], {"app.t": "VALUES (1, 2), (2, 1)"})
        assert world.dump() == before
        with contextlib.closing(connection.connect(world.url, application_name="test")) as made:
            world.load(made, [t], {"app.t": "VALUES (1, 1), (2, 2)"})
            world.execute("DELETE FROM app.o WHERE id = 2")
            with made.cursor() as cursor, pytest.raises(errors.Refused, match=r"lose what they refer to.*t_o_fkey"):
                swap.swap(cursor, [t], lock_timeout=PATIENCE)
            made.rollback()
        assert world.ask("SELECT * FROM app.t ORDER BY 1") == [(2, 1)]
        world.execute("DELETE FROM app.o")
        assert world.ask("SELECT * FROM app.t") == []

    def test_tables_in_a_circle(self, world: World) -> None:
        """Two that refer to each other, neither deferrable, and one to itself."""
        world.execute(
            "CREATE SCHEMA app; CREATE TABLE app.t (id integer PRIMARY KEY, o integer);"
            "CREATE TABLE app.o (id integer PRIMARY KEY, t integer REFERENCES app.t, o integer REFERENCES app.o);"
            "ALTER TABLE app.t ADD FOREIGN KEY (o) REFERENCES app.o; INSERT INTO app.t VALUES (1, NULL);"
            "INSERT INTO app.o VALUES (1, 1, 1); UPDATE app.t SET o = 1"
        )
        before = world.dump()
        both = [world.relation("app.t", "id"), world.relation("app.o", "id")]
        rows = {"app.t": "VALUES (2, 2), (3, 3)", "app.o": "VALUES (2, 3, 3), (3, 2, 2)"}
        for statement in ("SELECT 1", "CREATE VIEW app.v AS TABLE app.o", "CREATE VIEW app.w AS TABLE app.t"):
            world.execute(statement)
            before = world.dump()
            world.restore(both, rows)
            assert world.ask("SELECT *, (SELECT count(*) FROM app.o) FROM app.t") == [(2, 2, 2), (3, 3, 2)]
            assert world.dump() == before
            rows = {"app.t": rows["app.t"], "app.o": "VALUES (3, 2, 3), (2, 3, 2)"}


class TestSequences:
    """What numbers rows never goes back."""

    @pytest.mark.parametrize("view", [False, True])
    @pytest.mark.parametrize("kind", ["serial", "bigint GENERATED ALWAYS AS IDENTITY (CACHE 3)"])
    @pytest.mark.parametrize(
        ("rows", "following"), [("VALUES (1)", 10), ("VALUES (1), (25)", 26), ("SELECT 1 WHERE false", 10)]
    )
    def test_it_goes_on(self, world: World, kind: str, rows: str, following: int, view: bool) -> None:
        """From where it stood, or from the highest row that has come back."""
        world.execute(f"CREATE SCHEMA app; CREATE TABLE app.t (id {kind} PRIMARY KEY)")
        world.execute("INSERT INTO app.t SELECT FROM generate_series(1, 9)")
        if view:
            world.execute("CREATE VIEW app.v AS TABLE app.t")
        before = world.dump()
        world.restore([world.relation("app.t", "id")], {"app.t": rows})
        assert world.dump() == before
        with opened(world.url) as cursor:
            cursor.execute("INSERT INTO app.t DEFAULT VALUES RETURNING id")
            assert cursor.fetchone() == (following,)

    def test_one_that_counts_down(self, world: World) -> None:
        """The highest row is its first, and not its last."""
        world.execute("CREATE SCHEMA app; CREATE TABLE app.t (id integer GENERATED ALWAYS AS IDENTITY (INCREMENT -1) "
                      "PRIMARY KEY); INSERT INTO app.t SELECT FROM generate_series(1, 5)")  # fmt: skip
        world.restore([world.relation("app.t", "id")], {"app.t": "VALUES (-1), (-2)"})
        world.execute("INSERT INTO app.t DEFAULT VALUES")
        world.restore([world.relation("app.t", "id")], {"app.t": "VALUES (-1), (-9)"})
        world.execute("INSERT INTO app.t DEFAULT VALUES")
        assert world.ask("SELECT id FROM app.t ORDER BY 1 DESC") == [(-1,), (-9,), (-10,)]

    def test_a_sequence_that_another_table_uses_too(self, world: World) -> None:
        """It belongs to the table before and after, and numbers both."""
        world.execute(
            "CREATE SCHEMA app; CREATE TABLE app.t (id serial PRIMARY KEY);"
            "CREATE TABLE app.o (id integer DEFAULT nextval('app.t_id_seq'), n integer)"
        )
        before = world.dump()
        world.restore([world.relation("app.t", "id")], {"app.t": "VALUES (7)"})
        assert world.dump() == before
        world.execute("INSERT INTO app.o (n) VALUES (1)")
        assert world.ask("SELECT id FROM app.o") == [(8,)]
