"""Reports as files: at once or not at all."""

from __future__ import annotations

import os
import pathlib
import tempfile
from collections.abc import Mapping

from hal9mig import errors, safe_text


def require_folder(report: pathlib.Path, *, undone: str = "nothing was compared") -> None:
    """Check, before a long work, that its report can be written.

    Args:
        undone: what was not done where it cannot.

    Raises:
        errors.Refused: it cannot.
    """
    folder = report.absolute().parent
    if not folder.is_dir():
        raise errors.Refused(
            f"The folder {folder} of {report.name} does not exist; {undone}.", hint=f"mkdir -p {folder}"
        )
    try:
        if report.is_dir():
            raise errors.Refused(f"{report} is a folder; {undone}.", hint="name a file in it")
        # Tried, not asked: rights alone do not tell of a read-only or a full file system, nor of a name too long.
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=f".{report.name}.")
    except OSError as error:
        raise errors.Refused(
            f"The report {report} cannot be written: {error.strerror or error}; {undone}.",
            hint="name a file in a folder that this account may write to",
        ) from error
    os.close(descriptor)
    pathlib.Path(name).unlink(missing_ok=True)


def write(report: pathlib.Path, document: Mapping[str, object], *, private: bool = False) -> None:
    """Write a document as JSON, in the place of what was there; ``private`` is for its owner only."""
    text = safe_text.printable_json(safe_text.json_text(document, indent=2, default=str)) + "\n"
    write_bytes(report, text.encode(), private=private)


def write_bytes(report: pathlib.Path, data: bytes, *, private: bool = False) -> None:
    """Write a file, in the place of what was there; ``private`` is for its owner only."""
    descriptor, name = tempfile.mkstemp(dir=report.absolute().parent, prefix=f".{report.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if not private:
            # mkstemp lets only its owner read; a report is for others too, as the umask allows.
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(name, 0o666 & ~mask)
        os.replace(name, report)
    except BaseException:
        pathlib.Path(name).unlink(missing_ok=True)
        raise
