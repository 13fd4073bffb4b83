"""``hal9-migrate db``: the schemas of both databases."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from hal9mig import errors
from hal9mig.cli import invocation, options

if TYPE_CHECKING:
    from hal9mig.cli.invocation import Invocation
    from hal9mig.stores.schema import SchemaState

_UPGRADE = """Bring the schemas of both databases up to this program; tables that are there stay as they are.

It may be run twice, or twice at once.

\b
Examples:
  hal9-migrate db upgrade
  hal9-migrate db upgrade --dry-run
"""
_CHECK = """Check that both databases have what this program and every category need; nothing is changed.

\b
Examples:
  hal9-migrate db check
  hal9-migrate db check --category neuron-states
"""


@click.group()
def db() -> None:
    """Upgrade and check the schemas of both databases."""


@db.command(help=_UPGRADE)
@click.option("--dry-run", is_flag=True, help="Show how far each schema is, and change nothing.")
@options.output
@click.pass_context
def upgrade(context: click.Context, dry_run: bool) -> None:
    # Late: Alembic takes its time.
    from hal9mig.stores import schema

    call = invocation.current(context)
    urls = call.settings.require_flat(), call.settings.require_hier()
    before = schema.status(*urls)
    if not dry_run:
        schema.upgrade(*urls)
    after = schema.status(*urls)
    if not call.json:
        _table(call, after)
        moved = [new.name for old, new in zip(before, after, strict=True) if old.current != new.current]
        if dry_run:
            call.console.say("dry run: nothing was changed")
        else:
            call.console.say(f"upgraded: {', '.join(moved)}" if moved else "everything was up to date already")
    call.conclude({"dry_run": dry_run, "schemas": [_document(state) for state in after], "next_steps": []})


@db.command(help=_CHECK)
@options.categories
@options.output
@click.pass_context
def check(context: click.Context, names: tuple[str, ...], everything: bool) -> None:
    from hal9mig.stores import category_check, connection, schema

    call = invocation.current(context)
    categories = call.categories(options.chosen(names, everything))
    flat_url, hier_url = call.settings.require_flat(), call.settings.require_hier()
    patience = call.settings.connect_timeout
    states = schema.status(flat_url, hier_url)
    found: dict[str, str | None] = {}
    with contextlib.ExitStack() as stack:
        flat, hier = (
            stack.enter_context(
                connection.connected(url, application_name="hal9-migrate cli", connect_timeout=patience)
            )
            for url in (flat_url, hier_url)
        )
        for category in categories:
            try:
                category_check.check_category(category, flat, hier)
                found[category.slug] = None
            except errors.SchemaMismatch as error:
                found[category.slug] = error.message
    problem: errors.HAL9Error | None = None
    wrong = [slug for slug, message in found.items() if message]
    if wrong:
        problem = errors.SchemaMismatch(f"The stores are not as {', '.join(wrong)} need them.", hint="")
    if any(state.behind or state.ahead for state in states):
        try:
            schema.require_current(flat_url, hier_url)
        except errors.Refused as error:
            problem = error
    if not call.json:
        _table(call, states)
        for slug, message in found.items():
            call.console.verdict(message is None, f"{slug}: {message or 'both stores have what it declares'}")
    call.conclude(
        {"schemas": [_document(state) for state in states],
         "categories": [{"category": slug, "problem": message} for slug, message in found.items()],
         "next_steps": ["hal9-migrate db upgrade"] if any(state.behind for state in states) else []},
        problem,
    )  # fmt: skip


def word(state: SchemaState) -> str:
    """Return how far a schema is, in a word."""
    if state.behind:
        return "behind" if state.current else "missing"
    return "ahead" if state.ahead else "current"


def _table(call: Invocation, states: list[SchemaState]) -> None:
    rows = [[state.name, word(state), state.current, state.head] for state in states]
    call.console.table(["SCHEMA", "STATE", "REVISION", "NEWEST"], rows)


def _document(state: SchemaState) -> dict[str, object]:
    return {"name": state.name, "state": word(state), "current": state.current, "head": state.head}
