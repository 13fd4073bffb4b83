"""``hal9-migrate config test-reload``: whether the running application sees its configuration change."""

from __future__ import annotations

import functools

import click

from hal9mig import errors
from hal9mig.cli import check_table, confirm, options
from hal9mig.cli.invocation import Invocation, pass_call

_HELP = """Change reserved keys of the application's configuration, wait each time until it is seen, and undo it.

With --verify-application the running application has to answer that it saw each change: it does by itself once it
subscribes with the client (docs/client.md; `sample-data traffic` does). Without it, that the change is announced to
whoever listens is enough. The keys begin with hal9.reload-test., no application uses them, and they are gone from
both stores afterwards. After the switch it asks first; exit 3 where a change is not seen in time.

\b
Examples:
  hal9-migrate config test-reload --changes 10 --verify-application
  hal9-migrate config test-reload --changes 3 --within 2s
"""


@click.command("test-reload", help=_HELP)
@click.option("--changes", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many changes.")
@click.option("--verify-application", is_flag=True, help="The running application has to see them.")
@click.option("--within", type=options.DURATION, default="5s", show_default=True, help="The time for each.")
@options.yes
@options.output
@pass_call
def test_reload(call: Invocation, changes: int, verify_application: bool, within: float) -> None:
    from hal9mig.checks import configuration, reload, single
    from hal9mig.ledger import database

    if within > 600:
        raise errors.UsageError("--within is more than nothing and at most 10m.", hint="--within 5s")
    call.system.require_ready()
    if configuration.ruling(call.system) == "hierarchical":
        confirm.ask(
            call, f"The hierarchical store rules. Write {changes} changes of reserved keys to it, and undo them?"
        )
    check = functools.partial(reload.check, changes=changes, within=within, application=verify_application)
    outcome = single.run(call.system, "configuration", check, command="config test-reload", actor=database.actor())
    check_table.conclude(call, outcome)
