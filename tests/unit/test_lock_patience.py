"""Who is waited for while a switch waits for a lock."""

from __future__ import annotations

import threading
import time

import pytest

from hal9mig.engine.switch import lock_patience
from hal9mig.stores import lock_holders


def test_a_second_store_that_is_looked_at_while_the_first_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that looks and the one that asks for names do not stumble over each other."""
    asked, looked = threading.Event(), threading.Event()
    stores: list[str] = []

    class Opened(str):
        def close(self) -> None:
            pass

    class System:
        def store(self, name: str) -> Opened:
            return Opened(name)

    def ahead_of(opened: str, waiting: str) -> list[str]:
        if stores:
            assert asked.wait(10)
        stores.append(opened)
        return [f"holder in {opened}"]

    def standing(opened: str, seen: list[str]) -> list[str]:
        asked.set()
        assert looked.wait(10)
        return seen

    class Over(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if len(stores) == 2:
                looked.set()
                return super().wait(10)
            return False

    monkeypatch.setattr(lock_holders, "ahead_of", ahead_of)
    monkeypatch.setattr(lock_holders, "standing", standing)
    lookout = lock_patience._Lookout(System(), "me", delay=0.0)  # type: ignore[arg-type]
    lookout._over = Over()
    lookout.start()
    while not any(lookout._seen.values()):
        time.sleep(0.01)
    try:
        assert "holder in flat" in lookout.standing()
    finally:
        lookout.stop()
