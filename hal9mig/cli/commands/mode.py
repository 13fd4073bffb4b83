"""``hal9-migrate mode``: where writes go, and the switches between the modes."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from hal9mig import errors, units
from hal9mig.cli import confirm, finished, invocation, lazy_group, options, standing_still
from hal9mig.cli.console import counted
from hal9mig.cli.invocation import Invocation, pass_call

if TYPE_CHECKING:
    from hal9mig.engine.switch.gate import Predicate
    from hal9mig.engine.switch.switch import Switched

_MODE = """Show where writes go; with a command, switch.

\b
Examples:
  hal9-migrate mode
  hal9-migrate mode migration --enable
  hal9-migrate mode flat-only
"""
_MIGRATION = """Turn dual-write on, or go over to the hierarchical store alone.

--enable captures every write of the flat store from here on, schedules reconciliation, opens the audit
log and pauses non-critical operations. --disable-dual-write passes the gate and switches over.

\b
Examples:
  hal9-migrate mode migration --enable
  hal9-migrate mode migration --disable-dual-write --dry-run
  hal9-migrate mode migration --disable-dual-write
"""
_FLAT_ONLY = """Go back to the flat store alone, with every write that the hierarchical one has taken.

\b
Examples:
  hal9-migrate mode flat-only
  hal9-migrate mode flat-only --force --reason "the hierarchical store is damaged"
"""
#: Seconds for which a verified full checkpoint counts as the backup that has to be there.
_BACKUP_AGE = 3600.0


@click.group(cls=lazy_group.Group, invoke_without_command=True, help=_MODE)
@options.output
@click.pass_context
def mode(context: click.Context) -> None:
    if context.invoked_subcommand is not None:
        return
    from hal9mig.engine import standstill
    from hal9mig.engine.switch.switch import Switch
    from hal9mig.stores import capture, schema, write_mode

    call = invocation.current(context)
    schemas = schema.status(call.settings.require_flat(), call.settings.require_hier())
    if (ended := call.system.finished(schemas)) is not None:
        finished.conclude(call, ended)
        return
    still = standing_still.look(call)
    line = Switch(call.system).line()
    with contextlib.closing(call.system.flat()) as flat, contextlib.closing(call.system.hier()) as hier:
        states = {"flat": write_mode.state(flat), "hierarchical": write_mode.state(hier)}
        flat.rollback()
        hier.rollback()
        lags = {"flat": capture.lag(flat).values(), "hierarchical": capture.lag(hier).values()}
    waiting = {
        name: (sum(one.records for one in own), max((one.seconds for one in own), default=0.0))
        for name, own in lags.items()
    }
    steps = standstill.commands(still)
    if line.target is not None:
        steps.append(_command(line.target))
    if not call.json:
        call.console.line(f"Write Mode: {line.mode}")
        call.console.line(f"epoch {line.epoch}, since {call.console.when(line.since)}, by {line.actor or 'nobody yet'}")
        if line.target is not None:
            call.console.line(f"A switch to {line.target} is under way; its last step is: {line.step}")
        for name, state in states.items():
            records, seconds = waiting[name]
            call.console.line(
                f"{name} store: {state.mode}, epoch {state.epoch}; journal: "
                f"{counted(records, 'write')} to apply, oldest {units.format_duration(seconds)}"
            )
        call.console.suggest(*steps)
    call.conclude(
        {
            "mode": line.mode,
            "epoch": line.epoch,
            "since": line.since,
            "actor": line.actor,
            "switch": None if line.target is None else {"target": line.target, "step": line.step},
            "stores": {name: {"mode": state.mode, "epoch": state.epoch} for name, state in states.items()},
            "journal": {
                name: {"records": records, "seconds": round(seconds, 3)} for name, (records, seconds) in waiting.items()
            },
            "problems": standstill.document(still),
            "next_steps": steps,
        },
        standing_still.problem(still),
    )


@mode.command(help=_MIGRATION)
@click.option("--enable", is_flag=True, help="From flat-only to dual-write.")
@click.option("--disable-dual-write", is_flag=True, help="From dual-write to hierarchical-only, through the gate.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, or the gate, and change nothing.")
@click.option("--attest", is_flag=True, help="Confirm beforehand what cannot be checked: canary, backup, team.")
@options.yes
@options.output
@pass_call
def migration(call: Invocation, enable: bool, disable_dual_write: bool, dry_run: bool, attest: bool) -> None:
    if enable == disable_dual_write:
        raise errors.ConflictingFlags(
            "Give either --enable or --disable-dual-write: they lead to different modes.",
            hint="hal9-migrate mode migration --help",
        )
    if enable:
        _enable(call, dry_run=dry_run, attest=attest)
    else:
        _leave_flat(call, dry_run=dry_run)


@mode.command("flat-only", help=_FLAT_ONLY)
@click.option("--force", is_flag=True, help="Discard writes that cannot be brought back; shows how many, and asks.")
@click.option("--reason", default="", help="Why a safety check is overridden; kept in the audit.")
@options.yes
@options.output
@pass_call
def flat_only(call: Invocation, force: bool, reason: str) -> None:
    from hal9mig.engine.switch.switch import Switch

    switch = Switch(call.system)
    try:
        done = switch.return_to_flat()
    except errors.GateClosed as closed:
        if not force:
            raise errors.GateClosed(
                closed.message, hint=f"{closed.hint}, or discard them with --force" if closed.hint else None
            ) from None
        if not reason and not sys.stdin.isatty():
            raise errors.ConfirmationRequired(
                f"{closed.message} --force would discard them, and there is no terminal to ask on.",
                hint='add --reason "..."',
            ) from None
        if sys.stdin.isatty():
            confirm.ask(call, f"{closed.message} Discard these writes for good?")
        done = switch.return_to_flat(force=True)
        call.audit("forced flat-only", {"reason": reason, "overridden": closed.message, "discarded": done.discarded})
    if not call.json:
        _show_switched(call, done)
        if done.changed and done.barrier is not None:
            call.console.line(f"Writes discarded: {units.format_count(done.discarded)}")
    call.conclude(_document(done) | {"next_steps": ["hal9-migrate state status"]})


def _enable(call: Invocation, *, dry_run: bool, attest: bool) -> None:
    from hal9mig.engine import reconciliation_log
    from hal9mig.engine.switch.switch import Switch
    from hal9mig.ledger import tuning, workers

    # First of all: what comes next reads tables that an account without rights may not even name.
    call.system.require_rights("operator")
    call.system.require_ready()
    with call.ledger.begin() as session:
        accepting = workers.accepting(session)
        interval = tuning.value(session, "reconcile-interval")
    if not accepting:
        raise errors.Refused(
            "No worker is alive, so what is captured would not be applied.", hint=call.settings.workers_hint
        )
    paused = ", ".join(call.settings.noncritical) or "none are named"
    effects = [
        "dual-write: every write of the flat store is captured, and applied to the hierarchical one",
        f"reconciliation: every {units.format_duration(float(str(interval)))}, by {counted(len(accepting), 'worker')}",
        f"audit log: {call.settings.log_dir / reconciliation_log.LOG_NAME} (each host's own), and the ledger's events",
        f"non-critical operations paused: {paused}",
    ]
    if dry_run:
        if not call.json:
            call.console.line("Nothing is changed. This would be done:")
            for effect in effects:
                call.console.line(f"- {effect}")
        call.conclude({"dry_run": True, "effects": effects, "next_steps": ["hal9-migrate mode migration --enable"]})
        return
    attested = _attest(call, given=attest, already=Switch(call.system).line().mode != "flat-only")
    reconciliation_log.open_log(call.settings)
    done = Switch(call.system).enable(attested)
    _keep_attested(call, attested)
    if not call.json:
        _show_switched(call, done)
        for effect in effects:
            call.console.verdict(True, effect)
    call.conclude(
        _document(done)
        | {"effects": effects, "attested": attested, "next_steps": ["hal9-migrate state migrate --category all"]}
    )


def _attest(call: Invocation, *, given: bool, already: bool) -> Mapping[str, object]:
    """Check the backup, and ask for what cannot be checked; off a terminal it is noted as not asked."""
    from hal9mig.engine.checkpoint.orders import Checkpoints
    from hal9mig.ledger import database, phases

    answers: dict[str, object] = {"by": database.actor()}
    asks = confirm.can_ask() and not call.yes
    backup = Checkpoints(call.system).backup_within(_BACKUP_AGE)
    if backup is None and not (given or call.yes or asks or already):
        raise errors.Refused(
            "No verified full checkpoint was taken within the hour; nothing was changed.",
            hint="hal9-migrate state checkpoint --full-backup --verify; or --attest, where there is another backup",
        )
    for name in phases.PREREQUISITES:
        sentence = phases.ITEMS[name]
        if name == "backup" and backup is not None:
            answers[name] = f"checkpoint {backup.name}, verified, taken {backup.taken_at:%Y-%m-%dT%H:%M:%SZ}"
            call.console.say(f"backup: {answers[name]}")
            continue
        if given or call.yes:
            answers[name] = True
        elif asks:
            answers[name] = click.confirm(f"Do you attest that {sentence}?", err=True)
        else:
            answers[name] = None
            call.console.warn(f"nobody attests that {sentence}; --attest does")
    refused = [phases.ITEMS[name] for name in phases.PREREQUISITES if answers[name] is False]
    if refused:
        raise errors.Refused(f"Not attested, and nothing was changed: {'; '.join(refused)}.", hint="")
    return answers


def _keep_attested(call: Invocation, answers: Mapping[str, object]) -> None:
    from hal9mig.ledger import database, phases

    with call.ledger.begin() as session:
        for name in phases.PREREQUISITES:
            if answers[name]:
                note = answers[name] if isinstance(answers[name], str) else ""
                phases.attest(session, phases.STATE_MIGRATION, name, note=str(note), actor=database.actor())


def _leave_flat(call: Invocation, *, dry_run: bool) -> None:
    from hal9mig.engine.switch import gate
    from hal9mig.engine.switch.switch import Switch
    from hal9mig.ledger import database

    call.system.require_ready()
    switch = Switch(call.system)
    line = switch.line()
    if line.mode == "hierarchical-only" and line.target is None:
        if not call.json:
            call.console.line("Write Mode: hierarchical-only")
            call.console.say("it was so already; nothing was changed")
        call.conclude({"mode": line.mode, "epoch": line.epoch, "changed": False, "next_steps": []})
        return
    # Once the other store is open the gate is behind us, and what it looks at may have changed since.
    found = [] if switch.opened() else gate.look(call.system)
    if not call.json:
        _show_gate(call, found)
    listed = [
        {"name": one.name, "holds": one.holds, "evidence": one.evidence, "next_command": one.next_command}
        for one in found
    ]
    try:
        gate.require(found)
    except errors.GateClosed as closed:
        call.conclude({"dry_run": dry_run, "gate": listed, "next_steps": (closed.hint or "").split(" ; ")}, closed)
        return
    if dry_run:
        if not call.json:
            call.console.line("The gate is open. Nothing was changed.")
        step = "hal9-migrate mode migration --disable-dual-write"
        call.conclude({"dry_run": True, "gate": listed, "next_steps": [step]})
        return
    actor = database.actor()
    done = switch.leave_flat(lambda: gate.evidence(call.system, found, actor=actor))
    if not call.json:
        _show_switched(call, done)
    call.conclude(_document(done) | {"gate": listed, "next_steps": ["hal9-migrate state status"]})


def _show_gate(call: Invocation, found: Sequence[Predicate]) -> None:
    for one in found:
        more = "" if one.holds or not one.next_command else f"  -> {one.next_command}"
        call.console.verdict(one.holds, f"{one.name}: {one.evidence}{more}")


def _show_switched(call: Invocation, done: Switched) -> None:
    call.console.line(f"Write Mode: {done.mode}")
    if not done.changed:
        call.console.say("it was so already; nothing was changed")
    elif done.barrier is not None:
        call.console.line(f"Writers were kept out for {units.format_duration(done.barrier)}; epoch {done.epoch}")


def _document(done: Switched) -> dict[str, object]:
    return {
        "mode": done.mode,
        "epoch": done.epoch,
        "changed": done.changed,
        "barrier_seconds": done.barrier,
        "discarded": done.discarded,
    }


def _command(target: str) -> str:
    return {
        "dual-write": "hal9-migrate mode migration --enable",
        "hierarchical-only": "hal9-migrate mode migration --disable-dual-write",
        "flat-only": "hal9-migrate mode flat-only",
    }[target]
