"""Reads what is sound of a chunk that may be damaged, and says where the rest was."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from hal9mig import errors, model
from hal9mig.categories import keys, wire
from hal9mig.engine.checkpoint import chunk
from hal9mig.engine.checkpoint.archive import Archive
from hal9mig.engine.checkpoint.manifest import Chunk, Table


def blocks(kept: Archive, name: str, one: Chunk) -> Iterator[chunk.Block]:
    """Yield a chunk's frames in order: their rows, or their damage."""
    with contextlib.ExitStack() as stack:
        stream: Any = None
        with contextlib.suppress(errors.ChunkMissing):
            stream = stack.enter_context(kept.reading(name, one.file))
        yield from chunk.salvage(stream, one)


def load(
    cursor: Any, statement: str, kept: Archive, name: str, table: Table, one: Chunk, *, tolerant: bool
) -> dict[str, Any]:
    """Load the sound rows of a chunk, and return how many, their digest, and the damages.

    Raises:
        errors.CheckpointDamaged: the first damage, where it is not to be tolerated.
    """
    sound = _Sound(blocks(kept, name, one), table, one, tolerant=tolerant)
    chunk.feed(cursor, statement, sound)
    return {"rows": sound.rows, "digest": sound.digest, "damages": sound.damages}


def key_text(table: Table) -> Callable[[bytes], model.Key]:
    """Return what reads a tuple's key as texts."""
    names, kinds = [name for name, _ in table.columns], dict(table.columns)
    places = [(names.index(name), kinds[name]) for name in table.key]

    def read(row: bytes) -> model.Key:
        fields = wire.split(row, len(names))
        return tuple(keys.text(kind, fields[place]) for place, kind in places)

    return read


class _Sound:
    """The sound rows of a chunk as a COPY document, for the driver to read."""

    def __init__(self, found: Iterator[chunk.Block], table: Table, one: Chunk, *, tolerant: bool):
        self.rows = 0
        self.digest = 0
        self.damages: list[dict[str, Any]] = []
        self._blocks = found
        self._key = key_text(table)
        self._chunk = one
        self._tolerant = tolerant
        self._waiting = bytearray(wire.HEADER)
        self._ended = False
        self._last: model.Key | None = one.after  # the newest sound key
        self._open: list[dict[str, Any]] = []  # damages whose upper end is not known yet

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes."""
        while len(self._waiting) < size and not self._ended:
            block = next(self._blocks, None)
            if block is None:
                self._close(self._chunk.upto)
                self._waiting += wire.TRAILER
                self._ended = True
            elif block.damage is not None:
                self._damaged(block)
            else:
                self._take(block)
        part = bytes(self._waiting[:size])
        del self._waiting[:size]
        return part

    def _take(self, block: chunk.Block) -> None:
        if not block.rows:
            return
        self._close(self._key(block.rows[0]))
        for row in block.rows:
            self._waiting += row
        self.digest = (self.digest + block.digest) % (1 << 64)
        self.rows += len(block.rows)
        self._last = self._key(block.rows[-1])

    def _damaged(self, block: chunk.Block) -> None:
        if not self._tolerant:
            raise errors.CheckpointDamaged(f"{self._chunk.file}, frame {block.index}: {block.damage}")
        lost = self._chunk.frames[block.index][2] if block.index < len(self._chunk.frames) else 0
        if self._open:
            # It goes on: nobody can say which of the keys in between were in which of the frames.
            self._open[-1]["rows"] += lost
            return
        damage = {
            "file": self._chunk.file, "frame": block.index, "rows": lost, "why": block.damage,
            "after": None if self._last is None else list(self._last), "upto": None,
        }  # fmt: skip
        self.damages.append(damage)
        self._open.append(damage)

    def _close(self, upto: model.Key | None) -> None:
        for damage in self._open:
            damage["upto"] = None if upto is None else list(upto)
        self._open.clear()
