"""The verifier beside migrations and writes: what is covered, what only lags, what was begun before."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hal9mig import errors, model
from hal9mig.engine.compare import keystream, suspects, verifier
from hal9mig.engine.coordinator import Coordinator, MigrateOrder
from hal9mig.ledger import batches, runs
from hal9mig.stores import connection, write_mode
from tests.support.verify_bench import NEURONS, Bench, add_neurons, keyed, keys, summary, unit


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


@pytest.mark.parametrize("given", ["created_at>=some day", "neuron_id=7", "is_async=perhaps"])
def test_a_value_that_is_none_of_its_fields_type_is_refused_though_no_record_is_read(given: str, bench: Bench) -> None:
    coordinator = Coordinator(bench.system, actor="test")
    for order in (
        lambda: coordinator.verify(NEURONS, filter=given),
        lambda: coordinator.plan(MigrateOrder(category=NEURONS, filter=given)),
    ):
        with pytest.raises(errors.InvalidFilter, match="cannot be used"):
            order()


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


def test_a_difference_that_has_gone_at_the_second_look_is_none(bench: Bench) -> None:
    add_neurons(bench, range(6))
    bench.migrate(NEURONS)
    bench.hier("UPDATE hier.units SET kind = 'late' WHERE unit_id = %s", unit(2))
    bench.flat("DELETE FROM flat.neuron_states WHERE neuron_id = %s", unit(4))
    bench.flat("INSERT INTO hal9cap.journal (category, key) VALUES (%s, ARRAY[%s])", NEURONS, unit(5))
    waited: list[float] = []

    def catch_up(seconds: float) -> None:
        waited.append(seconds)
        bench.hier("UPDATE hier.units SET kind = 'relay' WHERE unit_id = %s", unit(2))
        for table in ("units", "unit_learning", "unit_connections"):
            bench.hier(f"DELETE FROM hier.{table} WHERE unit_id = %s", unit(4))

    found = bench.verify(NEURONS, sleep=catch_up)
    assert len(waited) == 1
    assert 0 < waited[0] <= 0.25
    assert found.consistent
    assert (found.verified, found.total, found.moving, found.differences) == (5, 5, 0, [])
    assert found.flat_digest == found.hier_digest


def test_nobody_waits_for_what_is_not_on_its_way(bench: Bench) -> None:
    add_neurons(bench, range(3))
    bench.migrate(NEURONS)
    bench.hier("UPDATE hier.units SET kind = 'wrong' WHERE unit_id = %s", unit(1))
    waited: list[float] = []
    assert summary(bench.verify(NEURONS, sleep=waited.append)) == {"mismatch": keys(1)}
    assert waited == [0.0]


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
    write_mode.set_state(hier, write_mode.WriteState(mode=write_mode.Mode.HIERARCHICAL_ONLY, epoch=1))
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
            write_mode.set_state(hier, write_mode.WriteState(mode=write_mode.Mode.DUAL_WRITE, epoch=1))
            hier.close()

    found = bench.verify(NEURONS, sleep=switch)
    assert len(looks) == 2
    assert summary(found) == {"mismatch": keys(1)}
    assert found.total == 3


def test_extras_alone_are_found_in_bounded_steps(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier, "_PART", 6)
    monkeypatch.setattr(verifier, "_STEP", 1)
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
    monkeypatch.setattr(verifier, "_PART", 6)
    monkeypatch.setattr(verifier, "_STEP", 1)
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


def test_a_hundred_thousand_extras(open_bench: Callable[..., Bench]) -> None:
    bench = open_bench(keyed(("id", "bigint")))
    for run in (bench.flat, bench.hier):
        run("CREATE TABLE public.keyed (id bigint PRIMARY KEY, value text)")
    bench.hier("INSERT INTO public.keyed SELECT n FROM generate_series(1, 110000) n")
    bench.flat("INSERT INTO public.keyed VALUES (55000, NULL)")
    steps: list[float] = []
    found = bench.verify("keyed", sleep=steps.append)
    assert (found.extra, found.verified, found.unlisted) == (109_999, 1, 109_000 - 1)
    assert len(steps) >= 3


def test_only_the_parts_that_differ_are_read_record_by_record(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    add_neurons(bench, range(100, 140))
    bench.migrate(NEURONS)
    bench.hier("UPDATE hier.units SET kind = 'other' WHERE unit_id IN (%s, %s)", unit(110), unit(139))
    bench.hier("DELETE FROM hier.units WHERE unit_id = %s", unit(111))
    bench.flat("DELETE FROM flat.neuron_states WHERE neuron_id = %s", unit(125))
    read: list[model.Key] = []
    merge = keystream.merge

    def counted(*streams: Any) -> Iterator[keystream.Pair]:
        left, right = (list(stream) for stream in streams[:2])
        read.extend({row.text for row in (*left, *right)})
        return merge(iter(left), iter(right), streams[2])

    monkeypatch.setattr(keystream, "merge", counted)
    found = bench.verify(NEURONS)
    assert summary(found) == {"mismatch": keys(110, 139), "missing": keys(111), "extra": keys(125)}
    assert found.verified == 36
    assert {(unit(number),) for number in (110, 111, 125, 139)} < set(read)
    assert len(read) == len(set(read)) <= 8
