"""A keeper of snapshots, and what it cannot take."""

from __future__ import annotations

import contextlib
import types
from typing import Any

import pytest

from hal9mig import errors
from hal9mig.engine.checkpoint.keeper import Keeper
from hal9mig.ledger import instants, runs


def test_what_it_does_not_know_is_left_to_another_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A category that only another worker's settings declare must not wait until the lease has run out."""
    released: list[tuple[int, int]] = []

    def category(name: str) -> Any:
        raise errors.UnknownCategory(f"There is no category {name}.")

    ledger = types.SimpleNamespace(begin=contextlib.nullcontext)
    system = types.SimpleNamespace(
        ledger=ledger, category=category, settings=types.SimpleNamespace(lease_duration=30.0)
    )  # fmt: skip
    run = types.SimpleNamespace(name="run 7", options={"checkpoint": "one", "scope": ["others"]})
    monkeypatch.setattr(instants, "claim", lambda *args, **values: 1)
    monkeypatch.setattr(instants, "release", lambda session, run_id, number, **_: released.append((run_id, number)))
    monkeypatch.setattr(runs, "get", lambda *args: run)
    Keeper(system, "keeper")._take(7)  # type: ignore[arg-type]
    assert released == [(7, 1)]
