"""The hosts that programs of a round seem to run on: each has a clock that steps and a disk that may be full."""

from __future__ import annotations

import mmap
import os
import pathlib
import struct
import subprocess

_STATE = "host.state"
_LAYOUT = struct.Struct("=qq")
_SOURCE = pathlib.Path(__file__).with_name("host.c")


class Host:
    """One host: every program that is started in ``folder``, while ``loaded`` is in the environment.

    Attributes:
        ahead: seconds that its clock is ahead of the machine's; may be negative.
        full: whether nothing can be written to its disk that makes a file longer.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        folder.mkdir(exist_ok=True)
        path = folder / _STATE
        path.write_bytes(_LAYOUT.pack(0, 0))
        # PostgreSQL runs as another account under root.
        path.chmod(0o644)
        with path.open("r+b") as file:
            self._state = mmap.mmap(file.fileno(), _LAYOUT.size)
        self.ahead = 0
        self.full = False

    def set(self, ahead: int) -> None:
        """Put its clock that many seconds ahead of the machine's."""
        self.ahead = ahead
        self._write()

    def fill(self, full: bool) -> None:
        """Fill its disk, or make room."""
        self.full = full
        self._write()

    def _write(self) -> None:
        self._state[:] = _LAYOUT.pack(self.ahead, self.full)


def loaded(folder: pathlib.Path) -> None:
    """Have each program that is started from now on look for the host that it runs on."""
    library = folder / "host.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(_SOURCE), "-ldl"], check=True)
    library.chmod(0o755)
    os.environ["LD_PRELOAD"] = str(library)
