"""``hal9-migrate state``: migrating, watching, comparing, keeping and going back."""

from __future__ import annotations

import click

from hal9mig.cli import tree

_COMMANDS = {
    "migrate": "hal9mig.cli.migrate:migrate",
    "progress": "hal9mig.cli.progress:progress",
    "status": "hal9mig.cli.status:status",
    "stats": "hal9mig.cli.stats:stats",
    "verify": "hal9mig.cli.verify:verify",
    "diff": "hal9mig.cli.diff:diff",
    "fix": "hal9mig.cli.fix:fix",
    "checkpoint": "hal9mig.cli.checkpoint:checkpoint",
    "list-checkpoints": "hal9mig.cli.checkpoints:list_checkpoints",
    "export-manifest": "hal9mig.cli.checkpoints:export_manifest",
    "rollback": "hal9mig.cli.rollback:rollback",
    "recover": "hal9mig.cli.recover:recover",
}


@click.group(cls=tree.Group, commands_at=_COMMANDS)
def state() -> None:
    """Migrate state, watch it, compare both stores, keep it and go back."""
