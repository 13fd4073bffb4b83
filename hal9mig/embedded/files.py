"""Files of the data directory: private, whole or absent, and logs with a cap."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
from collections.abc import Mapping

import hal9mig
from hal9mig import errors, safe_text

#: Bytes after which a log is rotated.
LOG_CAP = 20 * 10**6
PROJECT = pathlib.Path(hal9mig.__file__).resolve().parent.parent


def write_private(path: pathlib.Path, text: str) -> None:
    """Write a file that only its owner can read, so that readers see the old or the new text, never a half."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(path)


def write_document(path: pathlib.Path, document: Mapping[str, object]) -> None:
    """Write a JSON object with ``write_private``."""
    write_private(path, json.dumps(document, indent=1) + "\n")


def read_document(path: pathlib.Path) -> dict[str, object] | None:
    """Return the JSON object of a file; None when there is no such file.

    Raises:
        errors.StackRefused: the file is there and cannot be read.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise errors.StackRefused(
            f"{path.parent} is no folder.", hint="name another with HAL9_DATA_DIR or stack.data_dir"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise errors.StackRefused(
            f"{path} cannot be read: {error}", hint="restore the file, or move its folder away and start afresh"
        ) from error
    if not isinstance(document, dict):
        raise errors.StackRefused(f"{path} does not hold a JSON object.", hint="move it away and start again")
    return document


def make_directory(path: pathlib.Path, mode: int) -> None:
    """Create a directory and its parents; an existing one keeps its mode.

    Raises:
        errors.StackRefused: it cannot be created, or something else has its name.
    """
    try:
        if not path.is_dir():
            path.mkdir(parents=True)
            path.chmod(mode)
    except OSError as error:
        raise errors.StackRefused(
            f"The folder {path} cannot be made: {error.strerror}.",
            hint="name another with HAL9_DATA_DIR or stack.data_dir",
        ) from error


def config_file(name: str) -> pathlib.Path:
    """Return a file of the ``config`` folder that is delivered with the package.

    Raises:
        errors.StackRefused: the installation lacks it.
    """
    # A wheel carries the folder inside the package, a checkout beside it.
    for folder in (PROJECT / "hal9mig" / "_config", PROJECT / "config"):
        if (folder / name).is_file():
            return folder / name
    raise errors.StackRefused(f"The installation lacks config/{name}.", hint="install hal9-migrate again")


def rotate(log: pathlib.Path) -> None:
    """Move a log that grew past its cap to ``<log>.1``; called before its process starts, so none holds it open."""
    if log.is_file() and log.stat().st_size > LOG_CAP:
        log.replace(log.with_name(log.name + ".1"))


def trim(log: pathlib.Path) -> None:
    """Copy a log that grew past its cap to ``<log>.1`` and empty it, while its process goes on writing to it."""
    try:
        if log.stat().st_size <= LOG_CAP:
            return
        # Emptied, not replaced: its process holds it open for appending, and writes on from the new end. A line
        # between the two steps is lost, which the log of a program can bear.
        shutil.copyfile(log, log.with_name(log.name + ".1"))
        os.truncate(log, 0)
    except OSError:
        return


def tail(log: pathlib.Path, *, offset: int = 0) -> str:
    """Return the last three non-empty lines of a log after ``offset``, with secrets masked."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(offset, log.stat().st_size - 65536))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return safe_text.masked("\n".join([line for line in text.splitlines() if line.strip()][-3:]))
