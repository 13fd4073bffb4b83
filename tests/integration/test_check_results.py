"""What checks found is kept, and the newest result of each is told."""

from __future__ import annotations

from hal9mig.ledger import check_results
from hal9mig.ledger.check_results import CheckOutcome, CheckVerdict
from hal9mig.ledger.database import Ledger
from tests.support.servers import Stores


def _outcome(category: str, name: str, verdict: CheckVerdict) -> CheckOutcome:
    return CheckOutcome(
        category=category, name=name, verdict=verdict, detail=f"{name} {verdict}", measured={"p95_ms": 1.5}
    )


def test_the_newest_result_of_each_check_counts(stores: Stores) -> None:
    ledger = Ledger(stores.hier_url, application_name="test")
    failed = _outcome("user-sessions", "continuity", CheckVerdict.FAILED)
    passed = _outcome("user-sessions", "continuity", CheckVerdict.PASSED)
    other = _outcome("neuron-states", "signals", CheckVerdict.SKIPPED)
    with ledger.begin() as session:
        for outcome in (failed, other, passed):
            check_results.add(session, outcome, command="state validate", actor="ada@host")
        found = check_results.newest(session)
        sessions = check_results.newest(session, categories=["user-sessions"])
    ledger.close()

    assert [(result.category, result.verdict) for result in found] == [
        ("neuron-states", CheckVerdict.SKIPPED),
        ("user-sessions", CheckVerdict.PASSED),
    ]
    assert [result.name for result in sessions] == ["continuity"]
    assert sessions[0].measured == {"p95_ms": 1.5}
    assert sessions[0].actor == "ada@host"
