"""An attempt to exchange unique values is begun anew: with more keys, or where the server broke a circle."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg2.errors
import pytest

from hal9mig import model
from hal9mig.engine.transfer import exchange


class Nowhere:
    """A side that is never asked."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(name)


def settle(*ends: Exception | None) -> list[Sequence[model.Key]]:
    """Settle one key by attempts with these ends, and return the keys of each attempt."""
    tried: list[Sequence[model.Key]] = []
    waiting = list(ends)

    def attempt(keys: Sequence[model.Key]) -> None:
        tried.append(keys)
        if (end := waiting.pop(0)) is not None:
            raise end

    exchange.Exchange(Nowhere()).settle({("b",)}, attempt)  # type: ignore[arg-type]
    return tried


def test_with_the_keys_that_it_lacked_in_one_order() -> None:
    assert settle(exchange.NeedsMoreError({("a",)}), exchange.NeedsMoreError({("c",)}), None) == [
        [("b",)],
        [("a",), ("b",)],
        [("a",), ("b",), ("c",)],
    ]


def test_when_two_waited_for_each_other() -> None:
    assert settle(psycopg2.errors.DeadlockDetected(), None) == [[("b",)], [("b",)]]


def test_not_without_end() -> None:
    with pytest.raises(psycopg2.errors.DeadlockDetected):
        settle(*[psycopg2.errors.DeadlockDetected()] * 100)
