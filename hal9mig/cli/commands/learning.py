"""``hal9-migrate learning``: what is particular to learning data."""

from __future__ import annotations

import click

from hal9mig.cli import lazy_group

_COMMANDS = {
    "export": "hal9mig.cli.commands.learning_export:export",
    "transform": "hal9mig.cli.commands.learning_transform:transform",
    "import": "hal9mig.cli.commands.learning_import:import_",
    "test": "hal9mig.cli.commands.learning_test:test",
    "verify-gradients": "hal9mig.cli.commands.learning_verify_gradients:verify_gradients",
}


@click.group(cls=lazy_group.LazyGroup, commands_at=_COMMANDS)
def learning() -> None:
    """Work on learning data alone: take it through files, try what it remembers."""
