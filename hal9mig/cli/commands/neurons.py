"""``hal9-migrate neurons``: what is particular to neuron states."""

from __future__ import annotations

import click

from hal9mig.cli import lazy_group

_COMMANDS = {
    "snapshot": "hal9mig.cli.commands.neurons_snapshot:snapshot",
    "group": "hal9mig.cli.commands.neurons_group:group",
    "verify": "hal9mig.cli.commands.neurons_verify:verify",
    "validate-connections": "hal9mig.cli.commands.neurons_validate_connections:validate_connections",
    "test-signals": "hal9mig.cli.commands.neurons_test_signals:test_signals",
}


@click.group(cls=lazy_group.LazyGroup, commands_at=_COMMANDS, context_settings=lazy_group.CONTEXT)
def neurons() -> None:
    """Keep, group and verify neuron states, and check how they are connected."""
