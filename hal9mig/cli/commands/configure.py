"""``hal9-migrate configure``: how fast and in which portions is migrated, and where the servers are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from hal9mig import errors, settings, units
from hal9mig.cli import lazy_group, options
from hal9mig.cli.console import both_ways, counted
from hal9mig.cli.invocation import Invocation, pass_call

if TYPE_CHECKING:
    from hal9mig.ledger.tuning import Shown, Tuning
    from hal9mig.stores.store_size import Records

_STATE_MIGRATION = """Set rates, sizes and modes of migrations; they act at the next batch, in runs under way too.

What is not named stays as it is. Without options it shows each value and who set it. The rate is one
budget for the whole cluster, and a bare number counts records. --parallel-workers starts no process: it
bounds the batches in hand at once.

\b
Examples:
  hal9-migrate configure state-migration --batch-size 1000 --rate-limit 100/s --validation-mode strict
  hal9-migrate configure state-migration --max-impact 10%
  hal9-migrate configure state-migration
"""
_SHOW = """Show where the servers and folders are; passwords are masked.

\b
Examples:
  hal9-migrate configure show
  hal9-migrate configure show --origin
"""
_RECONCILIATION = """Set how the two stores are kept in step; it acts at once, at the next round.

What is not named stays as it is. Without options it shows each value and who set it. A threshold of 0.01 is one
percent of the records compared: it alerts above that, and excuses nothing below.

\b
Examples:
  hal9-migrate configure reconciliation --interval 30s --auto-fix true --alert-threshold 0.01
  hal9-migrate configure reconciliation --alert-threshold 1%
  hal9-migrate configure reconciliation
"""
#: Hours that the runbook gives each category.
_WINDOWS = {
    "user-sessions": 1.0, "neuron-states": 2.0, "learning-data": 2.0, "configuration": 0.5, "metadata": 0.5,
}  # fmt: skip


@click.group(cls=lazy_group.Group)
def configure() -> None:
    """Set how is migrated, and show the settings (not HAL9's configuration data)."""


@configure.command(help=_SHOW)
@click.option("--origin", is_flag=True, help="Say of each value who set it.")
@options.output
@pass_call
def show(call: Invocation, origin: bool) -> None:
    found = call.settings
    shown = [
        (setting, settings.shown(setting, found.values[setting.key]), found.origins[setting.key])
        for setting in settings.SETTINGS
    ]
    if not call.json:
        columns = ["SETTING", "VALUE", *(["ORIGIN"] if origin else []), "VARIABLE", "MEANING"]
        rows = [
            [setting.key, value, *([where] if origin else []), setting.env, setting.help]
            for setting, value, where in shown
        ]
        call.console.table(columns, rows)
        call.console.say("rates and sizes: hal9-migrate configure state-migration; rounds: configure reconciliation")
    call.conclude(
        {
            "config_file": None if found.config_file is None else str(found.config_file),
            "settings": [
                {"key": setting.key, "value": value, "origin": where, "env": setting.env}
                for setting, value, where in shown
            ],
            "next_steps": [],
        }
    )


@configure.command("state-migration", help=_STATE_MIGRATION)
@click.option(
    "--batch-size",
    type=options.COUNT_TEXT,
    help="Records a batch, cut at 32 MB: one task, one lease.  [default: 20000]",
)
@click.option(
    "--rate-limit",
    type=options.RATE,
    help="Budget of the whole cluster: 100/s, 6000/m, 100batches/s, 20MB/s or off.  [default: off]",
)
@click.option(
    "--parallel-workers", type=options.COUNT_TEXT, help="Batches in hand at once, cluster-wide.  [default: 64]"
)
@click.option(
    "--validation-mode",
    type=options.VALIDATION,
    help="Records read back and compared: strict (each), sample:SHARE or off.  [default: strict]",
)
@click.option(
    "--checkpoint-interval",
    type=options.COUNT_TEXT,
    help="Records between durable cursors: one transaction.  [default: 2500]",
)
@click.option("--batch-bytes", type=options.BYTES, help="Bytes at which a transaction is cut.  [default: 8MB]")
@click.option(
    "--max-impact",
    type=options.IMPACT,
    help="How much longer the application's reads and writes may take for work that can wait: copies, comparisons, "
    "checkpoints; or off.  [default: 20%]",
)
@click.option(
    "--max-replica-lag",
    type=options.DURATION_TEXT,
    help="How far behind a replica may be while such work goes on.  [default: 10s]",
)
@click.option(
    "--impact-query",
    metavar="SQL",
    help="A query on the store that rules; such work stands still while it gives true or a number but 0; or off.  "
    "[default: off]",
)
@click.option(
    "--quarantine-policy",
    type=options.TOLERANCE,
    help="Records that may be in quarantine when the gate is passed.  [default: 0]",
)
@options.output
@pass_call
def state_migration(call: Invocation, /, **given: str | None) -> None:
    from hal9mig.ledger import database, tuning, workers

    values = {name.replace("_", "-"): value for name, value in given.items() if value is not None}
    with call.ledger.begin() as session:
        tuning.change(session, values, actor=database.actor())
        stored = tuning.stored(session, tuning.KnobGroup.STATE_MIGRATION)
        tuned = tuning.resolve(session)
        slots = workers.slots(session)
    sizes, trouble = _sizes(call)
    times = _times(tuned, sizes)
    notes = _notes(tuned, slots, times, changed="parallel-workers" in values)
    if not call.json:
        _table(call, stored)
        for line in _sentences(tuned):
            call.console.line(line)
        for slug, seconds in times.items():
            size = sizes[slug]
            assert size is not None
            call.console.line(
                f"{slug}: {'' if size.exact else 'about '}{counted(size.count, 'record')} in "
                f"{units.format_duration(seconds)} at {tuned.rate_limit}"
            )
        call.console.warn(*notes)
        if trouble is not None:
            call.console.warn(f"no estimates: {trouble.message}")
    call.conclude(
        {
            "changed": values,
            "values": _values(stored),
            "effective_batch": tuned.effective_batch,
            "worker_slots": slots,
            "seconds": {slug: round(seconds, 1) for slug, seconds in times.items()},
            "warnings": notes,
            "next_steps": [],
        }
    )


@configure.command(help=_RECONCILIATION)
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
    help="Share of one core that comparing may take.  [default: 0.02]",
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
    sizes, trouble = _sizes(call)
    records = sum(one.count for one in sizes.values() if one is not None)
    notes = [f"no estimate: {trouble.message}"] if trouble else []
    with call.ledger.begin() as session:
        stored = tuning.stored(session, tuning.KnobGroup.RECONCILIATION)
        tuned = tuning.reconciliation(session)
        coverage = alarm_rules.standing(session, records).coverage if records else None
        if mode.read(session).mode == Mode.FLAT_ONLY:
            notes.append("the write mode is flat-only, so there are no rounds: hal9-migrate mode migration --enable")
    if not tuned.auto_fix:
        notes.append("auto-fix false: what drifted stays so until somebody repairs it")
    if not call.json:
        _table(call, stored)
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
            "values": _values(stored),
            "interval_seconds": tuned.interval,
            "auto_fix": tuned.auto_fix,
            "alert_threshold": {"share": tuned.alert_threshold, "percent": tuned.alert_threshold * 100},
            "coverage_seconds": coverage,
            "warnings": notes,
            "next_steps": [],
        }
    )


def _sizes(call: Invocation) -> tuple[Mapping[str, Records | None], errors.HAL9Error | None]:
    """Return how large each category is; the values are in force whether or not that can be told."""
    from hal9mig.stores import store_size

    try:
        with call.connected(call.settings.require_flat()) as flat:
            return store_size.records(flat, call.registry.ordered()), None
    except errors.HAL9Error as error:
        return {}, error


def _times(tuned: Tuning, sizes: Mapping[str, Records | None]) -> dict[str, float]:
    rate = tuned.rate_limit
    if rate is None or rate.unit is units.RateUnit.BYTES:
        return {}
    found = {}
    for slug, size in sizes.items():
        if size is not None and size.count:
            cost = size.count if rate.unit is units.RateUnit.RECORDS else -(-size.count // tuned.effective_batch)
            found[slug] = cost / rate.per_second
    return found


def _sentences(tuned: Tuning) -> list[str]:
    from hal9mig.ledger.tuning import BATCH_BYTES

    if tuned.effective_batch < tuned.batch_size:
        batch = f"A batch is {units.format_count(tuned.effective_batch)} records, one second of the budget."
    else:
        batch = f"A batch is {units.format_count(tuned.effective_batch)} records, or {units.format_bytes(BATCH_BYTES)}."
    step = min(tuned.checkpoint_interval, tuned.effective_batch)
    return [batch, f"A transaction is {units.format_count(step)} records, or {units.format_bytes(tuned.batch_bytes)}."]


def _notes(tuned: Tuning, slots: int, times: Mapping[str, float], *, changed: bool) -> list[str]:
    notes = []
    for slug, seconds in times.items():
        window = _WINDOWS.get(slug)
        if window is not None and seconds > window * 3600:
            notes.append(
                f"{slug} takes {units.format_duration(seconds)} at {tuned.rate_limit}, "
                f"longer than the {units.format_duration(window * 3600)} planned for it"
            )
    if slots < tuned.parallel_workers and (changed or tuned.parallel_workers < 64):
        notes.append(f"parallel-workers is {tuned.parallel_workers}, but only {slots} worker slots are alive")
    if tuned.validation.mode == "off":
        notes.append("validation-mode off: nothing is read back, so only `state verify` proves what was written")
    return notes


def _table(call: Invocation, stored: Sequence[Shown]) -> None:
    rows = [[one.name, one.value, one.origin, call.console.when(one.changed_at)] for one in stored]
    call.console.table(["NAME", "VALUE", "SET BY", "SET"], rows, numbers=("VALUE",))


def _values(stored: Sequence[Shown]) -> list[dict[str, object]]:
    return [
        {"name": one.name, "value": one.value, "origin": one.origin, "changed_at": one.changed_at} for one in stored
    ]
