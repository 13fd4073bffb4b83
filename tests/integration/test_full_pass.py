"""A full pass is a run: planned, worked in ranges, resumed where it was, closed, and trusted only when it may be."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import pytest

from hal9mig import model
from hal9mig.engine import work
from hal9mig.engine.reconcile import full_pass, sweep
from hal9mig.engine.reconcile.full_pass import PassOrder
from hal9mig.engine.reconcile.repair import Action, RepairPolicy
from hal9mig.ledger import runs, sweeps
from tests.support.verify_bench import Bench, keyed

SLUG, RECORDS = "keyed", 500


@pytest.fixture
def bench(open_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Two equal tables, in ranges of 100 records and spans of 30."""
    made = open_bench(keyed(("id", "integer")))
    monkeypatch.setattr(full_pass, "_BATCH", 100)
    monkeypatch.setattr(sweep, "SPAN", 30)
    for run in (made.flat, made.hier):
        run("CREATE TABLE public.keyed (id integer PRIMARY KEY, value text)")
        run(f"INSERT INTO public.keyed SELECT n, 'v' || n FROM generate_series(1, {RECORDS}) n")
    made.covered(SLUG)
    return made


def start(bench: Bench, policy: RepairPolicy = RepairPolicy.AUTO, of: int | None = None) -> int:
    return full_pass.start(bench.system, PassOrder(category=SLUG, policy=policy, of=of), actor="test").id


def finish(bench: Bench, run_id: int) -> model.Run:
    while batch := bench.next(run_id):
        bench.perform(run_id, *batch)
    with bench.system.ledger.begin() as session:
        runs.settle(session)
        return runs.get(session, run_id)


def found(bench: Bench, run_id: int) -> full_pass.Found:
    with bench.system.ledger.begin() as session:
        return full_pass.found(session, runs.get(session, run_id))


def clean_from(bench: Bench) -> datetime.datetime | None:
    with bench.system.ledger.begin() as session:
        one = sweeps.find(session).get(SLUG)
        return one and one.clean_from


def hurt(bench: Bench) -> None:
    """One of each kind: at the first record, at a range's edge, behind the last."""
    bench.hier("UPDATE public.keyed SET value = 'other' WHERE id = 1")
    bench.hier("DELETE FROM public.keyed WHERE id = 100")
    bench.hier("INSERT INTO public.keyed VALUES (501, 'extra')")


def test_a_clean_one_is_noted(bench: Bench) -> None:
    run = finish(bench, start(bench))
    assert (run.status, run.kind, run.done_records) == (model.RunStatus.SUCCEEDED, model.RunKind.RECONCILE, RECORDS)
    told = found(bench, run.id)
    assert (told.compared, told.outcomes, told.clean) == (RECORDS, {}, True)
    assert clean_from(bench) is not None


def test_what_drifted_is_repaired_and_all_of_it_looked_at_once_more(bench: Bench) -> None:
    hurt(bench)
    told = found(bench, finish(bench, start(bench)).id)
    assert {key[0]: one.action for key, one in told.outcomes.items()} == {
        "1": Action.WRITTEN, "100": Action.WRITTEN, "501": Action.DELETED
    }  # fmt: skip
    assert (told.compared, told.clean) == (RECORDS, True)
    assert bench.hier("SELECT * FROM keyed ORDER BY id") == bench.flat("SELECT * FROM keyed ORDER BY id")
    assert clean_from(bench) is not None


def test_a_rolling_pass_that_began_before_and_ends_after_takes_nothing_back(bench: Bench) -> None:
    with bench.system.ledger.begin() as session:
        sweeps.begin(session, SLUG)
    finish(bench, start(bench))
    before = clean_from(bench)
    with bench.system.ledger.begin() as session:
        assert sweeps.end(session, SLUG)
    assert clean_from(bench) == before


def test_only_looking_repairs_nothing_and_proves_nothing(bench: Bench) -> None:
    hurt(bench)
    before = bench.hier("SELECT * FROM keyed ORDER BY id")
    looked = start(bench, RepairPolicy.OFF)
    told = found(bench, finish(bench, looked).id)
    assert ({key[0] for key in told.outcomes}, told.clean) == ({"1", "100", "501"}, False)
    assert bench.hier("SELECT * FROM keyed ORDER BY id") == before
    assert clean_from(bench) is None
    # The repair that follows looks only where something was found: two ranges of five.
    repair = start(bench, of=looked)
    done = finish(bench, repair)
    assert done.total_batches == 2 + 1
    assert all(one.repaired for one in found(bench, repair).outcomes.values())
    assert bench.hier("SELECT * FROM keyed ORDER BY id") == bench.flat("SELECT * FROM keyed ORDER BY id")
    assert clean_from(bench) is None


def test_it_goes_on_where_it_was_paused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    hurt(bench)
    run_id = start(bench)
    planning = bench.next(run_id)
    assert planning is not None
    bench.perform(run_id, *planning)
    looks: list[model.Key | None] = []
    looked = sweep.look

    def look(both: sweep.Sides, after: model.Key | None, *, until: model.Key | None = None) -> sweep.Look:
        looks.append(after)
        if len(looks) == 2:
            with bench.system.ledger.begin() as session:
                runs.move(session, run_id, model.RunStatus.PAUSING, "a test")
        return looked(both, after, until=until)

    monkeypatch.setattr(full_pass.sweep, "look", look)
    first = bench.next(run_id)
    assert first is not None
    assert work.perform(bench.system, bench.desk, run_id=run_id, seq=first[0], attempt=first[1], owner="t") == (
        "handed back"
    )
    with bench.system.ledger.begin() as session:
        runs.settle(session)
        assert runs.get(session, run_id).status is model.RunStatus.PAUSED
        runs.move(session, run_id, model.RunStatus.RUNNING, "a test")
    assert finish(bench, run_id).status is model.RunStatus.SUCCEEDED
    # The third look begins where the second ended, and nothing is counted twice.
    assert looks[:3] == [None, ("30",), ("60",)]
    assert found(bench, run_id).compared == RECORDS


def test_one_that_began_before_something_was_written_unseen_is_no_proof(bench: Bench) -> None:
    run_id = start(bench)
    for _ in range(3):
        batch = bench.next(run_id)
        assert batch is not None
        bench.perform(run_id, *batch)
    with bench.system.ledger.begin() as session:
        sweeps.begin(session, SLUG, distrust=True)
    assert found(bench, finish(bench, run_id).id).clean
    assert clean_from(bench) is None
    finish(bench, start(bench))
    assert clean_from(bench) is not None
