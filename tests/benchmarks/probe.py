"""Loaded by workers with ``--include``: notes how long they read, write and commit, and everything else is overhead.

One line a batch in the file that ``HAL9_BENCH_PROBE`` names: when it began and ended, how long of that
was work on records, and how long its statements on the ledger took.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from hal9mig.engine import work
from hal9mig.engine.transfer import copier, reader
from hal9mig.ledger import database
from hal9mig.ledger.session import Session

_FILE = os.environ["HAL9_BENCH_PROBE"]
_spent = dict.fromkeys(("read", "write", "commit", "ledger", "ledger in write"), 0.0)


class _State:
    writing = False
    written = False  # since the last commit


def _timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def timed(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            _spent[name] += time.perf_counter() - started

    return timed


def _steps(function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    def steps(self: Any) -> Iterator[Any]:
        found = function(self)
        following = _timed("read", lambda: next(found, None))
        while (step := following()) is not None:
            yield step

    return steps


def _write(function: Callable[..., Any]) -> Callable[..., Any]:
    timed = _timed("write", function)

    def write(*args: Any, **kwargs: Any) -> Any:
        _State.writing = _State.written = True
        try:
            return timed(*args, **kwargs)
        finally:
            _State.writing = False

    return write


def _commit(function: Callable[..., Any]) -> Callable[..., Any]:
    timed = _timed("commit", function)

    def commit(*args: Any, **kwargs: Any) -> Any:
        # Those of the ledger's own transactions are overhead.
        written, _State.written = _State.written, False
        return (timed if written else function)(*args, **kwargs)

    return commit


def _ledger(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            seconds = time.perf_counter() - started
            _spent["ledger"] += seconds
            _spent["ledger in write"] += seconds if _State.writing else 0.0

    return run


def _perform(function: Callable[..., Any]) -> Callable[..., Any]:
    def perform(*args: Any, **kwargs: Any) -> Any:
        _spent.update(dict.fromkeys(_spent, 0.0))
        began = time.time()
        outcome = function(*args, **kwargs)
        line = {"pid": os.getpid(), "began": began, "ended": time.time(), "seq": kwargs["seq"], **_spent}
        with open(_FILE, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        return outcome

    return perform


reader.Reader.steps = _steps(reader.Reader.steps)  # type: ignore[method-assign]
copier.Copier._write = _write(copier.Copier._write)  # type: ignore[method-assign]
database.run = _ledger(database.run)
Session.commit = _commit(Session.commit)  # type: ignore[method-assign]
work.perform = _perform(work.perform)
