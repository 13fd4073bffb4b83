"""A terminal with somebody at it: a command's questions are answered as they appear, or Ctrl-C is pressed."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import pathlib
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence

from tests.support import migration_driver

CTRL_C = "\x03"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Typed:
    """How a command on a terminal ended, and all that the terminal has shown."""

    code: int
    shown: str


def typed(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    folder: pathlib.Path,
    answers: Sequence[tuple[str, str]] = (),
    columns: int = 120,
    patience: float = migration_driver.PATIENCE,
) -> Typed:
    """Run a command on a terminal of its own.

    Args:
        answers: what is typed, Enter included, where what has been shown since the last answer matches a regular
            expression; ``CTRL_C`` is pressed again each second, for one that comes between a prompt and its read
            is seen with the next key only.
        patience: seconds after which it is killed, which fails the test.
    """
    keeper, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    started = subprocess.Popen(
        command,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**env, "TERM": "dumb"},
        cwd=folder,
        start_new_session=True,
        # The terminal becomes the session's own, so that a key is a signal to whoever is in front.
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(terminal)
    shown, answered, interrupted = "", 0, False
    deadline = time.monotonic() + patience
    try:
        while time.monotonic() < deadline:
            if not select.select([keeper], [], [], 1.0)[0]:
                if interrupted:
                    os.write(keeper, CTRL_C.encode())
                continue
            try:
                # Bytes that do not make a character yet are of no matter to what is waited for.
                shown += os.read(keeper, 65536).decode(errors="replace")
            except OSError:  # the other side is closed
                break
            for prompt, answer in answers:
                if not interrupted and re.search(prompt, shown[answered:]):
                    os.write(keeper, answer.encode())
                    answered, interrupted = len(shown), answer == CTRL_C
                    break
        else:
            raise AssertionError(f"still there after {patience} s:\n{shown}")
        code = started.wait(10)
    finally:
        started.kill()
        started.wait(10)
        os.close(keeper)
    assert "Traceback" not in shown, shown
    return Typed(code=code, shown=shown.replace("\r\n", "\n"))
