"""Files in an archive, for the unit tests of where checkpoints lie."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

from hal9mig.engine.checkpoint.archive import Archive

FILE = "flat/flat.user_sessions/000001-1.copy.zst"


def put(kept: Archive, name: str = "one", data: bytes = b"content", file: str = FILE) -> None:
    """Write a file of a checkpoint."""
    with kept.writing(name, file) as stream:
        stream.write(data)


def put_and(kept: Archive, then: Callable[[], object]) -> None:
    """Write a part of a file, and let something happen before it is whole."""
    with kept.writing("one", FILE) as stream:
        stream.write(b"newer")
        then()


def files(root: pathlib.Path) -> list[str]:
    """Return the names of all files in a folder."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
