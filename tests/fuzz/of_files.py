"""Files that lie about until they are read: checkpoints, exported learning data, categories, what traffic has noted."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any
from unittest import mock

from hal9mig import errors
from hal9mig.categories import learning, registry, wire
from hal9mig.categories.declaration import Category, Column, Computed, FilterField, Pass, Role, Source, Target
from hal9mig.categories.transform import Transform
from hal9mig.engine.checkpoint import archive, choose, chunk
from hal9mig.engine.checkpoint.manifest import Chunk, Manifest
from hal9mig.engine.pattern_files import manifest as folder_manifests
from hal9mig.engine.pattern_files import shapes
from hal9mig.engine.pattern_files.folder import PatternFolder
from hal9mig.engine.pattern_files.manifest import FolderManifest, RangeFiles, TableFile
from hal9mig.engine.pattern_files.rows_file import RowsReader, RowsWriter
from hal9mig.engine.switch import gate
from hal9mig.sample import traffic_log
from tests.fuzz.drawn import Drawn, edited
from tests.unit import manifests

_ROWS = [wire.split(row, 2) for row in (b"\0\x02\0\0\0\x01a\xff\xff\xff\xff", b"\0\x02\0\0\0\0\0\0\0\x02bc")] * 9
_OF_LEARNING = learning.CATEGORY


@functools.cache
def _folder() -> pathlib.Path:
    return pathlib.Path(tempfile.mkdtemp(prefix="hal9fuzz-"))


@functools.cache
def written_chunk() -> tuple[bytes, Chunk]:
    """Return a file of several frames, and its line of the manifest."""
    file = io.BytesIO()
    with mock.patch.object(chunk, "FRAME_BYTES", 64):
        writer = chunk.ChunkWriter(file)
        for row in _ROWS:
            writer.write(b"\0\x02" + b"".join(row))
        made = writer.close()
    return file.getvalue(), Chunk(file="flat/flat.t/000001-1.copy.zst", after=None, upto=None, **vars(made))


def manifest(data: bytes) -> None:
    """Read a manifest; what can be read is written as it was."""
    with contextlib.suppress(errors.CheckpointDamaged, errors.Refused):
        found = Manifest.from_text(data.decode("utf-8", "replace"))
        assert Manifest.from_text(found.to_text()) == found


@functools.cache
def _two_checkpoints() -> tuple[archive.Archive, Manifest]:
    """Return an archive of two checkpoints, of which only the sound one has a manifest yet."""
    kept = archive.Archive(str(_folder() / "archive"))
    whole, made = written_chunk()
    for name in ("sound", "odd"):
        with kept.writing(name, made.file) as stream:
            stream.write(whole)
    sound = manifests.manifest("sound", tables=(manifests.table(chunks=(made,)),))
    kept.put_manifest(sound)
    return kept, sound


def sealed_manifest(data: bytes) -> None:
    """List, choose and check a checkpoint whose manifest says something odd and has the right hash."""
    kept, sound = _two_checkpoints()
    document = edited(json.loads(dataclasses.replace(sound, name="odd").to_text()), Drawn(data))
    with contextlib.suppress(UnicodeEncodeError):
        sealed = gate.sealed(document) if isinstance(document, Mapping) else document
        (_folder() / "archive/odd" / archive.MANIFEST).write_bytes(json.dumps(sealed, ensure_ascii=False).encode())
    found, _ = kept.listing()
    assert sound in found
    for text in (choose.LATEST, "odd", "o", ""):
        with contextlib.suppress(errors.HAL9Error):
            choose.find(found, text)
        with contextlib.suppress(errors.HAL9Error):
            choose.for_rollback(found, text, ["user-sessions"], {"user-sessions": manifests.NOON})
        with contextlib.suppress(errors.HAL9Error):
            choose.for_recovery(found, text, ["user-sessions"])
    for one in found:
        with contextlib.suppress(errors.HAL9Error):
            kept.lacking(one)
        for file in one.files:
            with contextlib.suppress(errors.HAL9Error), kept.reading(one.name, file.file) as stream:
                chunk.check(stream, file)
            with contextlib.suppress(errors.HAL9Error), kept.reading(one.name, file.file) as stream:
                assert len(list(chunk.salvage(stream, file))) == len(file.frames)


def chunk_file(data: bytes) -> None:
    """Read and salvage a file under a manifest that fits the hash of it."""
    whole, made = written_chunk()
    for line in (made, dataclasses.replace(made, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))):
        with contextlib.suppress(errors.CheckpointDamaged):
            chunk.check(io.BytesIO(data), line)
            # Frames have checksums of 32 bits and rows digests of 64: what passes both is what was written.
            assert data == whole
        with contextlib.suppress(errors.CheckpointDamaged):
            source = chunk.Document(io.BytesIO(data), line)
            while source.read(7):
                pass
        for block in chunk.salvage(io.BytesIO(data), line):
            assert block.damage is not None or len(block.rows) == line.frames[block.index][2]


def frame(data: bytes) -> None:
    """Take the rows of a frame apart; together they are the frame again."""
    for first in (True, False):
        with contextlib.suppress(ValueError):
            rows = b"".join(chunk.tuples(data, first=first))
            plain = data[len(wire.HEADER) :] if first else data
            assert plain in (rows, rows + wire.TRAILER)


@functools.cache
def written_folder() -> tuple[Any, bytes]:
    """Return an exported folder's manifest as a document, and the one file of it."""
    shape = shapes.exported(_OF_LEARNING)
    stream = io.BytesIO()
    writer = RowsWriter(stream, shape)
    writer.group([[wire.NULL] for _ in shape.columns])
    writer.group([])
    made = writer.close()
    path = folder_manifests.path("hierarchical", shape.table, 1, 1)
    file = TableFile(table=shape.table, path=path, **vars(made))
    one = RangeFiles(
        number=1, attempt=1, after=None, upto=("k",), records=1, refused=0, bytes=9, snapshot="1:1:", read_at="now",
        files=(file,),
    )  # fmt: skip
    whole = FolderManifest(
        kind="exported", layout="hierarchical", category=_OF_LEARNING.slug, schema_version=1, transform_version=1,
        system="flat", store="s", mode="dual-write", epoch=1, began_at=manifests.NOON, finished_at=manifests.NOON,
        by="somebody", program="1.0", columns={shape.table: shape.declared}, ranges=(one,), place="p",
    )  # fmt: skip
    return json.loads(whole.to_text()), stream.getvalue()


def folder_manifest(data: bytes) -> None:
    """Read the manifest of a folder; what can be read is written as it was."""
    with contextlib.suppress(errors.Refused):
        found = FolderManifest.from_text(data.decode("utf-8", "replace"), "it")
        assert FolderManifest.from_text(found.to_text(), "it") == dataclasses.replace(found)


def sealed_folder(data: bytes) -> None:
    """Read a folder whose manifest says something odd and has the right hash."""
    document, file = written_folder()
    root = _folder() / "exported"
    (root / document["ranges"][0]["files"][0]["path"]).parent.mkdir(parents=True, exist_ok=True)
    (root / document["ranges"][0]["files"][0]["path"]).write_bytes(file)
    document = edited(document, Drawn(data))
    with contextlib.suppress(UnicodeEncodeError):
        sealed = gate.sealed(document) if isinstance(document, Mapping) else document
        (root / "manifest.json").write_bytes(json.dumps(sealed, ensure_ascii=False).encode())
    folder = PatternFolder(root)
    with contextlib.suppress(errors.HAL9Error):
        found = folder.require_manifest()
        shapes.require_declared(found, _OF_LEARNING, "it")
        found.range(1)
        assert found.records is not None
        folder.require_whole(found, look=lambda _: None)


def learning_file(data: bytes) -> None:
    """Read a Parquet file that is no more what it was."""
    shape = shapes.exported(_OF_LEARNING)
    with contextlib.suppress(errors.Refused):
        reader = RowsReader(io.BytesIO(data), shape, "it")
        for group in range(min(reader.groups, 100)):
            for fields in reader.group(group):
                assert all(isinstance(field, bytes) for field in fields)
        list(reader.some(["pattern_id"]))


def traffic_file(data: bytes) -> None:
    """Read what traffic has noted."""
    path = _folder() / "traffic.jsonl"
    path.write_bytes(data)
    with contextlib.suppress(errors.UsageError):
        for line in traffic_log.read(path):
            assert isinstance(line, traffic_log.Line)


def category_file(data: bytes) -> None:
    """Read a category's file as far as the compiler gets: its first line ends it, so nothing drawn is carried out."""
    path = _folder() / "drawn.py"
    path.write_bytes(b"raise SystemExit\n" + data)
    with contextlib.suppress(errors.InvalidCategory):
        registry.load([path])


def declaration(data: bytes) -> None:
    """Declare a category with odd names, types, queries and keys; what is taken can be compiled and asked for."""
    drawn = Drawn(data)

    def word(usual: str) -> str:
        return usual if drawn.number(6) else drawn.text()

    def words(*usual: str) -> tuple[str, ...]:
        return tuple(word(one) for one in usual[: len(usual) - (drawn.number(8) == 0)])

    with contextlib.suppress(errors.InvalidCategory):
        source = Source(
            schema=word("flat"), table=word("t"), columns=(Column(word("id"), word("uuid")), Column("v", word("text"))),
            key=words("id"), version=None if drawn.number(4) else word("v"),
        )  # fmt: skip
        target = Target(
            schema=word("hier"), table=word("t"), role=drawn.one_of([Role.ROOT, Role.ROOT, *Role]), key=words("id"),
            columns=(Pass("id", word("id")), Computed(word("v"), word("text"), str.upper, words("v"))),
            owner=words("id"), when=None if drawn.number(4) else (word("v"), word("x")),
            version=None if drawn.number(4) else word("v"),
        )  # fmt: skip
        made = Category(
            slug=word("drawn"), title=word("Drawn"), source=source, targets=(target,) * (1 + drawn.number(2)),
            rebuild=word("SELECT id, JSONB(v::text) FROM hier.t WHERE RANGE(t.id)"), aliases=words("other"),
            filters={word("v"): FilterField(word("v"), word("text"))},
            type_field=None if drawn.number(4) else word("v"),
        )  # fmt: skip
        made.rebuild_where(" AND ".join)
        Transform(made).apply([[wire.NULL, wire.field(b"x")], [wire.field(b"\0" * 16), wire.NULL]])
