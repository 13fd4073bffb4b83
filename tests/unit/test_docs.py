"""The documents: no link leads nowhere, and no command in them is one that the parser does not take."""

from __future__ import annotations

import pathlib
import re
import shlex
from collections.abc import Iterator

import click
import pytest

from hal9mig.cli import main
from tests.support.servers import ROOT
from tests.unit.commandline import parse

PAGES = sorted(ROOT / name for name in ("README.md", "CHANGELOG.md")) + sorted((ROOT / "docs").rglob("*.md"))
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_BLOCK = re.compile(r"^```(?:sh|console|bash)\n(.*?)^```", re.M | re.S)
_HEADING = re.compile(r"^#+ (.+)$", re.M)
#: A word in capitals, or between <>, stands for what a reader puts there.
_STANDS_FOR = re.compile(r"<[^>]+>|\b[A-Z][A-Z_]{2,}\b|\.\.\.")


def anchors(page: pathlib.Path) -> set[str]:
    """Return the anchors of a page's headings, as forges make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in _HEADING.findall(text)}


def commands(page: pathlib.Path) -> Iterator[str]:
    """Yield the lines of a page's shell blocks that call this program."""
    for block in _BLOCK.findall(page.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            words = line.strip().removeprefix("$ ")
            if words.startswith(f"{main.PROGRAM} "):
                yield words.partition(" #")[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_leads_nowhere(page: pathlib.Path) -> None:
    for link in _LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_is_one(page: pathlib.Path) -> None:
    for line in commands(page):
        call = re.split(r"\s(?:\|\|?|>|&&|&|;)(?:\s|$)", line)[0].partition(" 2>")[0]
        words = shlex.split(call)[1:]
        if any(_STANDS_FOR.fullmatch(word) for word in words):
            words = [word for word in words if not _STANDS_FOR.fullmatch(word)]
            _path(words)
            continue
        try:
            parse(shlex.join(words))
        except (click.exceptions.Exit, SystemExit):
            pass  # --help and --version


def _path(words: list[str]) -> None:
    command: click.Command = main.cli
    for word in words:
        if not isinstance(command, click.Group) or word.startswith("-"):
            return
        found = command.get_command(click.Context(command), word)
        assert found is not None, f"there is no command {' '.join(words)}"
        command = found
