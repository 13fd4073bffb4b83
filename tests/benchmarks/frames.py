"""Loaded by workers with ``--include``: notes where each thread of a pool process is, a hundred times a second.

A line a second in the file that ``HAL9_BENCH_FRAMES`` names: how often each place was seen since the last
one. A place is the innermost Python function of ours; what it waits for, or does in compiled code, counts as
its.
"""

from __future__ import annotations

import collections
import json
import os
import sys
import threading
import time
import types
from typing import Any

from celery import signals

_FILE = os.environ["HAL9_BENCH_FRAMES"]
_EVERY = 0.01  # seconds
#: The thread that extends a batch's lease, which waits nearly always.
_HEARTBEAT = "engine.work.run"


def _place(frame: types.FrameType | None) -> str:
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith("hal9mig."):
            return f"{module.removeprefix('hal9mig.')}.{frame.f_code.co_name}"
        frame = frame.f_back
    return ""


def _look() -> None:
    own = threading.get_ident()
    seen: collections.Counter[str] = collections.Counter()
    noted = time.monotonic()
    while True:
        time.sleep(_EVERY)
        for ident, frame in sys._current_frames().items():
            if ident != own and (place := _place(frame)) and place != _HEARTBEAT:
                seen[place] += 1
        if time.monotonic() - noted > 1:
            with open(_FILE, "a", encoding="utf-8") as stream:
                stream.write(json.dumps(seen) + "\n")
            seen.clear()
            noted = time.monotonic()


@signals.worker_process_init.connect
def _after_fork(**_: Any) -> None:
    threading.Thread(target=_look, name="frames", daemon=True).start()
