"""No write to a captured table goes unseen: partitions, children, replicas, triggers that somebody took away."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg2
import pytest

from hal9mig import errors, model
from hal9mig.categories.declaration import Category, Column, Pass, Role, Source, Target
from hal9mig.engine import foreign_errors
from hal9mig.stores import capture, capture_triggers, connection, write_mode
from hal9mig.stores.write_mode import Mode, WriteState
from tests.support import migration_driver, servers

FLAT = model.StoreName.FLAT
EVENTS = Category(
    slug="events",
    title="Events",
    source=Source(
        schema="public",
        table="events",
        columns=(Column("id", "bigint"), Column("day", "date"), Column("body", "text")),
        key=("id", "day"),
    ),
    targets=(
        Target(
            schema="public",
            table="events",
            role=Role.ROOT,
            columns=(Pass("id", "id"), Pass("day", "day"), Pass("body", "body")),
            key=("id", "day"),
            owner=("id", "day"),
        ),
    ),
    rebuild="SELECT e.id, e.day, e.body FROM public.events e WHERE RANGE(e.id, e.day)",
)
ALONE = """
CREATE TABLE events (id bigint, day date, body text, PRIMARY KEY (id, day));
INSERT INTO events VALUES (1, '2026-01-05', 'a'), (2, '2026-08-05', 'b');
"""
PARTITIONED = """
CREATE TABLE events (id bigint, day date, body text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');
CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2026-07-01') TO ('2027-01-01') PARTITION BY RANGE (day);
CREATE TABLE events_2a PARTITION OF events_2 FOR VALUES FROM ('2026-07-01') TO ('2026-10-01');
INSERT INTO events VALUES (1, '2026-01-05', 'a'), (2, '2026-08-05', 'b');
"""
INHERITED = """
CREATE TABLE events (id bigint, day date, body text, PRIMARY KEY (id, day));
CREATE TABLE events_1 (PRIMARY KEY (id, day)) INHERITS (events);
CREATE TABLE events_2 (extra int, PRIMARY KEY (id, day)) INHERITS (events_1);
INSERT INTO events_1 VALUES (1, '2026-01-05', 'a'); INSERT INTO events_2 VALUES (2, '2026-08-05', 'b');
"""


class World:
    """A flat store whose table is captured."""

    def __init__(self, stores: servers.Stores):
        self.opened = connection.connect(stores.flat_url, application_name="test")
        self.other = psycopg2.connect(stores.flat_url)
        self.other.autocommit = True
        self.admin_url = stores.flat_cluster.admin_url(stores.flat_url.rpartition("/")[2])

    def begin(self, tables: str, mode: Mode = Mode.DUAL_WRITE) -> None:
        self.run(tables)
        capture_triggers.install(self.opened, EVENTS, FLAT)
        write_mode.set_state(self.opened, WriteState(mode=mode, epoch=2))
        assert self.findings() == []

    def run(self, sql: str) -> list[tuple[object, ...]]:
        with self.other.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def journalled(self) -> set[str]:
        """Return the ids of the keys in the journal, and empty it."""
        return {str(row[0]) for row in self.run("WITH gone AS (DELETE FROM hal9cap.journal RETURNING key) "
                                                "SELECT DISTINCT key[1] FROM gone")}  # fmt: skip

    def findings(self) -> list[str]:
        return capture_triggers.findings(self.opened, EVENTS, FLAT)


@pytest.fixture
def world(stores: servers.Stores) -> Iterator[World]:
    opened = World(stores)
    yield opened
    opened.opened.close()
    opened.other.close()


@pytest.mark.parametrize("tables", [PARTITIONED, INHERITED])
def test_a_write_to_a_part_is_journalled_once(world: World, tables: str) -> None:
    world.begin(tables)
    world.run("UPDATE events_1 SET body = 'direct' WHERE id = 1")
    assert world.journalled() == {"1"}
    world.run("INSERT INTO events_2 VALUES (9, '2026-08-01', 'direct')")
    assert world.journalled() == {"9"}
    world.run("DELETE FROM events_2 WHERE id = 9")
    assert world.journalled() == {"9"}
    world.run("UPDATE events SET body = 'through the parent'")
    assert world.run("SELECT count(*) FROM hal9cap.journal") == [(2,)]
    assert world.journalled() == {"1", "2"}


@pytest.mark.parametrize("tables", [ALONE, PARTITIONED, INHERITED])
def test_a_key_that_changes_is_journalled_as_it_was_and_as_it_is(world: World, tables: str) -> None:
    world.begin(tables)
    # The second one moves its row to another partition.
    world.run("UPDATE events SET id = 11 WHERE id = 1")
    assert world.journalled() == {"1", "11"}
    world.run("UPDATE events SET id = 12, day = '2026-08-06' WHERE id = 11" if tables is PARTITIONED else
              "UPDATE events SET id = 12 WHERE id = 11")  # fmt: skip
    assert world.journalled() == {"11", "12"}


def test_a_key_that_a_trigger_of_the_applications_changes_is_journalled_too(world: World) -> None:
    world.begin(ALONE)
    world.run(
        "CREATE FUNCTION moved() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN NEW.id := NEW.id + 100; RETURN NEW; END'; "
        "CREATE TRIGGER moved BEFORE UPDATE ON events FOR EACH ROW EXECUTE FUNCTION moved()"
    )
    # It came after capture's own, which are made again as soon as somebody looks.
    assert world.findings() == ["the trigger moved on public.events may change a key that the statement does not name"]
    capture_triggers.install(world.opened, EVENTS, FLAT)
    assert world.findings() == []
    world.run("UPDATE events SET body = 'x' WHERE id = 1")
    assert world.journalled() == {"1", "101"}


def test_a_callers_search_path_leads_nothing_astray(world: World) -> None:
    world.begin(ALONE)
    # Each would be found before the server's own, and would run with the rights of the functions' owner.
    world.run(
        "CREATE SCHEMA evil; CREATE TABLE evil.called (by name); GRANT ALL ON SCHEMA evil TO PUBLIC; "
        "CREATE FUNCTION evil.note() RETURNS void LANGUAGE sql AS 'INSERT INTO evil.called VALUES (current_user)'; "
        + "".join(
            f"CREATE FUNCTION evil.{name} RETURNS {result} LANGUAGE sql AS "
            f"'SELECT evil.note(); SELECT NULL::pg_catalog.{result}'; "
            for name, result in (
                ("current_setting(text, boolean)", "text"), ("hashtextextended(text, integer)", "int8"),
                ("pg_sequence_last_value(regclass)", "int8"), ("same(text, text)", "bool"),
                ("less(bigint, integer)", "bool"), ("left_over(bigint, integer)", "int8"),
            )
        )
        + "CREATE OPERATOR evil.= (FUNCTION = evil.same, LEFTARG = text, RIGHTARG = text); "
        "CREATE OPERATOR evil.< (FUNCTION = evil.less, LEFTARG = bigint, RIGHTARG = integer); "
        "CREATE OPERATOR evil.% (FUNCTION = evil.left_over, LEFTARG = bigint, RIGHTARG = integer); "
        "CREATE DOMAIN evil.text AS pg_catalog.text; CREATE DOMAIN evil.bool AS pg_catalog.bool"
    )  # fmt: skip
    world.run("SET search_path = evil, pg_catalog, public; UPDATE public.events SET id = 5, body = 'x' WHERE id = 1")
    world.run("SET hal9.epoch = '1'")
    with pytest.raises(psycopg2.Error) as refused:
        world.run("UPDATE public.events SET body = 'y' WHERE id = 5")
    assert refused.value.pgcode == capture.STALE_EPOCH
    world.run("RESET search_path; RESET hal9.epoch")
    assert world.journalled() == {"1", "5"}
    assert world.run("SELECT * FROM evil.called") == []


@pytest.mark.parametrize("tables", [PARTITIONED, INHERITED])
@pytest.mark.parametrize(
    "write",
    [
        "UPDATE events_1 SET body = 'late' WHERE id = 1",
        "INSERT INTO events_2 VALUES (9, '2026-08-01', 'late')",
        "DELETE FROM events_1 WHERE id = 1",
    ],
)
def test_after_the_switch_it_is_refused_as_through_the_parent(world: World, tables: str, write: str) -> None:
    world.begin(tables, mode=Mode.HIERARCHICAL_ONLY)
    with pytest.raises(psycopg2.Error) as refused:
        world.run(write)
    assert refused.value.pgcode == capture.STORE_CLOSED


def test_a_writer_with_the_role_of_a_replica_is_seen(world: World) -> None:
    world.begin(PARTITIONED)
    with contextlib.closing(psycopg2.connect(world.admin_url)) as admin, admin, admin.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica; UPDATE events_1 SET body = 'r' WHERE id = 1")
    assert world.journalled() == {"1"}


def test_a_part_cannot_be_truncated_unseen(world: World) -> None:
    world.begin(PARTITIONED)
    with pytest.raises(psycopg2.Error, match="TRUNCATE of events_1 cannot be captured") as caught:
        world.run("TRUNCATE events_1")
    said = foreign_errors.translated(caught.value)
    assert isinstance(said, errors.Refused)
    assert said.hint == "Use DELETE, or leave dual-write first."


@pytest.mark.parametrize(
    ("done", "told"),
    [
        ("CREATE TABLE events_3 PARTITION OF events FOR VALUES FROM ('2027-01-01') TO ('2027-07-01')",
         "public.events_3 has come to public.events"),
        ("CREATE TABLE events_2b PARTITION OF events_2 FOR VALUES FROM ('2026-10-01') TO ('2027-01-01')",
         "public.events_2b has come to public.events"),
        ("ALTER TABLE events DETACH PARTITION events_1", "dropped, detached or replaced"),
        ("DROP TABLE events_1", "dropped, detached or replaced"),
        ("ALTER TABLE events_1 DISABLE TRIGGER hal9cap_update", "hal9cap_update on public.events_1 is disabled"),
        ("ALTER TABLE events_2a DISABLE TRIGGER ALL", "hal9cap_insert on public.events_2a is disabled"),
        ("ALTER TABLE ONLY events ENABLE TRIGGER hal9cap_delete",
         "hal9cap_delete on public.events is not fired for replicas"),
        ("DROP TRIGGER hal9cap_delete ON events_1", "hal9cap_delete is missing on public.events_1"),
        ("ALTER TABLE events RENAME TO old; CREATE TABLE events (LIKE old)", "in the place of a table of it"),
        ("CREATE OR REPLACE FUNCTION hal9cap.capture_public_events() RETURNS trigger LANGUAGE plpgsql AS "
         "'BEGIN RETURN NULL; END'", "capture_public_events is not the one that was installed"),
        ("CREATE OR REPLACE FUNCTION hal9cap.admit(side text) RETURNS boolean LANGUAGE sql AS 'SELECT false'",
         "hal9cap.admit is not the one that was installed"),
    ],
)  # fmt: skip
def test_what_somebody_did_to_capture_is_told_and_mended(world: World, done: str, told: str) -> None:
    world.begin(PARTITIONED)
    world.run(done)
    assert told in "; ".join(world.findings())
    if "hal9cap.admit" not in done:
        capture_triggers.install(world.opened, EVENTS, FLAT)
        assert world.findings() == []


@pytest.mark.parametrize("word", ["hal9.apply", "hal9.rehearse"])
@pytest.mark.parametrize("value", ["on", "true", "1", "00000000-0000-0000-0000-000000000000"])
def test_the_words_alone_open_nothing(world: World, word: str, value: str) -> None:
    """As the stores' owner, after a switch."""
    world.begin(PARTITIONED, mode=Mode.HIERARCHICAL_ONLY)
    with pytest.raises(psycopg2.Error) as refused:
        world.run(f"SET {word} = '{value}'; UPDATE events SET body = 'past' WHERE id = 1")
    assert refused.value.pgcode == capture.STORE_CLOSED
    assert world.run(f"RESET ALL; {capture.APPLY}; UPDATE events SET body = 'ours' WHERE id = 1 RETURNING id") == [(1,)]


def test_another_role_cannot_read_what_opens(world: World) -> None:
    world.begin(PARTITIONED, mode=Mode.HIERARCHICAL_ONLY)
    with contextlib.closing(psycopg2.connect(world.admin_url)) as admin:
        with admin, admin.cursor() as cursor:
            cursor.execute(
                "CREATE ROLE plain_writer; GRANT USAGE ON SCHEMA hal9cap, public TO plain_writer; "
                "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO plain_writer"
            )
        try:
            for opening, code in ((capture.APPLY, "42501"), ("SET hal9.apply = 'on'", capture.STORE_CLOSED)):
                with admin.cursor() as cursor, pytest.raises(psycopg2.Error) as refused:
                    cursor.execute(f"SET ROLE plain_writer; {opening}; UPDATE events SET body = 'past' WHERE id = 1")
                assert refused.value.pgcode == code
                admin.rollback()
        finally:
            with admin, admin.cursor() as cursor:
                cursor.execute("DROP OWNED BY plain_writer; DROP ROLE plain_writer")


def test_a_subscription_that_writes_is_told(world: World, server_session: servers.Session) -> None:
    """Its apply worker fires triggers of rows only, so what it writes is in no journal."""
    world.begin(INHERITED)
    publisher = server_session.cluster("publisher", more={"wal_level": "logical"})
    try:
        publisher.create_database("source")
        with migration_driver.connected(publisher.admin_url("source")) as there:
            there.execute("CREATE TABLE events_1 (id bigint, day date, body text, PRIMARY KEY (id, day))")
            there.execute("CREATE PUBLICATION feed FOR TABLE events_1")
            with migration_driver.connected(world.admin_url) as here:
                here.execute("CREATE SUBSCRIPTION feed CONNECTION %s PUBLICATION feed WITH (copy_data = false)",
                             (publisher.admin_url("source"),))  # fmt: skip
                try:
                    there.execute("INSERT INTO events_1 VALUES (77, '2026-01-07', 'replicated')")
                    migration_driver.until(
                        lambda: world.run("SELECT 1 FROM events WHERE id = 77"), "the row to be replicated"
                    )
                    assert world.journalled() == set()
                    assert world.findings() == [
                        "the subscription feed writes to public.events_1, which capture does not see"
                    ]
                    here.execute("ALTER SUBSCRIPTION feed DISABLE")
                    assert world.findings() == []
                finally:
                    here.execute("DROP SUBSCRIPTION feed")
    finally:
        publisher.stop()
