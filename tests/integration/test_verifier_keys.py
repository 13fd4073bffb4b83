"""The verifier with keys and values of every type, and with servers of different versions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg2
import pytest

from hal9mig import errors
from hal9mig.categories.declaration import Column
from hal9mig.embedded.postgres import Cluster
from hal9mig.engine.compare import hash_probe, keystream
from hal9mig.ledger import quarantine
from hal9mig.sample import loading
from hal9mig.stores import connection, projection, schema
from tests.categories.accounts import ACCOUNTS, SOURCE_DDL, TARGET_DDL
from tests.support import servers
from tests.support.verify_bench import Bench, keyed, summary

TEXTS = [
    "",
    " ",
    "A",
    "Zoë",
    "a",
    "a b",
    "a-b",
    "ab",
    "b",
    "Z",
    "zebra",
    "ß",
    "ä",
    "Ä",
    "é",
    "日本",
    "\x01",
    "a'b",
    "%s",
]
KEYS: dict[str, tuple[tuple[tuple[str, str], ...], str, str, list[tuple[Any, ...]]]] = {
    "integer": (
        (("id", "integer"),), "", "", [(n,) for n in ("-2147483648", "-2", "-1", "0", "1", "9", "10", "2147483647")],
    ),
    "collated text": ((("id", "text"),), 'COLLATE {unlike}', 'COLLATE "C"', [(text,) for text in TEXTS]),
    "other collation": ((("id", "text"),), 'COLLATE "C"', 'COLLATE {unlike}', [(text,) for text in TEXTS]),
    "character": ((("id", "character(5)"),), 'COLLATE {unlike}', "", [("a",), ("a\tb",), ("B",), ("",), ("ab",)]),
    "numeric": (
        (("id", "numeric"),), "", "",
        [(n,) for n in ("-Infinity", "-10", "-9.5", "0", "0.10", "1e-20", "9", "10", "1e30", "Infinity", "NaN")],
    ),
    "timestamp": (
        (("id", "timestamptz"),), "", "",
        [(t,) for t in ("-infinity", "0044-03-15 00:00+00 BC", "1999-12-31 23:59:59.999999+00", "2000-01-01 00:00+00",
                        "2026-07-01 12:00+02", "10000-01-01 00:00+00", "infinity")],
    ),
    "date": (
        (("id", "date"),), "", "",
        [(d,) for d in ("-infinity", "1969-07-20", "2000-01-01", "2026-01-01", "infinity")],
    ),
    "boolean": ((("id", "boolean"),), "", "", [("false",), ("true",)]),
    "composite": (
        (("zone", "text"), ("id", "bigint")), 'COLLATE {unlike}', 'COLLATE "C"',
        [(zone, n) for zone in ("", "a", "B", "b", "ä") for n in (-1, 0, 10, 9)],
    ),
}  # fmt: skip


def unlike_bytes(bench: Bench) -> str:
    """A collation that orders a before B; the last one the server has, where none does."""
    found = "C"
    for (name,) in bench.flat(
        "SELECT quote_ident(collname) FROM pg_collation WHERE collisdeterministic AND collname <> 'default' "
        "AND collencoding IN (-1, 6) ORDER BY collname"
    ):
        try:
            (before,) = bench.flat(f"SELECT 'a' < 'B' COLLATE {name}")[0]
        except psycopg2.Error:
            continue  # one this server was built without
        found = name
        if before:
            break
    return found


@pytest.mark.parametrize("name", KEYS)
def test_keys_of_every_kind(open_bench: Callable[..., Bench], name: str) -> None:
    parts, flat_collation, hier_collation, values = KEYS[name]
    bench = open_bench(keyed(*parts))
    unlike = unlike_bytes(bench)
    for run, collation in ((bench.flat, flat_collation), (bench.hier, hier_collation)):
        collation = collation.format(unlike=unlike)
        columns = ", ".join(
            f"{column} {kind} {collation if kind.startswith(('text', 'char')) else ''}" for column, kind in parts
        )
        run(f"CREATE TABLE public.keyed ({columns}, value text, PRIMARY KEY ({', '.join(part for part, _ in parts)}))")
    places = ", ".join(f"%s::{kind}" for _, kind in parts)
    for value in values:
        for run in (bench.flat, bench.hier):
            run(f"INSERT INTO public.keyed VALUES ({places}, 'same')", *value)
    bench.covered("keyed")
    whole = bench.verify("keyed", batch=2)
    assert whole.consistent
    assert whole.verified == whole.total == len(values)

    names = ", ".join(part for part, _ in parts)
    where = f"({names}) = ({places})"
    text = "concat_ws('/', " + ", ".join(f"{part}::text" for part, _ in parts) + ")"

    def printed(value: tuple[Any, ...]) -> str:
        return str(bench.flat(f"SELECT {text} FROM public.keyed WHERE {where}", *value)[0][0])

    changed, gone, added = printed(values[0]), printed(values[-1]), printed(values[len(values) // 2])
    bench.hier(f"UPDATE public.keyed SET value = 'other' WHERE {where}", *values[0])
    bench.hier(f"DELETE FROM public.keyed WHERE {where}", *values[-1])
    expected = {"mismatch": {changed}, "missing": {gone}}
    if len(values) > 2:
        bench.flat(f"DELETE FROM public.keyed WHERE {where}", *values[len(values) // 2])
        expected["extra"] = {added}
    assert summary(bench.verify("keyed", batch=2)) == expected
    # What is held in quarantine is found by the key's value, whatever form it was noted in.
    with bench.system.ledger.begin() as session:
        quarantine.hold(
            session, category="keyed", key=tuple(map(str, values[-1])), error="x", payload=None, transform_version=1,
            run_id=None,
        )  # fmt: skip
        quarantine.hold(
            session, category="other", key=("no such value",), error="x", payload=None, transform_version=1, run_id=None
        )
    expected["quarantined"] = expected.pop("missing")
    for batch in (3, 25_000):
        assert summary(bench.verify("keyed", batch=batch)) == expected


def test_a_category_without_versions_or_sample(open_bench: Callable[..., Bench]) -> None:
    bench = open_bench(ACCOUNTS)
    bench.flat(SOURCE_DDL)
    bench.hier(TARGET_DDL)
    bench.flat("INSERT INTO pgbench_accounts SELECT n, n % 3, n * 10, 'f' || n FROM generate_series(1, 50) n")
    bench.migrate("accounts")
    assert bench.verify("accounts", batch=7).verified == 50
    bench.hier("UPDATE bank.accounts SET filler = 'f 49' WHERE account_id = 49")
    (difference,) = bench.verify("accounts", batch=7).differences
    assert difference.key == ("49",)
    assert difference.fields[0].field == "filler"


def test_the_oldest_and_the_newest_server_hash_alike(
    flat_cluster_16: Cluster, databases: servers.Databases, stores: servers.Stores
) -> None:
    flat_url = flat_cluster_16.create_database("old_flat")
    try:
        # The hierarchical store is there already; upgrading does the rest.
        schema.upgrade(flat_url, stores.hier_url)
        bench = Bench(flat_url, stores.hier_url, stores.redis_url)
        try:
            loading.load(flat_url, scale=0.0003, seed=3, edge_cases=True)
            for slug in bench.system.registry.categories:
                bench.migrate(slug)
                found = bench.verify(slug)
                assert found.consistent
                assert found.verified == found.total > 9
        finally:
            bench.close()
    finally:
        flat_cluster_16.drop_database("old_flat")


@pytest.mark.parametrize(("body", "named"), [("SELECT float8send(1)", "real"), ("SELECT (1 / 0)::text::bytea", "zero")])
def test_servers_that_hash_otherwise_are_refused(bench: Bench, body: str, named: str) -> None:
    bench.flat(f"CREATE FUNCTION public.float4send(real) RETURNS bytea LANGUAGE sql AS '{body}'")
    flat = connection.connect(bench.flat_url, application_name="test")
    hier = connection.connect(bench.hier_url, application_name="test")
    hash_probe.require_alike(flat, hier)
    with flat, flat.cursor() as cursor:
        cursor.execute("SET search_path = public, pg_catalog")
    with pytest.raises(errors.ServersIncomparable, match=named) as raised:
        hash_probe.require_alike(flat, hier)
    assert raised.value.hint
    flat.close()
    hier.close()


SWAPPED = [
    "[" + ",".join(map(str, numbers)) + "]" for numbers in (range(1, 41), [33, *range(2, 33), 1, *range(34, 41)])
]
UNLIKE: list[tuple[str, str | None, str | None]] = [
    ("jsonb", "[0.75]", "[-0.75]"), ("jsonb", "[1]", "[1.0]"), ("jsonb", SWAPPED[0], SWAPPED[1]),
    ("jsonb", '{"a": 1}', '{"a": "1"}'), ("jsonb", "null", None), ("json", "[1]", "[ 1]"),
    ("jsonb[]", "{1}", "{-1}"), ("numeric", "5", "-5"), ("numeric", "1.0", "1.00"), ("numeric[]", "{5}", "{-5}"),
    ("bigint", "-1", "4294967295"), ("bigint", "0", "4294967297"), ("real", "0", "-0"),
    ("double precision", "0", "-0"), ("real[]", "{0}", "{-0}"), ("interval", "1 mon", "30 days"),
    ("timestamptz", "2000-01-01 00:00:00+00", "2000-01-01 01:11:34.967297+00"),
    ("timestamp", "2000-01-01 00:00:00", "2000-01-01 01:11:34.967297"),
    ("timetz", "12:00+00", "13:00+01"), ("inet", "10.0.0.1/8", "10.0.0.1/16"), ("text", "", None),
    ("text", "a", "a "), ("text[]", "{}", "{NULL}"), ("bytea", "\\x00", "\\x0000"), ("boolean", "f", None),
]  # fmt: skip


def test_values_that_are_equal_to_postgresql_and_not_the_same(bench: Bench) -> None:
    alike = []
    for kind, one, other in UNLIKE:
        column = projection.column_hash(Column("value", kind), "s")
        first, second = bench.flat(f"SELECT {column} FROM (VALUES (%s::{kind}), (%s)) s(value)", one, other)
        if first == second:
            alike.append((kind, one, other))
    assert alike == []


def test_enums_have_other_numbers_on_each_server(bench: Bench) -> None:
    hashes = []
    for run, before in ((bench.flat, 0), (bench.hier, 3)):
        for number in range(before):
            run(f"CREATE TYPE other{number} AS ENUM ()")
        run("CREATE TYPE mood AS ENUM ('calm', 'tense')")
        columns = ", ".join(
            projection.column_hash(Column(name, kind), "s") for name, kind in (("a", "mood"), ("b", "mood[]"))
        )
        hashes.append(run(f"SELECT {columns} FROM (SELECT 'calm'::mood AS a, '{{tense}}'::mood[] AS b) s"))
    assert hashes[0] == hashes[1]


def test_a_stream_out_of_order_is_an_error_and_no_result(bench: Bench) -> None:
    category = keyed(("id", "bigint"))
    opened = connection.connect(bench.flat_url, application_name="test")
    query = ("SELECT n, n::text, 1::bigint, false, false FROM generate_series(3, 1, -1) n", [])
    with (
        keystream.Stream(opened, category, query, name="flat") as stream,
        pytest.raises(errors.HAL9Error, match="not in bytewise order"),
    ):
        list(stream)
    opened.close()
