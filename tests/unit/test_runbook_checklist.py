"""Every command of the operators' runbook is there, with every flag that it uses, and our own runbook uses them too."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
import pytest

from hal9mig.cli.main import cli
from tests.runbook import shell_lines
from tests.support.servers import ROOT

_CALL = re.compile(r"hal9-(?:migrate|cli) [^|';]+?(?=\s*(?:$|[|';]|\bdone\b))", re.M)
#: What the operators' runbook has, counted by hand: 35 and ux-test, 96 and its two.
PATHS, PAIRS = 36, 98


def calls(texts: list[str]) -> Iterator[tuple[str, ...]]:
    """Yield the words of each call of ours in shell texts, continuations joined."""
    for text in texts:
        for found in _CALL.findall(text.replace("\\\n", " ")):
            yield tuple(shlex.split(found, comments=False))[1:]


def parted(words: tuple[str, ...]) -> tuple[click.Command, str, set[str]]:
    """Return the command that words call, its path, and the flags they use."""
    command: click.Command = cli
    path: list[str] = []
    rest = list(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(click.Context(command), rest[0])
        assert found is not None, f"there is no command {' '.join([*path, rest[0]])}"
        path.append(rest.pop(0))
        command = found
    return command, " ".join(path), {word.partition("=")[0] for word in rest if re.match(r"--[a-z]", word)}


def used(texts: list[str]) -> dict[str, set[str]]:
    """Return the flags that are used with each path, each of which its command has."""
    found: dict[str, set[str]] = {}
    for words in calls(texts):
        command, path, flags = parted(words)
        known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
        assert flags <= known, f"{path} has no {', '.join(sorted(flags - known))}"
        found.setdefault(path, set()).update(flags)
    return found


def theirs() -> dict[str, set[str]]:
    return used([line.text for line in shell_lines.read()])


def test_every_command_and_flag_is_there() -> None:
    found = theirs()
    assert (len(found), sum(map(len, found.values()))) == (PATHS, PAIRS)


@pytest.mark.parametrize("path", sorted(theirs()))
def test_our_own_runbook_shows_it(path: str) -> None:
    document = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    assert path in used([shown.text for shown in shell_lines.console(document)]) or f"`{path} --" in document


@pytest.mark.parametrize("path", sorted(theirs()))
def test_its_help_has_an_example(path: str) -> None:
    command: click.Command = cli
    for word in path.split():
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None
        command = found
    assert f"hal9-migrate {path}" in (command.help or "")
