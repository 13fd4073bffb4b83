"""The client library on real stores: every mode, and what goes wrong."""

from __future__ import annotations

import contextlib
import decimal
import io
import pathlib
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pytest

from hal9mig import client, errors, sample
from hal9mig.categories import keys, wire
from hal9mig.client import Json
from hal9mig.client import client as client_module
from hal9mig.client.values import Record
from hal9mig.model import StoreName
from hal9mig.stores import connection as stores_connection
from hal9mig.stores.write_mode import Mode
from tests.integration.client_world import CONFIGURATION, NEURONS, SESSIONS, World, neuron, session, setting
from tests.support import servers

PETS = """
from hal9mig.categories.declaration import Category, Column, Pass, Role, Source, Target


def pet(slug, owner):
    names = ("id", "owner") if owner else ("id",)
    table = slug
    return Category(
        slug=slug, title=slug,
        source=Source(schema="public", table=table, columns=tuple(Column(n, "integer") for n in names), key=("id",)),
        targets=(Target(schema="zoo", table=table, role=Role.ROOT, columns=tuple(Pass(n, n) for n in names),
                        key=("id",), owner=("id",)),),
        rebuild=f"SELECT {', '.join(names)} FROM zoo.{table} WHERE RANGE(id)",
    )
KEEPERS, PETS = pet("keepers", False), pet("pets", True)
"""


@pytest.fixture
def world(stores: servers.Stores) -> Iterator[World]:
    opened = World(stores)
    yield opened
    opened.close()


def without_version(record: Record | None) -> str:
    assert record is not None
    # As text: nan is not itself, and -0.0 equals 0.0.
    return repr(_ordered({name: value for name, value in record.items() if name != "version"}))


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _ordered(value[name]) for name in sorted(value)}
    return [_ordered(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("mode", [Mode.FLAT_ONLY, Mode.DUAL_WRITE, Mode.HIERARCHICAL_ONLY])
def test_records_come_back_as_they_were_put_in_every_mode(world: World, mode: Mode) -> None:
    sample.load(world.stores.flat_url, scale=0.0001, seed=1, edge_cases=True)
    world.go(mode)
    assert world.client.mode is mode
    for slug, record in ((SESSIONS, session()), (NEURONS, neuron()), (CONFIGURATION, setting(value=Json("null")))):
        key = record[world.system.category(slug).key[0]]
        assert world.client.get(slug, key) is None
        first = world.client.put(slug, record)
        assert without_version(world.client.get(slug, key)) == without_version(record)
        assert world.client.put(slug, record) == (first or 0) + 1
        assert world.client.delete(slug, key) is True
        assert world.client.delete(slug, key) is False
        assert world.client.get(slug, key) is None
        # A record that comes back is newer than it was.
        assert (world.client.put(slug, record) or 0) > (first or 0) + 1
    for category in world.system.registry.ordered():
        before = {
            tuple(str(record[name]) for name in category.key): record for record in world.client.scan(category.slug)
        }
        assert len(before) > 8
        for record in before.values():
            if record["version"] < 2**63 - 1:
                assert world.client.put(category.slug, record) == record["version"] + 1
        after = list(world.client.scan(category.slug))
        assert [without_version(record) for record in after] == [without_version(record) for record in before.values()]
    if mode is not Mode.FLAT_ONLY:
        # A record that was there before is brought over by its first write; each has had one, but for the newest.
        world.migrate() if mode is Mode.DUAL_WRITE else world.follow()
        world.assert_equal()


def test_a_scan_has_one_order_and_one_filter_in_every_mode(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PAGE", 3)
    for number, key in enumerate(["b", "A", "a.b", "a", "ä", "B", "a b", "~"]):
        world.client.put(CONFIGURATION, setting(key, number, updated_by="you" if number % 2 else "me"))
    for change in (lambda: None, world.switch.enable, world.migrate, world.leave_flat, world.switch.return_to_flat):
        change()
        keys = [record["key"] for record in world.client.scan(CONFIGURATION)]
        assert keys == ["A", "B", "a", "a b", "a.b", "b", "~", "ä"]
        assert [record["key"] for record in world.client.scan(CONFIGURATION, after="a", limit=4)] == keys[3:7]
        mine = [record["key"] for record in world.client.scan(CONFIGURATION, filter="updated_by = me", limit=3)]
        assert mine == ["a.b", "b", "~"] or mine == [key for key in keys if key in ("b", "a.b", "ä", "a b")][:3]
        assert list(world.client.scan(CONFIGURATION, limit=0)) == []
    with pytest.raises(errors.InvalidFilter):
        world.client.scan(CONFIGURATION, filter="value = 1")


@pytest.mark.parametrize("mode", [Mode.FLAT_ONLY, Mode.HIERARCHICAL_ONLY])
def test_versions_decide_who_was_first(world: World, mode: Mode) -> None:
    world.go(mode)
    put = world.client.put
    assert put(CONFIGURATION, setting(version=7), expected_version=0) == 7
    with pytest.raises(errors.Conflict, match="is at version 7"):
        put(CONFIGURATION, setting(), expected_version=0)
    assert put(CONFIGURATION, setting(), expected_version=7) == 8
    for expected in (7, 9):
        with pytest.raises(errors.Conflict) as caught:
            put(CONFIGURATION, setting(value="lost"), expected_version=expected)
        assert caught.value.context["version"] == "8"
    # What is given counts where it is larger; a version never goes back.
    assert put(CONFIGURATION, setting(version=3)) == 9
    assert put(CONFIGURATION, setting(version=50)) == 50
    with pytest.raises(errors.Conflict):
        world.client.delete(CONFIGURATION, "a.b", expected_version=49)
    with pytest.raises(errors.Conflict):
        world.client.delete(CONFIGURATION, "a.b", expected_version=0)
    assert world.client.delete(CONFIGURATION, "a.b", expected_version=50)
    for expected in (1, 50):
        with pytest.raises(errors.Conflict, match="it is not there"):
            put(CONFIGURATION, setting(), expected_version=expected)
    assert world.client.get(CONFIGURATION, "a.b") is None


def two(state: client.Client, one: Record, between: Callable[[], Any], other: Record) -> None:
    """Put two records in a transaction, with something between them."""
    with state.transaction() as transaction:
        transaction.put(SESSIONS, one)
        between()
        transaction.put(SESSIONS, other)


@pytest.mark.parametrize("mode", [Mode.FLAT_ONLY, Mode.HIERARCHICAL_ONLY])
def test_what_is_wrong_is_refused_and_changes_nothing(world: World, mode: Mode) -> None:
    world.go(mode)
    put = world.client.put
    put(SESSIONS, session())
    for wrong in (
        session() | {"colour": "red"},
        {name: value for name, value in session().items() if name != "data"},
        session(version="new"),
        session(user_id="a\0b"),
        session(data={"a": float("nan")}),
    ):
        with pytest.raises(errors.InvalidRecord):
            put(SESSIONS, wrong)
    for refused in (session(2, token_hash="token 1"), session(2, session_id="no uuid"), session(2, user_id=None)):
        with pytest.raises((errors.RecordRefused, errors.RecordRejected)):
            put(SESSIONS, refused)
    with pytest.raises(errors.UnknownCategory):
        world.client.get("session", 1)
    with pytest.raises(errors.InvalidRecord):
        world.client.get(SESSIONS, ("a", "b"))
    # All or nothing, whatever comes first, and whoever raises.
    for breaks in (lambda: put(SESSIONS, session(2, token_hash=None)), lambda: None):
        with pytest.raises((errors.RecordRefused, errors.RecordRejected)):
            two(world.client, session(4), breaks, session(5, token_hash="token 1"))
    assert [record["token_hash"] for record in world.client.scan(SESSIONS)] == ["token 1"]


def test_the_hierarchical_store_takes_no_record_that_it_could_not_give_back(world: World) -> None:
    world.go(Mode.HIERARCHICAL_ONLY)
    connection = {
        "target": str(uuid.UUID(int=9)),
        "weight": decimal.Decimal("0.1000000000000000000001"),
        "conn_type": "lateral",
    }
    with pytest.raises(errors.RecordRejected, match="exactly"):
        world.client.put(NEURONS, neuron(connections=[connection]))
    with pytest.raises(errors.RecordRejected):
        world.client.put(NEURONS, neuron(connections=[connection | {"target": "X"}]))
    assert world.client.get(NEURONS, neuron()["neuron_id"]) is None


def test_plain_sql_is_captured_like_everything_else(world: World) -> None:
    for number in range(1, 6):
        world.client.put(SESSIONS, session(number))
    world.switch.enable()
    world.migrate()
    one, other = (f"'{session(number)['session_id']}'" for number in (1, 2))
    world.sql(
        StoreName.FLAT,
        f"UPDATE flat.user_sessions SET session_id = '{uuid.UUID(int=77)}' WHERE session_id = {one}",
        f"UPDATE flat.user_sessions SET token_hash = 'parked' WHERE session_id = {other}",
        f"UPDATE flat.user_sessions SET token_hash = 'token 2' WHERE session_id = '{uuid.UUID(int=77)}'",
        f"UPDATE flat.user_sessions SET token_hash = 'token 1' WHERE session_id = {other}",
        "DELETE FROM flat.user_sessions WHERE token_hash = 'token 4'",
        "UPDATE flat.user_sessions SET active = false, version = version + 1 WHERE token_hash > 'token 4'",
    )
    world.follow()
    world.assert_equal(SESSIONS)
    world.leave_flat()
    world.sql(
        StoreName.HIERARCHICAL,
        "SET CONSTRAINTS ALL DEFERRED",
        f"UPDATE hier.sessions SET token_hash = 'token 1' WHERE session_id = '{uuid.UUID(int=77)}'",
        f"UPDATE hier.sessions SET token_hash = 'token 2' WHERE session_id = {other}",
        "UPDATE hier.session_attributes SET value = '5' WHERE name = 'n'",
        f"DELETE FROM hier.session_attributes WHERE session_id = {other}",
    )
    world.follow()
    world.assert_equal(SESSIONS)
    found = world.client.get(SESSIONS, uuid.UUID(int=77))
    assert found is not None
    assert (found["token_hash"], found["data"]["n"]) == ("token 1", 5)


def test_what_a_cascade_deletes_is_deleted_on_the_other_side(stores: servers.Stores, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "zoo.py"
    file.write_text(PETS)
    world = World(stores, {"HAL9_CATEGORIES": str(file)})
    with contextlib.closing(world):
        ddl = (
            "CREATE TABLE {0}.keepers (id integer PRIMARY KEY)",
            "CREATE TABLE {0}.pets (id integer PRIMARY KEY, owner integer REFERENCES {0}.keepers ON DELETE CASCADE)",
        )
        world.sql(StoreName.FLAT, *(statement.format("public") for statement in ddl))
        world.sql(StoreName.HIERARCHICAL, "CREATE SCHEMA zoo", *(statement.format("zoo") for statement in ddl))
        world.switch.enable()
        for change in (lambda: None, world.leave_flat):
            change()
            with world.client.transaction() as transaction:
                for number in (1, 2):
                    transaction.put("keepers", {"id": number})
                for number in range(6):
                    transaction.put("pets", {"id": number, "owner": number % 2 + 1})
            world.follow()
            world.assert_equal("keepers", "pets")
            assert world.client.delete("keepers", 1)
            world.follow()
            world.assert_equal("keepers", "pets")
            assert [record["id"] for record in world.client.scan("pets")] == [1, 3, 5]
            assert world.client.put("pets", {"id": 1, "owner": 2}) is None
            with pytest.raises(errors.InvalidRecord, match="no version"):
                world.client.put("pets", {"id": 1, "owner": 2}, expected_version=1)


def test_unique_values_that_swap_in_one_transaction_come_out_right(world: World) -> None:
    for number in (1, 2, 3):
        world.client.put(SESSIONS, session(number))

    def tokens() -> list[str]:
        return [record["token_hash"] for record in world.client.scan(SESSIONS)]

    # The flat constraint is checked at each statement, so the swap goes by way of a third value.
    world.switch.enable()
    world.migrate()
    with world.client.transaction() as transaction:
        transaction.put(SESSIONS, session(1, token_hash="parked"))
        transaction.put(SESSIONS, session(2, token_hash="token 1"))
        transaction.put(SESSIONS, session(1, token_hash="token 2"))
    assert tokens() == ["token 2", "token 1", "token 3"]
    world.assert_equal(SESSIONS)
    world.leave_flat()
    with world.client.transaction() as transaction:
        transaction.put(SESSIONS, session(1, token_hash="token 3"))
        transaction.put(SESSIONS, session(3, token_hash="token 2"))
    assert tokens() == ["token 3", "token 1", "token 2"]
    world.follow()
    world.assert_equal(SESSIONS)
    # One record takes another's value and key.
    with world.client.transaction() as transaction:
        transaction.delete(SESSIONS, session(2)["session_id"])
        transaction.put(SESSIONS, session(4, token_hash="token 1"))
    world.follow()
    world.assert_equal(SESSIONS)


@pytest.mark.parametrize("mode", [Mode.FLAT_ONLY, Mode.HIERARCHICAL_ONLY])
def test_a_connection_that_is_lost_at_the_commit_leaves_the_outcome_unknown(world: World, mode: Mode) -> None:
    world.go(mode)
    world.client.put(SESSIONS, session())
    side = mode.ruling
    cluster = world.stores.flat_cluster if side is StoreName.FLAT else world.stores.hier_cluster
    table = "flat.user_sessions" if side is StoreName.FLAT else "hier.sessions"
    name = f"{'flat' if side is StoreName.FLAT else 'hier'}_{world.stores.name}"
    admin = psycopg2.connect(cluster.admin_url(name))
    admin.autocommit = True
    with admin.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION public.die() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS "
            "'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END'; "
            f"CREATE CONSTRAINT TRIGGER die AFTER INSERT OR UPDATE ON {table} DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION public.die()"
        )
        with pytest.raises(errors.OutcomeUnknown):
            world.client.put(SESSIONS, session(data={"n": 2}))
        cursor.execute(f"DROP TRIGGER die ON {table}")
    admin.close()
    found = world.client.get(SESSIONS, session()["session_id"])
    assert found is not None
    assert found["data"]["n"] == 1
    world.client.put(SESSIONS, session(data={"n": 3}))


def test_a_client_outlives_a_restart_of_the_server_and_says_when_it_is_down(world: World) -> None:
    world.client.put(SESSIONS, session())
    world.stores.flat_cluster.stop()
    with client.connect(world.system.settings, patience=0.1) as hasty:
        for call in (lambda: hasty.put(SESSIONS, session()), lambda: hasty.get(SESSIONS, session()["session_id"])):
            with pytest.raises(errors.StoreUnreachable):
                call()
    waiting = threading.Thread(target=lambda: world.client.put(SESSIONS, session(2)))
    waiting.start()
    world.stores.flat_cluster.start()
    waiting.join(30)
    world.client.put(SESSIONS, session(3))
    assert len(list(world.client.scan(SESSIONS))) == 3


@pytest.mark.parametrize(
    ("kind", "literals"),
    [
        (
            "timestamptz",
            ["2026-01-01 00:00:00+00", "2026-01-01 12:34:56.1+00", "0001-01-01", "1999-12-31 23:59:59.999999"],
        ),
        ("timestamp", ["2026-01-01 00:00:00.000001", "2026-01-01"]),
        ("date", ["0044-03-15", "9999-12-31"]),
        ("boolean", ["t", "f"]),
        ("numeric", ["1e3", "1.500", "-0.0000001", "0.00", "NaN", "123456789012345678901234567890.12"]),
        ("character(5)", ["ab", "", "abcde"]),
        ("character varying(5)", ["a b "]),
        ("text", [" x ", "é"]),
        ("uuid", ["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"]),
        ("bigint", ["-9223372036854775808"]),
    ],
)
def test_the_engine_spells_a_key_as_the_journal_does(stores: servers.Stores, kind: str, literals: list[str]) -> None:
    """Or a captured record would be taken for one that is gone, and deleted on the other side."""
    connection = stores_connection.connect(stores.flat_url, application_name="test")
    with contextlib.closing(connection), connection.cursor() as cursor:
        for literal in literals:
            cursor.execute(f"SELECT {keys.text_sql(kind, f'%s::{kind}')}", (literal,))
            found = cursor.fetchone()
            copied = io.BytesIO()
            query = cursor.mogrify(f"SELECT %s::{kind}", (literal,)).decode()
            cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT binary)", copied)
            row = wire.rows_of(copied.getvalue().removesuffix(wire.TRAILER))
            assert row is not None
            assert (keys.text(kind, wire.split(row, 1)[0]),) == found
