"""Log lines: for people or as JSON, secrets masked, each with what it is about.

A word goes from the command that orders a run through the run, its batches and everything that is logged about them,
so that all of it can be found by that word.
"""

from __future__ import annotations

import contextlib
import contextvars
import datetime
import functools
import json
import logging
import os
import secrets
import types
from collections.abc import Iterator, Mapping

from hal9mig import safe_text

#: Names the word that everything of this process is found by; a random one without it.
VARIABLE = "HAL9_CORRELATION"
TEXT, JSON = "text", "json"
_about: contextvars.ContextVar[Mapping[str, object]] = contextvars.ContextVar(
    "about", default=types.MappingProxyType({})
)


@functools.cache
def correlation() -> str:
    """Return the word of what this process orders."""
    given = "".join(sign for sign in os.environ.get(VARIABLE, "") if sign.isalnum() or sign in "-_.:")[:64]
    return given or secrets.token_hex(6)


@contextlib.contextmanager
def about(**fields: object) -> Iterator[None]:
    """Have every line of this thread say what it is about, for the length of a block."""
    token = _about.set({**_about.get(), **{name: value for name, value in fields.items() if value not in (None, "")}})
    try:
        yield
    finally:
        _about.reset(token)


class _Noting(logging.Filter):
    """Notes what a line is about while it is logged: it may be printed in another thread."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.about = _about.get()
        return True


class _Masked(logging.Formatter):
    """Another's lines, without secrets."""

    def __init__(self, inner: logging.Formatter):
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        return safe_text.masked(self._inner.format(record))


class _Json(logging.Formatter):
    """A line as one JSON document."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        found: dict[str, object] = {
            "ts": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"), "level": record.levelname,
            "logger": record.name, "process": record.process, "message": record.getMessage(),
        }  # fmt: skip
        found |= getattr(record, "about", {})
        # Celery says of its lines about tasks which one it is.
        data = getattr(record, "data", None)
        if isinstance(data, Mapping) and "id" in data:
            found |= {"task": data.get("name"), "task_id": data["id"]}
        if record.exc_info:
            found["exception"] = self.formatException(record.exc_info)
        # Each text by itself: what masks a secret knows nothing of where a JSON text ends.
        found = {name: safe_text.masked(value) if isinstance(value, str) else value for name, value in found.items()}
        return safe_text.printable_json(json.dumps(found, ensure_ascii=False, default=str))


def shape(logger: logging.Logger, how: str) -> None:
    """Have a logger's lines printed as ``text``, in the form they have, or as ``json``; in both without secrets."""
    for handler in logger.handlers:
        if not any(isinstance(one, _Noting) for one in handler.filters):
            handler.addFilter(_Noting())
        if how == JSON:
            handler.setFormatter(_Json())
        elif not isinstance(handler.formatter, _Masked):
            handler.setFormatter(_Masked(handler.formatter or logging.Formatter()))
