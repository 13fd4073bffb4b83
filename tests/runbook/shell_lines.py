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


_CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.M | re.S)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shown:
    """A command of a document, and the lines that the document shows of its output."""

    text: str
    output: tuple[str, ...]


def console(document: str) -> list[Shown]:
    """Return the commands of a document's console blocks in their order."""
    found: list[tuple[str, list[str]]] = []
    for block in _CONSOLE.findall(document):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif found:
                found[-1][1].append(line)
    return [Shown(text=text, output=tuple(lines)) for text, lines in found]


def recorded(document: str, outputs: list[list[str]]) -> str:
    """Return a document with other outputs in its console blocks, one for each command in their order."""
    left = iter(outputs)

    def filled(block: re.Match[str]) -> str:
        lines = []
        for shown in console(block[0]):
            lines += [f"$ {shown.text}", *next(left)]
        return "```console\n" + "\n".join(lines) + "\n```"

    return _CONSOLE.sub(filled, document)
