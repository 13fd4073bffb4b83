"""What a checkpoint holds: its tables, their chunks, and where everything stood. Written last, and hashed itself."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from hal9mig import errors, model
from hal9mig.categories import identifiers
from hal9mig.engine.switch import gate

#: The form of the file; goes up when a program of today could not read it.
FORMAT = 1
_MODULUS = 1 << 64
#: Files that a sentence names.
_MOST_NAMED = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chunk:
    """A key range of one table in one file.

    Attributes:
        file: within the checkpoint's folder.
        after, upto: the keys it lies between, exclusive and inclusive; None is open.
        digest: the sum of the rows' hashes modulo 2^64, whatever their order; see ``chunk.row_hash``.
        sha256: of the file as it is stored.
        raw_bytes, bytes: as binary COPY, and as a file.
        frames: offset, length, rows and digest of each compressed frame.
    """

    file: str
    after: model.Key | None
    upto: model.Key | None
    rows: int
    digest: int
    sha256: str
    raw_bytes: int
    bytes: int
    frames: tuple[tuple[int, int, int, int], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A table of a checkpoint; its chunks follow one upon the other without a gap.

    Attributes:
        category: empty for the journals and the quarantine.
        columns: names and types of what a row's tuple holds, in order.
        role: ``source``, ``root``, ``part``, ``shared`` or ``ledger``.
    """

    store: model.StoreName
    category: str
    schema: str
    table: str
    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]
    owner: tuple[str, ...]
    role: str
    chunks: tuple[Chunk, ...]

    @property
    def qualified(self) -> str:
        """``schema.table``."""
        return identifiers.qualified(self.schema, self.table)

    @property
    def rows(self) -> int:
        """How many rows it had."""
        return sum(chunk.rows for chunk in self.chunks)

    @property
    def digest(self) -> int:
        """The digest of all its rows."""
        return sum(chunk.digest for chunk in self.chunks) % _MODULUS

    @property
    def bytes(self) -> int:
        """The size of its files."""
        return sum(chunk.bytes for chunk in self.chunks)

    @property
    def raw_bytes(self) -> int:
        """Its size as binary COPY."""
        return sum(chunk.raw_bytes for chunk in self.chunks)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CategoryDigest:
    """A category in one store: its records and the sum of their hashes, as ``engine.compare.digest`` computes them."""

    records: int
    digest: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a checkpoint is.

    Attributes:
        kind: ``full``, or ``marker`` where it holds no data.
        label: ``pre-migration``, ``safety`` or nothing.
        scope: the categories it holds; ``whole`` where these were all.
        taken_at: the instant that both stores are kept as of.
        positions: where the ledger, the journals and the servers stood.
        schemas: the revision of each schema.
        digests: by category and store.
    """

    name: str
    description: str
    kind: str
    label: str
    scope: tuple[str, ...]
    whole: bool
    taken_at: datetime.datetime
    finished_at: datetime.datetime
    by: str
    program: str
    verified: bool
    mode: str
    epoch: int
    positions: Mapping[str, Any]
    schemas: Mapping[str, str]
    tables: tuple[Table, ...]
    digests: Mapping[str, Mapping[str, CategoryDigest]]

    @property
    def restorable(self) -> bool:
        """Whether it holds the data itself."""
        return self.kind == "full"

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(table.rows for table in self.tables)

    @property
    def bytes(self) -> int:
        """The size of its files."""
        return sum(table.bytes for table in self.tables)

    @property
    def raw_bytes(self) -> int:
        """Its size as binary COPY."""
        return sum(table.raw_bytes for table in self.tables)

    @property
    def files(self) -> list[Chunk]:
        """Every file."""
        return [chunk for table in self.tables for chunk in table.chunks]

    def lacks(self, files: Sequence[str]) -> str:
        """Say that these files of it are not there."""
        named = ", ".join(files[:_MOST_NAMED]) + (
            f" and {len(files) - _MOST_NAMED} more" if files[_MOST_NAMED:] else ""
        )
        return (
            f"{len(files)} of the {len(self.files)} files of checkpoint {self.name} are missing or not of their size: "
            f"{named}"
        )

    def covers(self, slugs: Sequence[str]) -> bool:
        """Whether it holds all of these categories."""
        return set(slugs) <= set(self.scope)

    def table(self, store: model.StoreName, qualified: str) -> Table:
        """Return one of its tables.

        Raises:
            errors.NotFound: it holds none of this name.
        """
        for one in self.tables:
            if one.store is store and one.qualified == qualified:
                return one
        raise errors.NotFound(f"Checkpoint {self.name} holds no table {qualified} of the {store} store.")

    def to_text(self) -> str:
        """Return it as JSON, with the SHA-256 of all the rest in it."""
        moments = {"taken_at": self.taken_at.isoformat(), "finished_at": self.finished_at.isoformat()}
        document = {"format": FORMAT, **msgspec.to_builtins(self), **moments}
        return json.dumps(gate.sealed(document), ensure_ascii=False, indent=1) + "\n"

    @classmethod
    def from_text(cls, text: str) -> Manifest:
        """Read it.

        Raises:
            errors.CheckpointDamaged: it is not what was written.
            errors.Refused: a newer program wrote it.
        """
        try:
            document = json.loads(text)
            if not isinstance(document, dict) or gate.sealed(document)["sha256"] != document.get("sha256"):
                raise errors.CheckpointDamaged("The manifest's hash is not that of its content.")
            form = document["format"]
            if form > FORMAT:
                raise errors.Refused(
                    f"The manifest has format {form}, which this program does not know.",
                    hint="use the program that wrote it, or a newer one",
                )
            unknown = document.keys() - {"format", "sha256", *(field.name for field in dataclasses.fields(cls))}
            if unknown:
                raise ValueError(f"it has {', '.join(sorted(unknown))}")
            return msgspec.convert(document, cls)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise errors.CheckpointDamaged(f"The manifest cannot be read: {type(error).__name__}: {error}") from None
