"""The audit as a chain of hashes: what is changed, put in or taken out later shows, and nobody waits to write."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hal9mig.ledger import audit
from hal9mig.ledger.database import Ledger
from tests.support.live_state import execute
from tests.support.servers import Stores


@pytest.fixture
def ledger(stores: Stores) -> Iterator[Ledger]:
    opened = Ledger(stores.hier_url, application_name="test", pool_size=4)
    yield opened
    opened.close()


def note(ledger: Ledger, *actions: str) -> None:
    with ledger.begin() as session:
        for action in actions:
            audit.log(session, action, actor="ada@host", detail={"action": action, "number": 1.50})


def sealed(ledger: Ledger) -> int:
    with ledger.begin() as session:
        return audit.seal(session)


def followed(ledger: Ledger) -> audit.SealedChain:
    with ledger.begin() as session:
        return audit.follow(session)


def test_every_event_is_sealed_once(ledger: Ledger) -> None:
    note(ledger, "one", "two")
    assert followed(ledger).unsealed == 2
    assert sealed(ledger) == 2
    first = followed(ledger)
    note(ledger, "three")
    assert (sealed(ledger), sealed(ledger)) == (1, 0)

    second = followed(ledger)
    assert (first.events, second.events) == (2, 3)
    assert first.broken is second.broken is None
    assert first.head != second.head
    assert second.unsealed == 0


def test_one_that_commits_late_comes_after_those_before_it(ledger: Ledger) -> None:
    with ledger.begin() as slow:
        audit.log(slow, "slow", actor="ada@host")
        note(ledger, "fast")
        assert sealed(ledger) == 1
    assert sealed(ledger) == 1
    assert followed(ledger).broken is None


@pytest.mark.parametrize(("sql", "broken"), [
    ("UPDATE hal9mig.events SET action = 'another' WHERE action = 'two'", 2),
    ("UPDATE hal9mig.events SET detail = '{}' WHERE action = 'two'", 2),
    ("UPDATE hal9mig.events SET at = at - interval '1 microsecond' WHERE action = 'two'", 2),
    ("DELETE FROM hal9mig.events WHERE action = 'two'", 3),
    ("UPDATE hal9mig.events SET seal = sha256('x') WHERE action = 'three'", 3),
])  # fmt: skip
def test_what_was_changed_shows(ledger: Ledger, stores: Stores, sql: str, broken: int) -> None:
    note(ledger, "one", "two", "three", "four")
    sealed(ledger)
    execute(stores.hier_url, sql)
    assert followed(ledger).broken == broken


def test_an_empty_audit_is_sound(ledger: Ledger) -> None:
    assert sealed(ledger) == 0
    assert followed(ledger) == audit.SealedChain(events=0, head="00" * 32, broken=None, unsealed=0)
