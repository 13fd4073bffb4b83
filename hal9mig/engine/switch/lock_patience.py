"""Work for which nobody may be kept waiting long: what holds it up is given up after seconds, and named.

A worker that is frozen keeps the locks of the keys it was applying until its session ends. Whoever
waits for one of them behind the barrier keeps every writer waiting too.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import psycopg2
import psycopg2.errors

from hal9mig import errors, model, units
from hal9mig.engine.system import System
from hal9mig.stores import lock_holders
from hal9mig.stores.lock_holders import Holder

T = TypeVar("T")

#: Seconds that writers may be kept waiting for one lock, and for all of it.
PATIENCE, LONGEST = 2.0, 10.0
#: The share of the patience after which it is looked who is waited for, and seconds from one look to the next.
_SHARE, _EVERY = 0.4, 0.2


def hurried(system: System, act: Callable[[System], T], *, patience: float = PATIENCE, longest: float = LONGEST) -> T:
    """Return what ``act`` returns, done with sessions that wait for a lock for ``patience`` seconds only.

    Somebody who holds a lock as long as that, and is gone then, was only busy: it is tried again.

    Raises:
        errors.GateClosed: a lock was not to be had; who holds it is named.
    """
    impatient = system.impatient(patience, mark=f"in a hurry {secrets.token_hex(4)}")
    ends = time.monotonic() + longest
    lookout = _Lookout(system, impatient.role, delay=patience * _SHARE)
    lookout.start()
    try:
        while True:
            try:
                return act(impatient)
            except psycopg2.errors.LockNotAvailable:
                pass
            held = lookout.standing()
            if held or time.monotonic() > ends:
                raise errors.GateClosed(
                    f"A lock was not to be had within {units.format_duration(patience if held else longest)}; "
                    f"it is held by {'; '.join(held) or 'one session after another'}.",
                    hint="let it end, or end it with SELECT pg_terminate_backend(pid)",
                )
    finally:
        lookout.stop()
        impatient.ledger.close()


class _Lookout(threading.Thread):
    """Sees who is waited for while somebody waits: afterwards nothing tells it any more."""

    def __init__(self, system: System, waiting: str, *, delay: float):
        super().__init__(name="lookout", daemon=True)
        self._system = system
        self._waiting = waiting
        self._delay = delay
        self._over = threading.Event()
        # With a place for each store from the start: ``standing`` goes through it while this thread fills it.
        self._seen: dict[model.StoreName, Sequence[Holder]] = dict.fromkeys(model.StoreName, ())

    def run(self) -> None:
        """Look, once it takes long."""
        if self._over.wait(self._delay):
            return
        # It only serves to name somebody: what goes wrong with it must not be what the switch fails with.
        with contextlib.suppress(errors.HAL9Error, psycopg2.Error), contextlib.ExitStack() as stack:
            opened = {store: stack.enter_context(contextlib.closing(self._system.store(store))) for store in self._seen}
            while True:
                for store, connection in opened.items():
                    self._seen[store] = lock_holders.ahead_of(connection, self._waiting) or self._seen[store]
                if self._over.wait(_EVERY):
                    return

    def standing(self) -> list[str]:
        """Describe who was waited for and has not moved since."""
        found = []
        with contextlib.suppress(errors.HAL9Error, psycopg2.Error):
            for store, seen in self._seen.items():
                if seen:
                    with contextlib.closing(self._system.store(store)) as connection:
                        found += [str(one) for one in lock_holders.standing(connection, seen)]
        return found

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        self.join()
