"""How much memory the processes of one way have at most, while it runs; the servers are left out."""

from __future__ import annotations

import contextlib
import threading
import time
from types import TracebackType

import psutil

#: Seconds between two looks: short at first, for what is over soon.
_SOON, _LATER = 0.05, 0.2


class Footprint:
    """The processes that are started within its block, and all that those start.

    Attributes:
        total: the largest sum of their resident sizes in bytes at any look; what they share counts for each.
        largest: the largest resident size in bytes of any one of them.
    """

    def __init__(self) -> None:
        self.total = 0
        self.largest = 0
        self._ended = threading.Event()
        self._before: set[int] = set()
        self._thread = threading.Thread(target=self._watch, name="footprint", daemon=True)

    def __enter__(self) -> Footprint:
        self._before = {child.pid for child in psutil.Process().children(recursive=True)}
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        began = time.monotonic()
        while not self._ended.wait(_SOON if time.monotonic() - began < 1 else _LATER):
            self._look()

    def _look(self) -> None:
        # What a server starts for a session is as little of the way as the server itself; parents come first.
        others = set(self._before)
        total = 0
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if process.pid in others or process.ppid() in others:
                    others.add(process.pid)
                    continue
                size = process.memory_info().rss
                total += size
                self.largest = max(self.largest, size)
        self.total = max(self.total, total)
