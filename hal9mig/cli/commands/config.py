"""``hal9-migrate config``: the application's configuration, which is one of the categories; ours is ``configure``."""

from __future__ import annotations

import click

from hal9mig.cli import lazy_group

_COMMANDS = {
    "export": "hal9mig.cli.commands.config_export:export",
    "compare": "hal9mig.cli.commands.config_compare:compare",
    "test-reload": "hal9mig.cli.commands.config_test_reload:test_reload",
}


@click.group(cls=lazy_group.LazyGroup, commands_at=_COMMANDS)
def config() -> None:
    """Work on the application's configuration; `configure` is this program's own."""
