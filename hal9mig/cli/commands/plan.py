"""``hal9-migrate plan``: what a migration would be like, from a rehearsal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hal9mig import errors, units
from hal9mig.cli import options
from hal9mig.cli.invocation import Invocation, pass_call

if TYPE_CHECKING:
    from hal9mig.engine.rehearsal import Expected, RehearsalReport

_HELP = """Say what a migration of everything is expected to take, and what would keep it from its end; exit 3 then.

With --rehearse a sample of each category is taken through all of it, capture, migration, comparison, full pass, the
switch and the way back, in scratch databases on the stores' own servers, which are dropped afterwards. The real
stores are only read; the account has to be allowed to make databases. Times are intervals: at best all workers go as
fast as the fastest part of the sample did, at worst one by itself as slow as the slowest; the budget is counted in.

\b
Examples:
  hal9-migrate plan --rehearse
  hal9-migrate plan --rehearse --sample 50000
"""


@click.command(help=_HELP)
@click.option("--rehearse", is_flag=True, help="Take a sample through all of it.")
@click.option("--sample", type=options.COUNT, default="2000", show_default=True, help="Records of each category.")
@options.output
@pass_call
def plan(call: Invocation, rehearse: bool, sample: int) -> None:
    from hal9mig.engine import rehearsal

    if not rehearse:
        raise errors.UsageError(
            "Say --rehearse: without it there is nothing measured to plan by. What one migration would do is told by "
            "its --dry-run.",
            hint="hal9-migrate plan --rehearse, or: hal9-migrate state migrate --category all --dry-run",
        )
    if sample > 10_000_000:
        raise errors.UsageError("--sample is from 1 to 10,000,000.", hint="--sample 2000")
    call.system.require_ready()
    call.system.broker.ping()
    found = rehearsal.rehearse(call.system, sample=sample, say=call.console.say)
    if not call.json:
        _show(call, found)
    failed = None
    if found.blockers:
        failed = errors.ChecksFailed(
            f"{len(found.blockers)} blockers were found: {'; '.join(found.blockers)}.", hint=""
        )
    call.conclude(_document(found), failed)


def _show(call: Invocation, found: RehearsalReport) -> None:
    rows = [
        [one.category, units.format_count(one.records), units.format_count(one.sampled), _told(one.migrate),
         _told(one.verify)]
        for one in found.categories
    ]  # fmt: skip
    columns = ["RECORDS", "SAMPLED", "MIGRATE", "VERIFY"]
    call.console.table(["CATEGORY", *columns], rows, numbers=columns)
    call.console.line(f"Write barrier: {_told(found.barrier)}")
    for note in found.notes:
        call.console.line(f"note: {note}")
    for blocker in found.blockers:
        call.console.verdict(False, blocker)
    if not found.blockers:
        call.console.verdict(True, "the sample came through all of it: captured, migrated, equal, switched, and back")


def _told(one: Expected) -> str:
    if one.most <= 0:
        return "-"
    low, high = (units.format_duration(max(0.001, value)) for value in (one.least, one.most))
    return low if low == high else f"{low} to {high}"


def _document(found: RehearsalReport) -> dict[str, object]:
    def seconds(one: Expected) -> dict[str, float]:
        return {"least": round(one.least, 3), "most": round(one.most, 3)}

    return {
        "categories": [
            {"category": one.category, "records": one.records, "sampled": one.sampled, "rejected": one.rejected,
             "migrate_seconds": seconds(one.migrate), "verify_seconds": seconds(one.verify)}
            for one in found.categories
        ],
        "barrier_seconds": seconds(found.barrier),
        "blockers": list(found.blockers),
        "notes": list(found.notes),
        "next_steps": [] if found.blockers else ["hal9-migrate mode migration --enable"],
    }  # fmt: skip
