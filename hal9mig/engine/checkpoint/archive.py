"""Where checkpoints lie: a folder, or whatever place fsspec has a driver for. One folder a checkpoint.

    <url>/<name>/manifest.json                          written last, removed first
    <url>/<name>/<store>/<schema>.<table>/<file>        the chunks

A folder without a manifest is no checkpoint: it is being written, or was left.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem

from hal9mig import errors, safe_text, settings
from hal9mig.engine.checkpoint.archive_file import FULL, Reporting, closed, private, sync_folder
from hal9mig.engine.checkpoint.manifest import Manifest

MANIFEST = "manifest.json"
#: No checkpoint's name begins with a dot.
_IDENTITY = ".hal9-place"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unusable:
    """A folder that is no checkpoint, and why."""

    name: str
    reason: str


def check_name(name: str) -> None:
    """Raise where a text cannot be a checkpoint's name.

    Raises:
        errors.UsageError: it has characters that a folder's name had better not have.
    """
    if not _NAME.fullmatch(name):
        raise errors.UsageError(
            f"{name!r} cannot be a checkpoint's name.", hint="letters, digits, and . _ + - between them; at most 128"
        )


def opened(resolved: settings.Settings) -> Archive:
    """Return the archive that the settings name."""
    return _cached(resolved.checkpoint_url, os.getpid())


@functools.lru_cache(maxsize=8)
def _cached(url: str, pid: int) -> Archive:
    # Of each process its own: a worker forks from a parent that keeps snapshots, and many drivers refuse a fork.
    return Archive(url)


class Archive:
    """Reads and writes checkpoints at one place.

    Args:
        url: anything fsspec knows; a plain path is a folder of this machine.

    Raises:
        errors.InvalidSettings: there is no driver for it.
        errors.ArchiveUnreachable: the storage does not answer.
    """

    def __init__(self, url: str):
        self._url = safe_text.masked(url)
        try:
            self._fs, root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise errors.InvalidSettings(
                f"Checkpoints cannot lie at {self._url}: {safe_text.masked(str(error))}",
                hint="install the fsspec driver of that storage, or name a folder with HAL9_CHECKPOINT_URL",
            ) from None
        except Exception as error:
            # Some drivers connect at once. The chain of causes may hold the URL.
            raise errors.ArchiveUnreachable(
                f"The checkpoints at {self._url} cannot be reached: {safe_text.masked(str(error))}."
            ) from None
        self._root = root.rstrip("/")

    @property
    def _local(self) -> bool:
        return isinstance(self._fs, LocalFileSystem)

    def ensure(self) -> None:
        """Make the place where there is none; a folder is its owner's alone.

        Raises:
            errors.ArchiveUnreachable: it cannot be made.
        """
        try:
            with self.reported():
                if self._local:
                    os.makedirs(self._root, mode=0o700, exist_ok=True)
                else:
                    self._fs.makedirs(self._root, exist_ok=True)
        except FileNotFoundError as error:
            raise errors.ArchiveUnreachable(f"The folder {self._url} cannot be made: {error.strerror}.") from None

    def identity(self, *, create: bool = False) -> str | None:
        """Return the token that tells this place from any other; None where there is none yet.

        Args:
            create: make one then.
        """
        path = f"{self._root}/{_IDENTITY}"
        with self.reported():
            self._fs.invalidate_cache()
            if create and not self._fs.exists(path):
                self._identify(path, secrets.token_hex(16).encode())
            try:
                return str(self._fs.cat_file(path).decode())
            except FileNotFoundError:
                return None

    def _identify(self, path: str, token: bytes) -> None:
        if not self._local:
            self._fs.pipe_file(path, token)
            return
        # Once, whole: of two that make it at the same time both have to read the one that stays.
        beside = f"{path}.{secrets.token_hex(4)}.part"
        with open(beside, "xb", opener=private) as local:
            local.write(token)
        with contextlib.suppress(FileExistsError):
            os.link(beside, path)
        os.unlink(beside)

    def names(self) -> list[str]:
        """Return the name of every folder."""
        with self.reported():
            self._fs.invalidate_cache()
            if not self._fs.exists(self._root):
                return []
            if self._fs.isfile(self._root):
                raise errors.ArchiveUnreachable(f"{self._url} is a file, so no checkpoints can lie there.")
            found = self._fs.ls(self._root, detail=True)
        names = [one["name"].rstrip("/").rpartition("/")[2] for one in found if one["type"] == "directory"]
        return sorted(name for name in names if _NAME.fullmatch(name))

    def manifest(self, name: str) -> Manifest:
        """Return a checkpoint's manifest.

        Raises:
            errors.NotFound: there is no checkpoint of this name.
            errors.CheckpointDamaged: its manifest is not what was written.
        """
        path = self._path(name, MANIFEST)
        try:
            with self.reported():
                text = self._fs.cat_file(path)
        except FileNotFoundError:
            raise errors.NotFound(
                f"There is no checkpoint {name}.", hint="hal9-migrate state list-checkpoints"
            ) from None
        try:
            found = Manifest.from_text(text.decode("utf-8", "replace"))
        except errors.CheckpointDamaged as error:
            raise errors.CheckpointDamaged(f"Checkpoint {name}: {error.message}") from None
        if found.name != name:
            raise errors.CheckpointDamaged(f"The folder {name} holds the manifest of checkpoint {found.name}.")
        return found

    def listing(self) -> tuple[list[Manifest], list[Unusable]]:
        """Return every checkpoint, newest first, and every folder that is none."""
        manifests: list[Manifest] = []
        unusable: list[Unusable] = []
        for name in self.names():
            try:
                manifests.append(self.manifest(name))
            except errors.NotFound:
                unusable.append(Unusable(name=name, reason="it was never finished: it has no manifest"))
            except (errors.CheckpointDamaged, errors.Refused) as error:
                unusable.append(Unusable(name=name, reason=error.message))
        return sorted(manifests, key=lambda one: one.taken_at, reverse=True), unusable

    def exists(self, name: str) -> bool:
        """Whether there is a folder of this name, finished or not."""
        return self.holds(name, "")

    def holds(self, name: str, file: str) -> bool:
        """Whether a checkpoint has a file."""
        with self.reported():
            self._fs.invalidate_cache()
            return bool(self._fs.exists(self._path(name, file)))

    def lacking(self, manifest: Manifest) -> list[str]:
        """Return the files of a checkpoint that are not there, or not of their size."""
        folder = self._path(manifest.name)
        with self.reported():
            self._fs.invalidate_cache()
            found = self._fs.find(folder, detail=True)
        return [
            file.file for file in manifest.files if found.get(f"{folder}/{file.file}", {}).get("size") != file.bytes
        ]

    @contextlib.contextmanager
    def writing(self, name: str, file: str) -> Iterator[BinaryIO]:
        """Write a file, which is there under its name once it is whole and on the disk, or not at all.

        Raises:
            errors.ArchiveFull: there is no room for it.
            errors.ArchiveUnreachable: the storage does not take it.
        """
        path = self._path(name, file)
        with self._written_here(path) if self._local else self._sent(path) as stream:
            yield stream

    @contextlib.contextmanager
    def _written_here(self, path: str) -> Iterator[BinaryIO]:
        folder = os.path.dirname(path)
        # Unlike that of any other process, on this host or on one that shares the folder.
        beside = f"{path}.{secrets.token_hex(4)}.part"
        try:
            with self.reported(required=True):
                for one in (self._root or "/", *self._folders(folder)):
                    os.makedirs(one, mode=0o700, exist_ok=True)
                local = open(beside, "xb", opener=private)  # noqa: SIM115
            with closed(local):
                yield Reporting(local, self)  # type: ignore[misc]
                with self.reported(required=True):
                    local.flush()
                    os.fsync(local.fileno())
            with self.reported(required=True):
                os.replace(beside, path)
                for one in (self._root or "/", *self._folders(folder)):
                    sync_folder(one)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(beside)

    @contextlib.contextmanager
    def _sent(self, path: str) -> Iterator[BinaryIO]:
        # Many drivers keep what was written when a file is closed by an error. So a file is sent once it is whole.
        place = tempfile.gettempdir()
        with self.reported(place, required=True):
            whole = tempfile.NamedTemporaryFile(prefix="hal9-", suffix=".part")  # noqa: SIM115
        with closed(whole):
            yield Reporting(whole, self, place)  # type: ignore[misc]
            with self.reported(place, required=True):
                whole.flush()
            with self.reported(required=True):
                before = self._fs.exists(path)
                try:
                    self._fs.put_file(whole.name, path)
                except BaseException:
                    # What another worker has written before stays.
                    with contextlib.suppress(Exception):
                        if not before:
                            self._fs.rm_file(path)
                    raise

    def _folders(self, folder: str) -> list[str]:
        """Return a folder and those above it, below the root, the highest first."""
        found = []
        while len(folder) > max(1, len(self._root)):
            found.append(folder)
            folder = os.path.dirname(folder)
        return found[::-1]

    @contextlib.contextmanager
    def reading(self, name: str, file: str) -> Iterator[Any]:
        """Read a file. A disk that cannot read a part of it gives an ``OSError`` with ``EIO`` inside, for salvaging.

        Raises:
            errors.ChunkMissing: it is not there.
            errors.CheckpointDamaged: the disk cannot read it.
            errors.ArchiveUnreachable: the storage does not answer.
        """
        path = self._path(name, file)
        try:
            with self.reported():
                stream = self._fs.open(path, "rb")
        except FileNotFoundError:
            raise errors.ChunkMissing(f"{file} of checkpoint {name} is missing.") from None
        with stream:
            try:
                yield Reporting(stream, self)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                raise errors.CheckpointDamaged(
                    f"{file} of checkpoint {name} cannot be read: {error.strerror}."
                ) from error

    def put_manifest(self, manifest: Manifest) -> None:
        """Make a checkpoint one: everything else of it has been written.

        Raises:
            errors.ArchiveFull, errors.ArchiveUnreachable: the storage does not take it.
        """
        with self.writing(manifest.name, MANIFEST) as stream:
            stream.write(manifest.to_text().encode())

    def clear(self, manifest: Manifest) -> None:
        """Remove the files in a checkpoint's folder that are not in its manifest: what late workers have left."""
        wanted = {self._path(manifest.name, MANIFEST)}
        wanted |= {self._path(manifest.name, one.file) for one in manifest.files}
        with self.reported():
            self._fs.invalidate_cache()
            for path in self._fs.find(self._path(manifest.name)):
                if path not in wanted:
                    with contextlib.suppress(FileNotFoundError):
                        self._fs.rm_file(path)

    def delete(self, name: str) -> int:
        """Remove a checkpoint and return the bytes that are free again; one that is gone already has none.

        Raises:
            errors.ArchiveUnreachable: the storage does not do it.
        """
        with self.reported():
            self._fs.invalidate_cache()
            if not self._fs.exists(self._path(name)):
                return 0
            freed = 0
            with contextlib.suppress(FileNotFoundError):
                freed = sum(self._fs.du(self._path(name), total=False).values())
            # First: a kill in between leaves a folder that says that it is none.
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(self._path(name, MANIFEST))
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm(self._path(name), recursive=True)
        return int(freed)

    def free_bytes(self) -> int | None:
        """Return the room that is left; None where the storage cannot tell."""
        if not self._local:
            return None
        place = self._root
        while not os.path.exists(place) and place != os.path.dirname(place):
            place = os.path.dirname(place)
        with self.reported():
            return shutil.disk_usage(place).free

    def _path(self, name: str, file: str = "") -> str:
        check_name(name)
        if not file:
            return f"{self._root}/{name}"
        if not {"", ".", ".."}.isdisjoint(file.split("/")):
            raise errors.CheckpointDamaged(f"{file!r} is no file of a checkpoint.")
        return f"{self._root}/{name}/{file}"

    @contextlib.contextmanager
    def reported(self, place: str = "", *, required: bool = False) -> Iterator[None]:
        """Turn the storage's errors into ours; a file that is not there is none, unless it is required."""
        place = place or self._url
        try:
            yield
        except errors.HAL9Error:
            raise
        except Exception as error:
            if isinstance(error, FileNotFoundError) and not required:
                raise
            # Drivers have errors of their own besides those of the system.
            if self._local and not isinstance(error, OSError):
                raise
            number = getattr(error, "errno", None)
            reason = safe_text.masked(getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(
                "."
            )
            if number in FULL:
                raise errors.ArchiveFull(f"There is no room left at {place}: {reason}.") from error
            raise errors.ArchiveUnreachable(f"The checkpoints at {place} cannot be reached: {reason}.") from error
