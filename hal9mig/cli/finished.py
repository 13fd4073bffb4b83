"""That a migration is finished, said by commands that look for what is gone since."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hal9mig.cli.invocation import Invocation
    from hal9mig.ledger.phases import Finish


def conclude(call: Invocation, ended: Finish) -> None:
    """Say so, and end the command."""
    steps = (
        ["hal9-migrate db upgrade", "hal9-migrate mode migration --enable"] if ended.over else ["hal9-migrate finish"]
    )
    if not call.json:
        if ended.over:
            call.console.line(
                f"Finished {call.console.when(ended.at)} by {ended.actor}: the {ended.keep} store goes on by itself, "
                "and nothing of it is captured."
            )
            call.console.say("a migration begins anew with: " + "; ".join(steps))
        else:
            call.console.line(f"Being finished since {call.console.when(ended.at)}, by {ended.actor}.")
            call.console.suggest("hal9-migrate finish")
    finish = {"over": ended.over, "at": ended.at, "by": ended.actor, "keep": ended.keep}
    call.conclude({"finished": finish, "next_steps": steps})
