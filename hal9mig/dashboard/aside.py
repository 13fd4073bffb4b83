"""What may be slow to read, such as a remote storage: read beside the page, kept for a while, not waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, TimeoutError
from typing import Generic, TypeVar

T = TypeVar("T")


class Aside(Generic[T]):
    """Keeps a value fresh without letting anybody wait for it.

    Args:
        read: reads it, in a thread of ``pool``.
        empty: what it is before it was read for the first time.
        fresh: seconds for which it need not be read again.
        patience: seconds that ``get`` waits for one that is being read.
    """

    def __init__(self, read: Callable[[], T], empty: T, *, pool: Executor, fresh: float, patience: float):
        self._read, self._value, self._pool = read, empty, pool
        self._fresh, self._patience = fresh, patience
        self._lock = threading.Lock()
        self._future: Future[T] | None = None
        self._read_at = float("-inf")

    def get(self) -> T:
        """Return the value: the present one, or the last that is known while the present one takes its time."""
        with self._lock:
            if self._future is None and time.monotonic() - self._read_at > self._fresh:
                self._future = self._pool.submit(self._read)
            future = self._future
        if future is not None:
            try:
                value = future.result(self._patience)
            except TimeoutError:
                return self._value
            with self._lock:
                if self._future is future:
                    self._value, self._future, self._read_at = value, None, time.monotonic()
        return self._value
