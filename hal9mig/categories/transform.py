"""The transform of a category, compiled: tuples of one binary COPY in, tuples of several out.

Fields that pass through are never decoded. What is computed or exploded is decoded, handed to the
category's function and encoded by the codec of its column's type.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Sequence
from typing import Any

from hal9mig import errors, model
from hal9mig.categories import wire
from hal9mig.categories.declaration import Category, Computed, Element, Pass, Role, Target

Decoder = Callable[[bytes], Any]
#: The columns of a fingerprinted COPY after the source's own: the record's hash as the source sees it.
FINGERPRINT_FIELDS = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rejection:
    """A record that its transform refused: its place in the step and why."""

    index: int
    error: errors.RecordRejected


@dataclasses.dataclass(kw_only=True)
class Output:
    """What a step's records become.

    Attributes:
        pieces: for each target, in declared order, the bytes of its tuples, in pieces.
        rows: for each target the number of tuples.
        rejections: the records that gave nothing.
    """

    pieces: list[list[bytes]]
    rows: list[int]
    rejections: list[Rejection]

    def document(self, target: int) -> bytes:
        """Return a target's tuples as a whole binary COPY stream."""
        return wire.document(self.pieces[target])


def _decoder(type_name: str, *, as_bytes: bool) -> Decoder:
    if as_bytes:
        start = 5 if wire.canonical_type(type_name) == "jsonb" else 4
        return lambda data: None if data == wire.NULL else data[start:]
    decode = wire.codec(type_name).decode
    return lambda data: None if data == wire.NULL else decode(data[4:])


def _encoder(type_name: str) -> Callable[[Any], bytes]:
    encode = wire.codec(type_name).encode
    return lambda value: wire.NULL if value is None else encode(value)


def _getter(places: Sequence[int]) -> Callable[[Sequence[bytes]], tuple[bytes, ...]]:
    if len(places) == 1:
        only = places[0]
        return lambda fields: (fields[only],)
    return operator.itemgetter(*places)


class _Arguments:
    """Decodes the source columns that one function asks for."""

    def __init__(self, category: Category, sources: Sequence[str], *, as_bytes: bool):
        columns = {column.name: (place, column.type) for place, column in enumerate(category.source.columns)}
        self._parts = [(columns[name][0], _decoder(columns[name][1], as_bytes=as_bytes)) for name in sources]

    def of(self, fields: Sequence[bytes]) -> list[Any]:
        return [decode(fields[place]) for place, decode in self._parts]


class _Writer:
    """Appends one target's tuples for a record; ``fields`` holds source, computed and constant fields."""

    def __init__(self, category: Category, target: Target, place_of: dict[object, int], header: int):
        self.target = target
        self.shared = target.role is Role.SHARED
        self._when = None
        if target.when is not None:
            name, value = target.when
            self._when = (category.source.names.index(name), wire.field(value.encode()))
        self.columns: tuple[str, ...]
        leading = [column for column in target.columns if not isinstance(column, Element)]
        elements = [column for column in target.columns if isinstance(column, Element)]
        # The order of a COPY's columns is ours: what is the same for every exploded row comes first.
        self.columns = tuple(column.name for column in (*leading, *elements))
        places = [
            category.source.names.index(column.source) if isinstance(column, Pass) else place_of[column]
            for column in leading
        ]
        self._leading = _getter([header, *places])
        self._encoders = [_encoder(column.type) for column in elements]
        self._explode = target.explode
        if target.explode is not None:
            self._arguments = _Arguments(category, target.explode.sources, as_bytes=target.explode.as_bytes)

    def matches(self, fields: Sequence[bytes]) -> bool:
        return self._when is None or fields[self._when[0]] == self._when[1]

    def append(self, fields: Sequence[bytes], out: list[bytes]) -> int:
        """Append the record's tuples to ``out`` and return how many there are."""
        leading = self._leading(fields)
        if self._explode is None:
            out.extend(leading)
            return 1
        count = 0
        encoders = self._encoders
        for values in self._explode.function(*self._arguments.of(fields)):
            out.extend(leading)
            out.extend([encode(value) for encode, value in zip(encoders, values, strict=True)])
            count += 1
        return count


class Transform:
    """A category's transform; build it once for each process, it keeps no state of a step."""

    def __init__(self, category: Category):
        self.category = category
        self.source_count = len(category.source.columns)
        self.key_places = tuple(category.source.names.index(name) for name in category.source.key)
        self._key_types = [column.type for column in category.source.key_columns]
        computed = [column for target in category.targets for column in target.columns if isinstance(column, Computed)]
        self._computed = [
            (_Arguments(category, column.sources, as_bytes=column.as_bytes), column.function, _encoder(column.type))
            for column in computed
        ]
        # Behind the source's own fields stand the computed ones, then each target's two-byte column count.
        first = self.source_count
        place_of: dict[object, int] = {column: first + at for at, column in enumerate(computed)}
        first += len(computed)
        self._headers = [len(target.columns).to_bytes(2) for target in category.targets]
        self.writers = [_Writer(category, target, place_of, first + at) for at, target in enumerate(category.targets)]
        self._root_places = [at for at, target in enumerate(category.targets) if target.role is Role.ROOT]
        self._routed = any(target.when is not None for target in category.targets)

    def key(self, fields: Sequence[bytes]) -> model.Key:
        """Return a record's key as texts."""
        return self.key_of([fields[place] for place in self.key_places])

    def key_of(self, parts: Sequence[bytes]) -> model.Key:
        """Return the key whose fields these are as texts."""
        return tuple(wire.key_text(kind, part) for kind, part in zip(self._key_types, parts, strict=True))

    def apply(self, records: Sequence[Sequence[bytes]]) -> Output:
        """Transform a step's records, each given as its fields (what follows the source's is ignored).

        A record whose function raises, or that no root takes, is in ``Output.rejections`` and gives
        no tuple; the others are not disturbed.
        """
        try:
            return self._apply(records, careful=False)
        except Exception:
            # Some record was refused; the second time keeps the tuples of each record apart until
            # it is through, which costs a third more and so is not done for every step.
            return self._apply(records, careful=True)

    def _apply(self, records: Sequence[Sequence[bytes]], *, careful: bool) -> Output:
        writers = self.writers
        output = Output(pieces=[[] for _ in writers], rows=[0] * len(writers), rejections=[])
        shared: list[dict[tuple[bytes, ...], None]] = [{} for _ in writers]
        for index, fields in enumerate(records):
            if not careful:
                self._record(fields, output.pieces, output.rows, shared)
                continue
            pieces: list[list[bytes]] = [[] for _ in writers]
            rows = [0] * len(writers)
            own: list[dict[tuple[bytes, ...], None]] = [{} for _ in writers]
            try:
                self._record(fields, pieces, rows, own)
            except errors.RecordRejected as error:
                output.rejections.append(Rejection(index=index, error=error))
                continue
            except Exception as error:
                reason = errors.RecordRejected(f"The transform raised {type(error).__name__}: {error}")
                output.rejections.append(Rejection(index=index, error=reason))
                continue
            for place in range(len(writers)):
                output.pieces[place].extend(pieces[place])
                output.rows[place] += rows[place]
                shared[place].update(own[place])
        for place, tuples in enumerate(shared):
            output.rows[place] += len(tuples)
            for parts in tuples:
                output.pieces[place].extend(parts)
        return output

    def _record(
        self,
        fields: Sequence[bytes],
        pieces: list[list[bytes]],
        rows: list[int],
        shared: list[dict[tuple[bytes, ...], None]],
    ) -> None:
        extended = list(fields[: self.source_count])
        for arguments, function, encode in self._computed:
            extended.append(encode(function(*arguments.of(extended))))
        extended += self._headers
        if self._routed and sum(self.writers[place].matches(extended) for place in self._root_places) != 1:
            raise errors.RecordRejected("No target table is declared for a record of this kind.")
        for place, writer in enumerate(self.writers):
            if self._routed and not writer.matches(extended):
                continue
            if not writer.shared:
                rows[place] += writer.append(extended, pieces[place])
                continue
            found: list[bytes] = []
            count = writer.append(extended, found)
            width = len(found) // count if count else 0
            for start in range(0, len(found), width or 1):
                shared[place][tuple(found[start : start + width])] = None
