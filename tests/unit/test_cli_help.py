"""The help: complete, and as it is in ``tests/golden/help.txt``.

After a change on purpose: ``python -m tests.unit.test_cli_help`` writes the file anew.
"""

from __future__ import annotations

import pathlib
import shlex

import click
import pytest

from hal9mig.cli import main
from tests.unit import commandline
from tests.unit.commandline import parse

GOLDEN = pathlib.Path(__file__).parent.parent / "golden" / "help.txt"
_WIDTH = 100
COMMANDS = commandline.commands()


def rendered() -> str:
    """Return the help of every command, one after the other."""
    parts = []
    for path, command in COMMANDS.items():
        title = " ".join([main.PROGRAM, path]).strip()
        context = commandline.context_of(path, terminal_width=_WIDTH)
        parts.append(f"### {title}\n\n{command.get_help(context)}\n")
    return "\n".join(parts)


def test_the_help_is_the_golden_one() -> None:
    assert rendered() == GOLDEN.read_text(encoding="utf-8"), "write it anew: python -m tests.unit.test_cli_help"


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_and_option_has_help(path: str) -> None:
    command = COMMANDS[path]
    assert command.help, path
    first = command.help.strip().splitlines()[0]
    assert first.endswith((".", ";", ",")) or len(first) > 60, first
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, f"{path} {option.opts[0]}"
            assert option.opts[0].startswith("--"), option.opts


@pytest.mark.parametrize("path", [path for path, one in COMMANDS.items() if not isinstance(one, click.Group)])
def test_every_command_has_examples_that_the_parser_takes(path: str) -> None:
    text = COMMANDS[path].help or ""
    assert "\b\nExamples:" in text, path
    examples = [line.strip() for line in text.partition("Examples:")[2].splitlines() if line.strip()]
    assert 1 <= len(examples) <= 3
    for example in examples:
        words = shlex.split(example.replace("source <(", "").rstrip(")").partition(" > ")[0])
        while "=" in words[0]:
            words = words[1:]
        assert words[0] == main.PROGRAM
        found = parse(shlex.join(words[1:]))
        assert found.command is COMMANDS[path], example


def test_the_tree_has_every_command() -> None:
    expected = """
        state migrate, state progress, state status, state stats, state verify, state diff,
        configure state-migration, configure show,
        runs list, runs show, runs pause, runs resume, runs cancel, runs retry,
        quarantine list, quarantine show, quarantine retry, quarantine drop,
        stack up, stack status, stack down, sample-data load, db upgrade, db check, completion, help exit-codes
    """
    assert {name.strip() for name in expected.split(",")} <= set(COMMANDS)


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(rendered(), encoding="utf-8")
