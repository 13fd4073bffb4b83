"""``hal9-migrate db``: the schemas of both databases."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING

import click

from hal9mig import errors, model
from hal9mig.cli import lazy_group, options
from hal9mig.cli.invocation import Invocation, pass_call

if TYPE_CHECKING:
    from hal9mig.stores.schema import SchemaState

# Not imported from where they are told: that takes the driver, and a help page needs none.
_ROLES = ("owner", "worker", "operator", "application", "reader")
_UPGRADE = """Bring the schemas of both databases up to this program; tables that are there stay as they are.

It may be run twice, or twice at once.

\b
Examples:
  hal9-migrate db upgrade
  hal9-migrate db upgrade --dry-run
"""
_CHECK = """Check that both databases have what this program and every category need; nothing is changed.

The rights too, those of a restore included: each that the account lacks is named with the GRANT that mends it.

\b
Examples:
  hal9-migrate db check
  hal9-migrate db check --category neuron-states
  hal9-migrate db check --as application
"""
_GRANTS = """Print the GRANTs of each role, to be run by who owns the databases; docs/rights.md says why each is there.

They may be run again; run them again after db upgrade and where a category is added.

\b
Examples:
  hal9-migrate db grants --role worker=hal9_worker
  hal9-migrate db grants --store flat --role application=shop > grants.sql
"""


@click.group(cls=lazy_group.Group)
def db() -> None:
    """Upgrade and check the schemas of both databases."""


@db.command(help=_UPGRADE)
@click.option("--dry-run", is_flag=True, help="Show how far each schema is, and change nothing.")
@options.output
@pass_call
def upgrade(call: Invocation, dry_run: bool) -> None:
    # Late: Alembic takes its time.
    from hal9mig.stores import schema

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
@click.option("--as", "role", type=click.Choice(_ROLES), default="worker", show_default=True,
              help="Whose rights to check.")  # fmt: skip
@options.output
@pass_call
def check(call: Invocation, names: tuple[str, ...], everything: bool, role: str) -> None:
    import psycopg2.errors

    from hal9mig.stores import category_check, connection, rights, schema

    categories = call.categories(options.chosen(names, everything))
    flat_url, hier_url = call.settings.require_flat(), call.settings.require_hier()
    connection.require_two(flat_url, hier_url, application_name="hal9-migrate cli")
    states: list[SchemaState] = []
    # An account that may not read how far a schema is hears below which right that takes.
    with contextlib.suppress(psycopg2.errors.InsufficientPrivilege):
        states = schema.status(flat_url, hier_url)
    found: dict[str, str | None] = {}
    with contextlib.ExitStack() as stack:
        flat, hier = (stack.enter_context(call.connected(url)) for url in (flat_url, hier_url))
        lacking = [
            one
            for store, opened in ((model.StoreName.FLAT, flat), (model.StoreName.HIERARCHICAL, hier))
            for one in rights.missing(opened, store, categories, role)
        ]
        for category in categories:
            try:
                category_check.check_category(category, flat, hier)
                found[category.slug] = None
            except errors.SchemaMismatch as error:
                found[category.slug] = error.message
            except psycopg2.errors.InsufficientPrivilege as error:
                found[category.slug] = " ".join(str(error).split())
                flat.rollback()
                hier.rollback()
    problem: errors.HAL9Error | None = None
    wrong = [slug for slug, message in found.items() if message]
    if wrong:
        problem = errors.SchemaMismatch(f"The stores are not as {', '.join(wrong)} need them.", hint="")
    if lacking:
        problem = errors.RightsLacking(f"{len(lacking)} rights of a {role} are missing.")
    if any(state.behind or state.ahead for state in states):
        try:
            schema.require_current(flat_url, hier_url)
        except errors.Refused as error:
            problem = error
    if not call.json:
        _table(call, states)
        for one in lacking:
            call.console.verdict(False, f"{one.store}: {one.what} is missing: {one.grant}")
        for slug, message in found.items():
            call.console.verdict(message is None, f"{slug}: {message or 'both stores have what it declares'}")
    call.conclude(
        {"schemas": [_document(state) for state in states],
         "categories": [{"category": slug, "problem": message} for slug, message in found.items()],
         "rights": [dataclasses.asdict(one) for one in lacking],
         "next_steps": ["hal9-migrate db upgrade"] if any(state.behind for state in states) else []},
        problem,
    )  # fmt: skip


@db.command(help=_GRANTS)
@click.option("--store", "only", type=options.STORE, help="One store's only.")
@click.option("--role", "given", multiple=True, metavar="NAME=ROLE", help="The account that stands for a role.")
@options.output
@pass_call
def grants(call: Invocation, only: str | None, given: tuple[str, ...]) -> None:
    from hal9mig.stores import rights

    names = _named(given)
    urls = {
        model.StoreName.FLAT: call.settings.require_flat(),
        model.StoreName.HIERARCHICAL: call.settings.require_hier(),
    }
    documents: list[dict[str, object]] = []
    for store, url in urls.items():
        if only not in (None, store.value):
            continue
        if not call.json:
            call.console.line(f"-- {store}")
        with call.connected(url) as opened:
            for right, statement in rights.grants(opened, store, call.categories(()), names):
                documents.append({"store": store, "statement": statement, "why": right.why})
                if not call.json:
                    call.console.line(statement)
    call.conclude({"grants": documents, "next_steps": ["hal9-migrate db check"]})


def _named(given: tuple[str, ...]) -> dict[str, str]:
    names: dict[str, str] = {}
    for text in given:
        role, equals, account = text.partition("=")
        if role not in _ROLES or not equals or not account:
            raise errors.UsageError(f"--role {text!r} is not NAME=ROLE.", hint=f"names are {', '.join(_ROLES)}")
        names[role] = account
    return names or {role: f"hal9_{role}" for role in _ROLES}


def _table(call: Invocation, states: list[SchemaState]) -> None:
    rows = [[state.name, state.word, state.current, state.head] for state in states]
    call.console.table(["SCHEMA", "STATE", "REVISION", "NEWEST"], rows)


def _document(state: SchemaState) -> dict[str, object]:
    return {"name": state.name, "state": state.word, "current": state.current, "head": state.head}
