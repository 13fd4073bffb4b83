"""Shadow tables on their way: loaded once, with sound rows and foreign keys, and by whoever may."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg2.errors
import pytest

from hal9mig import errors
from hal9mig.embedded.postgres import Cluster
from hal9mig.stores import connection, shadow, table_dependents
from tests.support import shadow_tables
from tests.support.shadow_tables import World, begun


@pytest.fixture
def world(each_cluster: Cluster) -> Iterator[World]:
    """A database on the oldest server at hand and on the newest."""
    with shadow_tables.database(each_cluster) as made:
        yield made


class TestLoading:
    """Each chunk is loaded once, by whoever is meant to."""

    @pytest.fixture
    def prepared(self, flat_cluster: Cluster) -> Iterator[World]:
        """A database with an empty shadow."""
        with shadow_tables.database(flat_cluster) as made:
            made.execute("CREATE SCHEMA app; CREATE TABLE app.t (id integer PRIMARY KEY)")
            with connection.connected(made.url, application_name="test") as connected:
                shadow.prepare(connected, [made.relation("app.t", "id")], mark="run 7")
            yield made

    def test_who_comes_second_waits_and_gets_the_note_of_the_first(self, prepared: World) -> None:
        """So a doubled worker loads nothing, and knows what was loaded."""
        notes: list[object] = []

        def second() -> None:
            with begun(prepared.url) as cursor:
                notes.append(shadow.claim(cursor, 1, mark="run 7"))

        with begun(prepared.url) as first:
            assert shadow.claim(first, 1, mark="run 7") is None
            thread = threading.Thread(target=second)
            thread.start()
            thread.join(0.3)
            assert thread.is_alive()
            shadow.settle(first, 1, 3, {"rows": 3, "damages": []})
            first.connection.commit()
        thread.join(10)
        assert notes == [{"rows": 3, "damages": []}]

    def test_who_comes_second_loads_where_the_first_has_failed(self, prepared: World) -> None:
        """A loader that was killed leaves nothing behind."""
        with begun(prepared.url) as first:
            assert shadow.claim(first, 1, mark="run 7") is None
        with begun(prepared.url) as second:
            assert shadow.claim(second, 1, mark="run 7") is None

    def test_a_loader_of_another_restore_loads_nothing(self, prepared: World) -> None:
        """It was frozen, and finds somebody else's shadows under the same names."""
        with begun(prepared.url) as late, pytest.raises(errors.LeaseLost, match="another restore"):
            shadow.claim(late, 1, mark="run 6")
        with connection.connected(prepared.url, application_name="test") as made:
            with pytest.raises(errors.LeaseLost):
                shadow.index(made, prepared.relation("app.t", "id"), mark="run 6")
            made.rollback()
            with pytest.raises(errors.LeaseLost):
                shadow.constrain(made, [prepared.relation("app.t", "id")], mark="run 6")

    def test_a_loader_whose_restore_is_over_loads_nothing(self, prepared: World) -> None:
        """There are no shadows at all any more."""
        with connection.connected(prepared.url, application_name="test") as made:
            assert not shadow.swapped(made)
            shadow.drop(made)
            assert shadow.swapped(made)
        with begun(prepared.url) as late, pytest.raises(errors.LeaseLost):
            shadow.claim(late, 1, mark="run 7")

    def test_what_an_earlier_restore_has_left_goes(self, prepared: World) -> None:
        """Rows, book and tables of schemas that are not wanted now."""
        prepared.execute("INSERT INTO hal9_shadow_app.t VALUES (1); CREATE TABLE hal9_shadow_app.other ()")
        prepared.execute("CREATE SCHEMA hal9_shadow_more; INSERT INTO hal9_shadow.loaded VALUES (1)")
        with connection.connected(prepared.url, application_name="test") as made:
            shadow.prepare(made, [prepared.relation("app.t", "id")])
        assert prepared.ask("SELECT * FROM hal9_shadow_app.t") == []
        assert prepared.ask("SELECT * FROM hal9_shadow.loaded") == []
        found = prepared.ask("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'hal9\\_shadow%' ORDER BY 1")
        assert found == [("hal9_shadow",), ("hal9_shadow_app",)]
        assert prepared.ask("SELECT to_regclass('hal9_shadow_app.other')") == [(None,)]


FOREIGN = """
CREATE SCHEMA app;
CREATE TABLE app.outer (id integer PRIMARY KEY);
CREATE TABLE app.inner (id integer PRIMARY KEY, a integer REFERENCES app.outer, b integer, c integer);
ALTER TABLE app.inner ADD CONSTRAINT itself FOREIGN KEY (b) REFERENCES app.inner DEFERRABLE;
CREATE TABLE app.part (id integer PRIMARY KEY, i integer REFERENCES app.inner ON DELETE CASCADE);
CREATE TABLE app.user (id integer PRIMARY KEY, i integer REFERENCES app.inner ON DELETE CASCADE);
INSERT INTO app.outer VALUES (1), (2);
INSERT INTO app.inner VALUES (1, 1, 1), (2, 2, 1);
INSERT INTO app.part VALUES (1, 1);
INSERT INTO app.user VALUES (1, 1);
"""


class TestConstraints:
    """Only over sound rows; foreign keys between shadows, and between them and tables that stay."""

    @pytest.fixture
    def linked(self, world: World) -> World:
        """Two tables of the set, one that they refer to, and one that refers to them."""
        world.execute(FOREIGN)
        return world

    def test_rows_that_break_a_constraint(self, world: World) -> None:
        """They are found before anything is swapped."""
        world.execute("CREATE SCHEMA app; CREATE TABLE app.t (id integer PRIMARY KEY)")
        with (
            connection.connected(world.url, application_name="test") as made,
            pytest.raises(psycopg2.errors.UniqueViolation),
        ):
            world.load(made, [world.relation("app.t", "id")], {"app.t": "VALUES (1), (1)"})

    def test_nobody_runs_into_a_shadow(self, linked: World) -> None:
        """The application may do to other tables what it could before."""
        both = [linked.relation("app.inner", "id"), linked.relation("app.part", "id")]
        with connection.connected(linked.url, application_name="test") as made:
            linked.load(made, both, {})
        found = linked.ask(
            "SELECT conname, confrelid::regclass::text FROM pg_constraint WHERE contype = 'f' "
            "AND connamespace = 'hal9_shadow_app'::regnamespace ORDER BY 1"
        )
        assert found == [("itself", 'hal9_shadow_app."inner"'), ("part_i_fkey", 'hal9_shadow_app."inner"')]
        linked.execute("DELETE FROM app.user; DELETE FROM app.part; DELETE FROM app.inner; DELETE FROM app.outer")

    def test_rows_that_would_lose_what_they_refer_to(self, linked: World) -> None:
        """In either direction; said before the swap, with the foreign key and how many."""
        both = [linked.relation("app.inner", "id"), linked.relation("app.part", "id")]
        with connection.connected(linked.url, application_name="test") as made:
            with pytest.raises(errors.Refused, match=r"1 rows of app\.user refer .user_i_fkey. .* not in the checkp"):
                linked.load(made, both, {"app.inner": "VALUES (2, 2, 2, 0)", "app.part": "SELECT 1, 2"})
            made.rollback()
            with pytest.raises(errors.Refused, match=r"1 rows of app\.inner refer .* that are not there any more"):
                linked.load(made, both, {"app.inner": "VALUES (1, 3, 1, 0)"})


class TestRights:
    """Who may not is told so before anything is begun, and what would help."""

    def test_who_is_not_a_member_of_the_owner(self, world: World) -> None:
        """The hint is the statement that helps."""
        world.execute("CREATE SCHEMA app; CREATE TABLE app.t (id integer PRIMARY KEY)")
        name, url = world.login("stranger")
        world.execute(f"GRANT CREATE ON DATABASE {world.name} TO {name}; GRANT ALL ON SCHEMA app TO {name}", admin=True)
        with connection.connected(url, application_name="test") as made:
            with pytest.raises(errors.Refused, match=r"may not replace app\.t, which belongs to hal9") as caught:
                shadow.prepare(made, [world.relation("app.t", "id")])
            made.rollback()
            assert caught.value.hint == f"GRANT hal9 TO {name}"
            world.execute(caught.value.hint, admin=True)
            shadow.prepare(made, [world.relation("app.t", "id")])

    def test_who_may_not_make_schemas(self, world: World) -> None:
        """Shadows stand in schemas of their own."""
        world.execute("CREATE SCHEMA app; CREATE TABLE app.t (id integer PRIMARY KEY)")
        name, url = world.login("stranger")
        with (
            connection.connected(url, application_name="test") as made,
            pytest.raises(errors.Refused, match="may not make a schema in database") as caught,
        ):
            shadow.prepare(made, [world.relation("app.t", "id")])
        assert caught.value.hint == f"GRANT CREATE ON DATABASE {world.name} TO {name}"

    def test_who_does_not_see_every_row(self, world: World) -> None:
        """Row-level security that is forced on the owner hides rows from a checkpoint as from everybody."""
        world.execute(
            "CREATE SCHEMA app; CREATE TABLE app.t (id integer PRIMARY KEY);"
            "ALTER TABLE app.t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
        )
        with (
            connection.connected(world.url, application_name="test") as made,
            pytest.raises(errors.Refused, match="does not see every row"),
        ):
            shadow.prepare(made, [world.relation("app.t", "id")])

    def test_who_may_not_create_in_the_schema_fills_the_table_anew(self, world: World) -> None:
        """A table's owner often may not, where somebody else owns the schema."""
        world.execute("CREATE SCHEMA app; CREATE TABLE app.t (id integer PRIMARY KEY)")
        name, url = world.login("stranger")
        world.execute(
            f"GRANT CREATE ON DATABASE {world.name} TO {name}; GRANT USAGE ON SCHEMA app TO {name}", admin=True
        )
        world.execute(f"ALTER TABLE app.t OWNER TO {name}", admin=True)
        t = world.relation("app.t", "id")
        with connection.connected(url, application_name="test") as made:
            assert {(one.what, one.refill) for one in table_dependents.dependents(made, [t])} == {
                (f"that {name} may not create in schema app", True)
            }
        world.restore([t], {"app.t": "VALUES (1)"}, url=url)
        assert world.ask("SELECT tableowner FROM pg_tables WHERE schemaname = 'app'") == [(name,)]
        assert world.ask("SELECT * FROM app.t", admin=True) == [(1,)]
