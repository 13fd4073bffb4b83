"""A chunk's file: one binary COPY document in compressed frames that can each be read without the others.

Every frame holds whole tuples, about a mebibyte of them, and a checksum. The first frame begins with
COPY's header and the last one ends with its trailer, so that ``zstd -dc FILE`` gives a document that
``COPY ... FROM STDIN (FORMAT binary)`` takes. A damage costs the frames it is in, and no others.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, Protocol

import psycopg2
import psycopg2.extensions
import xxhash
import zstandard

from hal9mig import errors
from hal9mig.categories import wire
from hal9mig.engine.checkpoint.manifest import Chunk

#: Bytes of tuples in a frame, and how hard they are compressed: beyond this zstd gains little on state like this.
FRAME_BYTES = 1 << 20
LEVEL = 3
_MODULUS = 1 << 64
_READ = 1 << 18
row_of = wire.rows_of
#: The hash of one tuple: XXH3 with 64 bits of its bytes as COPY gives them.
row_hash = xxhash.xxh3_64_intdigest
_count_of = struct.Struct(">h").unpack_from
_size_of = struct.Struct(">i").unpack_from
#: Rows that are hashed between two pauses.
_PAUSED = 2048
#: Called now and then while rows are read, and may take its time.
Pause = Callable[[], None]


def no_pause() -> None:
    """Go on."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChunkWritten:
    """What a file has become; see ``Chunk``."""

    rows: int
    digest: int
    raw_bytes: int
    bytes: int
    sha256: str
    frames: tuple[tuple[int, int, int, int], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """A frame that was read: its rows and their digest, or what is wrong with it."""

    index: int
    rows: Sequence[bytes] = ()
    digest: int = 0
    damage: str | None = None


class Hasher:
    """Counts and digests the rows of a COPY; the driver calls ``write``."""

    def __init__(self, pause: Pause = no_pause) -> None:
        self.rows = 0
        self._sum = 0
        self._pause = pause

    def write(self, message: bytes) -> None:
        """Take one message of the COPY."""
        row = row_of(message)
        if row is not None:
            self.rows += 1
            self._sum += row_hash(row)
            if self.rows % _PAUSED == 0:
                self._pause()

    @property
    def digest(self) -> int:
        """The sum of the rows' hashes modulo 2^64."""
        return self._sum % _MODULUS


def hashed(cursor: psycopg2.extensions.cursor, query: str, pause: Pause = no_pause) -> Hasher:
    """Count and digest what a COPY gives."""
    hasher = Hasher(pause)
    cursor.copy_expert(query, hasher)
    return hasher


class ChunkWriter:
    """Writes the rows of a COPY into a file; the driver calls ``write``. Holds one frame in memory."""

    def __init__(self, file: BinaryIO, pause: Pause = no_pause):
        self._file = file
        self._pause = pause
        # One thread: the other core is the server's.
        self._compress = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True, write_content_size=True).compress
        self._sha = hashlib.sha256()
        self._waiting: list[bytes] = [wire.HEADER]
        self._size = len(wire.HEADER)
        self._in_frame = self._frame_sum = 0
        self._rows = self._sum = self._raw = self._bytes = 0
        self._frames: list[tuple[int, int, int, int]] = []

    def write(self, message: bytes) -> None:
        """Take one message of the COPY."""
        row = row_of(message)
        if row is None:
            return
        self._waiting.append(row)
        self._in_frame += 1
        self._size += len(row)
        self._frame_sum += row_hash(row)
        if self._size >= FRAME_BYTES:
            self._flush()
            self._pause()

    def close(self) -> ChunkWritten:
        """Write what is left and return what the file is."""
        self._waiting.append(wire.TRAILER)
        self._size += len(wire.TRAILER)
        self._flush()
        return ChunkWritten(
            rows=self._rows, digest=self._sum % _MODULUS, raw_bytes=self._raw, bytes=self._bytes,
            sha256=self._sha.hexdigest(), frames=tuple(self._frames),
        )  # fmt: skip

    def _flush(self) -> None:
        frame = self._compress(b"".join(self._waiting))
        self._file.write(frame)
        self._sha.update(frame)
        self._frames.append((self._bytes, len(frame), self._in_frame, self._frame_sum % _MODULUS))
        self._raw += self._size
        self._bytes += len(frame)
        self._rows += self._in_frame
        self._sum += self._frame_sum
        self._waiting, self._size, self._in_frame, self._frame_sum = [], 0, 0, 0


class TupleSource(Protocol):
    """What the driver reads a COPY from."""

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes; none at the end."""


def feed(cursor: psycopg2.extensions.cursor, statement: str, source: TupleSource) -> None:
    """COPY from a source.

    Raises:
        errors.CheckpointDamaged, errors.ArchiveUnreachable: what reading raised.
        psycopg2.Error: the server does not take it.
    """
    feeding = _Feeding(source)
    try:
        cursor.copy_expert(statement, feeding, _READ)  # type: ignore[arg-type]
    except psycopg2.Error:
        # The driver reports an error of reading as one of its own.
        if feeding.error is not None:
            raise feeding.error from None
        raise


class _Feeding:
    def __init__(self, source: TupleSource):
        self._source = source
        self.error: BaseException | None = None

    def read(self, size: int) -> bytes:
        try:
            return self._source.read(size)
        except BaseException as error:
            self.error = error
            raise


class Document:
    """A chunk's file as a COPY document, for the driver to read; it never hands out the end of a damaged one."""

    def __init__(self, file: BinaryIO, chunk: Chunk):
        self._file = file
        self._chunk = chunk
        self._sha = hashlib.sha256()
        self._next = 0
        self._ready = bytearray()

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes; none at the end.

        Raises:
            errors.CheckpointDamaged: a frame, or the file as a whole, is not what was written.
        """
        while len(self._ready) < size and self._next < len(self._chunk.frames):
            self._ready += self.frame()
        part = bytes(self._ready[:size])
        del self._ready[:size]
        return part

    def frame(self) -> bytes:
        """Return the next frame's content; see ``read``."""
        length = self._chunk.frames[self._next][1]
        data = _exactly(self._file, length)
        self._sha.update(data)
        try:
            plain = _plain(data, self._chunk)
        except (zstandard.ZstdError, ValueError) as error:
            raise _damaged(self._chunk, self._next, str(error)) from None
        self._next += 1
        if self._next == len(self._chunk.frames):
            # Before the last bytes are handed out: without them the server takes nothing of it.
            if self._file.read(1):
                raise errors.CheckpointDamaged(f"{self._chunk.file} is longer than it was.")
            if self._sha.hexdigest() != self._chunk.sha256:
                raise errors.CheckpointDamaged(f"{self._chunk.file} has another SHA-256 than its manifest says.")
        return plain


def check(file: BinaryIO, chunk: Chunk) -> None:
    """Read a file whole: its hash, its frames, its rows and their digest.

    Raises:
        errors.CheckpointDamaged: something is not what the manifest says.
    """
    document = Document(file, chunk)
    rows = total = raw = 0
    for index, (_, _, expected, digest) in enumerate(chunk.frames):
        plain = document.frame()
        raw += len(plain)
        try:
            found = list(tuples(plain, first=index == 0))
        except ValueError as error:
            raise _damaged(chunk, index, str(error)) from None
        if len(found) != expected:
            raise _damaged(chunk, index, f"{len(found)} rows, and not {expected}")
        hashes = sum(map(row_hash, found))
        if hashes % _MODULUS != digest:
            raise _damaged(chunk, index, "other rows than were written")
        rows, total = rows + len(found), total + hashes
    if (rows, total % _MODULUS, raw) != (chunk.rows, chunk.digest, chunk.raw_bytes):
        raise errors.CheckpointDamaged(f"{chunk.file} holds other rows than its manifest says.")


def tuples(data: bytes, *, first: bool) -> Iterator[bytes]:
    """Yield the tuples of a frame's content.

    Args:
        first: it begins with COPY's header.

    Raises:
        ValueError: it is no sequence of whole tuples.
    """
    at, end = 0, len(data)
    if first:
        if not data.startswith(wire.HEADER):
            raise ValueError("it does not begin as a COPY document does")
        at = len(wire.HEADER)
    try:
        while at < end:
            (count,) = _count_of(data, at)
            if count == -1:
                if at + 2 != end:
                    raise ValueError("something follows its end")
                return
            stop = at + 2
            for _ in range(count):
                (size,) = _size_of(data, stop)
                stop += 4 + size if size > 0 else 4
            if stop > end or count < 0:
                raise ValueError("its last row is cut off")
            yield data[at:stop]
            at = stop
    except struct.error:
        raise ValueError("its last row is cut off") from None


def salvage(file: BinaryIO | None, chunk: Chunk) -> Iterator[Block]:
    """Yield every frame of a chunk, as rows where it is sound, else with what is wrong.

    The places of the frames are the manifest's, so a damage does not hide those behind it. Each frame has a
    checksum of its own, and its rows have to give the manifest's digest: a frame of another file is no sound one.

    Args:
        file: None where it is gone.
    """
    for index in range(len(chunk.frames)):
        yield Block(index=index, damage="the file is missing") if file is None else _salvaged(file, chunk, index)


def _salvaged(file: BinaryIO, chunk: Chunk, index: int) -> Block:
    offset, length, expected, digest = chunk.frames[index]
    try:
        file.seek(offset)
        data = _exactly(file, length)
        if len(data) < length:
            return Block(index=index, damage=f"the file ends at byte {offset + len(data)}")
        rows = list(tuples(_plain(data, chunk), first=index == 0))
    except (zstandard.ZstdError, ValueError) as error:
        return Block(index=index, damage=f"byte {offset}: {error}")
    except OSError as error:
        # A disk that cannot read some of its sectors can read the others.
        if error.errno != errno.EIO:
            raise
        return Block(index=index, damage=f"byte {offset}: {error.strerror}")
    if len(rows) != expected:
        return Block(index=index, damage=f"byte {offset}: {len(rows)} rows, and not {expected}")
    if sum(map(row_hash, rows)) % _MODULUS != digest:
        return Block(index=index, damage=f"byte {offset}: a whole frame, and not the one that was written")
    return Block(index=index, rows=rows, digest=digest)


def _exactly(file: BinaryIO, length: int) -> bytes:
    parts: list[bytes] = []
    while length > 0:
        part = file.read(length)
        if not part:
            break
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def _plain(data: bytes, chunk: Chunk) -> bytes:
    # A damaged header may name any size, and that much memory would be asked for; of nothing, nothing would be checked.
    if not 0 < zstandard.frame_content_size(data) <= chunk.raw_bytes:
        raise ValueError("the frame's header is wrong")
    plain: bytes = zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
    return plain


def _damaged(chunk: Chunk, index: int, what: str) -> errors.CheckpointDamaged:
    return errors.CheckpointDamaged(f"{chunk.file}, frame {index} at byte {chunk.frames[index][0]}: {what}")
