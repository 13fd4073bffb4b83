"""Tables as they stand, on real servers: their columns and keys, and ranges of them in the server's own order."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

import pytest

from hal9mig import errors, model
from hal9mig.categories import registry
from hal9mig.categories.declaration import Column
from hal9mig.embedded.postgres import Cluster
from hal9mig.stores import connection, relation
from hal9mig.stores.relation import Relation
from tests.categories import accounts
from tests.support import servers
from tests.support.shadow_tables import World, opened

FLAT, HIER = model.StoreName.FLAT, model.StoreName.HIERARCHICAL


@pytest.fixture
def world(flat_cluster: Cluster) -> Iterator[World]:
    """A database with nothing in it."""
    made = World(flat_cluster)
    yield made
    made.close()


class TestRelations:
    """The tables of categories."""

    def test_each_once_with_its_role(self, stores: servers.Stores) -> None:
        """Of every category that comes with the product, in both stores."""
        categories = registry.builtin().ordered()
        with connection.connected(stores.flat_url, application_name="test") as flat:
            found = relation.relations(flat, categories, FLAT)
        assert [(one.qualified, one.role, one.category) for one in found] == [
            (f"flat.{category.source.table}", "source", category.slug) for category in categories
        ]
        assert all(one.owner == tuple(column.name for column in one.key) for one in found)
        with connection.connected(stores.hier_url, application_name="test") as hier:
            found = relation.relations(hier, [*categories, *categories], HIER)
        names = [one.qualified for one in found]
        assert len(set(names)) == len(names)
        roles = {one.table: (one.role, [column.name for column in one.key], one.owner) for one in found}
        assert roles["users"] == ("shared", ["user_id"], ())
        assert roles["units"] == ("root", ["unit_id"], ("unit_id",))
        assert roles["unit_connections"] == ("part", ["unit_id", "ordinal"], ("unit_id",))

    def test_generated_columns_hold_nothing_of_their_own(self, stores: servers.Stores) -> None:
        """They follow from the others."""
        with connection.connected(stores.hier_url, application_name="test") as hier:
            found = relation.relations(hier, [registry.builtin().get("metadata")], HIER)
        (metrics,) = (one for one in found if one.table == "metrics")
        assert [column.name for column in metrics.columns] == [
            "id",
            "source",
            "payload",
            "recorded_at",
            "source_version",
        ]

    def test_a_users_own_columns_come_along(self, world: World) -> None:
        """Those that the category does not declare, whatever their names; types as the server prints them."""
        world.execute(accounts.SOURCE_DDL)
        world.execute(
            "CREATE TYPE public.mood AS ENUM ('sad'); ALTER TABLE public.pgbench_accounts ADD COLUMN gone integer, "
            'ADD COLUMN "A ""b%" numeric(5, 2)[], ADD COLUMN mood public.mood;'
            "ALTER TABLE public.pgbench_accounts DROP COLUMN gone"
        )
        world.execute("INSERT INTO public.pgbench_accounts VALUES (1, 2, 3, 'x', '{1.5}', 'sad')")
        with connection.connected(world.url, application_name="test") as made:
            (one,) = relation.relations(made, [accounts.ACCOUNTS], FLAT)
            assert one.columns[-3:] == (
                Column("filler", "character(84)"), Column('A "b%', "numeric(5,2)[]"), Column("mood", "mood"),
            )  # fmt: skip
            assert one.names[-2] == r'U&"A ""b\0025"'
            with made.cursor() as cursor:
                cursor.execute(*one.select(("0",), ("1",)))
                (row,) = cursor.fetchall()
        assert row[:3] == (1, 2, 3)
        assert row[-1] == "sad"

    def test_what_is_not_there(self, world: World) -> None:
        """A table, or a column of its key."""
        with connection.connected(world.url, application_name="test") as made:
            with pytest.raises(errors.SchemaMismatch, match=r"flat store has no table public\.pgbench_accounts"):
                relation.relations(made, [accounts.ACCOUNTS], FLAT)
            world.execute("CREATE TABLE public.pgbench_accounts (bid integer)")
            with pytest.raises(errors.SchemaMismatch, match=r"has no key \(aid\)"):
                relation.relations(made, [accounts.ACCOUNTS], FLAT)

    def test_the_ledgers_tables(self, stores: servers.Stores) -> None:
        """The journals of both stores and the quarantine are as they are declared here."""
        for url, store in ((stores.flat_url, FLAT), (stores.hier_url, HIER)):
            with contextlib.closing(connection.connect(url, application_name="test")) as made, made.cursor() as cursor:
                one = relation.journal(store)
                assert relation._columns(made, one.qualified) == one.columns
                cursor.execute(*one.select(None, ("5",)))
        with connection.connected(stores.hier_url, application_name="test") as made:
            held = relation.quarantine(made)
            assert [column.name for column in held.key] == ["id"]
            assert held.role == "ledger"


KEYS = {
    # What its values are, and in which order the server has them.
    "uuid": ["00000000-0000-0000-0000-000000000000", "a0000000-0000-0000-0000-000000000000"],
    "bigint": ["-9223372036854775808", "-1", "0", "9", "10", "9223372036854775807"],
    "text": ["", " ", "'", "a'b%s", "Ä", "b", "zz"],
    'text COLLATE "C"': ["", "B", "a", "b", "é"],
    "character(3)": ["", "a", "ab", "b"],
    "character varying(10)": ["", "a", "a ", "b"],
    "numeric": ["-1.50", "0", "1.0", "1.01", "NaN"],
    "double precision": ["-Infinity", "-0", "5e-324", "1.7976931348623157e+308", "NaN"],
    "timestamp with time zone": ["-infinity", "0044-03-15 00:00:00+00 BC", "2024-02-29 23:59:59.999999+00", "infinity"],
    "date": ["1999-12-31", "2000-01-01"],
    "bytea": ["\\x", "\\x00", "\\x00ff", "\\xff"],
    "boolean": ["false", "true"],
    "inet": ["1.2.3.0/24", "1.2.3.4", "::1"],
    "public.mood": ["sad", "glad"],
    "integer[]": ["{}", "{1}", "{1,NULL}", "{2}"],
}


def _walked(cursor, one: Relation, size: int) -> list[tuple[int, model.Key | None]]:
    found, after = [], None
    while True:
        rows, upto = relation.stride(cursor, one, after, size)
        if not rows:
            return found
        found.append((rows, upto))
        after = upto


def _read(cursor, one: Relation, after: model.Key | None, upto: model.Key | None) -> list[tuple[str]]:
    sql, params = one.select(after, upto)
    cursor.execute(f"SELECT s::text FROM ({sql}) s", params)
    return cursor.fetchall()


class TestRanges:
    """Rows between two keys."""

    @pytest.mark.parametrize("kind", list(KEYS))
    def test_every_row_is_in_exactly_one(self, world: World, kind: str) -> None:
        """Of whatever type the key is, and in the server's order, for ranges of every size."""
        world.execute("CREATE TYPE public.mood AS ENUM ('sad', 'glad'); CREATE SCHEMA app")
        world.execute(f"CREATE TABLE app.t (key {kind}, part integer, PRIMARY KEY (key, part))")
        with opened(world.url) as cursor:
            for value, part in itertools.product(KEYS[kind], (1, 2)):
                cursor.execute("INSERT INTO app.t VALUES (%s, %s)", (value, part))
        with connection.connected(world.url, application_name="test") as made, made.cursor() as cursor:
            for one in (world.relation("app.t", "key", "part"), world.relation("app.t", "part", "key")):
                whole = _read(cursor, one, None, None)
                assert len(whole) == 2 * len(KEYS[kind])
                for size in (1, 2, 3, 100):
                    strides = _walked(cursor, one, size)
                    assert [rows for rows, _ in strides[:-1]] == [size] * (len(strides) - 1)
                    bounds = [None, *(upto for _, upto in strides[:-1]), None]
                    found = []
                    for after, upto in itertools.pairwise(bounds):
                        found += _read(cursor, one, after, upto)
                    assert found == whole

    def test_of_an_empty_table(self, world: World) -> None:
        """There is no stride."""
        world.execute("CREATE SCHEMA app; CREATE TABLE app.t (id integer PRIMARY KEY)")
        with opened(world.url) as cursor:
            assert relation.stride(cursor, world.relation("app.t", "id"), None, 10) == (0, None)

    def test_names_that_are_keywords(self, world: World) -> None:
        """They need no quotes where they stand."""
        world.execute('CREATE SCHEMA app; CREATE TABLE app.order ("user" integer PRIMARY KEY, "select" text)')
        world.execute("INSERT INTO app.order SELECT n, n FROM generate_series(1, 5) n; CREATE INDEX i ON app.order "
                      "(\"select\")")  # fmt: skip
        one = world.relation("app.order", "user")
        with opened(world.url) as cursor:
            assert _walked(cursor, one, 2) == [(2, ("2",)), (2, ("4",)), (1, ("5",))]
            cursor.execute(*one.select(("2",), ("4",)))
            assert cursor.fetchall() == [(3, "3"), (4, "4")]
        before = world.dump()
        world.restore([one], {"app.order": "VALUES (7, 'x')"})
        assert world.dump() == before

    def test_an_index_serves(self, world: World) -> None:
        """A range of a large table reads no more than its rows; and so does a stride."""
        world.execute(
            "CREATE SCHEMA app; CREATE TABLE app.t (a integer, b text, n integer, PRIMARY KEY (a, b));"
            "INSERT INTO app.t SELECT n / 10, n, n FROM generate_series(1, 50000) n"
        )
        world.execute("VACUUM ANALYZE app.t")
        one = world.relation("app.t", "a", "b")
        with opened(world.url) as cursor:
            sql, params = one.select(("2500", "25005"), ("2501", "25012"))
            cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS OFF, COSTS OFF, TIMING OFF, FORMAT JSON) {sql}", params)
            ((plan,),) = (row[0] for row in cursor.fetchall())
        assert "Index" in str(plan["Plan"])
        assert "Seq Scan" not in str(plan["Plan"])


class TestWeigh:
    """Rows and bytes."""

    def test_before_and_after_statistics(self, world: World) -> None:
        """Without them the rows are guessed by the bytes; what is stored apart counts, and so do partitions."""
        world.execute(
            "CREATE SCHEMA app; CREATE TABLE app.t (id integer PRIMARY KEY, body text) PARTITION BY RANGE (id);"
            "ALTER TABLE app.t ALTER COLUMN body SET STORAGE EXTERNAL;"
            "CREATE TABLE app.low PARTITION OF app.t FOR VALUES FROM (0) TO (10) WITH (autovacuum_enabled = false);"
            "CREATE TABLE app.high PARTITION OF app.t FOR VALUES FROM (10) TO (1000) WITH (autovacuum_enabled = false);"
            "INSERT INTO app.t SELECT n, repeat('x', 10000) FROM generate_series(1, 100) n"
        )
        one = world.relation("app.t", "id")
        with opened(world.url) as cursor:
            rows, size = relation.weigh(cursor, one)
            assert size > 1_000_000
            assert 100 < rows < 10_000
            cursor.execute("ANALYZE app.t")
            assert relation.weigh(cursor, one)[0] == 100

    def test_an_empty_table(self, world: World) -> None:
        """Nothing, with statistics or without."""
        world.execute("CREATE SCHEMA app; CREATE TABLE app.t (id integer PRIMARY KEY)")
        with opened(world.url) as cursor:
            assert relation.weigh(cursor, world.relation("app.t", "id")) == (0, 0)
