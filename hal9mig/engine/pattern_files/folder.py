"""A folder of learning data: begun empty, filled by workers, and one thing once its manifest is there."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import pathlib
import secrets
import shlex
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

from hal9mig import errors, units
from hal9mig.engine.checkpoint.archive_file import FULL, private, sync_folder
from hal9mig.engine.pattern_files.manifest import FolderManifest, RangeFiles, TableFile

MANIFEST = "manifest.json"
#: The token of an unfinished folder, by which a worker knows that it sees the one that is meant.
_PLACE = ".hal9-place"
_READ = 1 << 20
_AGAIN = "export it again: hal9-migrate learning export --system flat --output DIR"


class PatternFolder:
    """A folder, by its absolute path."""

    def __init__(self, root: str | pathlib.Path):
        self.root = os.path.abspath(root)

    def __str__(self) -> str:
        return self.root

    @property
    def quoted(self) -> str:
        """It, as a shell takes it."""
        return shlex.quote(self.root)

    # Beginning and end

    def manifest(self) -> FolderManifest | None:
        """Return what the folder holds; None where it is not finished, or not there.

        Raises:
            errors.Refused: it has a manifest that cannot be read.
        """
        name = os.path.join(self.root, MANIFEST)
        try:
            self._inside(MANIFEST)
            with open(name, encoding="utf-8", errors="replace", opener=_plain) as stream:
                text = stream.read()
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            raise errors.Refused(f"{self.root} is no folder; nothing was changed.", hint="name a folder") from None
        except OSError as error:
            raise errors.Refused(f"{name} cannot be read: {error.strerror or error}.") from error
        return FolderManifest.from_text(text, name)

    def require_manifest(self) -> FolderManifest:
        """Return what the folder holds.

        Raises:
            errors.NotFound: it is not there, or not finished.
            errors.Refused: it has a manifest that cannot be read.
        """
        found = self.manifest()
        if found is None:
            if not os.path.isdir(self.root):
                raise errors.NotFound(f"There is no folder {self.root}.", hint=_AGAIN)
            why = "it is not finished" if self.place() else "it holds no learning data"
            raise errors.NotFound(
                f"{self.root} has no {MANIFEST}: {why}.",
                hint="see what writes it: hal9-migrate runs list --active" if self.place() else _AGAIN,
            )
        return found

    def place(self) -> str | None:
        """Return the token of an unfinished folder; None where there is none, or it cannot be read."""
        try:
            with open(os.path.join(self.root, _PLACE), encoding="ascii", opener=_plain) as stream:
                return stream.read()
        except (OSError, UnicodeDecodeError):
            return None

    def begin(self) -> str:
        """Make the folder, or take an empty one, and return the token that now tells it from any other.

        Raises:
            errors.Refused: something is in it, or it cannot be made.
        """
        try:
            # What is in it is nobody else's to read.
            with contextlib.suppress(FileExistsError):
                os.mkdir(self.root, 0o700)
            self.require_empty()
            token = secrets.token_hex(16)
            beside = os.path.join(self.root, f"{_PLACE}.{secrets.token_hex(4)}")
            with open(beside, "x", encoding="ascii", opener=private) as stream:
                stream.write(token)
            # In the place of one that a command has left which died before its run began.
            os.replace(beside, os.path.join(self.root, _PLACE))
        except OSError as error:
            where = error.filename or self.root
            raise errors.Refused(
                f"The folder {self.root} cannot be used: {where}: {error.strerror}; nothing was changed.",
                hint="name a folder that this account can make, below one that there is",
            ) from error
        return token

    def require_empty(self) -> None:
        """Raise where something is in the folder, but for the token of a run that never began.

        Raises:
            errors.Refused: there is, or it is no folder.
        """
        try:
            strangers = sorted(name for name in os.listdir(self.root) if not name.startswith(_PLACE))
        except FileNotFoundError:
            return
        except OSError as error:
            raise errors.Refused(f"{self.root}: {error.strerror}; nothing was changed.") from error
        if strangers:
            raise errors.Refused(
                f"{self.root} is not empty: it holds {', '.join(strangers[:3])}"
                f"{' and more' if len(strangers) > 3 else ''}; nothing was changed.",
                hint="name a new folder",
            )

    def finish(self, made: FolderManifest) -> None:
        """Write the manifest and take away what late workers have left.

        Raises:
            errors.ArchiveFull: there is no room for it.
        """
        kept = {os.path.join(self.root, file.path) for file in made.files}
        for folder, _, names in os.walk(self.root):
            for name in names:
                path = os.path.join(folder, name)
                if path not in kept and name.endswith((".parquet", ".part")):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(path)
        with self.writing(MANIFEST) as stream:
            stream.write(made.to_text().encode())
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.root, _PLACE))

    def require_room(self, size: int) -> None:
        """Raise where there is less room than so many bytes.

        Raises:
            errors.ArchiveFull: there is.
        """
        parent = self.root if os.path.isdir(self.root) else os.path.dirname(self.root)
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(parent).free
            if free < size:
                raise errors.ArchiveFull(
                    f"About {units.format_bytes(size)} are going to {self.root}, and {units.format_bytes(free)} "
                    "are free there; nothing was changed.",
                    hint="make room, or name a folder elsewhere",
                )

    # Files

    @contextlib.contextmanager
    def writing(self, path: str) -> Iterator[BinaryIO]:
        """Write a file, which is there under its name once it is whole and on the disk, or not at all.

        Raises:
            errors.ArchiveFull: there is no room for it.
            errors.ArchiveUnreachable: the folder does not take it.
        """
        whole = os.path.join(self.root, path)
        beside = f"{whole}.{secrets.token_hex(4)}.part"
        try:
            self._inside(path)
            self._make(os.path.dirname(path))
            with open(beside, "xb", opener=private) as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(beside, whole)
            sync_folder(os.path.dirname(whole))
        except OSError as error:
            raise self._failed(error) from error
        finally:
            with contextlib.suppress(OSError):
                os.unlink(beside)

    @contextlib.contextmanager
    def reading(self, file: TableFile) -> Iterator[BinaryIO]:
        """Read a file that is what the manifest says of it, byte for byte.

        Raises:
            errors.Refused: it is not, or it is gone.
        """
        name = os.path.join(self.root, file.path)
        try:
            self._inside(file.path)
            with open(name, "rb", opener=_plain) as stream:
                self._require(stream, file, name)
                stream.seek(0)
                yield stream
        except FileNotFoundError:
            raise errors.Refused(f"{name} is missing.", hint=_AGAIN) from None
        except OSError as error:
            raise errors.Refused(f"{name} cannot be read: {error.strerror or error}.", hint=_AGAIN) from error

    def require_whole(self, made: FolderManifest, *, look: Callable[[RangeFiles], None]) -> None:
        """Raise where a file is not what the manifest says of it; reads all of them.

        Args:
            look: looks at each range besides, and may raise too.

        Raises:
            errors.Refused: one is damaged or missing; it is named.
        """
        with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
            waiting = [pool.submit(self._look, one, look) for one in made.ranges]
            try:
                for one in waiting:
                    one.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _look(self, one: RangeFiles, look: Callable[[RangeFiles], None]) -> None:
        for file in one.files:
            with self.reading(file):
                pass
        look(one)

    def _require(self, stream: BinaryIO, file: TableFile, name: str) -> None:
        size = os.fstat(stream.fileno()).st_size
        if size != file.bytes:
            raise errors.Refused(
                f"{name} is damaged: it measures {size:,} bytes, and {file.bytes:,} were written.", hint=_AGAIN
            )
        sha = hashlib.sha256()
        while block := stream.read(_READ):
            sha.update(block)
        if sha.hexdigest() != file.sha256:
            raise errors.Refused(f"{name} is damaged: its SHA-256 is not that of the manifest.", hint=_AGAIN)

    def _make(self, folder: str) -> None:
        """Make a folder and those above it, each its owner's alone."""
        here = self.root
        for name in filter(None, folder.split("/")):
            here = os.path.join(here, name)
            with contextlib.suppress(FileExistsError):
                os.mkdir(here, 0o700)
                sync_folder(os.path.dirname(here))

    def _inside(self, path: str) -> None:
        """Raise where a name leads out of the folder, by whatever links."""
        wanted = os.path.join(os.path.realpath(self.root), path)
        if os.path.realpath(wanted) != wanted:
            raise errors.Refused(f"{os.path.join(self.root, path)} is, or lies behind, a link; it is not followed.")

    def _failed(self, error: OSError) -> errors.HAL9Error:
        reason = f"{error.filename or self.root}: {error.strerror or error}"
        if error.errno in FULL:
            return errors.ArchiveFull(f"There is no room left: {reason}.", hint="make room, and let the run go on")
        return errors.ArchiveUnreachable(
            f"The folder {self.root} does not take a file: {reason}.", hint="hal9-migrate runs list --active"
        )


def _plain(path: str, flags: int) -> int:
    """Open what is a file; a pipe or a device would be waited for without end."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no file", path)
    return descriptor


def overlapping(one: PatternFolder, other: PatternFolder) -> bool:
    """Whether one of two folders is the other, or lies in it."""
    places: Sequence[str] = [os.path.realpath(folder.root) for folder in (one, other)]
    return os.path.commonpath(places) in places
