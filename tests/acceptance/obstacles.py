"""Obstacles in a worker's way: at a named point of its work it kills or stops itself, once.

A worker loads this file like any file of categories (``HAL9_CATEGORIES``) and is told in ``OBSTACLES``
which points there are. Whoever comes to a point first leaves the file ``met.<point>`` and has the
accident; everybody after that passes. ``pause`` holds each transaction open for some seconds, so that
accidents from outside find one.

The points, in the order in which a batch comes by them: ``claimed`` the lease is taken, ``read`` a
record has come in, ``transformed``, ``written`` the rows are in the tables, ``noted`` the ledger row
too, ``finished`` the batch is marked done, all three not committed; ``committed`` a step is, with
more to come; ``copied`` the whole batch is; ``answered`` the task ends, but is not acknowledged.
"""

from __future__ import annotations

import functools
import json
import os
import pathlib
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

from hal9mig.categories import transform
from hal9mig.categories.neurons import CATEGORY  # noqa: F401 - a file has to declare a category
from hal9mig.engine import work
from hal9mig.engine.transfer import copier, reader, writer
from hal9mig.ledger import batches

_SPEC = json.loads(os.environ["OBSTACLES"])
_FOLDER = pathlib.Path(_SPEC["folder"])


def _accident(kind: str) -> None:
    number = signal.SIGKILL if kind.startswith("kill") else signal.SIGSTOP
    if kind.endswith("group"):
        os.killpg(os.getpgrp(), number)
    else:
        os.kill(os.getpid(), number)


def come_to(point: str) -> None:
    """Have the accident that waits here, if nobody has had it."""
    kind = _SPEC["points"].get(point)
    if kind is None:
        return
    try:
        os.close(os.open(_FOLDER / f"met.{point}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    _accident(kind)


def _before(owner: object, name: str, point: str) -> None:
    original: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(original)
    def changed(*args: Any, **named: Any) -> Any:
        come_to(point)
        return original(*args, **named)

    setattr(owner, name, changed)


def _after(owner: object, name: str, point: str, pause: float = 0.0) -> None:
    original: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(original)
    def changed(*args: Any, **named: Any) -> Any:
        result = original(*args, **named)
        time.sleep(pause)
        come_to(point)
        return result

    setattr(owner, name, changed)


def _steps(original: Callable[[reader.Reader], Iterator[reader.Step]]) -> Callable[..., Iterator[reader.Step]]:
    def changed(self: reader.Reader) -> Iterator[reader.Step]:
        for step in original(self):
            yield step
            if not step.last:
                come_to("committed")

    return changed


# Read again for another System, the file must not put a second layer on.
if not hasattr(work, "obstacles"):
    work.obstacles = True  # type: ignore[attr-defined]
    _before(batches, "attach_backend", "claimed")
    _after(reader.Reader, "write", "read")
    _after(transform.Transform, "apply", "transformed")
    _after(writer.BatchWriter, "straight", "written", _SPEC["pause"])
    _after(batches, "advance", "noted")
    _after(batches, "finish", "finished")
    reader.Reader.steps = _steps(reader.Reader.steps)  # type: ignore[method-assign]
    _after(copier.Copier, "run", "copied")
    _after(work, "perform", "answered")
