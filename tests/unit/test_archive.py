"""Where checkpoints lie: whole files or none, in a folder and in another storage, and what is a checkpoint there."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal9mig import errors, settings
from hal9mig.engine.checkpoint import archive
from hal9mig.engine.checkpoint.archive import Archive
from tests.unit.archives import FILE, files, put, put_and
from tests.unit.manifests import chunk, manifest, table


@pytest.fixture(params=["folder", "memory"])
def kept(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Archive]:
    """An empty archive in a folder, and one in a storage that is none."""
    url = str(tmp_path / "kept") if request.param == "folder" else f"memory://{secrets.token_hex(4)}/kept"
    found = Archive(url)
    found.ensure()
    yield found
    found._fs.rm(found._root, recursive=True)


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """A place for an archive on this machine."""
    return tmp_path / "kept"


def fail(error: Exception) -> None:
    raise error


def get(kept: Archive, name: str = "one", file: str = FILE) -> bytes:
    with kept.reading(name, file) as stream:
        return stream.read()  # type: ignore[no-any-return]


class TestFiles:
    """Writing and reading."""

    def test_what_is_written_is_read(self, kept: Archive) -> None:
        put(kept, data=b"x" * 100_000)
        with kept.reading("one", FILE) as stream:
            assert stream.read(3) == b"xxx"
            assert stream.seek(99_998) == 99_998
            assert stream.read() == b"xx"
        assert kept.holds("one", FILE)
        assert not kept.holds("one", FILE + "x")

    def test_nothing_is_there_before_it_is_whole(self, kept: Archive) -> None:
        with kept.writing("one", FILE) as stream:
            stream.write(b"half")
            assert not kept.holds("one", FILE)
            stream.write(b" and half")
        assert get(kept) == b"half and half"

    def test_an_error_leaves_what_was_there(self, kept: Archive) -> None:
        """Nothing, or the older one; and the error is the caller's own."""
        for before in (None, b"older"):
            if before is not None:
                put(kept, data=before)
            with pytest.raises(ConnectionResetError):
                put_and(kept, lambda: fail(ConnectionResetError("of the database")))
            assert kept.holds("one", FILE) is (before is not None)
        assert get(kept) == b"older"

    def test_nothing_is_left_beside(self, folder: pathlib.Path) -> None:
        kept = Archive(str(folder))
        with pytest.raises(KeyError):
            put_and(kept, lambda: fail(KeyError()))
        put(kept, file="flat/other")
        assert files(folder) == ["one/flat/other"]

    def test_two_writers_of_one_file(self, folder: pathlib.Path) -> None:
        """A worker that was taken for dead, and the one in its place: either's file, and never of both."""
        kept = Archive(str(folder))
        barrier = threading.Barrier(2)

        def write(data: bytes) -> None:
            with kept.writing("one", FILE) as stream:
                stream.write(data[:1000])
                barrier.wait(10)
                stream.write(data[1000:])

        writers = [threading.Thread(target=write, args=(letter * 5000,)) for letter in (b"a", b"b")]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert get(kept) in (b"a" * 5000, b"b" * 5000)
        assert files(folder) == [f"one/{FILE}"]

    def test_a_kill_leaves_no_checkpoint(self, folder: pathlib.Path) -> None:
        """What a killed writer leaves has another name, is in no listing, and goes when the checkpoint is sealed."""
        script = (
            "import os, signal, sys; from hal9mig.engine.checkpoint.archive import Archive\n"
            f"with Archive(sys.argv[1]).writing('one', {FILE!r}) as stream:\n"
            "    stream.write(b'x' * 100_000); os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        done = subprocess.run([sys.executable, "-c", script, str(folder)], check=False, timeout=60)
        assert done.returncode == -signal.SIGKILL
        kept = Archive(str(folder))
        assert not kept.holds("one", FILE)
        assert len(files(folder)) == 1
        assert [one.name for one in kept.listing()[1]] == ["one"]
        put(kept)
        made = manifest(tables=(table(chunks=(chunk(1),)),))
        kept.put_manifest(made)
        kept.clear(made)
        assert files(folder) == [f"one/{FILE}", "one/manifest.json"]

    def test_a_missing_file(self, kept: Archive) -> None:
        with pytest.raises(errors.ChunkMissing, match=r"000001-1\.copy\.zst of checkpoint one is missing") as caught:
            get(kept)
        assert isinstance(caught.value, errors.CheckpointDamaged)

    def test_a_sector_that_cannot_be_read(self, kept: Archive) -> None:
        """That is damage, and the storage can be reached."""
        put(kept)
        with pytest.raises(errors.CheckpointDamaged, match="Input/output error"), kept.reading("one", FILE):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def test_other_errors_of_a_reader_are_its_own(self, kept: Archive) -> None:
        put(kept)
        with pytest.raises(TimeoutError), kept.reading("one", FILE):
            raise TimeoutError("of the database")

    def test_only_its_owner_can_read_it(self, folder: pathlib.Path) -> None:
        os.umask(os.umask(0o022))
        kept = Archive(str(folder))
        kept.ensure()
        put(kept)
        modes = {path.stat().st_mode & 0o077 for path in (folder, *folder.rglob("*"))}
        assert modes == {0}

    def test_a_folder_that_was_open_stays_so_and_its_files_do_not(self, folder: pathlib.Path) -> None:
        folder.mkdir(mode=0o755)
        put(Archive(str(folder)))
        assert folder.stat().st_mode & 0o777 == 0o755
        assert (folder / "one" / FILE).stat().st_mode & 0o777 == 0o600


class TestNames:
    """What a checkpoint may be called."""

    @pytest.mark.parametrize("name", ["a", "A-1", "before.2026_01+x", "9" * 128])
    def test_a_good_name_is_taken(self, kept: Archive, name: str) -> None:
        kept.put_manifest(manifest(name))
        assert kept.names() == [name]
        assert kept.manifest(name).name == name

    @pytest.mark.parametrize(
        "name", ["", ".", "..", ".a", "-a", "a/b", "../a", "a\n", "ä", "a b", "a\0", "a\\b", "~", "*", "a" * 129]
    )
    def test_a_bad_name_is_refused_by_whatever_takes_one(self, kept: Archive, name: str) -> None:
        calls = (kept.manifest, kept.exists, kept.delete, archive.check_name, lambda one: put(kept, one))
        for call in calls:
            with pytest.raises(errors.UsageError, match="cannot be a checkpoint's name"):
                call(name)  # type: ignore[operator]

    @given(st.text(max_size=12), st.text(max_size=12))
    def test_no_path_leaves_the_root(self, name: str, file: str) -> None:
        kept = Archive("memory://kept")
        try:
            path = kept._path(name, file)
        except errors.HAL9Error:
            return
        assert os.path.normpath(path).startswith(f"/kept/{name}")

    @pytest.mark.parametrize("file", ["../../secret", "/etc/passwd", "flat/../../x", "flat//x", "."])
    def test_nor_does_a_file_that_a_manifest_names(self, kept: Archive, file: str) -> None:
        with pytest.raises(errors.CheckpointDamaged, match="is no file of a checkpoint"):
            get(kept, file=file)


class TestListing:
    """What is a checkpoint, and what only looks like one."""

    def test_an_empty_place(self, kept: Archive) -> None:
        assert kept.names() == []
        assert kept.listing() == ([], [])

    def test_a_place_that_is_not_there_yet(self, tmp_path: pathlib.Path) -> None:
        assert Archive(str(tmp_path / "a" / "b")).listing() == ([], [])
        assert Archive("memory://nowhere/at/all").listing() == ([], [])
        assert not (tmp_path / "a").exists()

    def test_the_newest_comes_first(self, kept: Archive) -> None:
        for name, hours in (("middle", 1), ("newest", 2), ("oldest", 0)):
            kept.put_manifest(manifest(name, hours=hours))
        found, unusable = kept.listing()
        assert [one.name for one in found] == ["newest", "middle", "oldest"]
        assert found[0] == manifest("newest", hours=2)
        assert unusable == []

    def test_what_is_none(self, kept: Archive) -> None:
        """Each of them is named with its reason, and none hides the others."""
        kept.put_manifest(manifest("good"))
        put(kept, "unfinished")
        text = manifest("damaged").to_text()
        put(kept, "damaged", text.replace("somebody", "somebody else").encode(), archive.MANIFEST)
        put(kept, "cut", text[:100].encode(), archive.MANIFEST)
        put(kept, "bytes", b"\xff\xfe\x00", archive.MANIFEST)
        put(kept, "empty", b"", archive.MANIFEST)
        put(kept, "copied", manifest("good").to_text().encode(), archive.MANIFEST)
        found, unusable = kept.listing()
        assert [one.name for one in found] == ["good"]
        reasons = {one.name: one.reason for one in unusable}
        assert set(reasons) == {"unfinished", "damaged", "cut", "bytes", "empty", "copied"}
        assert "never finished" in reasons["unfinished"]
        assert "hash" in reasons["damaged"]
        assert "the manifest of checkpoint good" in reasons["copied"]
        for name in ("damaged", "cut", "bytes", "empty", "copied"):
            with pytest.raises(errors.CheckpointDamaged):
                kept.manifest(name)
        with pytest.raises(errors.NotFound):
            kept.manifest("unfinished")
        with pytest.raises(errors.NotFound):
            kept.manifest("none")

    def test_strangers_are_left_alone(self, folder: pathlib.Path) -> None:
        kept = Archive(str(folder))
        kept.put_manifest(manifest("good"))
        (folder / "notes.txt").write_text("x")
        (folder / "lost+found").mkdir()
        (folder / ".snapshots").mkdir()
        (folder / "of two words").mkdir()
        assert kept.names() == ["good", "lost+found"]

    def test_what_another_process_does_is_seen(self, tmp_path: pathlib.Path, kept: Archive) -> None:
        assert not kept.exists("one")
        with_another = Archive.__new__(Archive)
        with_another.__dict__.update(kept.__dict__)
        with_another.put_manifest(manifest())
        assert kept.exists("one")
        assert kept.names() == ["one"]


class TestDeleting:
    """A checkpoint goes, and nothing else does."""

    def test_all_of_it(self, kept: Archive) -> None:
        for name in ("one", "one-more"):
            put(kept, name, b"x" * 1000)
            kept.put_manifest(manifest(name))
        size = 1000 + len(manifest().to_text().encode())
        assert kept.delete("one") == size
        assert kept.names() == ["one-more"]
        assert get(kept, "one-more") == b"x" * 1000
        assert kept.delete("one") == 0

    def test_one_that_was_never_finished(self, kept: Archive) -> None:
        put(kept, data=b"x" * 10)
        assert kept.delete("one") == 10
        assert not kept.exists("one")

    def test_a_kill_in_between(self, kept: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
        """The manifest goes first, so that what is left is never taken for a whole one."""
        put(kept)
        kept.put_manifest(manifest())

        def fail(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(kept._fs, "rm", fail)
            with pytest.raises(KeyboardInterrupt):
                kept.delete("one")
        assert [one.name for one in kept.listing()[1]] == ["one"]
        assert kept.delete("one") > 0
        assert kept.names() == []

    def test_what_is_in_no_manifest_is_cleared(self, kept: Archive) -> None:
        made = manifest(tables=(table(chunks=(chunk(1),)),))
        late = FILE.replace("-1.", "-2.")
        put(kept)
        put(kept, file=late)
        kept.put_manifest(made)
        kept.clear(made)
        assert kept.holds("one", FILE)
        assert kept.holds("one", archive.MANIFEST)
        assert not kept.holds("one", late)


def test_every_process_opens_its_own(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool process is forked from one that may have opened it, and the drivers of object stores refuse that."""
    resolved = settings.load(environ={"HAL9_CHECKPOINT_URL": str(folder)})
    mine = archive.opened(resolved)
    assert archive.opened(resolved) is mine
    monkeypatch.setattr(os, "getpid", lambda: 0)
    assert archive.opened(resolved) is not mine


def test_the_manifest_is_written_last_and_whole(kept: Archive) -> None:
    kept.put_manifest(manifest(description="ä\u2028"))
    document = json.loads(get(kept, file=archive.MANIFEST))
    assert document["format"] == 1
    assert list(document)[-1] == "sha256"
    assert kept.manifest("one").description == "ä\u2028"
