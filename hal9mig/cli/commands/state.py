"""``hal9-migrate state``: migrating, watching, comparing, keeping and going back."""

from __future__ import annotations

import click

from hal9mig.cli import lazy_group

_COMMANDS = {
    "migrate": "hal9mig.cli.commands.state_migrate:migrate",
    "progress": "hal9mig.cli.commands.state_progress:progress",
    "status": "hal9mig.cli.commands.state_status:status",
    "stats": "hal9mig.cli.commands.state_stats:stats",
    "verify": "hal9mig.cli.commands.state_verify:verify",
    "validate": "hal9mig.cli.commands.state_validate:validate",
    "diff": "hal9mig.cli.commands.state_diff:diff",
    "fix": "hal9mig.cli.commands.state_fix:fix",
    "checkpoint": "hal9mig.cli.commands.state_checkpoint:checkpoint",
    "list-checkpoints": "hal9mig.cli.commands.state_list_checkpoints:list_checkpoints",
    "export-manifest": "hal9mig.cli.commands.state_list_checkpoints:export_manifest",
    "rollback": "hal9mig.cli.commands.state_rollback:rollback",
    "recover": "hal9mig.cli.commands.state_recover:recover",
}


@click.group(cls=lazy_group.LazyGroup, commands_at=_COMMANDS)
def state() -> None:
    """Migrate state, watch it, compare both stores, keep it and go back."""
