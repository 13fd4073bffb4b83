"""``hal9-migrate configure reconciliation``: how the two stores are kept in step."""

from __future__ import annotations

import click

from hal9mig import errors, units
from hal9mig.cli import options
from hal9mig.cli.console import both_ways
from hal9mig.cli.invocation import Invocation, pass_call

_HELP = """Set how the two stores are kept in step; it acts at once, at the next round.

What is not named stays as it is. Without options it shows each value and who set it. A threshold of 0.01 is one
percent of the records compared: it alerts above that, and excuses nothing below.

\b
Examples:
  hal9-migrate configure reconciliation --interval 30s --auto-fix true --alert-threshold 0.01
  hal9-migrate configure reconciliation --alert-threshold 1%
  hal9-migrate configure reconciliation
"""


@click.command(help=_HELP)
@click.option("--interval", type=options.DURATION_TEXT, help="Time from one round to the next.  [default: 30s]")
@click.option(
    "--auto-fix",
    type=options.Text("true|false", options.tuned("parse_switch")),
    help="Whether a round repairs what it finds, or only notes it.  [default: true]",
)
@click.option(
    "--alert-threshold",
    type=options.Text("SHARE", units.parse_share),
    help="Share of the records compared that drifted, above which it alerts: 0.01 or 1%.  [default: 0.01]",
)
@click.option(
    "--share",
    type=options.Text("SHARE", options.tuned("parse_portion")),
    help="Share of one core that comparing may take.  [default: 0.1]",
)
@click.option(
    "--journal-alarm",
    type=options.COUNT_TEXT,
    help="Writes waiting in a journal above which it alerts.  [default: 100000]",
)
@options.output
@pass_call
def reconciliation(
    call: Invocation,
    interval: str | None,
    auto_fix: str | None,
    alert_threshold: str | None,
    share: str | None,
    journal_alarm: str | None,
) -> None:
    from hal9mig.engine.reconcile import alarm_rules
    from hal9mig.ledger import database, mode, tuning
    from hal9mig.stores import connection, store_size
    from hal9mig.stores.write_mode import Mode

    given = {
        "reconcile-interval": interval,
        "auto-fix": None if auto_fix is None else auto_fix.lower(),
        "alert-threshold": alert_threshold,
        "reconcile-share": share,
        "journal-alarm": journal_alarm,
    }
    values = {name: value for name, value in given.items() if value is not None}
    with call.ledger.begin() as session:
        tuning.change(session, values, actor=database.actor())
    records, notes = 0, []
    try:
        with connection.connected(
            call.settings.require_flat(),
            application_name="hal9-migrate cli",
            connect_timeout=call.settings.connect_timeout,
        ) as flat:
            sizes = store_size.records(flat, call.registry.ordered())
            records = sum(one.count for one in sizes.values() if one is not None)
    except errors.HAL9Error as error:
        notes.append(f"no estimate: {error.message}")
    with call.ledger.begin() as session:
        stored = tuning.stored(session, tuning.KnobGroup.RECONCILIATION)
        tuned = tuning.reconciliation(session)
        coverage = alarm_rules.standing(session, records).coverage if records else None
        if mode.read(session).mode == Mode.FLAT_ONLY:
            notes.append("the write mode is flat-only, so there are no rounds: hal9-migrate mode migration --enable")
    if not tuned.auto_fix:
        notes.append("auto-fix false: what drifted stays so until somebody repairs it")
    if not call.json:
        rows = [[one.name, one.value, one.origin, call.console.when(one.changed_at)] for one in stored]
        call.console.table(["NAME", "VALUE", "SET BY", "SET"], rows, numbers=("VALUE",))
        within = "a time that no round has measured yet" if coverage is None else units.format_duration(coverage)
        call.console.line(
            f"A round every {units.format_duration(tuned.interval)}; with {tuned.share:g} of a core everything is "
            f"compared within {within}."
        )
        call.console.line(f"It alerts above {both_ways(tuned.alert_threshold)} of the records compared.")
        for note in notes:
            call.console.say(f"note: {note}")
    call.conclude(
        {
            "changed": values,
            "values": [
                {"name": one.name, "value": one.value, "origin": one.origin, "changed_at": one.changed_at}
                for one in stored
            ],
            "interval_seconds": tuned.interval,
            "auto_fix": tuned.auto_fix,
            "alert_threshold": {"share": tuned.alert_threshold, "percent": tuned.alert_threshold * 100},
            "coverage_seconds": coverage,
            "warnings": notes,
            "next_steps": [],
        }
    )
