"""Runs the command line inside the test's own process."""

from __future__ import annotations

import io
import json
import os
import pathlib
import shlex
from typing import Any, NamedTuple

import click
import pytest

from hal9mig.cli import invocation, lazy_group, main


class Result(NamedTuple):
    """What a command line left behind."""

    exit_code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON document on stdout."""
        return json.loads(self.out)


class Stream(io.TextIOWrapper):
    """A stream of a chosen encoding that is a terminal or none."""

    def __init__(self, encoding: str, *, terminal: bool = False):
        self.raw_bytes = io.BytesIO()
        self._terminal = terminal
        super().__init__(self.raw_bytes, encoding=encoding, write_through=True)

    def isatty(self) -> bool:
        """Whether it plays a terminal."""
        return self._terminal

    @property
    def text(self) -> str:
        """What was written."""
        return self.raw_bytes.getvalue().decode(self.encoding)


class CommandLine:
    """Calls the entry point with arguments, in an environment without settings."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: pathlib.Path):
        for name in list(os.environ):
            if name.startswith("HAL9_"):
                monkeypatch.delenv(name)
        monkeypatch.setenv("HAL9_DATA_DIR", str(folder / "data"))
        monkeypatch.chdir(folder)
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *args: str) -> Result:
        """Run a command line to its end."""
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main.run(args)
        captured = self._capsys.readouterr()
        assert isinstance(ended.value.code, int)
        assert "Traceback" not in captured.err
        return Result(ended.value.code, captured.out, captured.err)

    def completions(self, line: str) -> list[str]:
        """Return what a shell is offered at the end of a line, in silence."""
        self._monkeypatch.setenv("_HAL9_MIGRATE_COMPLETE", "bash_complete")
        self._monkeypatch.setenv("COMP_WORDS", f"hal9-migrate {line}")
        self._monkeypatch.setenv("COMP_CWORD", str(len(line.split(" "))))
        told = self()
        assert told.err == ""
        return [one.removeprefix("plain,") for one in told.out.split()]


def parse(line: str) -> click.Context:
    """Parse a line without carrying anything out."""
    context = main.cli.make_context(main.PROGRAM, shlex.split(line))
    while isinstance(context.command, click.Group) and (context._protected_args or context.args):
        name, command, args = context.command.resolve_command(context, [*context._protected_args, *context.args])
        assert command is not None
        context = command.make_context(name, args, parent=context)
    return context


def invoked(*, yes: bool = False, json: bool = False) -> invocation.Invocation:
    """Return what a command is told of its call: these options."""
    made = invocation.Invocation()
    made.yes, made.json = yes, json
    return made


def commands() -> dict[str, click.Command]:
    """Return every command and group by its path, as ``state migrate``; the root is the empty path."""
    found: dict[str, click.Command] = {}

    def walk(path: list[str], command: click.Command) -> None:
        found[" ".join(path)] = command
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                child = command.get_command(context, name)
                assert child is not None, name
                walk([*path, name], child)

    walk([], main.cli)
    return found


def context_of(path: str, **settings: Any) -> click.Context:
    """Return the context in which the program itself calls a command, with its groups above it.

    A command remembers the names of its help option from the first context that asks for them, so every test
    that renders something has to ask in this one.
    """
    given = {**lazy_group.CONTEXT, **settings}
    context = click.Context(main.cli, info_name=main.PROGRAM, **given)
    for name in path.split():
        assert isinstance(context.command, click.Group)
        command = context.command.get_command(context, name)
        assert command is not None, path
        context = click.Context(command, info_name=name, parent=context, **given)
    return context
