"""The verifier on real servers finds exactly what differs, down to the field."""

from __future__ import annotations

import pytest

from hal9mig.sample import loading
from tests.support.verify_bench import NEURONS, Bench, add_neurons, keys, summary, unit


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
