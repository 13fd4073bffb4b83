"""The shell lines of a runbook: what an operator pastes, one command at a time, with what it promises to print."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Iterator

_BLOCK = re.compile(r"^(#{2,4} .+?)$|^```bash\n(.*?)^```$", re.M | re.S)
_HERE = pathlib.Path(__file__).parent


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShellLine:
    """One command: the heading it stands under, its text with its continuations or its loop, and what is promised."""

    heading: str
    text: str
    promised: tuple[str, ...] = ()


def read(name: str = "state-migration.md") -> list[ShellLine]:
    """Return a runbook's commands in their order."""
    heading, found = "", []
    for title, block in _BLOCK.findall((_HERE / name).read_text(encoding="utf-8")):
        if title:
            heading = title.lstrip("# ")
        else:
            found += _commands(heading, block)
    return found


def _commands(heading: str, block: str) -> Iterator[ShellLine]:
    command: list[str] = []
    told: list[str] = []
    text = ""
    for line in block.splitlines():
        if line.startswith("#"):
            told.append(line.lstrip("# ").rstrip())
        elif line.strip() or command:
            command.append(line)
            if _whole(command):
                if text:
                    yield ShellLine(heading=heading, text=text, promised=tuple(told))
                text, told, command = "\n".join(command), [], []
    yield ShellLine(heading=heading, text=text, promised=tuple(told))


def _whole(command: list[str]) -> bool:
    text = "\n".join(command)
    loops = len(re.findall(r"^\s*for\b", text, re.M)) - len(re.findall(r"^\s*done\b", text, re.M))
    return not text.endswith("\\") and loops == 0
