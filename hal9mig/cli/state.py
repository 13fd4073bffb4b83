"""``hal9-migrate state``: migrating, watching and comparing."""

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
}


@click.group(cls=tree.Group, commands_at=_COMMANDS)
def state() -> None:
    """Migrate state, watch it, and compare both stores."""
