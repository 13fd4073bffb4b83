"""An archive that does not work: no room, no server, no driver; each is told as such and leaves nothing."""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from hal9mig import errors
from hal9mig.engine.checkpoint.archive import Archive
from tests.unit.archives import FILE, files, put, put_and


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """A place for an archive on this machine."""
    return tmp_path / "kept"


class Broken(MemoryFileSystem):  # type: ignore[misc]
    """A storage that takes half of a file and then fails, with an error of its own."""

    protocol = "broken"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012
    failing = False

    def put_file(self, lpath: str, rpath: str, **options: Any) -> None:
        if type(self).failing:
            self.pipe_file(rpath, pathlib.Path(lpath).read_bytes()[:3])
            raise RuntimeError("the key secret=abc123 has no access")
        super().put_file(lpath, rpath, **options)


@pytest.fixture
def broken() -> Iterator[Archive]:
    fsspec.register_implementation("broken", Broken, clobber=True)
    yield Archive("broken://kept")
    Broken.failing = False
    Broken.store.clear()


# Prints what became of writing a mebibyte; its arguments are the URL and the largest size of a file.
FILLING = """
import resource, sys
from hal9mig import errors
from hal9mig.engine.checkpoint.archive import Archive
if int(sys.argv[2]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
kept = Archive(sys.argv[1])
try:
    with kept.writing("one", "flat/file") as stream:
        for _ in range(64):
            stream.write(b"x" * 16384)
except errors.HAL9Error as error:
    print(error.code, error.exit_code, error.message)
print(kept.holds("one", "flat/file"))
"""


@contextlib.contextmanager
def small_disk(folder: pathlib.Path) -> Iterator[bool]:
    """Mount a file system of a few pages there; False where this account cannot."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)], check=False, capture_output=True
    )
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", str(folder)], check=True)


def fill(url: str, largest: int) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", FILLING, url, str(largest)], check=True, timeout=60, capture_output=True, text=True
    )
    return done.stdout.splitlines()


class TestNoRoom:
    """A full disk is told as such, and leaves nothing."""

    def test_a_limit_of_the_system(self, folder: pathlib.Path) -> None:
        told, there = fill(str(folder), 100_000)
        assert told.startswith(f"ARCHIVE_FULL 1 There is no room left at {folder}: ")
        assert there == "False"
        assert files(folder) == []

    def test_a_full_disk(self, folder: pathlib.Path) -> None:
        folder.mkdir()
        with small_disk(folder) as mounted:
            told, there = fill(str(folder), 0 if mounted else 100_000)
            assert told.startswith(f"ARCHIVE_FULL 1 There is no room left at {folder}: ")
            assert ("No space left on device" in told) is mounted
            assert there == "False"
            assert files(folder) == []
            assert not mounted or Archive(str(folder)).free_bytes() > 100_000  # type: ignore[operator]

    def test_no_room_to_collect_what_is_to_be_sent(self, folder: pathlib.Path) -> None:
        told, there = fill("memory://kept", 100_000)
        assert told.startswith("ARCHIVE_FULL 1 There is no room left at /")
        assert there == "False"

    def test_how_much_room_there_is(self, folder: pathlib.Path) -> None:
        """Known for a folder, before it is made; another storage cannot tell."""
        free = Archive(str(folder / "a" / "b")).free_bytes()
        assert free is not None
        assert free > 0
        assert not folder.exists()
        assert Archive("memory://kept").free_bytes() is None


class TestUnreachable:
    """A storage that does not work is told as such, without its password."""

    def test_a_storage_without_a_driver(self) -> None:
        with pytest.raises(errors.InvalidSettings, match="nowhere") as caught:
            Archive("nowhere://user:geheim@host/place")
        assert "geheim" not in caught.value.message
        assert "HAL9_CHECKPOINT_URL" in str(caught.value.hint)

    def test_a_storage_that_does_not_answer(self) -> None:
        with pytest.raises(errors.ArchiveUnreachable, match="refused") as caught:
            Archive("ftp://user:geheim@127.0.0.1:1/place")
        assert "geheim" not in caught.value.message
        assert caught.value.exit_code == errors.EXIT_UNREACHABLE

    def test_a_file_where_a_folder_should_be(self, tmp_path: pathlib.Path) -> None:
        (tmp_path / "file").write_text("x")
        kept = Archive(str(tmp_path / "file" / "kept"))
        for call in (kept.ensure, lambda: put(kept)):
            with pytest.raises(errors.ArchiveUnreachable, match="Not a directory"):
                call()

    def test_the_folder_goes_meanwhile(self, folder: pathlib.Path) -> None:
        kept = Archive(str(folder))
        with pytest.raises(errors.ArchiveUnreachable, match="No such file"):
            put_and(kept, lambda: kept.delete("one"))
        assert not kept.exists("one")

    def test_an_error_of_the_driver(self, broken: Archive) -> None:
        """It has its own kinds of errors; a half file goes, and an older whole one stays."""
        put(broken, file="older")
        Broken.failing = True
        with pytest.raises(errors.ArchiveUnreachable, match="has no access") as caught:
            put(broken)
        assert "abc123" not in caught.value.message
        assert not broken.holds("one", FILE)
        with pytest.raises(errors.ArchiveUnreachable):
            put(broken, file="older")
        assert broken.holds("one", "older")


def test_a_file_is_no_place_for_checkpoints(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("something else")
    with pytest.raises(errors.ArchiveUnreachable, match="is a file"):
        Archive(str(tmp_path / "file")).listing()
