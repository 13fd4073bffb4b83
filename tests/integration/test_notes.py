"""What else the ledger notes: quarantine, tuning, and who is alive."""

from __future__ import annotations

import pytest

from hal9mig import errors
from hal9mig.ledger import audit, database, quarantine, tuning, workers
from hal9mig.ledger.database import Ledger, Session


class TestQuarantine:
    def test_holds_a_record_once(self, session: Session) -> None:
        """Held again it counts another attempt; let go and held again it is another case."""
        case = {"category": "held", "key": ("a", "'\""), "payload": "{}", "transform_version": 1, "run_id": None}
        first = quarantine.hold(session, error="one", **case)
        assert quarantine.hold(session, error="two", **case) == first
        (record,) = quarantine.find(session, category="held")
        assert (record.key, record.error, record.attempts) == (("a", "'\""), "two", 2)
        assert quarantine.held_keys(session, "held") == {("a", "'\"")}
        quarantine.release(session, "held", [("a", "'\""), ("b",)])
        assert not quarantine.find(session, category="held")
        assert quarantine.get(session, first).status == "released"
        assert not quarantine.settle(session, first, "dropped")
        assert quarantine.hold(session, error="three", **case) != first

    def test_knows_no_number_it_has_not_given(self, session: Session) -> None:
        """It says so."""
        with pytest.raises(errors.NotFound):
            quarantine.get(session, 10**9)


class TestTuning:
    def test_is_stored_whole_or_not_at_all(self, session: Session) -> None:
        """One value that cannot be read leaves all as they were."""
        before = tuning.resolve(session)
        with pytest.raises(errors.InvalidUnit):
            tuning.change(session, {"batch-size": "7", "rate-limit": "often"}, actor="test")
        assert tuning.resolve(session) == before
        tuning.change(session, {"batch-size": "7"}, actor="test")
        assert tuning.resolve(session).batch_size == 7
        assert tuning.resolve(session, {"batch-size": "9"}).batch_size == 9
        tuning.change(session, {"batch-size": str(before.batch_size)}, actor="test")

    @pytest.mark.parametrize(
        ("rate", "records"),
        [("off", 1000), ("50/s", 50), ("6000/m", 100), ("1/h", 1), ("5batches/s", 1000), ("9kB/s", 1000)],
    )
    def test_cuts_a_batch_to_one_second_of_a_budget_in_records(self, session: Session, rate: str, records: int) -> None:
        """Else one batch would be granted at once that the budget allows in an hour."""
        assert tuning.resolve(session, {"batch-size": "1000", "rate-limit": rate}).effective_batch == records


class TestPresence:
    def test_of_a_worker_ends_with_its_silence(self, session: Session) -> None:
        """A worker that does not report itself has no slots to count on."""
        workers.report(
            session, name="quiet@h", host="h", pid=7, slots=2, draining=False, memory_bytes=0, cpu_percent=0.0
        )
        assert [worker.slots for worker in workers.alive(session) if worker.name == "quiet@h"] == [2]
        quiet = "UPDATE hal9mig.workers SET seen_at = seen_at - %s * interval '1s' WHERE name = 'quiet@h'"
        session.execute(quiet, (workers.SILENCE + 1,))
        assert "quiet@h" not in {worker.name for worker in workers.alive(session)}
        # One that has started anew under its name is not taken off by the end of the one before.
        workers.leave(session, name="quiet@h", pid=6)
        left = session.execute("SELECT count(*) FROM hal9mig.workers WHERE name = 'quiet@h'")
        assert left.scalar_one() == 1


def test_a_statement_on_a_single_connection_needs_no_commit(ledger: Ledger) -> None:
    """So that a process frozen after it leaves no lock; and the pool gives the connection back as it was."""
    with ledger.single() as session:
        database.run(session, "audit", "log_event", actor="single", action="x", run_id=None, detail={})
        with ledger.begin() as other:
            assert {event.actor for event in audit.events(other)} >= {"single"}
