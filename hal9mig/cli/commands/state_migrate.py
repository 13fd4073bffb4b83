"""``hal9-migrate state migrate``: orders for the coordinator, and waiting for their end."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from hal9mig import errors, model, units
from hal9mig.cli import confirm, options, run_result, wait
from hal9mig.cli.console import counted
from hal9mig.cli.invocation import Invocation, pass_call
from hal9mig.engine import run_standing

if TYPE_CHECKING:
    from hal9mig.categories.declaration import Category
    from hal9mig.engine.coordinator import MigrateOrder, MigratePlan

_HELP = """Copy records from the flat to the hierarchical store, on the workers.

It waits for the end and shows progress on stderr; Ctrl-C leaves the run going. Several categories are
migrated one after the other, in their order. Records that cannot be written end in quarantine, and the
exit code is then 3. Running it again brings the target up to date.

\b
Examples:
  hal9-migrate state migrate --category user-sessions --filter "active=true" --priority high
  hal9-migrate state migrate --category neuron-states --filter "layer=substrate" --validate-each
  hal9-migrate state migrate --category all --dry-run
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MigrateFlags:
    """The options as they were given."""

    filter: str
    priority: str | None
    low_priority: bool
    batch_mode: bool
    validate_each: bool
    validation_mode: str | None
    atomic: bool
    preserve_order: bool
    checkpoint_interval: str | None
    batch_size: str | None
    rate_limit: str | None
    max_impact: str | None
    types: str | None
    merge: bool

    def check(self) -> None:
        """Raise where options exclude each other, whatever the category.

        Raises:
            errors.ConflictingFlags: they do; the message says why.
        """
        if self.low_priority and self.priority not in (None, "low"):
            options.refuse("--low-priority", f"--priority {self.priority}", "one run has one priority")
        if self.batch_mode and self.validate_each:
            options.refuse(
                "--batch-mode", "--validate-each", "one compares a digest of many records, the other each record"
            )
        if self.batch_mode and self.atomic:
            options.refuse(
                "--batch-mode", "--atomic",
                "one is many transactions that are compared as a whole, the other a single one verified record by "
                "record before it commits",
            )  # fmt: skip
        if self.validate_each and self.validation_mode not in (None, "strict"):
            other = f"--validation-mode {self.validation_mode}"
            options.refuse("--validate-each", other, "one compares each record, the other does not")

    def tuning(self) -> Mapping[str, str]:
        """Return the run's own values of tuning knobs."""
        values = {
            "validation-mode": "strict" if self.validate_each else self.validation_mode,
            "checkpoint-interval": self.checkpoint_interval,
            "batch-size": self.batch_size,
            "rate-limit": self.rate_limit,
            "max-impact": self.max_impact,
        }
        return {name: value for name, value in values.items() if value is not None}

    def order(self, category: Category) -> MigrateOrder:
        """Return the order for a category, with its own defaults.

        Raises:
            errors.ConflictingFlags: an option does not go with the category.
            errors.InvalidFilter: the filter is not one of the category's.
        """
        from hal9mig.categories import filters
        from hal9mig.engine.coordinator import MigrateOrder

        if self.batch_mode and category.atomic:
            options.refuse("--batch-mode", f"--category {category.slug}", "it is migrated in one transaction (atomic)")
        text = self.filter
        if self.types is not None:
            wanted = filters.with_types(category, self.types)
            text = f"{text},{wanted}" if text else wanted
        filters.parse(category, text)
        return MigrateOrder(
            category=category.slug,
            filter=text,
            priority=model.Priority.LOW if self.low_priority else model.Priority[(self.priority or "normal").upper()],
            tuning=self.tuning(),
            atomic=self.atomic or category.atomic,
            serial=self.preserve_order or category.ordered,
            bulk=self.batch_mode,
            merge=self.merge,
        )


@click.command(help=_HELP)
@options.categories
@options.filter_
@click.option("--type", "types", metavar="A,B", help="Only records of these types; metadata only.")
@click.option(
    "--priority", type=click.Choice(["high", "normal", "low"]), help="How urgent against other runs.  [default: normal]"
)
@click.option("--low-priority", is_flag=True, help="The same as --priority low.")
@click.option("--batch-mode", is_flag=True, help="Bulk: compare a digest of each transaction, not each record.")
@click.option(
    "--validate-each",
    "--verify-each",
    is_flag=True,
    help="Read back and compare each record before its transaction commits.",
)
@click.option(
    "--validation-mode",
    type=options.VALIDATION,
    metavar="MODE",
    help="strict, sample:SHARE or off.  [default: as configured]",
)
@click.option("--atomic", is_flag=True, help="One transaction for everything; the default for configuration.")
@click.option("--preserve-order", is_flag=True, help="One batch at a time, in key order.")
@click.option(
    "--checkpoint-interval",
    type=options.COUNT_TEXT,
    help="Records between durable cursors (not a `state checkpoint`).  [default: as configured]",
)
@click.option("--batch-size", type=options.COUNT_TEXT, help="Records a batch.  [default: as configured]")
@click.option(
    "--rate-limit",
    type=options.RATE,
    help="Budget: 100/s, 6000/m, 100batches/s, 20MB/s or off.  [default: as configured]",
)
@click.option(
    "--max-impact",
    type=options.IMPACT,
    help="How much longer the application's reads and writes may take meanwhile, or off.  [default: as configured]",
)
@click.option("--merge", is_flag=True, help="Write into a target that holds rows no run has written; asks first.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and change nothing.")
@options.detach
@options.run_timeout
@options.yes
@options.output
@pass_call
def migrate(
    call: Invocation,
    /,
    names: tuple[str, ...],
    everything: bool,
    filter_: str,
    dry_run: bool,
    detach: bool,
    timeout: float | None,
    **given: object,
) -> None:
    flags = MigrateFlags(filter=filter_, **given)  # type: ignore[arg-type]
    flags.check()
    options.check_waiting(dry_run=dry_run, detach=detach, timeout=timeout)
    wanted = options.chosen(names, everything)
    if not wanted:
        raise errors.UsageError(
            "Which category is to be migrated is not said.", hint="add --category NAME, or --category all"
        )
    orders = [flags.order(category) for category in call.categories(wanted)]
    plans = _plans(call, orders, dry_run=dry_run)
    if dry_run:
        _show_plans(call, plans)
    elif detach:
        _detach(call, orders)
    else:
        _migrate(call, orders, timeout)


def _plans(call: Invocation, orders: Sequence[MigrateOrder], *, dry_run: bool) -> Sequence[MigratePlan]:
    """Check every order before the first is carried out, and ask where one overwrites what others wrote."""
    found = []
    foreign: list[str] = []
    for order in orders:
        if order.merge:
            try:
                call.coordinator.plan(dataclasses.replace(order, merge=False))
            except errors.TargetNotEmpty as error:
                foreign.append(error.context["table"])
        if dry_run or order.merge or len(orders) > 1:
            found.append(call.coordinator.plan(order))
    if foreign and not dry_run:
        confirm.ask(
            call,
            f"{', '.join(foreign)} in the hierarchical store hold rows that no run has written; "
            "where the flat store has the same key, they are replaced. Go on?",
        )
    return found


def _migrate(call: Invocation, orders: Sequence[MigrateOrder], timeout: float | None) -> None:
    ended: list[model.Run] = []
    problem: errors.HAL9Error | None = None
    deadline = None if timeout is None else time.monotonic() + timeout
    for place, order in enumerate(orders, start=1):
        run, plan = call.coordinator.migrate(order)
        _announce(call, run, plan)
        remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            (run,) = wait.for_end(call, [run], expected={run.id: plan.records}, timeout=remaining)
        except (errors.TimedOut, errors.Interrupted):
            _not_started(call, orders[place:])
            raise
        ended.append(run)
        if not call.json:
            call.console.verdict(run_result.good(run), run_result.summary(run))
        problem = run_result.problem(run) or problem
        # A later category may build on an earlier one; records in quarantine do not stand in its way.
        if problem is not None and not isinstance(problem, errors.RecordsQuarantined):
            break
    left = _not_started(call, orders[len(ended) :])
    steps = _next_steps(ended)
    if problem is None and not call.json:
        call.console.suggest(steps[0])
    call.conclude(
        {"runs": [run_standing.document(run) for run in ended], "not_started": left, "next_steps": steps}, problem
    )


def _not_started(call: Invocation, orders: Sequence[MigrateOrder]) -> list[str]:
    slugs = [order.category for order in orders]
    if slugs:
        call.console.say(f"not started: {', '.join(slugs)}")
    return slugs


def _next_steps(ended: Sequence[model.Run]) -> list[str]:
    held = [run for run in ended if run.quarantined]
    listed = [f"hal9-migrate quarantine list --category {run.category}" for run in held]
    return [*listed, *(f"hal9-migrate state verify --category {run.category}" for run in ended)]


def _detach(call: Invocation, orders: Sequence[MigrateOrder]) -> None:
    started = []
    for order in orders:
        run, plan = call.coordinator.migrate(order)
        _announce(call, run, plan)
        started.append(run)
        if not call.json:
            call.console.line(str(run.id))
    steps = [f"hal9-migrate runs show {run.id} --watch" for run in started]
    if not call.json:
        call.console.say(f"watch: {steps[0]}")
    call.conclude({"runs": [run_standing.document(run) for run in started], "next_steps": steps})


def _announce(call: Invocation, run: model.Run, plan: MigratePlan) -> None:
    call.console.say(f"{run.name}: {_sentence(plan)}")
    call.console.warn(*plan.warnings)


def _sentence(plan: MigratePlan) -> str:
    text = (
        f"{plan.category.slug}, {counted(plan.records, 'record')} in "
        f"{units.format_count(plan.batches)} batch{'' if plan.batches == 1 else 'es'}, "
        f"about {units.format_bytes(plan.records * plan.record_bytes)}"
    )
    if plan.seconds is not None:
        text += f"; {units.format_duration(plan.seconds)} at {plan.rate}"
    return text


def _show_plans(call: Invocation, plans: Sequence[MigratePlan]) -> None:
    if not call.json:
        columns = ["CATEGORY", "RECORDS", "BATCHES", "BATCH SIZE", "BYTES", "RATE", "TIME", "VALIDATION"]
        rows = [
            [
                plan.category.slug,
                units.format_count(plan.records),
                units.format_count(plan.batches),
                units.format_count(plan.records if plan.batches == 1 else plan.batch_size),
                units.format_bytes(plan.records * plan.record_bytes),
                str(plan.rate or "off"),
                None if plan.seconds is None else units.format_duration(plan.seconds),
                str(plan.validation),
            ]
            for plan in plans
        ]
        call.console.table(columns, rows, numbers=("RECORDS", "BATCHES", "BATCH SIZE", "BYTES"))
        call.console.warn(*dict.fromkeys(warning for plan in plans for warning in plan.warnings))
        call.console.say("dry run: nothing was changed")
    call.conclude({"dry_run": True, "plans": [_plan_document(plan) for plan in plans], "next_steps": []})


def _plan_document(plan: MigratePlan) -> dict[str, object]:
    return {
        "category": plan.category.slug,
        "records": plan.records,
        "batches": plan.batches,
        "batch_size": plan.batch_size,
        "bytes": plan.records * plan.record_bytes,
        "rate_limit": str(plan.rate or "off"),
        "seconds": None if plan.seconds is None else round(plan.seconds, 1),
        "validation": str(plan.validation),
        "worker_slots": plan.slots,
        "warnings": list(plan.warnings),
    }
