"""Whether the files that a checkpoint names are where they will be looked for."""

from __future__ import annotations

from collections.abc import Sequence

from hal9mig.engine.checkpoint.archive import Archive
from hal9mig.engine.checkpoint.manifest import Manifest

#: Files that a sentence names.
_MOST_NAMED = 3


def lacking(kept: Archive, made: Manifest) -> list[str]:
    """Return the files of a checkpoint that are not there, or not of their size.

    Raises:
        errors.ArchiveUnreachable: the storage does not answer.
    """
    there = kept.sizes(made.name)
    return [one.file for table in made.tables for one in table.chunks if there.get(one.file) != one.bytes]


def sentence(made: Manifest, files: Sequence[str]) -> str:
    """Say what a checkpoint lacks."""
    named = ", ".join(files[:_MOST_NAMED]) + (f" and {len(files) - _MOST_NAMED} more" if files[_MOST_NAMED:] else "")
    count = sum(len(table.chunks) for table in made.tables)
    return f"{len(files)} of the {count} files of checkpoint {made.name} are missing or not of their size: {named}"
