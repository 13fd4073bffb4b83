"""Shadow tables on real servers: what takes a table's place is like it in all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg2.errors
import pytest

from hal9mig import model
from hal9mig.categories import registry
from hal9mig.embedded.postgres import Cluster
from hal9mig.stores import capture_triggers, connection, relation, shadow, write_mode
from tests.support import checkpoint_runs, servers, shadow_tables
from tests.support.shadow_tables import World

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


@pytest.fixture
def world(each_cluster: Cluster) -> Iterator[World]:
    """A database on the oldest server at hand and on the newest."""
    with shadow_tables.database(each_cluster) as made:
        yield made


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
