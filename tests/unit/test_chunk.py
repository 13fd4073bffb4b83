"""A chunk's file: what is written comes back bit for bit, and of a damaged one nothing wrong ever does."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import io
import random
import struct
import tracemalloc
from collections.abc import Sequence
from unittest import mock

import psycopg2
import pytest
import xxhash
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from hal9mig import errors
from hal9mig.categories import wire
from hal9mig.engine.checkpoint import chunk
from hal9mig.engine.checkpoint.manifest import Chunk

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
SMALL = 64  #: bytes of tuples in a frame of these tests, so that a few rows make several


def tuple_of(*fields: bytes | None) -> bytes:
    """Return a tuple of binary COPY, as the server's documentation has it."""
    parts = [struct.pack("!h", len(fields))]
    for one in fields:
        parts.append(struct.pack("!i", -1) if one is None else struct.pack("!i", len(one)) + one)
    return b"".join(parts)


FIELDS = st.one_of(st.none(), st.just(b""), st.binary(max_size=40))
ROWS = st.lists(st.lists(FIELDS, max_size=4).map(lambda fields: tuple_of(*fields)), max_size=20)


def packed(rows: Sequence[bytes], *, frame: int = SMALL, pause: chunk.Pause = chunk.no_pause) -> tuple[bytes, Chunk]:
    """Write rows as the driver would hand them over, and return the file and its line of the manifest."""
    file = io.BytesIO()
    with mock.patch.object(chunk, "FRAME_BYTES", frame):
        writer = chunk.ChunkWriter(file, pause)
        for number, row in enumerate(rows or [b""]):
            writer.write(HEADER + row if number == 0 else row)
        writer.write(TRAILER)
        written = writer.close()
    made = Chunk(file="flat/flat.t/000001-1.copy.zst", after=None, upto=None, **vars(written))
    return file.getvalue(), made


def framed(rows: Sequence[bytes], made: Chunk) -> list[list[bytes]]:
    """Return the rows of each frame."""
    left = iter(rows)
    return [[next(left) for _ in range(count)] for _, _, count, _ in made.frames]


def document(data: bytes, made: Chunk, size: int = 1 << 18, into: bytearray | None = None) -> bytes:
    """Read a file as the driver does, and return the document, or as far as it was handed out in ``into``."""
    source, found = chunk.Document(io.BytesIO(data), made), bytearray() if into is None else into
    while part := source.read(size):
        found += part
    return bytes(found)


def refused(data: bytes, made: Chunk, whole: bytes) -> None:
    """Assert that a file is refused before the end of its document is handed out, and nothing wrong before that."""
    handed = bytearray()
    with pytest.raises(errors.CheckpointDamaged):
        document(data, made, 7, handed)
    assert whole.startswith(handed)
    assert len(handed) <= len(whole) - len(TRAILER)
    with pytest.raises(errors.CheckpointDamaged):
        chunk.check(io.BytesIO(data), made)


def salvaged(data: bytes, made: Chunk) -> list[chunk.Block]:
    """Return the blocks of a file, which are as many as its frames, each a sound one or a damaged one."""
    found = list(chunk.salvage(io.BytesIO(data), made))
    assert [one.index for one in found] == list(range(len(made.frames)))
    assert all(not one.rows and not one.digest for one in found if one.damage is not None)
    return found


def noise(seed: int, count: int, size: int = 48) -> list[bytes]:
    """Return rows that do not compress, so that frames of as many rows have one length."""
    chance = random.Random(seed)
    return [tuple_of(chance.randbytes(size)) for _ in range(count)]


class TestWhole:
    """A file that nobody has touched."""

    @given(ROWS, st.sampled_from([1, SMALL, 1 << 20]), st.integers(1, 300))
    def test_rows_come_back(self, rows: list[bytes], frame: int, size: int) -> None:
        data, made = packed(rows, frame=frame)
        whole = HEADER + b"".join(rows) + TRAILER
        assert document(data, made, size) == whole
        found = salvaged(data, made)
        assert [list(one.rows) for one in found] == framed(rows, made)
        chunk.check(io.BytesIO(data), made)
        # Any other program gets the same out of it.
        assert zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).readall() == whole
        assert (made.rows, made.raw_bytes, made.bytes) == (len(rows), len(whole), len(data))
        assert made.sha256 == hashlib.sha256(data).hexdigest()
        assert made.digest == sum(map(xxhash.xxh3_64_intdigest, rows)) % 2**64
        assert made.digest == sum(one.digest for one in found) % 2**64

    def test_frames_lie_one_upon_the_other(self) -> None:
        data, made = packed(noise(1, 9))
        assert len(made.frames) == 6
        at = 0
        for offset, length, _, _ in made.frames:
            assert offset == at
            at += length
        assert at == len(data)

    def test_there_is_a_pause_after_each_frame(self) -> None:
        pause = mock.Mock()
        assert len(packed(noise(1, 9), pause=pause)[1].frames) == pause.call_count + 1

    def test_rows_of_megabytes(self) -> None:
        """A row is never cut: it makes a frame as large as it is."""
        big = random.Random(2).randbytes(5 << 20)
        rows = [tuple_of(b"a", None), tuple_of(big, None, b""), tuple_of(bytes(3 << 20)), tuple_of(None)]
        data, made = packed(rows, frame=chunk.FRAME_BYTES)
        assert [count for _, _, count, _ in made.frames] == [2, 1, 1]
        assert document(data, made) == HEADER + b"".join(rows) + TRAILER
        assert [list(one.rows) for one in salvaged(data, made)] == framed(rows, made)

    def test_no_row_at_all(self) -> None:
        data, made = packed([])
        assert (made.rows, made.digest, len(made.frames)) == (0, 0, 1)
        assert document(data, made) == HEADER + TRAILER
        chunk.check(io.BytesIO(data), made)
        assert salvaged(data, made) == [chunk.Block(index=0, rows=[])]

    @given(ROWS)
    def test_a_hasher_and_a_writer_agree(self, rows: list[bytes]) -> None:
        """What a store gives is compared with what is in the file by these two."""
        hasher = chunk.Hasher()
        for message in (HEADER, *rows, TRAILER):
            hasher.write(message)
        _, made = packed(rows)
        assert (hasher.rows, hasher.digest) == (made.rows, made.digest)

    def test_the_digest_does_not_depend_on_the_order(self) -> None:
        rows = noise(3, 20)
        assert packed(rows)[1].digest == packed(rows[::-1])[1].digest
        assert packed(rows)[1].digest != packed(rows[1:])[1].digest


class TestDamaged:
    """A file that has suffered."""

    LINES = (tuple_of(b"first", None), *noise(4, 2, 30), tuple_of(b""), tuple_of(bytes(70)), tuple_of(None, b"last"))
    WHOLE = HEADER + b"".join(LINES) + TRAILER

    def test_every_single_bit(self) -> None:
        """The frame that a flipped bit is in is lost, or the bit means nothing; all others come back."""
        data, made = packed(self.LINES)
        frames = framed(self.LINES, made)
        assert len(frames) >= 3
        for at in range(len(data)):
            for bit in range(8):
                flipped = bytearray(data)
                flipped[at] ^= 1 << bit
                refused(bytes(flipped), made, self.WHOLE)
                for (offset, length, _, _), rows, one in zip(
                    made.frames, frames, salvaged(bytes(flipped), made), strict=True
                ):
                    if one.damage is None:
                        assert list(one.rows) == rows, (at, bit)
                    else:
                        assert offset <= at < offset + length

    @given(ROWS.filter(bool), st.data())
    def test_bytes_overwritten_anywhere(self, rows: list[bytes], data: st.DataObject) -> None:
        file, made = packed(rows)
        at = data.draw(st.integers(0, len(file) - 1))
        put = data.draw(st.binary(min_size=1, max_size=len(file) - at))
        other = file[:at] + put + file[at + len(put) :]
        frames = framed(rows, made)
        for (offset, length, _, _), expected, one in zip(made.frames, frames, salvaged(other, made), strict=True):
            if one.damage is None:
                assert list(one.rows) == expected
            else:
                assert offset < at + len(put)
                assert at < offset + length
        if other != file:
            refused(other, made, HEADER + b"".join(rows) + TRAILER)

    def test_cut_at_every_place(self) -> None:
        """What lies before the cut comes back."""
        data, made = packed(self.LINES)
        frames = framed(self.LINES, made)
        for end in range(len(data)):
            refused(data[:end], made, self.WHOLE)
            for (offset, length, _, _), rows, one in zip(made.frames, frames, salvaged(data[:end], made), strict=True):
                if offset + length <= end:
                    assert list(one.rows) == rows
                else:
                    assert one.damage == f"the file ends at byte {max(end, offset)}"

    def test_a_file_that_is_missing(self) -> None:
        _, made = packed(self.LINES)
        found = list(chunk.salvage(None, made))
        assert {(one.damage, tuple(one.rows)) for one in found} == {("the file is missing", ())}
        assert len(found) == len(made.frames)

    @given(st.binary(min_size=1, max_size=100))
    def test_something_behind_it(self, more: bytes) -> None:
        """Every frame is where it was, and sound; but a restore without losses refuses the file."""
        data, made = packed(self.LINES)
        assert [list(one.rows) for one in salvaged(data + more, made)] == framed(self.LINES, made)
        refused(data + more, made, self.WHOLE)

    def test_something_before_it(self) -> None:
        data, made = packed(self.LINES)
        assert all(one.damage is not None for one in salvaged(b"\n" + data, made))
        refused(b"\n" + data, made, self.WHOLE)

    def test_sectors_that_cannot_be_read(self) -> None:
        """The disk says so for one frame; the others come back."""
        data, made = packed(self.LINES)
        bad, length = made.frames[1][:2]

        class Disk(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                if bad <= self.tell() < bad + length:
                    raise OSError(errno.EIO, "Input/output error")
                return super().read(size)

        found = list(chunk.salvage(Disk(data), made))
        assert [one.index for one in found if one.damage is not None] == [1]
        assert found[1].damage == f"byte {bad}: Input/output error"

    def test_a_storage_that_does_not_answer(self) -> None:
        """That is no damage: nothing may go to quarantine for it."""
        data, made = packed(self.LINES)

        class Gone(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                raise TimeoutError(errno.ETIMEDOUT, "timed out")

        with pytest.raises(TimeoutError):
            list(chunk.salvage(Gone(data), made))


class TestForeign:
    """Frames that are sound and were written, but not here."""

    @given(ROWS, ROWS)
    def test_the_file_of_another_chunk(self, rows: list[bytes], others: list[bytes]) -> None:
        _, made = packed(rows)
        data, other = packed(others)
        for one, expected in zip(salvaged(data, made), framed(rows, made), strict=True):
            # A frame of the same rows in another order gives what was saved, whichever file it is of.
            assert one.damage is not None or sorted(one.rows) == sorted(expected)
        if other.sha256 != made.sha256:
            with pytest.raises(errors.CheckpointDamaged):
                chunk.check(io.BytesIO(data), made)

    def test_frames_of_the_same_length(self) -> None:
        """They fit in every way, and are told by their rows."""
        rows, others = noise(5, 8), noise(6, 8)
        _, made = packed(rows)
        other, theirs = packed(others)
        assert [one[:3] for one in made.frames] == [one[:3] for one in theirs.frames]
        assert all("not the one that was written" in str(one.damage) for one in salvaged(other, made)[:-1])
        refused(other, made, HEADER + b"".join(others) + TRAILER)

    @pytest.mark.parametrize("cut", [0, 5])
    @pytest.mark.parametrize("place", [0, 1, 3])
    def test_one_frame_of_another_file(self, place: int, cut: int) -> None:
        """Also where another frame is damaged, so that the sum over the file says nothing."""
        rows, others = noise(7, 8), noise(8, 8)
        data, made = packed(rows)
        other, _ = packed(others)
        offset, length = made.frames[place][:2]
        mixed = data[:offset] + other[offset : offset + length] + data[offset + length :]
        found = salvaged(mixed[: len(mixed) - cut], made)
        damaged = [one.index for one in found if one.damage is not None]
        assert damaged == [place, *([len(made.frames) - 1] if cut else [])]
        expected = framed(rows, made)
        assert all(list(one.rows) == expected[one.index] for one in found if one.damage is None)

    def test_frames_in_another_order(self) -> None:
        rows = noise(9, 8)
        data, made = packed(rows)
        (one, length, _, _), (other, same, _, _) = made.frames[1:3]
        assert length == same
        swapped = data[:one] + data[other : other + length] + data[one : one + length] + data[other + length :]
        assert [block.index for block in salvaged(swapped, made) if block.damage is not None] == [1, 2]


class TestChecked:
    """``check`` finds what is not what the manifest says, though every frame can be read."""

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"rows": 7}, "other rows"),
            ({"digest": 1}, "other rows"),
            ({"raw_bytes": 10**6}, "other rows"),
            ({"sha256": "0" * 64}, "SHA-256"),
        ],
    )
    def test_a_wrong_line(self, changes: dict[str, object], words: str) -> None:
        data, made = packed(noise(10, 8))
        with pytest.raises(errors.CheckpointDamaged, match=words):
            chunk.check(io.BytesIO(data), dataclasses.replace(made, **changes))

    @pytest.mark.parametrize(("place", "words"), [(2, "rows, and not"), (3, "other rows")])
    @pytest.mark.parametrize("frame", [0, 2, 4])
    def test_a_wrong_frame(self, frame: int, place: int, words: str) -> None:
        data, made = packed(noise(10, 8))
        frames = [list(one) for one in made.frames]
        frames[frame][place] += 1
        wrong = dataclasses.replace(made, frames=tuple(tuple(one) for one in frames))  # type: ignore[arg-type]
        with pytest.raises(errors.CheckpointDamaged, match=words) as caught:
            chunk.check(io.BytesIO(data), wrong)
        assert f"frame {frame} at byte {made.frames[frame][0]}" in caught.value.message
        assert made.file in caught.value.message
        assert [one.index for one in salvaged(data, wrong) if one.damage is not None] == [frame]

    @pytest.mark.parametrize(
        ("content", "first"),
        [
            (b"\0\1", False), (b"\0\1\0\0\0\2a", False), (b"\0\1\0\0\0\1ab", False), (TRAILER + b"a", False),
            (b"\x80\0", False), (b"", True), (HEADER[:-1], True), (HEADER + b"\0", True),
        ],
    )  # fmt: skip
    def test_what_are_no_whole_tuples(self, content: bytes, first: bool) -> None:
        with pytest.raises(ValueError, match=r"it|its|something"):
            list(chunk.tuples(content, first=first))


class TestGiant:
    """A header that claims any size costs no memory."""

    @pytest.mark.parametrize("size", [2**26, 2**31, 2**40, 2**63, 2**64 - 1])
    def test_a_giant_frame(self, size: int) -> None:
        _, made = packed(noise(11, 4))
        # RFC 8878, 3.1.1: magic number, a descriptor that says single segment and eight bytes of size.
        header = b"\x28\xb5\x2f\xfd" + b"\xe4" + struct.pack("<Q", size)
        data = header + bytes(made.bytes - len(header))
        tracemalloc.start()
        try:
            assert salvaged(data, made)[0].damage is not None
            with pytest.raises(errors.CheckpointDamaged):
                document(data, made)
            assert tracemalloc.get_traced_memory()[1] < 2**22
        finally:
            tracemalloc.stop()

    def test_a_frame_that_claims_to_be_empty(self) -> None:
        """No frame is: the library would not even look at what follows."""
        data, made = packed(noise(11, 4))
        header = b"\x28\xb5\x2f\xfd" + b"\x24" + b"\0"
        assert salvaged(header + data[len(header) :], made)[0].damage is not None
        with pytest.raises(errors.CheckpointDamaged, match="frame 0 at byte 0"):
            document(header + data[len(header) :], made)


class TestFeed:
    """What reading raises reaches the caller, who has to tell a damage from a server's error."""

    @pytest.mark.parametrize("cause", [errors.CheckpointDamaged("cut"), errors.ArchiveUnreachable("gone")])
    def test_an_error_of_reading(self, cause: errors.HAL9Error) -> None:
        source = mock.Mock()
        source.read.side_effect = cause

        class Cursor:
            def copy_expert(self, statement: str, file: chunk.TupleSource, size: int) -> None:
                try:
                    file.read(size)
                except Exception as error:
                    raise psycopg2.errors.QueryCanceled(
                        f"COPY from stdin failed: error in .read() call: {error}"
                    ) from None

        with pytest.raises(type(cause)) as caught:
            chunk.feed(Cursor(), "COPY t FROM STDIN", source)  # type: ignore[arg-type]
        assert caught.value is cause

    def test_an_error_of_the_server(self) -> None:
        cursor = mock.Mock()
        cursor.copy_expert.side_effect = psycopg2.errors.UniqueViolation("twice")
        with pytest.raises(psycopg2.errors.UniqueViolation):
            chunk.feed(cursor, "COPY t FROM STDIN", io.BytesIO())


def test_the_words_of_the_format() -> None:
    assert (wire.HEADER, wire.TRAILER) == (HEADER, TRAILER)
