"""``hal9-migrate ux-test``: what users notice, tried as they would."""

from __future__ import annotations

import click

from hal9mig import errors, units
from hal9mig.cli import check_table, invocation, options

_HELP = """Act as users through the client: look sessions up, read, touch and expire them, in both stores.

Users are drawn from the ruling store. Their real sessions are read, and with --verify-sessions compared in both
stores: same user, same token, same expiry. What is written are sessions of this command's own, which are deleted at
the end. Exit 3 on any difference. Also there as `hal9-cli ux-test`.

\b
Examples:
  hal9-migrate ux-test --sample-users 100 --verify-sessions
"""


@click.command("ux-test", help=_HELP)
@click.option("--sample-users", type=options.COUNT, default="100", show_default=True, help="How many users.")
@click.option("--verify-sessions", is_flag=True, help="Compare each one's real session in both stores.")
@click.option("--seed", type=int, default=1, show_default=True, help="Which users those are.")
@options.output
@click.pass_context
def ux_test(context: click.Context, sample_users: str, verify_sessions: bool, seed: int) -> None:
    from hal9mig.checks import users
    from hal9mig.ledger import database

    call = invocation.current(context)
    count = units.parse_count(sample_users)
    if not 1 <= count <= users.MOST_USERS:
        raise errors.UsageError(f"--sample-users is from 1 to {users.MOST_USERS:,}.", hint="--sample-users 100")
    call.coordinator.require_ready()
    outcome = users.check(call.system, count=count, verify=verify_sessions, seed=seed, actor=database.actor())
    if not call.json:
        check_table.show(call, outcome, suggestions=True)
        rows = [
            [operation, where, *(f"{outcome.measured[f'{operation}_{where}_p{percent}_ms']:.2f}" for percent in _SHOWN)]
            for operation, where in _OPERATIONS
            if f"{operation}_{where}_p50_ms" in outcome.measured
        ]
        if rows:
            columns = [f"P{percent} MS" for percent in _SHOWN]
            call.console.table(["OPERATION", "WHERE", *columns], rows, numbers=columns)
    document = {"checks": check_table.document([outcome]), "next_steps": check_table.next_steps([outcome])}
    call.conclude(document, check_table.problem([outcome]))


_SHOWN = (50, 95, 99)
_OPERATIONS = (
    ("read", "client"), ("open", "client"), ("touch", "client"), ("expire", "client"), ("lookup", "flat"),
    ("lookup", "hierarchical"),
)  # fmt: skip
