"""``hal9-migrate quarantine``: records that could not be migrated."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from hal9mig import errors, units
from hal9mig.cli import confirm, lazy_group, options
from hal9mig.cli.console import counted
from hal9mig.cli.invocation import Invocation, pass_call

if TYPE_CHECKING:
    from hal9mig.engine.transfer.quarantine_retry import Retrial
    from hal9mig.ledger.quarantine import Held

_LIST = """List records in quarantine, the oldest first.

\b
Examples:
  hal9-migrate quarantine list
  hal9-migrate quarantine list --category neuron-states --json
"""
_SHOW = """Show one record in quarantine: its key, why it is there, and what it looked like.

\b
Examples:
  hal9-migrate quarantine show 12
"""
_RETRY = """Try records again with what the flat store has of them now; exit 3 when one is rejected again.

\b
Examples:
  hal9-migrate quarantine retry 12
  hal9-migrate quarantine retry --all --category neuron-states
"""
_DROP = """Give records up: the hierarchical store does without them. It asks, and it is audited.

\b
Examples:
  hal9-migrate quarantine drop 12
  hal9-migrate quarantine drop 12 --yes
"""
_STATES = ["held", "released", "dropped", "all"]


@click.group(cls=lazy_group.Group)
def quarantine() -> None:
    """List, show, retry and drop records that could not be migrated."""


@quarantine.command("list", help=_LIST)
@options.categories
@click.option("--status", type=click.Choice(_STATES), default="held", show_default=True, help="Which records.")
@click.option("--limit", type=options.COUNT, default="100", show_default=True, help="At most so many.")
@options.output
@pass_call
def list_(call: Invocation, names: tuple[str, ...], everything: bool, status: str, limit: int) -> None:
    from hal9mig.ledger import quarantine as ledger_quarantine

    found = _held(call, options.chosen(names, everything), status=None if status == "all" else status, limit=limit)
    with call.ledger.begin() as session:
        counts = ledger_quarantine.counts(session)
    steps = ["hal9-migrate quarantine retry --all"] if any(record.status == "held" for record in found) else []
    if not call.json:
        columns = ["ID", "CATEGORY", "KEY", "STATUS", "ATTEMPTS", "RUN", "SINCE", "ERROR"]
        rows = [
            [record.id, record.category, "/".join(record.key), record.status, record.attempts, record.run_id,
             call.console.when(record.found_at), record.error]
            for record in found
        ]  # fmt: skip
        call.console.table(columns, rows, numbers=("ID", "ATTEMPTS", "RUN"))
        total = sum(counts.values())
        call.console.say(f"{counted(total, 'record')} held")
        if len(found) == limit:
            call.console.say(f"only the first {units.format_count(limit)} are listed; more: --limit")
    call.conclude({"records": [_document(record) for record in found], "held": counts, "next_steps": steps})


@quarantine.command(help=_SHOW)
@click.argument("number", metavar="ID", type=options.ID)
@options.output
@pass_call
def show(call: Invocation, number: int) -> None:
    record = _get(call, number)
    if not call.json:
        for name, value in (
            ("id", record.id), ("category", record.category), ("key", "/".join(record.key)),
            ("status", record.status), ("error", record.error), ("attempts", record.attempts),
            ("run", record.run_id), ("transform version", record.transform_version),
            ("found", call.console.when(record.found_at)), ("changed", call.console.when(record.changed_at)),
        ):  # fmt: skip
            call.console.line(f"{name}: {value}")
        call.console.line("payload:" + (" gone at the source" if record.payload is None else ""))
        if record.payload is not None:
            call.console.line(json.dumps(_payload(record), indent=2, ensure_ascii=False))
    steps = [f"hal9-migrate quarantine retry {record.id}"] if record.status == "held" else []
    call.conclude({"record": _document(record) | {"payload": _payload(record)}, "next_steps": steps})


@quarantine.command(help=_RETRY)
@click.argument("numbers", metavar="[ID]...", type=options.ID, nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every record that is held, of all categories or of --category.")
@options.categories
@options.output
@pass_call
def retry(call: Invocation, numbers: tuple[int, ...], every: bool, names: tuple[str, ...], everything: bool) -> None:
    from hal9mig.engine.transfer import quarantine_retry

    wanted = options.chosen(names, everything)
    records = _records(call, numbers, every=every, names=wanted)
    done = []
    for record in records:
        one = quarantine_retry.retry(call.system, record)
        done.append(one)
        if not call.json:
            _show_retrial(call, one)
    held = [one for one in done if one.outcome is quarantine_retry.RetryOutcome.HELD]
    if not call.json:
        call.console.say(f"{counted(len(done) - len(held), 'record')} released, {len(held)} held")
    problem = None
    if held:
        problem = errors.RecordsQuarantined(
            f"Rejected again and still in quarantine: {counted(len(held), 'record')} of {len(done)}."
        )
    document = [
        {"id": one.record.id, "category": one.record.category, "key": list(one.record.key),
         "outcome": str(one.outcome), "error": one.error}
        for one in done
    ]  # fmt: skip
    call.conclude({"records": document, "next_steps": ["hal9-migrate quarantine list"] if held else []}, problem)


@quarantine.command(help=_DROP)
@click.argument("numbers", metavar="ID...", type=options.ID, nargs=-1, required=True)
@options.yes
@options.output
@pass_call
def drop(call: Invocation, numbers: tuple[int, ...]) -> None:
    from hal9mig.engine.transfer import quarantine_retry

    records = [_get(call, number) for number in dict.fromkeys(numbers)]
    for record in records:
        if record.status != "held":
            raise errors.NotFound(
                f"Record {record.id} is {record.status} already.", hint=f"hal9-migrate quarantine show {record.id}"
            )
    named = ", ".join(f"{record.category} {'/'.join(record.key)}" for record in records[:5])
    more = f" and {len(records) - 5} more" if len(records) > 5 else ""
    confirm.ask(call, f"Give up {named}{more}? The hierarchical store will do without, and `state verify` will say so.")
    for record in records:
        quarantine_retry.drop(call.system, record)
        if not call.json:
            call.console.line(f"{record.id}: {record.category} {'/'.join(record.key)} dropped")
    call.conclude({"dropped": [record.id for record in records], "next_steps": []})


def _records(call: Invocation, numbers: Sequence[int], *, every: bool, names: Sequence[str]) -> Sequence[Held]:
    if bool(numbers) == every:
        raise errors.UsageError(
            "Say either which records are to be tried again, or --all.",
            hint="hal9-migrate quarantine retry ID, or hal9-migrate quarantine retry --all",
        )
    if numbers and names:
        raise errors.ConflictingFlags(
            "An ID and --category exclude each other: an ID names one record.", hint="leave one of them out"
        )
    if every:
        return _held(call, names, status="held", limit=1_000_000)
    return [_get(call, number) for number in dict.fromkeys(numbers)]


def _held(call: Invocation, names: Sequence[str], *, status: str | None, limit: int) -> list[Held]:
    from hal9mig.ledger import quarantine as ledger_quarantine

    # Without --category those of categories that are not declared any more are found too.
    slugs = [category.slug for category in call.categories(names)] if names else [None]
    with call.ledger.begin() as session:
        found = [
            record
            for slug in slugs
            for record in ledger_quarantine.find(session, category=slug, status=status, limit=limit)
        ]
    return sorted(found, key=lambda record: record.id)[:limit]


def _get(call: Invocation, number: int) -> Held:
    from hal9mig.ledger import quarantine as ledger_quarantine

    with call.ledger.begin() as session:
        return ledger_quarantine.get(session, number)


def _show_retrial(call: Invocation, one: Retrial) -> None:
    note = {"gone": "released; the flat store has it no more", "released": "released; it is migrated now"}
    text = note.get(str(one.outcome)) or f"rejected again: {one.error}"
    name = f"{one.record.category} {'/'.join(one.record.key)}"
    call.console.verdict(one.error is None, f"{one.record.id}: {name}: {text}")


def _document(record: Held) -> dict[str, object]:
    return {
        "id": record.id,
        "category": record.category,
        "key": list(record.key),
        "status": record.status,
        "error": record.error,
        "attempts": record.attempts,
        "run": record.run_id,
        "transform_version": record.transform_version,
        "found_at": record.found_at,
        "changed_at": record.changed_at,
    }


def _payload(record: Held) -> object:
    if record.payload is None:
        return None
    try:
        return json.loads(record.payload)
    except (ValueError, RecursionError):
        return record.payload
