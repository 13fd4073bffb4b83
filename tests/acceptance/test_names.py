"""Categories of quoted, reserved and very long names, and of domains: declared, captured, migrated, switched."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator

import psycopg2
import pytest

from hal9mig.categories import identifiers
from hal9mig.stores import category_check
from tests.categories import named
from tests.support import live_state, servers
from tests.support.live_state import World

SLUGS = ("domains", "orders", "long-b", "long-c")
KEY = "k" * 63


@pytest.fixture
def world(stores: servers.Stores, stack_env: dict[str, str]) -> Iterator[World]:
    live_state.execute(stores.flat_url, named.SOURCE_DDL)
    live_state.execute(stores.hier_url, named.TARGET_DDL)
    env = {**stack_env, "HAL9_CATEGORIES": named.__file__}
    with live_state.opened(stores, env) as opened:
        opened.only(*SLUGS)
        opened.flat_sql("INSERT INTO domains SELECT g, g, -0.0, now() FROM generate_series(1, 50) g")
        opened.flat_sql("INSERT INTO \"Order Items\" SELECT g, 's' || g % 5, '%s', 1 FROM generate_series(1, 50) g")
        for last in "bc":
            opened.flat_sql(
                f"INSERT INTO {named.LONG}{last} SELECT (g || '.00')::numeric, '{last}' FROM generate_series(1, 50) g"
            )
        yield opened


def test_they_go_all_the_way(world: World) -> None:
    """Copied, captured, verified, switched over, written there, and followed back."""
    with contextlib.closing(world.system.flat()) as flat, contextlib.closing(world.system.hier()) as hier:
        for category in world.system.registry.ordered():
            category_check.check_category(category, flat, hier)
    world.switch.enable()
    world.migrate()
    world.flat_sql("UPDATE domains SET pos = 999 WHERE id < 4; DELETE FROM domains WHERE id = 50")
    world.flat_sql('UPDATE "Order Items" SET "select" = \'new\', "50%" = "50%" + 1 WHERE "Id" < 4')
    world.flat_sql('DELETE FROM "Order Items" WHERE "Id" = 50; INSERT INTO "Order Items" VALUES (51, \'x\', NULL, 1)')
    for last in "bc":
        world.flat_sql(f"UPDATE {named.LONG}{last} SET {KEY} = trim_scale({KEY}), value_{last} = 'new' WHERE {KEY} < 4")
    assert world.waiting() == 3 + 1 + 3 + 1 + 1 + 3 + 3
    world.drain()
    world.assert_equal()
    assert world.hier_sql("SELECT pos, twice FROM bank.domains WHERE id = 1") == [(999, 1998)]
    world.pass_over()
    world.pretend_worker()
    world.leave()
    world.hier_sql('UPDATE "order"."user" SET "user" = \'newest\' WHERE "Id" = 7')
    world.hier_sql("DELETE FROM bank.domains WHERE id = 7")
    for last in "bc":
        world.hier_sql(
            f"UPDATE {'s' * 63}.{named.LONG}{last} SET {KEY} = 7.000, value_{last} = 'newest' WHERE {KEY} = 7"
        )
    world.follow()
    world.assert_equal()
    assert world.flat_sql('SELECT "select" FROM "Order Items" WHERE "Id" = 7') == [("newest",)]
    assert world.flat_sql(f"SELECT {KEY}::text, value_c FROM {named.LONG}c WHERE {KEY} = 7") == [("7.000", "newest")]


@pytest.mark.parametrize("over", [False, True])
def test_the_client_writes_and_reads_them(world: World, over: bool) -> None:
    """On either side."""
    world.prepare(over=over)
    with contextlib.closing(world.client()) as client:
        client.put("domains", {"id": 60, "pos": 60, "rate": 0.5, "seen": "2026-01-01"})
        client.put("orders", {"Id": 60, "select": "a%s", "a-b, (c)": "%(x)s", "50%": 3})
        client.put("long-b", {KEY: "60.00", "value_b": "b"})
        client.put("long-b", {KEY: "60.0", "value_b": "again"})
        client.delete("long-c", "5.0")
        assert client.get("orders", 60)["select"] == "a%s"
        assert client.get("long-b", 60)["value_b"] == "again"
        assert client.get("domains", 60)["pos"] == 60
        assert len(list(client.scan("orders"))) == 51
        assert len(list(client.scan("domains"))) == 51
        assert client.get("long-c", 5) is None
    world.follow()
    world.assert_equal()


def test_a_domain_may_be_declared_by_what_it_is_over(world: World) -> None:
    """And one that is over something else is refused."""
    domains = world.system.category("domains")
    assert [column.type for column in domains.source.columns] == [
        "bigint", "integer", "double precision", "timestamp with time zone",
    ]  # fmt: skip
    assert domains.filters["pos"].type == "integer"
    with contextlib.closing(world.system.flat()) as flat, contextlib.closing(world.system.hier()) as hier:
        category_check.check_category(domains, flat, hier)
        category_check.check_category(named.DOMAINS, flat, hier)


def test_the_words_that_sql_keeps_are_known(world: World) -> None:
    """Each that a schema's name cannot be without quotes."""
    words = {word for (word,) in world.hier_sql("SELECT word FROM pg_get_keywords() WHERE catcode IN ('R', 'T')")}
    assert words <= identifiers.RESERVED
    for word in sorted(identifiers.RESERVED - words):
        with contextlib.suppress(psycopg2.errors.SyntaxError):
            world.hier_sql(f"CREATE SCHEMA {word}")


def test_the_declaration_is_a_file(world: World) -> None:
    """As a user has it."""
    assert world.system.settings.category_files == (pathlib.Path(named.__file__),)
