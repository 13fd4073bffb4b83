"""Outlives the test session by a moment: ends what a killed session left running, and removes its folder.

Run as ``watchdog.py MARK FOLDER`` with a pipe as its input; the session's end, however it comes, closes the pipe.
"""

from __future__ import annotations

import pathlib
import shutil
import signal
import sys
import time

import psutil

VARIABLE = "HAL9_TEST_SESSION"


def left_over(mark: str, folder: pathlib.Path) -> list[psutil.Process]:
    """Return the processes that carry the session's mark or work in its folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process == psutil.Process() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if pathlib.Path(process.cwd()).is_relative_to(folder) or process.environ().get(VARIABLE) == mark:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def end(mark: str, folder: pathlib.Path) -> None:
    """End them all and remove the folder."""
    # SIGQUIT lets PostgreSQL free its shared memory; a paused worker needs the SIGKILL.
    for number, patience in ((signal.SIGQUIT, 3.0), (signal.SIGKILL, 3.0)):
        deadline = time.monotonic() + patience
        for process in left_over(mark, folder):
            try:
                process.send_signal(number)
            except psutil.Error:
                continue
        while left_over(mark, folder) and time.monotonic() < deadline:
            time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.stdin.read()
    end(sys.argv[1], pathlib.Path(sys.argv[2]))
