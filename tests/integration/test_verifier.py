"""The verifier on real servers: it finds exactly what differs, and never what only lags."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg2
import pytest

from hal9mig import errors, model, settings
from hal9mig.categories.declaration import Category, Column, FilterField, Pass, Role, Source, Target
from hal9mig.categories.registry import Registry
from hal9mig.embedded.postgres import Cluster
from hal9mig.engine import keystream, probe, suspects, verdict, verifier, work
from hal9mig.engine.system import System
from hal9mig.engine.verdict import CategoryVerdict
from hal9mig.ledger import batches, differences, dispatch, quarantine, runs
from hal9mig.sample import loading
from hal9mig.stores import capture, connection, projection, schema
from tests import servers
from tests.categories.accounts import ACCOUNTS, SOURCE_DDL, TARGET_DDL

NEURONS = "neuron-states"


def nothing(_: float) -> None:
    """Do not wait."""


class Bench:
    """Plans runs and works their batches in this process, without waiting between looks."""

    def __init__(self, flat_url: str, hier_url: str, redis_url: str, *, categories: Sequence[Category] = ()) -> None:
        environ = {"HAL9_FLAT_URL": flat_url, "HAL9_HIER_URL": hier_url, "HAL9_REDIS_URL": redis_url}
        self.flat_url, self.hier_url = flat_url, hier_url
        self.system = System(settings.load(environ=environ), role="worker")
        if categories:
            known = self.system.registry
            self.system.registry = Registry(  # type: ignore[misc]
                categories={**known.categories, **{one.slug: one for one in categories}},
                origins={**known.origins, **{one.slug: "test" for one in categories}},
            )
        self.desk = work.Desk(self.system)
        self.connections = [psycopg2.connect(flat_url), psycopg2.connect(hier_url)]
        for one in self.connections:
            one.autocommit = True

    def close(self) -> None:
        self.desk.clear()
        for one in self.connections:
            one.close()
        self.system.ledger.close()

    def flat(self, sql: str, *values: Any) -> list[Any]:
        return self._run(0, sql, values)

    def hier(self, sql: str, *values: Any) -> list[Any]:
        return self._run(1, sql, values)

    def _run(self, side: int, sql: str, values: tuple[Any, ...]) -> list[Any]:
        with self.connections[side].cursor() as cursor:
            cursor.execute(sql, values or None)
            return cursor.fetchall() if cursor.description else []

    def start(self, kind: model.RunKind, category: str, *, filter: str = "", **options: object) -> int:
        with self.system.ledger.begin() as session:
            return runs.create(
                session, kind=kind, category=category, priority=model.Priority.NORMAL, filter=filter,
                options=options, serial=False, actor="test",
            )  # fmt: skip

    def next(self, run_id: int) -> tuple[int, int] | None:
        """Publish a run's next batch: its number and attempt."""
        with self.system.ledger.begin() as session:
            runs.settle(session)
            seqs = [batch.seq for batch in dispatch.planned(session, run_id, 1)]
            return next(iter(dispatch.queue(session, run_id, seqs).items())) if seqs else None

    def perform(self, run_id: int, seq: int, attempt: int) -> None:
        became = work.perform(self.system, self.desk, run_id=run_id, seq=seq, attempt=attempt, owner="test/1")
        assert became == "done", self.hier("SELECT error FROM hal9mig.batches WHERE run_id = %s", run_id)

    def migrate(self, category: str, filter: str = "", **options: object) -> int:
        run_id = self.start(model.RunKind.MIGRATE, category, filter=filter, **options)
        while batch := self.next(run_id):
            self.perform(run_id, *batch)
        return run_id

    def covered(self, category: str, filter: str = "") -> None:
        """Let a category count as migrated, whatever the stores hold."""
        run_id = self.start(model.RunKind.MIGRATE, category, filter=filter)
        self.hier("UPDATE hal9mig.runs SET status = 'succeeded', planned = true WHERE id = %s", run_id)

    def planned(self, category: str, *, filter: str = "", batch: int = 25_000, deep: bool = True) -> int:
        run_id = self.start(model.RunKind.VERIFY, category, filter=filter, verify=True, deep=deep, batch=batch)
        found = self.next(run_id)
        assert found is not None
        self.perform(run_id, *found)
        return run_id

    def work(self, run_id: int, sleep: Callable[[float], None] = nothing) -> bool | None:
        """Compare a run's next batch: whether it came to its end, None when there is none."""
        batch = self.next(run_id)
        if batch is None:
            return None
        with self.system.ledger.begin() as session:
            held = batches.claim(session, run_id=run_id, seq=batch[0], attempt=batch[1], owner="test/1", lease=60)
        assert held is not None
        with self.system.ledger.connection() as session:
            done = verifier.verify_batch(
                self.system, held, flat=self.desk.flat("read"), session=session, settle=0.25, sleep=sleep
            )
        if not done:
            with self.system.ledger.begin() as session:
                assert batches.hand_back(session, held, seconds=0)
        return done

    def verify(
        self,
        category: str,
        *,
        filter: str = "",
        batch: int = 25_000,
        deep: bool = True,
        sleep: Callable[[float], None] = nothing,
    ) -> CategoryVerdict:
        run_id = self.planned(category, filter=filter, batch=batch, deep=deep)
        while self.work(run_id, sleep) is not None:
            pass
        return self.verdict(category, run_id)

    def verdict(self, category: str, run_id: int) -> CategoryVerdict:
        with self.system.ledger.begin() as session:
            return verdict.collect(session, self.system.category(category), run_id)


@pytest.fixture
def open_bench(stores: servers.Stores) -> Iterator[Callable[..., Bench]]:
    opened: list[Bench] = []

    def opener(*categories: Category) -> Bench:
        opened.append(Bench(stores.flat_url, stores.hier_url, stores.redis_url, categories=categories))
        return opened[-1]

    yield opener
    for bench in opened:
        bench.close()


@pytest.fixture
def bench(open_bench: Callable[..., Bench]) -> Bench:
    return open_bench()


def unit(number: int) -> str:
    """The key of a neuron; keys sort as their numbers do."""
    return f"00000000-0000-4000-8000-{number:012x}"


def add_neurons(bench: Bench, numbers: Sequence[int], *, layer: str = "substrate") -> None:
    connections = [{"target": unit(number), "weight": number / 4, "conn_type": "forward"} for number in (1, 2, 3)]
    for number in numbers:
        bench.flat(
            "INSERT INTO flat.neuron_states VALUES (%s, %s, 'relay', 0.5, %s, '{0.125,0.5}', 0.01, 0.9, %s, %s, NULL, "
            "NULL, true, '2025-01-01', '2025-01-02', 1)",
            unit(number), layer, [0.25] * 20, json.dumps(connections), json.dumps({"facts": {"one": [1, 2, 3]}}),
        )  # fmt: skip


def summary(found: CategoryVerdict) -> dict[str, set[str]]:
    """The keys of each kind of difference."""
    assert found.unlisted == 0
    kinds: dict[str, set[str]] = {}
    for difference in found.differences:
        key, keys = "/".join(difference.key), kinds.setdefault(str(difference.kind), set())
        assert key not in keys
        keys.add(key)
    assert {kind: len(keys) for kind, keys in kinds.items()} == {
        kind: count
        for kind, count in (
            ("mismatch", found.mismatches),
            ("missing", found.missing),
            ("extra", found.extra),
            ("quarantined", found.quarantined),
        )
        if count
    }
    return kinds


def keys(*numbers: int) -> set[str]:
    return {unit(number) for number in numbers}


# What differs


def test_every_category_before_and_after_its_migration(bench: Bench) -> None:
    loading.load(bench.flat_url, scale=0.0003, seed=7, edge_cases=True)
    for slug in bench.system.registry.categories:
        before = bench.verify(slug, batch=50)
        assert before.consistent
        assert before.complete
        assert not before.covered
        assert (before.migrated, before.verified, before.pending) == (0, 0, before.total)
        assert before.coverage == f"0 of {before.total} migrated"
        bench.migrate(slug)
        after = bench.verify(slug, batch=50)
        assert after.consistent
        assert after.covered
        assert after.verified == after.migrated == after.total == before.total > 9
        assert after.flat_digest == after.hier_digest != before.flat_digest == "0" * 16


def test_numbers_in_json_keep_their_zeros_and_digits(bench: Bench) -> None:
    weights = ["1.0", "-1.0", "0.0", "0.50", "100.0", "1", "0.1234567890123456789012345678900", "1e-7", "1E+30"]
    add_neurons(bench, range(len(weights)))
    for number, weight in enumerate(weights):
        bench.flat(
            "UPDATE flat.neuron_states SET connections = %s, memory = %s WHERE neuron_id = %s",
            f'[{{"target": "{unit(1)}", "weight": {weight}, "conn_type": "forward"}}]', f'{{"n": {weight}}}',
            unit(number),
        )  # fmt: skip
    bench.migrate(NEURONS)
    assert bench.verify(NEURONS).verified == len(weights)
    assert bench.hier("SELECT count(*) FROM hier.unit_connections WHERE weight_exact IS NOT NULL") == [(6,)]


def test_it_reports_exactly_the_rows_that_were_corrupted_dropped_or_added(bench: Bench) -> None:
    add_neurons(bench, range(100, 135))
    bench.migrate(NEURONS)
    # Batches of ten: the first row, the last of a batch, the first of the next, the last of all.
    for number in (100, 109, 110, 134):
        bench.hier("UPDATE hier.unit_learning SET weights[17] = 0.75 WHERE unit_id = %s", unit(number))
    for number in (101, 119, 120, 133):
        for table in ("units", "unit_learning", "unit_connections"):
            bench.hier(f"DELETE FROM hier.{table} WHERE unit_id = %s", unit(number))
    for number in (1, 99, 135, 999):
        bench.hier(
            "INSERT INTO hier.units SELECT %s, layer, kind, activation, attention_focus, working_memory, "
            "processing_mode, avg_response_time, created_at, updated_at, source_version FROM hier.units WHERE "
            "unit_id = %s",
            unit(number), unit(105),
        )  # fmt: skip
    found = bench.verify(NEURONS, batch=10)
    assert summary(found) == {
        "mismatch": keys(100, 109, 110, 134),
        "missing": keys(101, 119, 120, 133),
        "extra": keys(1, 99, 135, 999),
    }
    assert [[str(field) for field in one.fields] for one in found.differences[:4]] == [
        ["weights[17]: 0.25 -> 0.75"]
    ] * 4
    assert not found.consistent
    assert (found.total, found.migrated, found.verified) == (35, 35, 27)
    assert found.flat_digest != found.hier_digest
    assert all(one.fields == () for one in bench.verify(NEURONS, batch=10, deep=False).differences)


FIELDS = [
    ("UPDATE hier.unit_learning SET momentum_given = false", "momentum: 0.9 -> NULL"),
    ("UPDATE hier.unit_learning SET weights[20] = '-0'", "weights[20]: 0.25 -> -0"),
    ("UPDATE hier.unit_learning SET weights[1] = 'NaN'", "weights[1]: 0.25 -> NaN"),
    ("UPDATE hier.unit_learning SET biases = '{0.125}'", "length of biases: 2 -> 1"),
    ("UPDATE hier.unit_learning SET biases = '{NULL,0.5}'", "biases[1]: 0.125 -> NULL"),
    ("UPDATE hier.units SET activation = '-0.5'", "activation: 0.5 -> -0.5"),
    ("UPDATE hier.units SET avg_response_time = 0", "avg_response_time: NULL -> 0"),
    ("UPDATE hier.units SET working_memory = NULL", 'memory: {"facts": {"one": [1, 2, 3]}} -> NULL'),
    ("UPDATE hier.units SET attention_focus = 'null'", "context: NULL -> null"),
    ("UPDATE hier.units SET working_memory = jsonb_set(working_memory, '{facts,one,2}', '\"3\"')",
     'memory.facts.one[2]: 3 -> "3"'),
    ("UPDATE hier.units SET working_memory = jsonb_set(working_memory, '{facts,one}', 'true')",
     "memory.facts.one: [1,2,3] -> true"),
    ("UPDATE hier.units SET working_memory = working_memory || '{\"new\": null}'", "memory.new: NULL -> null"),
    ("UPDATE hier.units SET processing_mode = 'sync'", "is_async: true -> false"),
    ("UPDATE hier.units SET kind = ''", "neuron_type: relay -> "),
    ("UPDATE hier.units SET updated_at = updated_at + interval '1 microsecond'",
     "updated_at: 2025-01-02 00:00:00+00 -> 2025-01-02 00:00:00.000001+00"),
    ("UPDATE hier.units SET source_version = 2", "version: 1 -> 2"),
    ("UPDATE hier.unit_connections SET weight = -weight WHERE ordinal = 3", "connections[2].weight: 0.75 -> -0.75"),
    ("UPDATE hier.unit_connections SET weight_exact = 0.750 WHERE ordinal = 3", "connections[2].weight: 0.75 -> 0.750"),
    ("UPDATE hier.units SET working_memory = jsonb_set(working_memory, '{facts,one,0}', '-1')",
     "memory.facts.one[0]: 1 -> -1"),
    ("UPDATE hier.units SET working_memory = jsonb_set(working_memory, '{facts,one,0}', '1.0')",
     "memory.facts.one[0]: 1 -> 1.0"),
    ("DELETE FROM hier.unit_connections WHERE ordinal = 3", "length of connections: 3 -> 2"),
    ("DELETE FROM hier.unit_learning WHERE true", None),
]  # fmt: skip


def test_it_names_the_field_and_both_values(bench: Bench) -> None:
    add_neurons(bench, range(len(FIELDS) + 1))
    bench.migrate(NEURONS)
    for number, (change, _) in enumerate(FIELDS):
        word = "AND" if "WHERE" in change else "WHERE"
        bench.hier(f"{change} {word} unit_id = '{unit(number)}'")
    found = bench.verify(NEURONS, batch=7)
    assert summary(found) == {"mismatch": keys(*range(len(FIELDS)))}
    by_key = {one.key: [str(field) for field in one.fields] for one in found.differences}
    for number, (_, expected) in enumerate(FIELDS):
        if expected is not None:
            assert by_key[unit(number),] == [expected]
    assert {line.partition(":")[0] for line in by_key[unit(len(FIELDS) - 1),]} == {
        "weights", "biases", "learning_rate", "momentum",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("was", "became"), [("-0", "0"), ("0", "-0"), ("NaN", "0"), ("1e-45", "0"), ("0.1", "0.10000001")]
)
def test_floats_that_look_alike(bench: Bench, was: str, became: str) -> None:
    add_neurons(bench, range(3))
    bench.flat("UPDATE flat.neuron_states SET activation = %s", was)
    bench.migrate(NEURONS)
    assert bench.verify(NEURONS).verified == 3
    bench.hier("UPDATE hier.units SET activation = %s WHERE unit_id = %s", became, unit(1))
    (difference,) = bench.verify(NEURONS).differences
    assert (difference.key, [str(field) for field in difference.fields]) == (
        (unit(1),), [f"activation: {was} -> {became}"],
    )  # fmt: skip


def test_a_long_text_is_clipped_to_where_it_differs(bench: Bench) -> None:
    add_neurons(bench, range(2))
    bench.flat("UPDATE flat.neuron_states SET neuron_type = repeat('x', 100000)")
    bench.migrate(NEURONS)
    bench.hier("UPDATE hier.units SET kind = overlay(kind placing '!' from 70000) WHERE unit_id = %s", unit(0))
    bench.hier("UPDATE hier.units SET kind = repeat('y', 3000000) WHERE unit_id = %s", unit(1))
    first, second = (one.fields[0] for one in bench.verify(NEURONS).differences)
    assert first.hier == "..." + "x" * 50 + "!" + "x" * 149 + "..."
    assert first.flat == "..." + "x" * 200 + "..."
    assert second.hier == "y" * 200 + "... (3,000,000 characters)"


@pytest.mark.parametrize("count", [0, 1, 4, 5, 6, 10, 11])
def test_sizes_around_a_batch(bench: Bench, count: int) -> None:
    add_neurons(bench, range(count))
    bench.migrate(NEURONS)
    found = bench.verify(NEURONS, batch=5)
    assert found.consistent
    assert found.verified == found.total == count
    bench.hier(
        "INSERT INTO hier.units SELECT %s, 'substrate', 'extra', 0, NULL, NULL, 'sync', NULL, now(), now(), 1",
        unit(count),
    )
    assert summary(bench.verify(NEURONS, batch=5)) == {"extra": keys(count)}
    if count:
        bench.hier("DELETE FROM hier.units WHERE unit_id = %s", unit(count - 1))
        bench.hier("DELETE FROM hier.unit_learning WHERE unit_id = %s", unit(count - 1))
        found = bench.verify(NEURONS, batch=5)
        assert summary(found) == {"extra": keys(count), "missing": keys(count - 1)}
        assert found.verified == count - 1


def test_parts_without_their_root_are_extra(bench: Bench) -> None:
    add_neurons(bench, range(6))
    bench.migrate(NEURONS)
    # Of one the flat store has the record: it is missing, and not extra too.
    bench.hier("DELETE FROM hier.units WHERE unit_id IN (%s, %s)", unit(2), unit(4))
    bench.flat("DELETE FROM flat.neuron_states WHERE neuron_id = %s", unit(4))
    found = bench.verify(NEURONS, batch=2)
    assert summary(found) == {"missing": keys(2), "extra": keys(4)}
    assert "root" in str(found.differences[-1].fields[0])


def test_a_record_that_two_roots_hold(bench: Bench) -> None:
    bench.flat(
        "INSERT INTO flat.operational_metadata SELECT n, CASE WHEN n < 3 THEN 'logs' ELSE 'metrics' END, 's', '{}', "
        "'2025-01-01', 1 FROM generate_series(-2, 5) n"
    )
    bench.migrate("metadata")
    bench.hier(
        "INSERT INTO hier.metrics (id, source, payload, recorded_at, source_version) "
        "SELECT id, source, payload, recorded_at, source_version FROM hier.log_entries WHERE id = -1"
    )
    found = bench.verify("metadata", batch=3)
    assert summary(found) == {"mismatch": {"-1"}}
    assert [str(field) for field in found.differences[0].fields] == ["number of records: 1 -> 2"]


# Keys


def keyed(*parts: tuple[str, str]) -> Category:
    """A category whose key has these columns, each with its type."""
    columns = (*(Column(name, kind) for name, kind in parts), Column("value", "text"))
    names = tuple(name for name, _ in parts)
    return Category(
        slug="keyed",
        title="Keyed",
        source=Source(schema="public", table="keyed", columns=columns, key=names),
        targets=(
            Target(schema="public", table="keyed", role=Role.ROOT, key=names, owner=names,
                   columns=tuple(Pass(column.name, column.name) for column in columns)),
        ),
        rebuild=f"SELECT k.* FROM public.keyed AS k WHERE RANGE({', '.join(f'k.{name}' for name in names)})",
        filters={"value": FilterField("value", "text")},
    )  # fmt: skip


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
    assert summary(bench.verify("keyed", batch=3)) == expected


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


# Coverage


def test_what_a_filter_has_migrated_is_covered_and_the_rest_pending(bench: Bench) -> None:
    add_neurons(bench, range(10), layer="substrate")
    add_neurons(bench, range(10, 30), layer="protocol")
    bench.migrate(NEURONS, filter="layer=substrate")
    found = bench.verify(NEURONS, batch=4)
    assert found.consistent
    assert not found.covered
    assert (found.verified, found.pending, found.coverage) == (10, 20, "10 of 30 migrated")
    assert found.flat_digest == found.hier_digest
    # A record that comes to match the filter later, or was never copied, is missing.
    bench.flat("UPDATE flat.neuron_states SET layer = 'substrate' WHERE neuron_id = %s", unit(20))
    bench.hier("DELETE FROM hier.units WHERE unit_id = %s", unit(3))
    found = bench.verify(NEURONS, batch=4)
    assert summary(found) == {"missing": keys(3, 20)}
    assert (found.verified, found.pending) == (9, 19)


def test_what_an_unfinished_run_has_copied_is_covered(bench: Bench) -> None:
    add_neurons(bench, range(30))
    run_id = bench.start(model.RunKind.MIGRATE, NEURONS, tuning={"batch-size": "8"})
    for _ in range(3):  # the plan and two batches
        batch = bench.next(run_id)
        assert batch is not None
        bench.perform(run_id, *batch)
    found = bench.verify(NEURONS, batch=5)
    assert found.consistent
    assert (found.verified, found.pending) == (16, 14)
    bench.hier("DELETE FROM hier.units WHERE unit_id IN (%s, %s)", unit(0), unit(15))
    found = bench.verify(NEURONS, batch=5)
    assert summary(found) == {"missing": keys(0, 15)}
    assert (found.verified, found.pending) == (14, 14)


def test_what_is_in_quarantine_is_no_surprise_and_no_success(bench: Bench) -> None:
    add_neurons(bench, range(5))
    bench.flat("UPDATE flat.neuron_states SET connections = '[{}]' WHERE neuron_id = %s", unit(3))
    bench.migrate(NEURONS)
    found = bench.verify(NEURONS)
    assert summary(found) == {"quarantined": keys(3)}
    assert (found.verified, found.migrated, found.consistent) == (4, 5, False)


def test_a_run_with_a_filter_compares_what_either_side_has_of_it(bench: Bench) -> None:
    add_neurons(bench, range(10), layer="substrate")
    add_neurons(bench, range(10, 20), layer="protocol")
    bench.migrate(NEURONS)
    found = bench.verify(NEURONS, filter="layer=substrate", batch=3)
    assert (found.total, found.verified, found.covered) == (10, 10, False)
    # Leaves the filter in one store only, or comes into it: the record differs, and is neither missing nor extra.
    bench.hier("UPDATE hier.units SET layer = 'protocol' WHERE unit_id = %s", unit(4))
    bench.hier("UPDATE hier.units SET layer = 'substrate' WHERE unit_id = %s", unit(14))
    bench.hier("UPDATE hier.units SET kind = 'outside' WHERE unit_id = %s", unit(15))
    found = bench.verify(NEURONS, filter="layer=substrate", batch=3)
    assert summary(found) == {"mismatch": keys(4, 14)}
    assert [str(one.fields[0]) for one in found.differences] == [
        "layer: substrate -> protocol", "layer: protocol -> substrate",
    ]  # fmt: skip
    assert (found.total, found.verified) == (11, 9)


# Lag


def test_a_difference_that_has_gone_at_the_second_look_is_none(bench: Bench) -> None:
    add_neurons(bench, range(6))
    bench.migrate(NEURONS)
    bench.hier("UPDATE hier.units SET kind = 'late' WHERE unit_id = %s", unit(2))
    bench.flat("DELETE FROM flat.neuron_states WHERE neuron_id = %s", unit(4))
    waited: list[float] = []

    def catch_up(seconds: float) -> None:
        waited.append(seconds)
        bench.hier("UPDATE hier.units SET kind = 'relay' WHERE unit_id = %s", unit(2))
        for table in ("units", "unit_learning", "unit_connections"):
            bench.hier(f"DELETE FROM hier.{table} WHERE unit_id = %s", unit(4))

    found = bench.verify(NEURONS, sleep=catch_up)
    assert waited == [0.25]
    assert found.consistent
    assert (found.verified, found.total, found.moving, found.differences) == (5, 5, 0, [])
    assert found.flat_digest == found.hier_digest


def test_a_source_that_changes_between_the_looks_proves_nothing(bench: Bench) -> None:
    add_neurons(bench, range(8))
    bench.migrate(NEURONS)
    bench.hier("UPDATE hier.units SET kind = 'wrong' WHERE unit_id IN (%s, %s)", unit(1), unit(2))
    for table in ("units", "unit_learning", "unit_connections"):
        bench.hier(f"DELETE FROM hier.{table} WHERE unit_id = %s", unit(3))
    bench.flat("DELETE FROM flat.neuron_states WHERE neuron_id = %s", unit(4))

    def write(_: float) -> None:
        bench.flat("UPDATE flat.neuron_states SET version = version + 1 WHERE neuron_id = %s", unit(2))
        bench.flat("DELETE FROM flat.neuron_states WHERE neuron_id = %s", unit(3))
        add_neurons(bench, [4])
        bench.flat("UPDATE flat.neuron_states SET activation = 9 WHERE neuron_id = %s", unit(4))

    found = bench.verify(NEURONS, sleep=write)
    assert summary(found) == {"mismatch": keys(1)}
    assert (found.moving, found.verified) == (2, 4)


def test_a_key_that_waits_in_the_journal_is_no_difference(bench: Bench) -> None:
    add_neurons(bench, range(6))
    bench.migrate(NEURONS)
    bench.flat(
        "UPDATE flat.neuron_states SET activation = 7, version = 2 WHERE neuron_id IN (%s, %s)", unit(1), unit(2)
    )
    journal = "INSERT INTO hal9cap.journal (category, key) VALUES (%s, ARRAY[%s])"
    bench.flat(journal, NEURONS, unit(1))
    found = bench.verify(NEURONS)
    assert summary(found) == {"mismatch": keys(2)}
    assert (found.moving, found.verified) == (1, 4)
    # Where the hierarchical store rules its journal counts, and the flat one's does not.
    hier = connection.connect(bench.hier_url, application_name="test")
    capture.set_state(hier, capture.State(mode=capture.Mode.HIERARCHICAL_ONLY, epoch=1))
    hier.close()
    bench.hier(journal, NEURONS, unit(2))
    found = bench.verify(NEURONS)
    assert summary(found) == {"mismatch": keys(1)}
    assert found.moving == 1


def test_a_switch_of_the_write_mode_starts_a_step_anew(bench: Bench) -> None:
    add_neurons(bench, range(3))
    bench.migrate(NEURONS)
    bench.hier("UPDATE hier.units SET kind = 'wrong' WHERE unit_id = %s", unit(1))
    looks: list[float] = []

    def switch(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 1:
            hier = connection.connect(bench.hier_url, application_name="test")
            capture.set_state(hier, capture.State(mode=capture.Mode.DUAL_WRITE, epoch=1))
            hier.close()

    found = bench.verify(NEURONS, sleep=switch)
    assert len(looks) == 2
    assert summary(found) == {"mismatch": keys(1)}
    assert found.total == 3


# Steps, resuming, bounds


def test_extras_alone_are_found_in_bounded_steps(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier, "_STEP", 6)
    monkeypatch.setattr(suspects, "_LOOK", 4)
    add_neurons(bench, range(20))
    bench.migrate(NEURONS)
    bench.flat("DELETE FROM flat.neuron_states")
    steps: list[float] = []
    found = bench.verify(NEURONS, sleep=steps.append)
    assert summary(found) == {"extra": keys(*range(20))}
    assert found.total == found.verified == 0
    assert len(steps) == 3


def test_a_paused_batch_goes_on_where_it_stopped(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier, "_STEP", 6)
    add_neurons(bench, range(20))
    bench.migrate(NEURONS)
    bench.hier("UPDATE hier.units SET kind = 'wrong' WHERE unit_id IN (%s, %s, %s)", unit(1), unit(8), unit(19))
    run_id = bench.planned(NEURONS)

    def pause(_: float) -> None:
        with bench.system.ledger.begin() as session:
            runs.move(session, run_id, model.RunStatus.PAUSING, "test")

    assert bench.work(run_id, pause) is False
    unfinished = bench.verdict(NEURONS, run_id)
    assert not unfinished.complete
    assert not unfinished.consistent
    assert (unfinished.total, unfinished.mismatches) == (7, 1)
    with bench.system.ledger.begin() as session:
        runs.settle(session)
        runs.move(session, run_id, model.RunStatus.RUNNING, "test")
    # A crash in the third step loses that step and nothing else.
    calls: list[float] = []

    def crash(seconds: float) -> None:
        calls.append(seconds)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.work(run_id, crash)
    bench.desk.clear()
    bench.hier("UPDATE hal9mig.batches SET lease_until = clock_timestamp() - interval '1 s' WHERE run_id = %s", run_id)
    batches.expire(bench.system.ledger)
    assert bench.work(run_id) is True
    found = bench.verdict(NEURONS, run_id)
    assert found.complete is True
    assert summary(found) == {"mismatch": keys(1, 8, 19)}
    assert (found.total, found.verified) == (20, 17)


def test_a_batch_done_again_doubles_nothing(bench: Bench) -> None:
    add_neurons(bench, range(12))
    bench.migrate(NEURONS)
    bench.hier("UPDATE hier.units SET kind = 'wrong' WHERE unit_id IN (%s, %s)", unit(1), unit(8))
    run_id = bench.planned(NEURONS, batch=5)
    while bench.work(run_id) is not None:
        pass
    first = bench.verdict(NEURONS, run_id)
    bench.hier("UPDATE hal9mig.runs SET status = 'running' WHERE id = %s", run_id)
    bench.hier("UPDATE hal9mig.batches SET status = 'planned', cursor_key = NULL WHERE run_id = %s AND seq > 0", run_id)
    while bench.work(run_id) is not None:
        pass
    again = bench.verdict(NEURONS, run_id)
    assert dataclasses.replace(again, seconds=first.seconds) == first
    assert summary(again) == {"mismatch": keys(1, 8)}


def test_who_has_lost_the_lease_notes_nothing(bench: Bench) -> None:
    add_neurons(bench, range(3))
    bench.covered(NEURONS)
    run_id = bench.planned(NEURONS)

    def lose(_: float) -> None:
        bench.hier("UPDATE hal9mig.batches SET attempt = attempt + 1 WHERE run_id = %s", run_id)

    with pytest.raises(errors.LeaseLost):
        bench.work(run_id, lose)
    assert bench.hier("SELECT count(*) FROM hal9mig.differences") == [(0,)]
    assert bench.verdict(NEURONS, run_id).total == 0


def test_what_is_listed_is_bounded_and_what_is_counted_is_not(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspects, "MOST_LISTED", 3)
    add_neurons(bench, range(20))
    bench.migrate(NEURONS)
    bench.hier("UPDATE hier.units SET kind = 'wrong' WHERE unit_id <= %s", unit(9))
    bench.hier("DELETE FROM hier.units WHERE unit_id > %s", unit(14))
    bench.hier("DELETE FROM hier.unit_learning WHERE unit_id > %s", unit(14))
    found = bench.verify(NEURONS)
    assert (found.mismatches, found.missing, found.unlisted) == (10, 5, 9)
    assert [str(one.kind) for one in found.differences] == ["mismatch"] * 3 + ["missing"] * 3
    with bench.system.ledger.begin() as session:
        assert len(differences.find(session, found.run_id, limit=2)) == 2


def test_a_hundred_thousand_extras(open_bench: Callable[..., Bench]) -> None:
    bench = open_bench(keyed(("id", "bigint")))
    for run in (bench.flat, bench.hier):
        run("CREATE TABLE public.keyed (id bigint PRIMARY KEY, value text)")
    bench.hier("INSERT INTO public.keyed SELECT n FROM generate_series(1, 110000) n")
    bench.flat("INSERT INTO public.keyed VALUES (55000, NULL)")
    steps: list[float] = []
    found = bench.verify("keyed", sleep=steps.append)
    assert (found.extra, found.verified, found.unlisted) == (109_999, 1, 109_000 - 1)
    assert len(steps) == 3


# Verdicts


def test_a_verdict_does_not_stand_on_a_gap_or_on_sums_that_do_not_add_up(bench: Bench) -> None:
    add_neurons(bench, range(12))
    bench.migrate(NEURONS)
    found = bench.verify(NEURONS, batch=5)
    change = "UPDATE hal9mig.batches SET result = jsonb_set(result, '{verified}', '4') WHERE run_id = %s AND seq = 2"
    bench.hier(change, found.run_id)
    with pytest.raises(errors.HAL9Error, match="does not add up"):
        bench.verdict(NEURONS, found.run_id)
    bench.hier("DELETE FROM hal9mig.batches WHERE run_id = %s AND seq = 2", found.run_id)
    with pytest.raises(errors.HAL9Error, match="gap"):
        bench.verdict(NEURONS, found.run_id)
    with pytest.raises(errors.NotFound):
        bench.verdict("metadata", found.run_id)


def test_the_report(bench: Bench) -> None:
    add_neurons(bench, range(5))
    bench.migrate(NEURONS, filter=f"neuron_id<={unit(3)}")
    bench.hier("UPDATE hier.unit_learning SET weights[17] = 0.75 WHERE unit_id = %s", unit(1))
    document = verdict.report([bench.verify(NEURONS), bench.verify("configuration")])
    assert json.loads(json.dumps(document)) == document
    assert (document["schema"], document["consistent"], document["covered"]) == (1, False, False)
    assert document["totals"] == {
        "total": 5, "migrated": 4, "verified": 3, "mismatches": 1, "missing": 0, "extra": 0, "pending": 1,
        "quarantined": 0, "moving": 0,
    }  # fmt: skip
    neurons, configuration = document["categories"]
    assert neurons["coverage"] == {"total": 5, "migrated": 4, "text": "4 of 5 migrated"}
    assert neurons["differences"] == [
        {
            "key": [unit(1)],
            "kind": "mismatch",
            "fields": [{"field": "weights[17]", "flat": "0.25", "hierarchical": "0.75"}],
        }
    ]
    assert configuration["consistent"] is True
    assert document["next_steps"] == [
        "hal9-migrate state diff --category neuron-states --verbose",
        "hal9-migrate state migrate --category neuron-states",
    ]


# Servers


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
    probe.require_alike(flat, hier)
    with flat, flat.cursor() as cursor:
        cursor.execute("SET search_path = public, pg_catalog")
    with pytest.raises(errors.ServersIncomparable, match=named) as raised:
        probe.require_alike(flat, hier)
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
