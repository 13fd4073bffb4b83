"""``hal9-migrate finish``: the end of a migration, or of one that is given up."""

from __future__ import annotations

import click

from hal9mig import model
from hal9mig.cli import confirm, options
from hal9mig.cli.invocation import Invocation, pass_call

_HELP = """Take capture out of both stores, so that they are as if this program had never been there.

After the switch, with --give-up-way-back, since there is no going back to the flat store then; or in flat-only, where
the migration is given up. The store that rules goes on; the other one is left as it is, with all its rows. Triggers go
a table at a time, each locked for a moment only; nothing of the application's is touched. The ledger stays, as the
report is made of it, unless --drop-ledger takes it too. --dry-run shows the SQL; what was interrupted goes on when it
is called again.

\b
Examples:
  hal9-migrate finish --dry-run
  hal9-migrate finish --keep hierarchical --give-up-way-back
"""


@click.command(help=_HELP)
@click.option(
    "--keep", type=options.STORE,
    help="The store that goes on.  [default: the one that rules]",
)  # fmt: skip
@click.option("--give-up-way-back", is_flag=True, help="Nobody wants to go back to the flat store any more.")
@click.option("--drop-ledger", is_flag=True, help="Take the ledger too, and what says how far our schemas are.")
@click.option("--dry-run", is_flag=True, help="Show the SQL, and change nothing.")
@options.yes
@options.output
@pass_call
def finish(call: Invocation, keep: str | None, give_up_way_back: bool, drop_ledger: bool, dry_run: bool) -> None:
    from hal9mig.engine import finish as engine
    from hal9mig.ledger import database

    made = engine.plan(
        call.system, keep=None if keep is None else model.StoreName(keep),
        way_back=not (give_up_way_back or dry_run), ledger=drop_ledger,
    )  # fmt: skip
    document: dict[str, object] = {
        "keep": str(made.keep),
        "statements": {str(store): list(statements) for store, statements in made.statements.items()},
        "warnings": list(made.warnings),
        "dry_run": dry_run,
    }
    if dry_run:
        if not call.json:
            for store, statements in made.statements.items():
                call.console.line(f"-- in the {store} store")
                for statement in statements:
                    call.console.line(f"{statement};")
        call.console.warn(*made.warnings)
        call.conclude(document | {"changed": False, "next_steps": ["hal9-migrate finish"]})
        return
    over = made.done is not None and made.done.over
    if not over:
        call.console.warn(*made.warnings)
        count = sum(map(len, made.statements.values()))
        confirm.ask(
            call, f"Take capture out of both stores ({count} statements), and go on with the {made.keep} store alone?"
        )
    engine.carry_out(call.system, made, actor=database.actor())
    if not call.json:
        call.console.verdict(True, f"finished: the {made.keep} store goes on by itself")
        if over:
            call.console.say("it was finished already; what may have been left is gone now")
        if drop_ledger:
            call.console.say("the ledger is gone; stop the workers and the beat")
    steps = [] if drop_ledger else ["hal9-migrate report --phase state-migration --detailed --output report.pdf"]
    call.conclude(document | {"changed": True, "next_steps": steps})
