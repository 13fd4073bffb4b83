"""The groups whose commands stand in modules of their own: where each is, in the order of the help."""

from __future__ import annotations

import click

from hal9mig.cli.lazy_group import LazyGroup

_STATE = {
    "migrate": "state_migrate:migrate",
    "progress": "state_progress:progress",
    "status": "state_status:status",
    "stats": "state_stats:stats",
    "verify": "state_verify:verify",
    "validate": "state_validate:validate",
    "diff": "state_diff:diff",
    "fix": "state_fix:fix",
    "checkpoint": "state_checkpoint:checkpoint",
    "list-checkpoints": "state_list_checkpoints:list_checkpoints",
    "export-manifest": "state_list_checkpoints:export_manifest",
    "rollback": "state_rollback:rollback",
    "recover": "state_recover:recover",
}
_NEURONS = {
    "snapshot": "neurons_snapshot:snapshot",
    "group": "neurons_group:group",
    "verify": "neurons_verify:verify",
    "validate-connections": "neurons_validate_connections:validate_connections",
    "test-signals": "neurons_test_signals:test_signals",
}
_LEARNING = {
    "export": "learning_export:export",
    "transform": "learning_transform:transform",
    "import": "learning_import:import_",
    "test": "learning_test:test",
    "verify-gradients": "learning_verify_gradients:verify_gradients",
}
_CONFIG = {
    "export": "config_export:export",
    "compare": "config_compare:compare",
    "test-reload": "config_test_reload:test_reload",
}


@click.group(cls=LazyGroup, commands_at=_STATE)
def state() -> None:
    """Migrate state, watch it, compare both stores, keep it and go back."""


@click.group(cls=LazyGroup, commands_at=_NEURONS)
def neurons() -> None:
    """Keep, group and verify neuron states, and check how they are connected."""


@click.group(cls=LazyGroup, commands_at=_LEARNING)
def learning() -> None:
    """Work on learning data alone: take it through files, try what it remembers."""


@click.group(cls=LazyGroup, commands_at=_CONFIG)
def config() -> None:
    """Work on the application's configuration; `configure` is this program's own."""
