"""``hal9-migrate phase``: where the phase of the migration stands, and its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hal9mig import errors
from hal9mig.cli import confirm, lazy_group, options, phase_validation
from hal9mig.cli.invocation import Invocation, pass_call

if TYPE_CHECKING:
    from hal9mig.checks.phase import PhaseStanding

_COMPLETE = """Note that a phase is complete.

Refused without a comprehensive validation that has passed and is newer than the last change of the write mode; on a
terminal it offers to make one. --force completes it in spite of that, and needs a reason, which the report shows.

\b
Examples:
  hal9-migrate phase complete state-migration
  hal9-migrate phase complete state-migration --validate
"""
_LIST = """List the phases that this program knows, and whether each is complete.

\b
Examples:
  hal9-migrate phase list
"""
_SHOW = """Show a phase: what its newest validation said, what stands against its completion, who attests what.

\b
Examples:
  hal9-migrate phase show state-migration
"""


@click.group(cls=lazy_group.Group)
def phase() -> None:
    """Complete the phase of the migration, and see where it stands."""


@phase.command(help=_COMPLETE)
@click.argument("name", metavar="PHASE")
@click.option("--validate", "validates", is_flag=True, help="Make the comprehensive validation first.")
@click.option("--force", is_flag=True, help="Complete it although something stands against it; needs --reason.")
@click.option("--reason", default="", metavar="TEXT", help="Why; kept in the audit and in the report.")
@options.timeout
@options.yes
@options.output
@pass_call
def complete(call: Invocation, name: str, validates: bool, force: bool, reason: str, timeout: float | None) -> None:
    from hal9mig.checks import phase as phase_checks
    from hal9mig.ledger import database

    phase_checks.known(name)
    if force != bool(reason.strip()):
        raise errors.UsageError("--force and --reason go together.", hint='add --force --reason "..."')
    call.system.require_ready()
    now = phase_checks.standing(call.system, name)
    if not (now.complete or force) and (validates or _wanted(call, now)):
        found = phase_validation.make(call, name, timeout=timeout)
        if not call.json:
            phase_validation.show(call, found, evidence=False)
    changed = phase_checks.complete(call.system, name, actor=database.actor(), force=reason.strip() if force else "")
    step = _report(name)
    if not call.json:
        call.console.verdict(True, f"{name}: complete")
        if not changed:
            call.console.say("it was so already; nothing was changed")
        call.console.suggest(step)
    call.conclude({"phase": name, "complete": True, "changed": changed, "next_steps": [step]})


def _wanted(call: Invocation, now: PhaseStanding) -> bool:
    """Whether somebody at a terminal wants the validation that is missing to be made now."""
    only = now.obstacles and now.line.mode == "hierarchical-only" and now.line.target is None
    if not only or not confirm.can_ask():
        return False
    call.console.say(f"{now.phase}: {'; '.join(now.obstacles)}")
    return call.yes or click.confirm("Make the comprehensive validation now?", err=True)


@phase.command("list", help=_LIST)
@options.output
@pass_call
def list_(call: Invocation) -> None:
    from hal9mig.checks import phase as phase_checks
    from hal9mig.ledger import phases

    call.system.require_ready()
    now = phase_checks.standing(call.system, phases.STATE_MIGRATION)
    at = now.completion.at if now.completion and now.complete else None
    if not call.json:
        rows = [[now.phase, _word(now), call.console.when(at), now.completion.actor if at and now.completion else None]]
        call.console.table(["PHASE", "STATE", "SINCE", "BY"], rows)
        call.console.say("the phases before and after it (shadow, canary, ramp-up, full) are other tools' work")
    call.conclude({"phases": [_document(now)], "next_steps": [f"hal9-migrate phase show {now.phase}"]})


@phase.command(help=_SHOW)
@click.argument("name", metavar="PHASE")
@options.output
@pass_call
def show(call: Invocation, name: str) -> None:
    from hal9mig.checks import phase as phase_checks
    from hal9mig.ledger import phases

    phase_checks.known(name)
    call.system.require_ready()
    now = phase_checks.standing(call.system, name)
    if not call.json:
        call.console.line(f"{name}: {_word(now)}")
        if now.completion is not None:
            made = f"completed {call.console.when(now.completion.at)} by {now.completion.actor}"
            void = "" if now.complete else "; void since the write mode changed"
            forced = f"; forced: {now.completion.reason}" if now.completion.reason else ""
            call.console.line(f"{made}{void}{forced}")
        for obstacle in () if now.complete else now.obstacles:
            call.console.line(f"not yet: {obstacle}")
        if now.validation is not None:
            call.console.line(f"validation {now.validation.id}, {call.console.when(now.validation.at)}:")
            phase_validation.show(call, now.validation, evidence=False)
        rows = []
        for item, sentence in phases.ITEMS.items():
            given = now.attestations.get(item)
            at, who = (call.console.when(given.at), given.actor) if given else (None, None)
            rows.append([item, "attested" if given else "open", at, who, given.note if given else None, sentence])
        call.console.table(["ITEM", "STATE", "WHEN", "BY", "NOTE", "WHAT"], rows)
    call.conclude(_document(now) | {"next_steps": _steps(now)})


def _word(now: PhaseStanding) -> str:
    if now.complete:
        return "complete"
    return "complete once, void now" if now.completion else "not complete"


def _steps(now: PhaseStanding) -> list[str]:
    if now.complete:
        return [_report(now.phase)]
    return [f"hal9-migrate phase complete {now.phase} --validate"]


def _report(name: str) -> str:
    return f"hal9-migrate report --phase {name} --detailed --output {name}-report.pdf"


def _document(now: PhaseStanding) -> dict[str, object]:
    made = now.completion
    return {
        "phase": now.phase,
        "complete": now.complete,
        "completed": None
        if made is None
        else {"at": made.at, "by": made.actor, "reason": made.reason, "validation": made.validation},
        "obstacles": list(now.obstacles),
        "validation": None if now.validation is None else phase_validation.document(now.validation),
        "attestations": [
            {"item": one.item, "at": one.at, "by": one.actor, "note": one.note} for one in now.attestations.values()
        ],
    }
