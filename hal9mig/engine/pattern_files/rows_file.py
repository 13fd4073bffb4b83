"""One Parquet file: rows of one table for a range of keys, written and read a row group at a time.

A row group holds the rows of the same records in each table's file of a range, also where these are none. So what
belongs to a record is found without an index, and no more than a group of each is in memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from hal9mig import errors
from hal9mig.categories.declaration import Column
from hal9mig.engine.pattern_files.columns import Fields, FiledColumn, filed

#: The hash of a record as the flat store computes it, beside what is the record's own.
HASH = Column("record_hash", "bigint")
#: Names of what a file says of itself in its metadata.
_FACTS = "hal9."
#: Types of which values repeat, so that a dictionary is worth while.
_REPEATING = (pa.string(), pa.int32())


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileShape:
    """What a file holds: a table, the columns of it in their order, and what it says of itself.

    Attributes:
        facts: category, kind, schema version; a file with other facts is another's.
    """

    table: str
    columns: tuple[Column, ...]
    facts: Mapping[str, str]

    @property
    def declared(self) -> tuple[tuple[str, str], ...]:
        """Name and type of each column, as a manifest has them."""
        return tuple((column.name, column.type) for column in self.columns)

    @property
    def filed(self) -> list[FiledColumn]:
        """What holds each column."""
        return [filed(column) for column in self.columns]

    def schema(self) -> pa.Schema:
        """Return the schema of the file."""
        found = {f"{_FACTS}{name}": value for name, value in {"table": self.table, **self.facts}.items()}
        return pa.schema([field for column in self.filed for field in column.schema()], metadata=found)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowsFile:
    """A file that was written: its rows and row groups, its size and its SHA-256."""

    rows: int
    groups: int
    bytes: int
    sha256: str


class RowsWriter:
    """Writes a file; ``group`` after ``group``, then ``close``."""

    def __init__(self, stream: BinaryIO, shape: FileShape):
        self._columns = shape.filed
        self._schema = shape.schema()
        self._sink = _Hashing(stream)
        repeating = [field.name for field in self._schema if field.type in _REPEATING]
        self._writer = pq.ParquetWriter(
            pa.PythonFile(self._sink, mode="w"), self._schema, compression="zstd", compression_level=1,
            use_dictionary=repeating, write_statistics=repeating,
        )  # fmt: skip
        self._rows = self._groups = 0

    def group(self, columns: Sequence[Fields]) -> None:
        """Write a row group, given as the fields of each column; none of any column is a group too."""
        pairs = zip(self._columns, columns or [()] * len(self._columns), strict=True)
        arrays = [one for column, fields in pairs for one in column.arrays(fields)]
        table = pa.Table.from_arrays(arrays, schema=self._schema)
        self._writer.write_table(table, row_group_size=max(1, len(table)))
        self._rows += len(table)
        self._groups += 1

    def close(self) -> RowsFile:
        """Write the end and return what the file is."""
        self._writer.close()
        return RowsFile(
            rows=self._rows, groups=self._groups, bytes=self._sink.size, sha256=self._sink.sha256.hexdigest()
        )


class RowsReader:
    """Reads a file that ``RowsWriter`` has written.

    Args:
        name: what errors call it.

    Raises:
        errors.Refused: it is no such file, or another's.
    """

    def __init__(self, stream: BinaryIO, shape: FileShape, name: str):
        self._name = name
        self._shape = shape
        with self._reported():
            self._file = pq.ParquetFile(stream)
        self._check()

    @property
    def groups(self) -> int:
        """How many row groups it has."""
        return int(self._file.num_row_groups)

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return int(self._file.metadata.num_rows)

    def group(self, at: int) -> list[list[bytes]]:
        """Return the fields of each column in a row group.

        Raises:
            errors.Refused: it is damaged.
        """
        return self._read(at, self._shape.columns)

    def some(self, names: Sequence[str]) -> Iterator[list[list[bytes]]]:
        """Yield the fields of some columns, in the order of their names here, group by group."""
        by_name = {column.name: column for column in self._shape.columns}
        chosen = [by_name[name] for name in names]
        for at in range(self.groups):
            yield self._read(at, chosen)

    def _read(self, at: int, columns: Sequence[Column]) -> list[list[bytes]]:
        found = []
        forms = [filed(column) for column in columns]
        with self._reported():
            table = self._file.read_row_group(at, columns=[one.name for form in forms for one in form.schema()])
            for form in forms:
                found.append(form.fields([_whole(table.column(one.name)) for one in form.schema()]))
        return found

    def _check(self) -> None:
        with self._reported():
            wanted, found = self._shape.schema(), self._file.schema_arrow
            whole = self._file.metadata
            groups = sum(whole.row_group(at).num_rows for at in range(whole.num_row_groups))
        if groups != whole.num_rows:
            # The library believes each group, and takes as much memory.
            raise errors.Refused(
                f"{self._name} is damaged: it has {whole.num_rows:,} rows, and its groups say {groups:,}."
            )
        facts = {
            key.decode("utf-8", "replace"): value.decode("utf-8", "replace")
            for key, value in (found.metadata or {}).items()
        }
        for name, value in ((key.decode(), value.decode()) for key, value in wanted.metadata.items()):
            if facts.get(name) != value:
                said = f"{name} {facts[name]!r}" if name in facts else f"no {name}"
                raise errors.Refused(f"{self._name} is not a file of this folder: it says {said}, and not {value!r}.")
        if not found.equals(wanted, check_metadata=False):
            raise errors.Refused(f"{self._name} has other columns than are declared: {_difference(wanted, found)}.")

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        """Tell the library's errors as ours."""
        try:
            yield
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise errors.Refused(f"{self._name} is damaged, or no Parquet file: {reason.rstrip('.')}.") from error


class _Hashing:
    """A file to write to that knows its hash; it is never sought in."""

    def __init__(self, stream: BinaryIO):
        self._stream = stream
        self.sha256 = hashlib.sha256()
        self.size = 0
        self.closed = False

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self.size += len(data)
        return self._stream.write(data)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self.closed = True


def _whole(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    return column.combine_chunks() if column.num_chunks else pa.array([], column.type)


def _difference(wanted: pa.Schema, found: pa.Schema) -> str:
    declared, there = ({field.name: str(field.type) for field in one} for one in (wanted, found))
    for name in [*declared, *there]:
        if declared.get(name) != there.get(name):
            return f"{name} is {there.get(name, 'missing')}, and declared as {declared.get(name, 'nothing')}"
    return "they stand in another order"
