"""Shadow tables on real servers: what they have of the live ones, who may make them, and that nobody notices."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import psycopg2.errors
import pytest

from hal9mig import errors, model
from hal9mig.categories import registry
from hal9mig.embedded.postgres import Cluster
from hal9mig.stores import capture_triggers, connection, relation, shadow, table_dependents, write_mode
from tests.support import checkpoint_runs, servers
from tests.support.shadow_tables import World, begun, opened

# Everything that can belong to a table. The names with capitals and spaces are a user's own, who has added to a table.
RICH = """
CREATE SCHEMA app; CREATE SCHEMA extra;
CREATE FUNCTION app.note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE FUNCTION app.pass() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE FUNCTION app.half(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1 / 2';
CREATE TYPE app.mood AS ENUM ('sad', 'glad');
CREATE DOMAIN app.positive AS integer CHECK (VALUE > 0);
CREATE TABLE app.log (line text);
CREATE TABLE app.kinds (kind integer PRIMARY KEY);
INSERT INTO app.kinds VALUES (1), (2);
CREATE TABLE app.things (
    id       bigint GENERATED ALWAYS AS IDENTITY (START 5 INCREMENT 3 MAXVALUE 5000000 CACHE 2 CYCLE),
    number   serial,
    label    text COLLATE "C" NOT NULL DEFAULT 'x''y' CHECK (label <> ''),
    kind     integer REFERENCES app.kinds ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED,
    parent   bigint,
    span     int4range,
    mood     app.mood DEFAULT 'glad',
    amount   app.positive,
    gone     integer,
    body     text COMPRESSION pglz,
    small    numeric(10, 2),
    "Of U"   integer DEFAULT app.half(8),
    twice    integer GENERATED ALWAYS AS (app.half(number) * 4) STORED,
    CONSTRAINT things_key PRIMARY KEY (id) INCLUDE (label) WITH (fillfactor = 80),
    CONSTRAINT things_number UNIQUE (number) WITH (fillfactor = 70) DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT "Small %" CHECK (small < 1000) NO INHERIT,
    CONSTRAINT things_span EXCLUDE USING gist (span WITH &&) WHERE (span IS NOT NULL) DEFERRABLE
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05, toast.autovacuum_enabled = false);
ALTER TABLE app.things DROP COLUMN gone;
ALTER TABLE app.things ALTER COLUMN body SET STORAGE EXTERNAL, ALTER COLUMN label SET STATISTICS 250,
      ALTER COLUMN kind SET (n_distinct = -0.5, n_distinct_inherited = 3);
ALTER TABLE app.things ADD CONSTRAINT things_parent FOREIGN KEY (parent) REFERENCES app.things;
INSERT INTO app.things (label, kind, small, body) SELECT 'label ' || n, n % 3 + 1, n, repeat('body ', n)
  FROM generate_series(0, 1) n;
SET CONSTRAINTS ALL IMMEDIATE;
ALTER TABLE app.things ADD CONSTRAINT broken CHECK (amount IS NOT NULL) NOT VALID;
CREATE UNIQUE INDEX things_label ON app.things (lower(label) text_pattern_ops DESC) WHERE kind > 0;
CREATE INDEX "things Index" ON app.things USING brin (number) WITH (pages_per_range = 16);
CREATE INDEX things_hash ON app.things USING hash (label);
CREATE INDEX things_half ON app.things (app.half(number), mood);
ALTER INDEX app.things_half ALTER COLUMN 1 SET STATISTICS 77;
CREATE UNIQUE INDEX things_identity ON app.things (number, id);
ALTER TABLE app.things CLUSTER ON things_identity;
ALTER TABLE app.things ALTER COLUMN number SET NOT NULL;
ALTER TABLE app.things REPLICA IDENTITY USING INDEX things_identity;
CREATE STATISTICS extra.things_both (ndistinct, mcv) ON kind, mood, (number % 7) FROM app.things;
ALTER STATISTICS extra.things_both SET STATISTICS 42;
CREATE STATISTICS app.things_all ON kind, label FROM app.things;
CREATE TRIGGER a_row BEFORE INSERT OR UPDATE OF label ON app.things FOR EACH ROW
       WHEN (NEW.label IS NOT NULL) EXECUTE FUNCTION app.pass('a', 'b');
CREATE TRIGGER b_statement AFTER UPDATE ON app.things REFERENCING OLD TABLE AS o NEW TABLE AS n
       FOR EACH STATEMENT EXECUTE FUNCTION app.note();
CREATE CONSTRAINT TRIGGER c_late AFTER INSERT ON app.things FROM app.kinds DEFERRABLE INITIALLY DEFERRED
       FOR EACH ROW EXECUTE FUNCTION app.note();
ALTER TABLE app.things DISABLE TRIGGER a_row;
ALTER TABLE app.things ENABLE REPLICA TRIGGER b_statement;
CREATE RULE also AS ON INSERT TO app.things DO ALSO INSERT INTO app.log VALUES (NEW.label);
CREATE RULE never AS ON DELETE TO app.things WHERE OLD.id < 0 DO INSTEAD NOTHING;
ALTER TABLE app.things ENABLE ALWAYS RULE never;
ALTER TABLE app.things ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON app.things FOR SELECT USING (kind IN (SELECT kind FROM app.kinds));
CREATE POLICY writers ON app.things AS RESTRICTIVE FOR ALL TO hal9, {reader} USING (true) WITH CHECK (id > 0);
COMMENT ON TABLE app.things IS 'it''s a table';
COMMENT ON COLUMN app.things.label IS 'a column';
COMMENT ON CONSTRAINT things_key ON app.things IS 'a key';
COMMENT ON CONSTRAINT "Small %" ON app.things IS 'a check';
COMMENT ON CONSTRAINT things_parent ON app.things IS 'a foreign key';
COMMENT ON INDEX app.things_half IS 'an index';
COMMENT ON TRIGGER a_row ON app.things IS 'a trigger';
COMMENT ON RULE also ON app.things IS 'a rule';
COMMENT ON POLICY everybody ON app.things IS 'a policy';
COMMENT ON STATISTICS extra.things_both IS 'statistics';
COMMENT ON SEQUENCE app.things_id_seq IS 'an identity';
GRANT USAGE ON SCHEMA app TO {reader}, {owner};
GRANT CREATE ON SCHEMA app, extra TO {owner};
GRANT SELECT ON app.things TO {reader} WITH GRANT OPTION;
GRANT INSERT, TRIGGER ON app.things TO PUBLIC;
GRANT UPDATE (label, "Of U"), SELECT (id) ON app.things TO {reader} WITH GRANT OPTION;
GRANT SELECT ON SEQUENCE app.things_id_seq TO {reader};
GRANT USAGE ON SEQUENCE app.things_number_seq TO {reader};
REVOKE TRUNCATE ON app.things FROM hal9;
GRANT REFERENCES ON app.kinds TO {owner};
GRANT EXECUTE ON FUNCTION app.note() TO {owner};
"""
# What only newer servers have.
NEWER = """
ALTER TABLE app.things ADD COLUMN thrice integer GENERATED ALWAYS AS (number * 3) VIRTUAL;
ALTER TABLE app.things ADD CONSTRAINT body_is_there NOT NULL body NO INHERIT;
ALTER TABLE app.things ADD CONSTRAINT span_is_there NOT NULL span NOT VALID;
ALTER TABLE app.things ADD CONSTRAINT of_no_matter CHECK (number > 1000000) NOT ENFORCED;
ALTER TABLE app.things ADD CONSTRAINT to_no_matter FOREIGN KEY (number) REFERENCES app.kinds NOT ENFORCED;
"""
CONTENTS = "SELECT to_jsonb(t) FROM app.things t ORDER BY id"


@pytest.fixture(params=[16, 18])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A database on the oldest server at hand and on the newest."""
    cluster: Cluster = request.getfixturevalue("flat_cluster_16" if request.param == 16 else "flat_cluster")
    made = World(cluster)
    yield made
    made.close()


@pytest.fixture
def rich(world: World) -> World:
    """A database whose table has everything that can belong to one."""
    world.execute(RICH.format(reader=world.role("reader"), owner=world.role("owner")))
    if world.cluster.version >= 18:
        world.execute(NEWER)
    return world


class TestLikeness:
    """What takes a table's place is like it in all."""

    def test_all_that_belongs_to_a_table_goes_over(self, rich: World) -> None:
        """Compared by ``pg_dump``, which knows nothing of this product."""
        before, rows = rich.dump(), rich.ask(CONTENTS)
        assert len(rows) == 2
        things = rich.relation("app.things", "id")
        rich.restore([things])
        assert rich.dump() == before
        assert rich.ask(CONTENTS) == rows
        rich.restore([things])
        assert rich.dump() == before

    def test_it_belongs_to_whom_it_did(self, rich: World) -> None:
        """The account is a member of the owner and no more, and its own default privileges leave no trace."""
        owner, reader = f"{rich.name}_owner", f"{rich.name}_reader"
        rich.execute(f"GRANT {owner} TO hal9", admin=True)
        rich.execute(
            f"ALTER TABLE app.things OWNER TO {owner}; ALTER STATISTICS app.things_all OWNER TO {owner};"
            f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {reader}, PUBLIC",
            admin=True,
        )
        rich.execute(f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {reader}, PUBLIC")
        before, rows = rich.dump(), rich.ask(CONTENTS, admin=True)
        rich.restore([rich.relation("app.things", "id")])
        assert rich.dump() == before
        assert rich.ask(CONTENTS, admin=True) == rows

    def test_privileges_that_nobody_has_changed_are_still_the_usual_ones(self, world: World) -> None:
        """A list of them that was never written is not written now."""
        world.execute("CREATE SCHEMA app; CREATE TABLE app.plain (id integer PRIMARY KEY)")
        world.restore([world.relation("app.plain", "id")])
        assert world.ask("SELECT relacl FROM pg_class WHERE oid = 'app.plain'::regclass") == [(None,)]

    def test_a_table_that_is_not_logged(self, world: World) -> None:
        """Its shadow is, so that a crash of the server does not empty it unnoticed; what takes its place is not."""
        world.execute("CREATE SCHEMA app; CREATE UNLOGGED TABLE app.fast (id integer PRIMARY KEY)")
        fast = world.relation("app.fast", "id")
        query = "SELECT relpersistence FROM pg_class WHERE oid = '{}'::regclass"
        with connection.connected(world.url, application_name="test") as made:
            world.load(made, [fast], {"app.fast": "SELECT 1"})
            assert world.ask(query.format(shadow.table(fast))) == [("p",)]
        world.restore([fast], {"app.fast": "SELECT 1"})
        assert world.ask(query.format("app.fast")) == [("u",)]
        assert world.ask("SELECT * FROM app.fast") == [(1,)]

    def test_an_index_that_could_not_be_made_is_not_made(self, world: World) -> None:
        """It is there and not valid, for instance because its values were not unique after all."""
        world.execute("CREATE SCHEMA app; CREATE TABLE app.t (id integer PRIMARY KEY, n integer)")
        world.execute("INSERT INTO app.t VALUES (1, 1), (2, 1)")
        with pytest.raises(psycopg2.errors.UniqueViolation):
            world.execute("CREATE UNIQUE INDEX CONCURRENTLY broken ON app.t (n)")
        world.restore([world.relation("app.t", "id")])
        assert world.ask("SELECT indexname FROM pg_indexes WHERE schemaname = 'app'") == [("t_pkey",)]

    def test_the_planner_knows_the_new_table(self, rich: World) -> None:
        """Its rows have been counted, its columns looked at, and its extended statistics built."""
        things = rich.relation("app.things", "id")
        names = ", ".join(things.names)
        values = names.replace('"number"', "n").replace('"id"', "n").replace('"label"', "n::text")
        rows = f"SELECT {values} FROM app.things, generate_series(1, 500) n WHERE things.number = 1"
        rich.restore([things], {"app.things": rows})
        assert rich.ask("SELECT reltuples FROM pg_class WHERE oid = 'app.things'::regclass") == [(500.0,)]
        assert rich.ask("SELECT count(*) FROM pg_stats WHERE schemaname = 'app' AND attname = 'label'") == [(1,)]
        assert rich.ask("SELECT count(*) FROM pg_statistic_ext_data", admin=True) == [(2,)]

    @pytest.mark.parametrize("side", list(model.StoreName))
    def test_the_tables_of_every_category(self, stores: servers.Stores, side: model.StoreName) -> None:
        """Both stores as this program makes them, captured; the triggers go on capturing afterwards."""
        categories = registry.builtin().ordered()
        flat = side is model.StoreName.FLAT
        url = stores.flat_url if flat else stores.hier_url
        schema, cluster = ("flat", stores.flat_cluster) if flat else ("hier", stores.hier_cluster)
        with contextlib.closing(connection.connect(url, application_name="test")) as made:
            for category in categories:
                capture_triggers.install(made, category, side)
            found = relation.relations(made, categories, side)
            mode = write_mode.Mode.DUAL_WRITE if flat else write_mode.Mode.HIERARCHICAL_ONLY
            write_mode.set_state(made, write_mode.WriteState(mode=mode, epoch=1))
        world = World.__new__(World)
        world.cluster, world.name, world.url = cluster, "", url
        world.admin_url = cluster.admin_url(url.rpartition("/")[2])
        table = "operational_metadata" if flat else "config_nodes"
        row = "1, 'metrics', 's', '{}', now(), 1" if flat else "'a', NULL, 'a', 1"
        world.execute(f"INSERT INTO {schema}.{table} VALUES ({row}); DELETE FROM hal9cap.journal")
        before, rows = world.dump(), checkpoint_runs.contents(url, schema)
        world.restore(found)
        assert world.dump() == before
        assert checkpoint_runs.contents(url, schema) == rows
        assert world.ask("SELECT count(*) FROM hal9cap.journal") == [(0,)]
        with contextlib.closing(connection.connect(url, application_name="test")) as made:
            assert [capture_triggers.findings(made, category, side) for category in categories] == [[]] * len(
                categories
            )
        world.execute("DELETE FROM flat.operational_metadata" if flat else "INSERT INTO hier.config_values VALUES "
                      "('a', '1', 'me', now(), 1)")  # fmt: skip
        assert world.ask("SELECT category, key FROM hal9cap.journal") == [
            ("metadata", ["1"]) if flat else ("configuration", ["a"])
        ]


class TestLoading:
    """Each chunk is loaded once, by whoever is meant to."""

    @pytest.fixture
    def prepared(self, flat_cluster: Cluster) -> Iterator[World]:
        """A database with an empty shadow."""
        made = World(flat_cluster)
        made.execute("CREATE SCHEMA app; CREATE TABLE app.t (id integer PRIMARY KEY)")
        with connection.connected(made.url, application_name="test") as opened_:
            shadow.prepare(opened_, [made.relation("app.t", "id")], mark="run 7")
        yield made
        made.close()

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


class TestIndexing:
    """Indexes and constraints, made once and only over sound rows."""

    def test_what_is_there_already_stays(self, rich: World) -> None:
        """A worker that was killed in between has another one do it again."""
        things = rich.relation("app.things", "id")
        query = (
            "SELECT oid::text FROM pg_class WHERE relnamespace = 'hal9_shadow_app'::regnamespace UNION ALL SELECT "
            "oid::text || conname FROM pg_constraint WHERE connamespace = 'hal9_shadow_app'::regnamespace ORDER BY 1"
        )
        with connection.connected(rich.url, application_name="test") as made:
            rich.load(made, [things], {})
            before = rich.ask(query)
            for _ in range(2):
                shadow.index(made, things)
                shadow.constrain(made, [things])
                made.commit()
            assert rich.ask(query) == before

    def test_rows_that_break_a_constraint(self, world: World) -> None:
        """They are found before anything is swapped."""
        world.execute("CREATE SCHEMA app; CREATE TABLE app.t (id integer PRIMARY KEY)")
        with (
            connection.connected(world.url, application_name="test") as made,
            pytest.raises(psycopg2.errors.UniqueViolation),
        ):
            world.load(made, [world.relation("app.t", "id")], {"app.t": "VALUES (1), (1)"})


FOREIGN = """
CREATE SCHEMA app;
CREATE TABLE app.outer (id integer PRIMARY KEY);
CREATE TABLE app.inner (id integer PRIMARY KEY, a integer REFERENCES app.outer, b integer, c integer);
ALTER TABLE app.inner ADD CONSTRAINT itself FOREIGN KEY (b) REFERENCES app.inner DEFERRABLE;
CREATE TABLE app.part (id integer PRIMARY KEY, i integer REFERENCES app.inner ON DELETE CASCADE);
CREATE TABLE app.user (id integer PRIMARY KEY, i integer REFERENCES app.inner ON DELETE {action});
INSERT INTO app.outer VALUES (1), (2);
INSERT INTO app.inner VALUES (1, 1, 1), (2, 2, 1);
INSERT INTO app.part VALUES (1, 1);
INSERT INTO app.user VALUES (1, 1);
"""


class TestForeignKeys:
    """Between shadows, and between them and tables that stay."""

    @pytest.fixture
    def linked(self, world: World) -> World:
        """Two tables of the set, one that they refer to, and one that refers to them."""
        world.execute(FOREIGN.format(action="CASCADE"))
        return world

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
