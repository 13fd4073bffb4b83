"""``category``: what can be migrated, and declaring more."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import shlex
from typing import TYPE_CHECKING, Any

import click

from hal9mig import errors, units
from hal9mig.cli import lazy_group, options
from hal9mig.cli.invocation import Invocation, pass_call

if TYPE_CHECKING:
    from hal9mig.engine.round_trip import RoundTrip

_SLUG = re.compile(r"[a-z][a-z0-9-]*")
_TOLD = 60  # characters of a value
_MOST = 50_000  # records of a sample

_NEW = """Draft a declaration from tables that are there on both stores.

Columns, types, keys and what passes through are written down; what only you know is left as functions to
write, and listed at the top of the file.

\b
Examples:
  hal9-migrate category new orders --source public.orders --target shop.orders --output orders.py
  hal9-migrate category new bills --source b.bills --target shop.bills --target shop.bill_lines --output bills.py
"""
_CHECK = """Hold a declaration against both stores, and take a sample of its records there and back.

The sample is written, read back and compared in a transaction that is rolled back: nothing of it stays.

\b
Examples:
  hal9-migrate category check orders.py
  hal9-migrate category check orders.py --sample 20000
"""
_LIST = """List the categories that are known here, in the order in which all are migrated.

\b
Examples:
  hal9-migrate category list
"""


@click.group(cls=lazy_group.Group)
def category() -> None:
    """List the categories of state, and declare your own."""


@category.command("list", help=_LIST)
@options.output
@pass_call
def list_(call: Invocation) -> None:
    registry = call.system.registry
    found = [
        {
            "category": one.slug, "source": one.source.qualified, "targets": [each.qualified for each in one.targets],
            "declared": _here(registry.origins[one.slug]),
        }
        for one in registry.ordered()
    ]  # fmt: skip
    if not call.json:
        call.console.table(
            ("CATEGORY", "FLAT TABLE", "TABLES", "DECLARED"),
            [(one["category"], one["source"], str(len(one["targets"])), one["declared"]) for one in found],
        )
    call.conclude({"categories": found, "next_steps": []})


@category.command(help=_NEW)
@click.argument("name")
@click.option("--source", required=True, metavar="TABLE", help="The flat table, as schema.table.")
@click.option(
    "--target", "targets", required=True, multiple=True, metavar="TABLE",
    help="A hierarchical table; repeat it: first that of the record itself, then those of its parts.",
)  # fmt: skip
@click.option("--output", required=True, type=options.PATH, help="The file to write.")
@options.output
@pass_call
def new(call: Invocation, name: str, source: str, targets: tuple[str, ...], output: pathlib.Path) -> None:
    if not _SLUG.fullmatch(name):
        raise errors.UsageError(f"{name!r} is no name of a category.", hint="lower-case words joined by hyphens")
    if any(name in (one.slug, *one.aliases) for one in call.system.registry.ordered()) or name == "all":
        raise errors.Refused(f"There is a category {name} already.", hint="hal9-migrate category list")
    from hal9mig.engine import draft

    made = draft.make(call.system, name, source, targets)
    try:
        with output.open("x", encoding="utf-8") as stream:
            stream.write(made.text)
    except FileExistsError:
        raise errors.Refused(f"{output} is there already.", hint="name another file with --output") from None
    steps = [f"hal9-migrate category check {output}"]
    if not call.json:
        call.console.line(f"written: {output}")
        for one in made.left:
            call.console.line(f"left to write: {one}")
        call.console.suggest(steps[0])
    call.conclude({"file": str(output), "left": list(made.left), "next_steps": steps})


@category.command(help=_CHECK)
@click.argument("file", type=options.PATH)
@click.option("--sample", default="1000", metavar="N", show_default=True, help="Records taken there and back, at most.")
@options.output
@pass_call
def check(call: Invocation, file: pathlib.Path, sample: str) -> None:
    from hal9mig.categories import registry
    from hal9mig.engine import round_trip
    from hal9mig.engine.system import System

    count = units.parse_count(sample)
    if count > _MOST:
        # Whoever applies a write of the same records waits until all of the sample is rolled back.
        raise errors.UsageError(f"--sample is {_MOST:,} at most.", hint="a few thousand show what there is to be seen")
    others = [one for one in call.settings.category_files if one.resolve() != file.resolve()]
    # Loaded before any server is asked: what is wrong in the file itself is said first.
    declared = registry.load([*others, file])
    own = [slug for slug, origin in declared.origins.items() if origin == str(file)]
    system = System(dataclasses.replace(call.settings, category_files=(*others, file)), role="cli")
    system.require_ready()
    found = [round_trip.take(system, system.category(slug), sample=count) for slug in own]
    if not call.json:
        for one in found:
            _tell(call, one)
    bad = [one.category.slug for one in found if not one.good]
    steps = [
        f"HAL9_CATEGORIES={shlex.quote(','.join(map(str, (*others, file))))} hal9-migrate state migrate "
        f"--category {one.category.slug} --dry-run"
        for one in found if one.good
    ]  # fmt: skip
    problem = None
    if bad:
        problem = errors.ChecksFailed(f"Not ready to be migrated: {', '.join(bad)}.", hint="docs/categories.md")
    if not call.json and steps and not bad:
        call.console.say(f"next, here and for all workers: {steps[0]}")
    call.conclude({"categories": [_document(one) for one in found], "next_steps": steps}, problem)


def _here(origin: str) -> str:
    """Return a path as it is seen from here, where that is shorter."""
    place = pathlib.Path(origin)
    here = pathlib.Path.cwd()
    return str(place.relative_to(here)) if place.is_absolute() and place.is_relative_to(here) else origin


def _tell(call: Invocation, one: RoundTrip) -> None:
    slug = one.category.slug
    for text in one.problems:
        call.console.verdict(False, f"{slug}: {text}")
    if one.problems:
        return
    call.console.verdict(True, f"{slug}: both stores have what it declares")
    if not one.sampled:
        call.console.verdict(True, f"{slug}: no record is there to be taken there and back")
        return
    good = units.format_count(one.sampled - one.bad)
    call.console.verdict(
        not one.bad, f"{slug}: {good} of {units.format_count(one.sampled)} records come back as they were"
    )
    for key, reason in one.refused.items():
        call.console.line(f"   {'/'.join(key)}: {reason}")
    for key, fields in one.differing.items():
        told = "; ".join(f"{each.field}: {_short(each.flat)} comes back as {_short(each.hier)}" for each in fields)
        call.console.line(f"   {'/'.join(key)}: {told or 'it does not come back'}")
    if one.seconds is not None and not one.bad:
        call.console.line(
            f"   about {units.format_count(one.records)} records: {units.format_duration(one.seconds)} of one worker"
        )


def _short(value: str | None) -> str:
    if value is None:
        return "NULL"
    return value if len(value) <= _TOLD else f"{value[:_TOLD]}..."


def _document(one: RoundTrip) -> dict[str, Any]:
    return {
        "category": one.category.slug, "good": one.good, "problems": list(one.problems), "records": one.records,
        "sampled": one.sampled, "bad": one.bad,
        "refused": [{"key": list(key), "reason": reason} for key, reason in one.refused.items()],
        "differing": [
            {"key": list(key), "fields": [dataclasses.asdict(each) for each in fields]}
            for key, fields in one.differing.items()
        ],
        "expected_seconds": None if one.seconds is None else round(one.seconds, 3),
    }  # fmt: skip
