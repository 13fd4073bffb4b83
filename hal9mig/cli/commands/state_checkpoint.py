"""``hal9-migrate state checkpoint``: taking one, and deleting one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hal9mig import units
from hal9mig.cli import checkpoint_flow, confirm, options
from hal9mig.cli.invocation import Invocation, pass_call

if TYPE_CHECKING:
    from hal9mig.engine.checkpoint.orders import CheckpointListing

_HELP = """Keep both stores as they are at this instant, while the application goes on writing.

With --full-backup it holds the data itself and can be restored. Without, it is a marker: counts, digests,
positions and the write mode. It waits for the end; Ctrl-C leaves the run going. --delete removes one.

\b
Examples:
  hal9-migrate state checkpoint --name before-monday --full-backup --verify
  hal9-migrate state checkpoint --category neuron-states --full-backup --verify --rate-limit 20MB/s
  hal9-migrate state checkpoint --delete before-monday
"""


@click.command(help=_HELP)
@click.option("--name", metavar="NAME", help="Its name.  [default: checkpoint- and the time]")
@click.option("--description", metavar="TEXT", help="What it is for.")
@click.option("--full-backup", is_flag=True, help="Keep the data itself, so that it can be restored.")
@click.option("--verify", is_flag=True, help="Read everything back, and compare it with the stores as of the instant.")
@options.categories
@click.option("--rate-limit", type=options.RATE, help="Budget of this checkpoint: 20MB/s, 5000/s.  [default: off]")
@click.option("--dry-run", is_flag=True, help="Show what would be kept, and change nothing.")
@options.detach
@options.timeout
@click.option("--delete", "deleted", type=options.DELETED, metavar="NAME", help="Delete this checkpoint; asks first.")
@options.yes
@options.output
@pass_call
def checkpoint(
    call: Invocation,
    /,
    names: tuple[str, ...],
    everything: bool,
    name: str | None,
    description: str | None,
    full_backup: bool,
    verify: bool,
    rate_limit: str | None,
    dry_run: bool,
    detach: bool,
    timeout: float | None,
    deleted: str | None,
) -> None:
    given = {
        "--name": name is not None, "--description": description is not None, "--full-backup": full_backup,
        "--verify": verify, "--category": bool(names) or everything, "--rate-limit": rate_limit is not None,
        "--detach": detach, "--timeout": timeout is not None, "--dry-run": dry_run,
    }  # fmt: skip
    if deleted is not None:
        for flag, is_given in given.items():
            if is_given:
                options.refuse("--delete", flag, "one removes a checkpoint, the other is about a new one")
        _delete(call, deleted)
        return
    options.check_waiting(dry_run=dry_run, detach=detach, timeout=timeout)
    from hal9mig.engine.checkpoint.orders import CheckpointOrder

    order = CheckpointOrder(
        # An empty name is one that a script has lost, and no wish for the default.
        name=checkpoint_flow.stamped("checkpoint") if name is None else name,
        description=description or "",
        full=full_backup,
        verify=verify,
        categories=tuple(options.chosen(names, everything)),
        tuning={} if rate_limit is None else {"rate-limit": rate_limit},
    )
    if verify and not full_backup:
        call.console.say(
            "note: without --full-backup it keeps no data that could be read back; its counts and digests are "
            "computed in the stores, so --verify adds nothing"
        )
    checkpoint_flow.perform(call, order, dry_run=dry_run, detach=detach, timeout=timeout)


def _delete(call: Invocation, text: str) -> None:
    from hal9mig.engine.checkpoint.orders import Checkpoints

    checkpoints = Checkpoints(call.system)
    listing = checkpoints.listing()
    left = {one.name: one.reason for one in listing.unusable}
    with checkpoint_flow.named(checkpoints, text):
        name = text if text in left else checkpoints.find(text).name
    if name != text:
        call.console.say(f"{text}: {name}")
    what = left.get(name) or next(checkpoint_flow.summary(one) for one in listing.manifests if one.name == name)
    last = only_one_of(listing, name)
    more = f" There is no other verified full checkpoint of {', '.join(last)}." if last else ""
    confirm.ask(call, f"Delete checkpoint {name} ({what}) for good?{more}")
    freed = checkpoints.delete(name)
    if not call.json:
        call.console.line(f"checkpoint {name} deleted; {units.format_bytes(freed)} are free again")
    call.conclude({"deleted": name, "bytes": freed, "next_steps": ["hal9-migrate state list-checkpoints"]})


def only_one_of(listing: CheckpointListing, name: str) -> list[str]:
    """Return the categories of which a checkpoint is the only verified full one."""
    kept = [one for one in listing.manifests if one.restorable and one.verified]
    others = {slug for one in kept if one.name != name for slug in one.scope}
    return [slug for one in kept if one.name == name for slug in one.scope if slug not in others]
