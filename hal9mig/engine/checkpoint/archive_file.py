"""Files of an archive: opened for their owner alone, kept through a power cut, their errors told as the storage's."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hal9mig.engine.checkpoint.archive import Archive

#: The errors of a storage that has no room left.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Reporting:
    """A file of the storage whose errors are ours; those of its user are left as they are."""

    def __init__(self, file: Any, archive: Archive, place: str = ""):
        self._file = file
        self._reported = functools.partial(archive.reported, place, required=True)

    def read(self, size: int = -1) -> bytes:
        with self._reported():
            try:
                return bytes(self._file.read(size))
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                damage = error
        raise damage

    def write(self, data: bytes) -> int:
        with self._reported():
            return int(self._file.write(data))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with self._reported():
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())


@contextlib.contextmanager
def closed(file: Any) -> Iterator[None]:
    # Closing tries to write again what there was no room for; that error would stand in the place of the first.
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            file.close()


def private(path: str, flags: int) -> int:
    # The state of an application is nobody else's to read, wherever the folder is.
    return os.open(path, flags, 0o600)


def sync_folder(path: str) -> None:
    """Have the system keep a renamed file through a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
