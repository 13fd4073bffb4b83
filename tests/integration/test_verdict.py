"""What the verifier says in the end, and what it refuses to say."""

from __future__ import annotations

import json

import pytest

from hal9mig import errors
from hal9mig.engine.compare import suspects, verify_report
from hal9mig.ledger import verify_results
from tests.support.verify_bench import NEURONS, Bench, add_neurons, unit


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
        assert len(verify_results.find(session, found.run_id, limit=2)) == 2


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
    document = verify_report.report([bench.verify(NEURONS), bench.verify("configuration")])
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
