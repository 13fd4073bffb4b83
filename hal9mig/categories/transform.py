"""The transform of a category, compiled: tuples of one binary COPY in, tuples of several out.

Fields that pass through are never decoded. What is computed or exploded is decoded, handed to the
category's function and encoded by the codec of its column's type.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from hal9mig import errors, model
from hal9mig.categories import compiled, keys, wire
from hal9mig.categories.declaration import Category, Target

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


@dataclasses.dataclass(frozen=True)
class Written:
    """A target table and the order in which its columns are written."""

    target: Target
    columns: tuple[str, ...]


class Transform:
    """A category's transform; build it once for each process, it keeps no state of a step."""

    def __init__(self, category: Category):
        self.category = category
        self.key_places = tuple(category.source.names.index(name) for name in category.source.key)
        self._key_types = [column.type for column in category.source.key_columns]
        self.writers = [Written(target, compiled.columns(target)) for target in category.targets]
        self._step = compiled.step(category)

    def key(self, fields: Sequence[bytes]) -> model.Key:
        """Return a record's key as texts."""
        return self.key_of([fields[place] for place in self.key_places])

    def key_of(self, parts: Sequence[bytes]) -> model.Key:
        """Return the key whose fields these are as texts."""
        return tuple(keys.text(kind, part) for kind, part in zip(self._key_types, parts, strict=True))

    def canonical(self, key: model.Key) -> model.Key:
        """Return a key as ``key`` spells it; it may come from before a key had one text only."""
        return keys.canonical(self._key_types, key)

    def apply(self, records: Sequence[Sequence[bytes]]) -> Output:
        """Transform a step's records, each given as its fields (what follows the source's is ignored).

        A record whose function raises, or that no root takes, is in ``Output.rejections`` and gives
        no tuple; the others are not disturbed.
        """
        output, shared = self._empty()
        try:
            self._step(records, output.pieces, output.rows, shared)
        except Exception:
            # Some record was refused; the second time keeps the tuples of each record apart until
            # it is through, which takes longer and so is not done for every step.
            output, shared = self._empty()
            self._one_by_one(records, output, shared)
        for place, tuples in enumerate(shared):
            output.rows[place] += len(tuples)
            output.pieces[place].extend(tuples)
        return output

    def _empty(self) -> tuple[Output, list[compiled.Shared]]:
        count = len(self.writers)
        return Output(pieces=[[] for _ in range(count)], rows=[0] * count, rejections=[]), [{} for _ in range(count)]

    def _one_by_one(
        self, records: Sequence[Sequence[bytes]], output: Output, shared: Sequence[compiled.Shared]
    ) -> None:
        for index, fields in enumerate(records):
            own, own_shared = self._empty()
            try:
                self._step([fields], own.pieces, own.rows, own_shared)
            except errors.RecordRejected as error:
                output.rejections.append(Rejection(index=index, error=error))
                continue
            except Exception as error:
                reason = errors.RecordRejected(f"The transform raised {type(error).__name__}: {error}")
                output.rejections.append(Rejection(index=index, error=reason))
                continue
            for place in range(len(self.writers)):
                output.pieces[place].extend(own.pieces[place])
                output.rows[place] += own.rows[place]
                shared[place].update(own_shared[place])
