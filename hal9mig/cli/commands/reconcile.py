"""``hal9-migrate reconcile``: how the two stores are kept in step, and a pass over everything now."""

from __future__ import annotations

import datetime
import pathlib
from typing import TYPE_CHECKING

import click

from hal9mig import errors, units
from hal9mig.cli import full_pass, options, report_file, standing_still
from hal9mig.cli.console import both_ways, counted
from hal9mig.cli.invocation import Invocation, pass_call
from hal9mig.engine import run_standing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hal9mig import model

_HELP = """Show how the two stores are kept in step; with --full, compare everything now and repair what drifted.

A record has drifted when it differs for another reason than that its last write is on its way. It is repaired
from the side that the write mode says is right. What was found is looked for once more, until nothing is.
--fix-mode safe deletes nothing; auto repairs everything it may, and puts what it may not into quarantine; off
only looks; ask looks, and asks. Exit 3 when something is left.

\b
Examples:
  hal9-migrate reconcile
  hal9-migrate reconcile --full --fix-mode auto --report reconcile-report.json
  hal9-migrate reconcile --full --fix-mode off --category neuron-states
"""
SCHEMA_VERSION = 1


@click.command(help=_HELP)
@click.option("--full", is_flag=True, help="Compare every record of both stores now.")
@click.option(
    "--fix-mode", type=click.Choice(["auto", "safe", "off", "ask"]), help="What is repaired.  [default: safe]"
)
@options.report
@click.option("--detach", is_flag=True, help="Print the runs' numbers and return; they go on.")
@options.timeout
@options.categories
@options.yes
@options.output
@pass_call
def reconcile(
    call: Invocation,
    full: bool,
    fix_mode: str | None,
    report: pathlib.Path | None,
    detach: bool,
    timeout: float | None,
    names: tuple[str, ...],
    everything: bool,
) -> None:
    if not full:
        if fix_mode or report or timeout or detach or names or everything:
            raise errors.UsageError(
                "These options are for a pass over everything.", hint="hal9-migrate reconcile --full ..."
            )
        _show_standing(call)
        return
    from hal9mig.engine.reconcile import full_pass as engine_pass
    from hal9mig.engine.reconcile.repair import RepairPolicy
    from hal9mig.ledger import database

    policy = RepairPolicy(fix_mode or "safe")
    if report is not None:
        report_file.require_folder(report)
    if policy is RepairPolicy.ASK:
        if detach:
            raise errors.ConflictingFlags("--detach returns at once, and --fix-mode ask has to ask first.")
        full_pass.require_somebody(call)
    categories = call.categories(options.chosen(names, everything))
    passes = full_pass.start(call, categories, RepairPolicy.OFF if policy is RepairPolicy.ASK else policy)
    with call.ledger.begin() as session:
        engine_pass.ordered(session, database.actor(), policy, passes)
    if detach:
        _detach(call, passes)
        return
    ended = full_pass.awaited(call, passes, timeout=timeout)
    found = [one for _, one in ended]
    if policy is RepairPolicy.ASK and any(one.outcomes for one in found):
        found, more = full_pass.ask(call, ended, RepairPolicy.AUTO, timeout=timeout)
        passes = [*passes, *more]
    document = full_pass.document(call, found, policy, passes)
    if report is not None:
        now = datetime.datetime.now(datetime.UTC).isoformat()
        head = {"schema": SCHEMA_VERSION, "kind": "reconcile-report", "generated_at": now}
        report_file.write(report, head | document)
        call.console.say(f"written: {report}")
    if not call.json:
        full_pass.show(call, found)
    call.conclude(document, full_pass.problem(found))


def _detach(call: Invocation, passes: Sequence[model.Run]) -> None:
    steps = [f"hal9-migrate runs show {run.id} --watch" for run in passes]
    if not call.json:
        for run in passes:
            call.console.line(str(run.id))
        call.console.say(f"watch: {steps[0]}")
    call.conclude({"runs": [run_standing.document(run) for run in passes], "next_steps": steps})


def _show_standing(call: Invocation) -> None:
    from hal9mig.engine import standstill
    from hal9mig.engine.reconcile import alarm_rules
    from hal9mig.ledger import mode, raised_alarms, sweeps, tuning
    from hal9mig.stores import store_size

    call.system.require_ready()
    still = standing_still.look(call)
    with call.connected(call.settings.require_flat()) as flat:
        sizes = store_size.records(flat, call.registry.ordered())
    with call.ledger.begin() as session:
        line = mode.read(session)
        tuned = tuning.reconciliation(session)
        standing = alarm_rules.standing(session, sum(one.count for one in sizes.values() if one is not None))
        passes = sweeps.find(session)
        raised = raised_alarms.find(session, open=True)
    last = standing.last
    if not call.json:
        call.console.line(f"Write Mode: {line.mode}")
        every = units.format_duration(standing.interval)
        newest = "; none yet" if last is None else f", the last {call.console.when(last.began)}"
        call.console.line(f"Rounds: every {every}{newest}")
        if last is not None:
            call.console.line(
                f"Last round: {units.format_count(last.compared)} compared, {units.format_count(last.found)} drifted, "
                f"{units.format_count(last.repaired)} repaired; journal: {counted(last.lag_records, 'write')} to apply"
            )
        covered = "not measured yet" if standing.coverage is None else units.format_duration(standing.coverage)
        call.console.line(f"Everything is compared within: {covered}, with {tuned.share:g} of a core")
        call.console.line(
            f"Drifted: {standing.share:.3%} of the records compared; alerts above {both_ways(tuned.alert_threshold)}"
        )
        rows = [
            [one.category, one.number, units.format_count(one.records), units.format_count(one.differing),
             units.format_count(standing.open_drifts.get(one.category, 0)), call.console.when(one.clean_from)]
            for one in passes.values()
        ]  # fmt: skip
        columns = ["CATEGORY", "PASS", "COMPARED", "DRIFTED", "OPEN", "CLEAN SINCE"]
        call.console.table(columns, rows, numbers=("PASS", "COMPARED", "DRIFTED", "OPEN"))
        for alarm in raised:
            call.console.verdict(False, f"alarm since {call.console.when(alarm.raised_at)}: {alarm.message}")
    call.conclude(
        {
            "mode": line.mode,
            "interval_seconds": standing.interval,
            "coverage_seconds": standing.coverage,
            "share_drifted": standing.share,
            "last_round": None
            if last is None
            else {
                "began": last.began, "ended": last.ended, "applied": last.applied, "compared": last.compared,
                "drifted": last.found, "repaired": last.repaired, "error": last.error,
                "journal": {"records": last.lag_records, "seconds": round(last.lag_seconds, 3)},
            },
            "passes": [
                {
                    "category": one.category, "pass": one.number, "compared": one.records, "drifted": one.differing,
                    "open": standing.open_drifts.get(one.category, 0), "clean_from": one.clean_from,
                    "clean_until": one.clean_until,
                }
                for one in passes.values()
            ],
            "alarms": [
                {"alarm": one.name, "subject": one.subject or None, "message": one.message, "raised_at": one.raised_at}
                for one in raised
            ],
            "problems": standstill.document(still),
            "next_steps": [
                *standstill.commands(still),
                *(["hal9-migrate state fix --interactive --guidance"] if standing.open_drifts else []),
            ],
        },
        standing_still.problem(still),
    )  # fmt: skip
