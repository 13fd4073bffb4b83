"""Groups whose commands are loaded when they are asked for, so that a plain command starts at once."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

import click

#: For every command: ``-h`` works too, and help is set to a width that fits beside other windows.
CONTEXT: dict[str, Any] = {"help_option_names": ["--help", "-h"], "max_content_width": 100}


class Group(click.Group):
    """A group whose errors lead to the help of the command that they are about."""

    def invoke(self, ctx: click.Context) -> Any:
        """Carry out a command."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            # The parser does not say whose line it could not read.
            command = self.get_command(ctx, ctx.invoked_subcommand or "") if error.ctx is None else None
            if command is not None:
                error.ctx = click.Context(command, info_name=ctx.invoked_subcommand, parent=ctx)
            raise


class LazyGroup(Group):
    """A group that finds its commands in modules.

    Args:
        commands_at: for each command its place in ``hal9mig.cli.commands``, as ``db:db``; in the order of the help.
    """

    def __init__(self, *args: Any, commands_at: Mapping[str, str], **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._places = dict(commands_at)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in declared order."""
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command."""
        place = self._places.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        found = getattr(importlib.import_module(f"hal9mig.cli.commands.{module}"), name)
        assert isinstance(found, click.Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that a line names, or say which one may be meant."""
        name = args[0]
        if name not in self._places and not name.startswith("-") and not ctx.resilient_parsing:
            near = difflib.get_close_matches(name, self._places, n=3, cutoff=0.5)
            suggestion = f" Did you mean {' or '.join(near)}?" if near else ""
            raise click.UsageError(f"No such command {name!r}.{suggestion}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands; a ``+`` marks those that have commands of their own."""
        rows = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                mark = "+" if isinstance(command, click.Group) else " "
                rows.append((f"{mark} {name}", command.get_short_help_str(limit=120)))
        with formatter.section("Commands (+ has commands of its own)"):
            formatter.write_dl(rows)
