"""reconciliation.log: a line for each event, for whoever follows the file."""

from __future__ import annotations

import datetime
import json
import logging
import os
import pathlib
import re
from collections.abc import Mapping

from hal9mig import errors, safe_text, settings

log = logging.getLogger(__name__)

LOG_NAME = "reconciliation.log"
_PLAIN = re.compile(r'[^\s"=\\\x00-\x1f\x7f]+')


def open_log(resolved: settings.Settings) -> pathlib.Path:
    """Make sure that the log exists and can be written to, and return its path.

    Raises:
        errors.Refused: it cannot be.
    """
    path = resolved.log_dir / LOG_NAME
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(_opened(path))
    except OSError as error:
        raise errors.Refused(
            f"The log {path} cannot be written: {error.strerror or error}.",
            hint="let this account write there, or name another folder with HAL9_LOG_DIR",
        ) from error
    return path


def note(resolved: settings.Settings, event: str, **fields: object) -> None:
    """Append one event to the log; where that does not work, to the program's own log."""
    text = line(event, fields)
    path = resolved.log_dir / LOG_NAME
    try:
        descriptor = _opened(path)
        try:
            # One write of a file opened for appending: lines of several processes do not mix, and whoever
            # follows the file keeps following it.
            os.write(descriptor, text.encode("utf-8", "backslashreplace"))
        finally:
            os.close(descriptor)
    except OSError as error:
        log.warning("%s cannot be written (%s): %s", path, error.strerror or error, text.rstrip())


def line(event: str, fields: Mapping[str, object]) -> str:
    """Return an event as one line of logfmt; empty fields are left out."""
    stamp = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    shown = {"ts": stamp, "event": event} | {name: value for name, value in fields.items() if value not in (None, "")}
    return " ".join(f"{name}={_value(value)}" for name, value in shown.items()) + "\n"


def _value(value: object) -> str:
    if isinstance(value, float):
        value = f"{value:.3f}".rstrip("0").rstrip(".")
    text = safe_text.printable(safe_text.masked(str(value)))
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _opened(path: pathlib.Path) -> int:
    # Readable for all who may enter the folder: it holds keys, and no values.
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
