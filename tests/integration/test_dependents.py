"""What hangs on a table's identity: each kind is found, and whether the table can be filled anew instead."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hal9mig.embedded.postgres import Cluster
from hal9mig.stores import connection, table_dependents
from tests.support import shadow_tables
from tests.support.shadow_tables import World, opened

BASE = """
CREATE SCHEMA app;
CREATE TABLE app.t (id integer PRIMARY KEY, n integer, code integer UNIQUE);
CREATE TABLE app.o (id integer PRIMARY KEY, n integer);
"""
HANGING = {
    "view": ("CREATE VIEW app.v AS SELECT * FROM app.t", "view app.v", True),
    "materialized view": ("CREATE MATERIALIZED VIEW app.v AS TABLE app.t", "materialized view app.v", True),
    "key of a view": (
        "CREATE VIEW app.v AS SELECT t.* FROM app.t GROUP BY t.id", "view app.v", True,
    ),
    "rule of another": (
        "CREATE RULE r AS ON INSERT TO app.o DO ALSO INSERT INTO app.t VALUES (NEW.id)", "rule r on table app.o", True,
    ),
    "policy of another": (
        "CREATE POLICY p ON app.o USING (id IN (SELECT id FROM app.t))", "policy p on table app.o", True,
    ),
    "body": (
        "CREATE FUNCTION app.f() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM app.t; END", "function app.f()", True,
    ),
    "row type": (
        "CREATE FUNCTION app.f(app.t) RETURNS integer LANGUAGE sql AS 'SELECT 1'", "function app.f(app.t)", True,
    ),
    "column of it": ("ALTER TABLE app.o ADD COLUMN rows app.t[]", 'column rows of table app.o', True),
    "publication": ("CREATE PUBLICATION p FOR TABLE app.t", "publication p", True),
    "child": (
        "CREATE TABLE app.c () INHERITS (app.t)", "table app.c, which inherits from it", False,
    ),
    "identity of it": (
        "ALTER TABLE app.t ADD COLUMN i bigint GENERATED ALWAYS AS IDENTITY;"
        "ALTER TABLE app.o ALTER COLUMN n SET DEFAULT nextval('app.t_i_seq')",
        "default value for column n of table app.o", True,
    ),
    "foreign key": (
        "ALTER TABLE app.o ADD CONSTRAINT f FOREIGN KEY (n) REFERENCES app.t", "foreign key f of app.o", True,
    ),
    "foreign key with a cascade": (
        "ALTER TABLE app.o ADD CONSTRAINT f FOREIGN KEY (n) REFERENCES app.t ON DELETE CASCADE",
        "foreign key f of app.o", True,
    ),
    "foreign key to what may change, with a cascade": (
        "ALTER TABLE app.o ADD CONSTRAINT f FOREIGN KEY (n) REFERENCES app.t (code) ON UPDATE CASCADE",
        "foreign key f of app.o", False,
    ),
    "trigger of another": (
        "CREATE FUNCTION app.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE CONSTRAINT TRIGGER g AFTER INSERT ON app.o FROM app.t FOR EACH ROW EXECUTE FUNCTION app.f()",
        "trigger g on table app.o", True,
    ),
}  # fmt: skip


@pytest.fixture
def world(each_cluster: Cluster) -> Iterator[World]:
    """A database on the oldest server at hand and on the newest."""
    with shadow_tables.database(each_cluster) as made:
        yield made


class TestDependents:
    """What hangs on a table's identity."""

    @pytest.mark.parametrize("name", list(HANGING))
    def test_each_kind_is_found(self, world: World, name: str) -> None:
        """And only that; with another's rows put back it is still there and does what it did."""
        statements, what, refill = HANGING[name]
        world.execute(BASE)
        if "BEGIN ATOMIC" in statements:
            with opened(world.url) as cursor:
                cursor.execute(statements)
        else:
            world.execute(statements)
        t = world.relation("app.t", "id")
        with connection.connected(world.url, application_name="test") as made:
            found = table_dependents.dependents(made, [t])
            assert [(one.what, one.refill) for one in found if not one.what.startswith("function app.f() ")] == [
                (what, refill)
            ]
        if refill:
            before = world.dump()
            world.restore([t], {"app.t": f"SELECT 1, 2, 3{', 4' if 'identity' in name else ''}"})
            assert world.dump() == before
            assert world.ask("SELECT id, n, code FROM app.t") == [(1, 2, 3)]

    @pytest.mark.parametrize("statement", ["FOR ALL TABLES", "FOR TABLES IN SCHEMA app"])
    def test_publications_of_more_than_the_table(self, world: World, statement: str) -> None:
        """The subscribers get the rows that change."""
        world.execute(BASE)
        world.execute(f"CREATE PUBLICATION p {statement}", admin=True)
        with connection.connected(world.url, application_name="test") as made:
            found = table_dependents.dependents(made, [world.relation("app.t", "id")])
        assert [(one.what, one.refill) for one in found] == [("publication p", True)]

    def test_partitions(self, world: World) -> None:
        """A partitioned table and its parts keep their identity."""
        world.execute(
            "CREATE SCHEMA app; CREATE TABLE app.t (id integer PRIMARY KEY) PARTITION BY RANGE (id);"
            "CREATE TABLE app.low PARTITION OF app.t FOR VALUES FROM (0) TO (10)"
        )
        with connection.connected(world.url, application_name="test") as made:
            found = table_dependents.dependents(made, [world.relation("app.t", "id"), world.relation("app.low", "id")])
        assert {(one.relation.table, one.what, one.refill) for one in found} == {
            ("t", "its partitions", True), ("low", "the table that it is a partition of", True),
        }  # fmt: skip

    def test_a_table_hangs_on_no_other_of_the_set(self, world: World) -> None:
        """What leads from one to another goes over; but not where one of them keeps its identity."""
        world.execute(BASE)
        world.execute("ALTER TABLE app.o ADD FOREIGN KEY (n) REFERENCES app.t")
        world.execute("CREATE POLICY p ON app.o USING (id IN (SELECT id FROM app.t))")
        both = [world.relation("app.t", "id"), world.relation("app.o", "id")]
        with connection.connected(world.url, application_name="test") as made:
            assert table_dependents.dependents(made, both) == []
            world.execute("CREATE VIEW app.v AS TABLE app.o")
            found = {(one.relation.table, one.what) for one in table_dependents.dependents(made, both)}
        assert found == {("o", "view app.v"), ("t", "policy p on table app.o")}

    def test_a_view_is_no_table(self, world: World) -> None:
        """It is refused, whatever its rows."""
        world.execute(BASE)
        world.execute("CREATE VIEW app.v AS TABLE app.t")
        with connection.connected(world.url, application_name="test") as made:
            found = table_dependents.dependents(made, [world.relation("app.v", "id")])
        assert [(one.what, one.refill) for one in found] == [("that it is no table", False)]
