"""What a folder of learning data holds: its files, each with range, counts and hash. Written last, hashed itself."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Mapping
from typing import Any

import msgspec

from hal9mig import errors, model
from hal9mig.engine.switch import gate

#: The form of the file; goes up when a program of today could not read it.
FORMAT = 1
#: The version of the flat record that exported files hold.
SCHEMA_VERSION = 1
EXPORTED, TRANSFORMED = "exported", "transformed"
#: Files in one folder of the tree.
_IN_A_FOLDER = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableFile:
    """A file: the rows of a table for one range of keys.

    Attributes:
        path: within the folder; it follows from table, number and attempt, and is never taken from a manifest.
    """

    table: str
    path: str
    rows: int
    groups: int
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class RangeFiles:
    """A range of keys, and its file of each table.

    Attributes:
        after, upto: the keys it lies between, exclusive and inclusive; None is open.
        records: of the flat table; ``refused`` of them could not be transformed.
        bytes: what they measure as binary COPY.
        snapshot, read_at: of the flat store, as of which its records are.
    """

    number: int
    attempt: int
    after: model.Key | None
    upto: model.Key | None
    records: int
    refused: int
    bytes: int
    snapshot: str
    read_at: str
    files: tuple[TableFile, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FolderManifest:
    """What a folder is.

    Attributes:
        kind: ``exported``, with flat records, or ``transformed``, with rows of the hierarchical tables.
        layout: ``hierarchical``, a tree, or ``flat``, one folder.
        system: the store that the records were read from; ``store`` tells that database from any other.
        columns: of each table, names and types.
        place: the token that the folder had while it was being filled.
        of: the hash of the manifest that this one was transformed from.
        mode, epoch: the write mode when the export was ordered.
    """

    kind: str
    layout: str
    category: str
    transform_version: int
    schema_version: int
    system: str
    store: str
    mode: str
    epoch: int
    began_at: datetime.datetime
    finished_at: datetime.datetime
    by: str
    program: str
    columns: Mapping[str, tuple[tuple[str, str], ...]]
    ranges: tuple[RangeFiles, ...]
    place: str
    of: str = ""
    sha256: str = ""

    @property
    def records(self) -> int:
        """Records of all ranges."""
        return sum(one.records for one in self.ranges)

    @property
    def refused(self) -> int:
        """Records that could not be transformed."""
        return sum(one.refused for one in self.ranges)

    @property
    def raw_bytes(self) -> int:
        """What the records measure as binary COPY."""
        return sum(one.bytes for one in self.ranges)

    @property
    def files(self) -> list[TableFile]:
        """Every file."""
        return [file for one in self.ranges for file in one.files]

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(file.bytes for file in self.files)

    def range(self, number: int) -> RangeFiles:
        """Return a range by its number.

        Raises:
            errors.NotFound: there is none.
        """
        for one in self.ranges:
            if one.number == number:
                return one
        raise errors.NotFound(f"The folder's manifest has no range {number}.")

    def to_text(self) -> str:
        """Return it as JSON, with the SHA-256 of all the rest in it."""
        document = {"format": FORMAT, **msgspec.to_builtins(self)}
        return json.dumps(gate.sealed(document), ensure_ascii=False, indent=1) + "\n"

    @classmethod
    def from_text(cls, text: str, name: str) -> FolderManifest:
        """Read it.

        Args:
            name: what errors call it.

        Raises:
            errors.Refused: it is not what was written, or a newer program's.
        """
        try:
            document: dict[str, Any] = json.loads(text)
            if document.get("format", 0) > FORMAT:
                raise errors.Refused(
                    f"{name} has format {document['format']}, which this program does not know.",
                    hint="use the program that wrote it, or a newer one",
                )
            if gate.sealed(document)["sha256"] != document.get("sha256"):
                raise errors.Refused(f"{name} is damaged: its hash is not that of its content.")
            found = msgspec.convert(document, cls)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise errors.Refused(f"{name} is no manifest of learning data: {error}.") from None
        for one in found.ranges:
            for file in one.files:
                if file.path != path(found.layout, file.table, one.number, one.attempt):
                    raise errors.Refused(f"{name} names {file.path!r}, which is no name of a file here.")
        return found


def path(layout: str, table: str, number: int, attempt: int) -> str:
    """Return the name of a file within its folder.

    Args:
        attempt: of the batch that wrote it. A worker that was frozen and wakes up overwrites nobody's file.
    """
    name = f"{number:06d}-{attempt}.parquet"
    return f"{table}-{name}" if layout == "flat" else f"{table}/{number // _IN_A_FOLDER:04d}/{name}"
