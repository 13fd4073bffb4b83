"""``hal9-migrate audit``: what was done, when and by whom, and whether the record of it is whole."""

from __future__ import annotations

import click

from hal9mig import errors, units
from hal9mig.cli import options
from hal9mig.cli.console import counted
from hal9mig.cli.invocation import Invocation, pass_call

_HELP = """List what was done, the newest first, and with --verify prove that nothing in the record was changed.

Every event carries the hash of the one before it, so that one that was changed, put in or taken out later shows;
exit 3 where one does. Whoever keeps the newest hash elsewhere, as the report does, can tell that nothing was cut off.

\b
Examples:
  hal9-migrate audit --limit 20
  hal9-migrate audit --verify
  hal9-migrate audit --run 7
"""


@click.command(help=_HELP)
@click.option("--run", "run_id", type=options.RUN, metavar="RUN", help="Only what is about this run.")
@click.option("--limit", type=options.COUNT, default="50", show_default=True, help="At most so many events.")
@click.option("--verify", is_flag=True, help="Follow the chain of hashes from its beginning.")
@options.output
@pass_call
def audit(call: Invocation, run_id: int | None, limit: int, verify: bool) -> None:
    from hal9mig.ledger import audit as ledger_audit

    with call.ledger.begin() as session:
        found = ledger_audit.events(session, run_id=run_id, limit=limit)
        chain = ledger_audit.follow(session) if verify else None
    if not call.json:
        rows = [
            [one.id, call.console.when(one.at), one.actor, one.action, one.run_id,
             ", ".join(f"{name}={value}" for name, value in one.detail.items())]
            for one in found
        ]  # fmt: skip
        call.console.table(["EVENT", "WHEN", "BY", "ACTION", "RUN", "DETAIL"], rows)
    problem = None
    document: dict[str, object] = {
        "events": [
            {"event": one.id, "at": one.at, "by": one.actor, "action": one.action, "run": one.run_id,
             "detail": dict(one.detail)}
            for one in found
        ],
        "next_steps": [] if verify else ["hal9-migrate audit --verify"],
    }  # fmt: skip
    if chain is not None:
        document["chain"] = {
            "events": chain.events, "sound": chain.broken is None, "broken": chain.broken, "head": chain.head,
            "unsealed": chain.unsealed,
        }  # fmt: skip
        if chain.broken is not None:
            problem = errors.ChecksFailed(
                f"The audit was changed: event {chain.broken} is not what was sealed, or one before it is gone.",
                hint=f"compare with a report that was made before: its newest hash stands for all up to it, and "
                f"{units.format_count(chain.events)} events are here",
            )
        elif not call.json:
            call.console.verdict(True, f"{counted(chain.events, 'event')}, none changed since; {chain.head}")
            if chain.unsealed:
                call.console.say(f"{counted(chain.unsealed, 'event')} not in the chain yet; the beat adds them")
    call.conclude(document, problem)
