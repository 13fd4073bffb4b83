"""Transformed files as the origin of a copy, in which the flat store rules.

What is copied is what the flat store holds now. It is asked for the key and the hash of each record in a range, which
it computes as fast as it reads; where a file has a record of that hash, the rows in the file are written, and the
record is neither sent nor transformed again. A record that the file has not, or has as it was before, is read from the
flat store, and one that only the file has is gone. So for the copier it is all as if it had read the flat table
itself, after its lease was claimed: rule 3 of docs/correctness.md holds as it stands, however old the files are.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hal9mig import model
from hal9mig.categories.declaration import Category
from hal9mig.categories.filters import EVERYTHING
from hal9mig.categories.transform import Output, Transform
from hal9mig.engine.pattern_files import shapes
from hal9mig.engine.pattern_files.folder import PatternFolder
from hal9mig.engine.pattern_files.manifest import RangeFiles
from hal9mig.engine.pattern_files.rows_file import HASH, RowsReader
from hal9mig.engine.transfer import reader
from hal9mig.engine.transfer.reader import Reader, Step
from hal9mig.stores import projection
from hal9mig.stores.connection import Connection

#: Records that are looked up at once, at most; and bytes of the keys and hashes that are read ahead.
_MOST_AT_ONCE = 256
_AHEAD = 1 << 20

_Parts = tuple[bytes, ...]


class FiledRecord(list[bytes]):
    """A record's key and hash, where a flat record has them; of each target table the tuples, and how many."""

    def __init__(self, fields: Sequence[bytes], tuples: Sequence[tuple[bytes, int]]):
        super().__init__(fields)
        self.tuples = tuples

    @property
    def size(self) -> int:
        """Bytes of all its tuples."""
        return sum(len(data) for data, _ in self.tuples)


class FiledTransform(Transform):
    """A transform for which records that come from a file are done already."""

    def apply(self, records: Sequence[Sequence[bytes]]) -> Output:
        """Transform what is flat, and add what is not."""
        flat = [index for index, record in enumerate(records) if not isinstance(record, FiledRecord)]
        output = super().apply([records[index] for index in flat])
        output.rejections = [dataclasses.replace(one, index=flat[one.index]) for one in output.rejections]
        for record in records:
            if isinstance(record, FiledRecord):
                for place, (tuples, count) in enumerate(record.tuples):
                    output.pieces[place].append(tuples)
                    output.rows[place] += count
        return output


class FileOrigin:
    """The files of a range; make one for each lease.

    Args:
        flat: streams keys and hashes; ``lookup`` reads what the files lack.
        known: what was noted when an earlier lease of the batch ended.
    """

    def __init__(
        self,
        category: Category,
        folder: PatternFolder,
        one: RangeFiles,
        *,
        flat: Connection,
        lookup: Connection,
        known: Mapping[str, Any] | None,
    ):
        self.transform = FiledTransform(category)
        self._folder, self._range = folder, one
        self._flat, self._lookup = flat, lookup
        self._from_files = int((known or {}).get("from_files", 0))
        self._read_anew = int((known or {}).get("read_anew", 0))

    @property
    def result(self) -> Mapping[str, int]:
        """How many records came from the files, and how many had to be read from the flat store."""
        return {"from_files": self._from_files, "read_anew": self._read_anew}

    def reading(self, scope: projection.Bounds, *, first: int, records: int, size: int) -> FiledSteps:
        """Return the records of a scope as steps; see ``Reader``."""
        return FiledSteps(self, scope, first=first, records=records, size=size)

    def count(self, *, from_files: int, read_anew: int) -> None:
        """Take down where records of a step came from."""
        self._from_files += from_files
        self._read_anew += read_anew

    def at_once(self, size: int) -> int:
        """Return how many records are looked up at once, so that of common ones no more than a step's bytes are."""
        each = self._range.bytes // max(1, self._range.records)
        return max(1, min(_MOST_AT_ONCE, size // max(1, each)))

    def hashes(self, scope: projection.Bounds, *, at_once: int) -> Reader:
        """Return the keys and hashes that the flat store has."""
        category = self.transform.category
        return Reader(
            self._flat, category, scope, EVERYTHING, records=at_once, size=_AHEAD, columns=category.key
        )  # fmt: skip

    def anew(self, keys: Sequence[model.Key]) -> dict[_Parts, list[bytes]]:
        """Return the present flat records of some keys."""
        found = reader.read(self._lookup, self.transform.category, list(keys), EVERYTHING) if keys else []
        return {tuple(fields[place] for place in self.transform.key_places): fields for fields in found}

    def open(self, stack: contextlib.ExitStack) -> Rows:
        """Open the files of the range.

        Raises:
            errors.Refused: one is not what the manifest says.
        """
        category = self.transform.category
        files = {file.table: file for file in self._range.files}
        opened = []
        for shape in shapes.transformed(category):
            file = files[shape.table]
            stream = stack.enter_context(self._folder.reading(file))
            opened.append(RowsReader(stream, shape, f"{self._folder}/{file.path}"))
        return Rows(self.transform, opened)


class FiledSteps:
    """The steps of a scope; see ``Reader``, which it is used like."""

    def __init__(self, origin: FileOrigin, scope: projection.Bounds, *, first: int, records: int, size: int):
        self._origin = origin
        self._limit, self._most, self._size = min(first, records), records, size
        self._hashes = origin.hashes(scope, at_once=origin.at_once(size))
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> FiledSteps:
        with contextlib.ExitStack() as opening:
            # First: the server hashes while the files are read.
            opening.enter_context(self._hashes)
            self._rows = self._origin.open(opening)
            self._stack = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def cut(self, records: int) -> None:
        """Have the steps to come hold no more records than this."""
        self._most = records
        self._limit = min(self._limit, records)

    def steps(self) -> Iterator[Step]:
        """Yield the steps in key order; the last one says so."""
        records: list[list[bytes]] = []
        weight = 0
        for ahead in self._hashes.steps():
            for record in self._found(ahead.records):
                size = record.size if isinstance(record, FiledRecord) else sum(map(len, record))
                if records and (len(records) >= self._limit or weight + size > self._size):
                    yield self._step(records, weight, last=False)
                    self._limit = min(self._limit * 2, self._most)
                    records, weight = [], 0
                records.append(record)
                weight += size
        yield self._step(records, weight, last=True)

    def _step(self, records: list[list[bytes]], size: int, *, last: bool) -> Step:
        filed = sum(isinstance(record, FiledRecord) for record in records)
        self._origin.count(from_files=filed, read_anew=len(records) - filed)
        return Step(records=records, bytes=size, last=last)

    def _found(self, wanted: Sequence[Sequence[bytes]]) -> list[list[bytes]]:
        """Return the records of some keys and hashes: from the file where it has them so, else from the flat store."""
        filed = [self._rows.find(tuple(parts), fingerprint) for *parts, fingerprint in wanted]
        key_of = self._origin.transform.key_of
        lacking = [key_of(parts) for (*parts, _), one in zip(wanted, filed, strict=True) if one is None]
        anew = self._origin.anew(lacking)
        found: list[list[bytes]] = []
        for (*parts, _), one in zip(wanted, filed, strict=True):
            # What is not there either was deleted since; whoever captured that has it.
            record = one if one is not None else anew.get(tuple(parts))
            if record is not None:
                found.append(record)
        return found


class Rows:
    """The rows of a range's files by their records; one row group of each file is in memory at a time."""

    def __init__(self, transform: Transform, readers: Sequence[RowsReader]):
        self._transform = transform
        self._readers = readers
        self._group, self._held = -1, {}  # type: tuple[int, dict[_Parts, FiledRecord]]
        targets = [written.target for written in transform.writers]
        self._owners = [[written.columns.index(name) for name in written.target.owner] for written in transform.writers]
        self._root = next(place for place, target in enumerate(targets) if target is transform.category.roots[0])
        # Keys and hashes alone: some bytes a record, and a range has no more of them than a batch.
        self._places: dict[_Parts, tuple[int, bytes]] = {}
        names = [*targets[self._root].owner, HASH.name]
        for group, columns in enumerate(readers[self._root].some(names)):
            for *parts, fingerprint in zip(*columns, strict=True):
                self._places[tuple(parts)] = (group, fingerprint)

    def find(self, parts: _Parts, fingerprint: bytes) -> FiledRecord | None:
        """Return the record of a key that has this hash, which are asked for in their order; None where none has."""
        group, known = self._places.get(parts, (-1, b""))
        # Behind those asked for already only where the two are ordered differently: that is no place to go back to.
        if known != fingerprint or group < self._group:
            return None
        if group > self._group:
            self._held = {}
            self._group, self._held = group, self._read(group)
        return self._held.get(parts)

    def _read(self, group: int) -> dict[_Parts, FiledRecord]:
        owned: list[dict[_Parts, tuple[bytes, int]]] = []
        roots: list[tuple[_Parts, bytes]] = []
        for place, opened in enumerate(self._readers):
            columns = opened.group(group)
            if place == self._root:
                keys = zip(*(columns[at] for at in self._owners[place]), strict=True)
                roots = list(zip(keys, columns.pop(), strict=True))
            owned.append(_tuples(columns, self._owners[place]))
        nothing = (b"", 0)
        width, places = len(self._transform.category.source.columns), self._transform.key_places
        found = {}
        for parts, fingerprint in roots:
            fields = [b""] * width
            for at, part in zip(places, parts, strict=True):
                fields[at] = part
            found[parts] = FiledRecord([*fields, fingerprint], [rows.get(parts, nothing) for rows in owned])
        return found


def _tuples(columns: Sequence[Sequence[bytes]], owner: Sequence[int]) -> dict[_Parts, tuple[bytes, int]]:
    """Return the tuples of a binary COPY that columns make, those of an owner together, and how many they are."""
    head = len(columns).to_bytes(2)
    found: dict[_Parts, tuple[bytes, int]] = {}
    for fields in zip(*columns, strict=True):
        parts = tuple(fields[at] for at in owner)
        before, count = found.get(parts, (b"", 0))
        found[parts] = (before + head + b"".join(fields), count + 1)
    return found
