"""Rights: what each role needs on the two stores, said once; the GRANTs and the checks are made of it."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator, Mapping, Sequence

import psycopg2.errors
from psycopg2 import sql

from hal9mig import errors, model
from hal9mig.categories.declaration import Category
from hal9mig.stores.connection import Connection

ROLES = ("owner", "worker", "operator", "application", "reader")
_FLAT, _HIER = model.StoreName.FLAT, model.StoreName.HIERARCHICAL
_BOTH = (_FLAT, _HIER)
_RUNNING = ("worker", "operator")
#: How long a probe waits for a lock: it stands in nobody's way.
_PATIENCE = "200ms"


class RightKind(enum.StrEnum):
    """What a right is on."""

    DATABASE = "database"
    SCHEMA = "schema"
    TABLE = "table"
    SEQUENCE = "sequence"
    #: Only a table's owner, and who is a member of it, may do what is done with it.
    OWNERSHIP = "ownership"


#: Stands for the schemas or the tables of the categories in force.
STATE = "state"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Right:
    """One right.

    Attributes:
        on: a schema's name, ``schema.table``, ``schema.*`` for all it holds, or ``state``.
        privileges: none for an ownership.
    """

    roles: tuple[str, ...]
    kind: RightKind
    on: str = ""
    privileges: tuple[str, ...] = ()
    stores: tuple[model.StoreName, ...] = _BOTH
    why: str


_WRITES = ("SELECT", "INSERT", "UPDATE", "DELETE")

RIGHTS: tuple[Right, ...] = (
    Right(roles=("owner", *_RUNNING), kind=RightKind.DATABASE, privileges=("CREATE",),
          why="db upgrade makes schemas, and a restore makes its shadow tables in schemas of their own"),
    Right(roles=("owner", *_RUNNING), kind=RightKind.SCHEMA, on=STATE, privileges=("USAGE", "CREATE"),
          why="db upgrade makes tables; a restore moves tables into place"),
    Right(roles=("application", "reader"), kind=RightKind.SCHEMA, on=STATE, privileges=("USAGE",),
          why="names the tables in it"),
    Right(roles=("application", *_RUNNING), kind=RightKind.TABLE, on=STATE, privileges=_WRITES,
          why="reads and writes records"),
    Right(roles=("reader",), kind=RightKind.TABLE, on=STATE, privileges=("SELECT",),
          why="reports and status look at records"),
    Right(roles=("owner",), kind=RightKind.OWNERSHIP, on=STATE,
          why="db upgrade changes the tables that are there"),
    Right(roles=(*_RUNNING, "reader"), kind=RightKind.TABLE, on="flat.alembic_version", privileges=("SELECT",),
          stores=(_FLAT,), why="tells how far the schema is"),
    Right(roles=(*_RUNNING, "reader"), kind=RightKind.TABLE, on="hier.alembic_version", privileges=("SELECT",),
          stores=(_HIER,), why="tells how far the schema is"),
    Right(roles=_RUNNING, kind=RightKind.OWNERSHIP, on=STATE,
          why="capture puts triggers on a table and takes them off, a restore replaces it: only its owner may"),
    Right(roles=_RUNNING, kind=RightKind.SCHEMA, on="hal9cap", privileges=("USAGE", "CREATE"),
          why="capture makes its trigger functions there"),
    Right(roles=("application", "reader"), kind=RightKind.SCHEMA, on="hal9cap", privileges=("USAGE",),
          why="reads the write mode there"),
    Right(roles=_RUNNING, kind=RightKind.TABLE, on="hal9cap.*", privileges=_WRITES,
          why="the journal, and what a restore says about itself"),
    Right(roles=_RUNNING, kind=RightKind.SEQUENCE, on="hal9cap.*", privileges=("USAGE", "SELECT", "UPDATE"),
          why="a switch sets the write mode; the journal numbers its rows"),
    Right(roles=("application", "reader"), kind=RightKind.SEQUENCE, on="hal9cap.state", privileges=("SELECT",),
          why="reads the write mode"),
    Right(roles=("application", "reader"), kind=RightKind.TABLE, on="hal9cap.journal", privileges=("SELECT",),
          why="tells how far the other store is behind; triggers write it with their owner's rights"),
    Right(roles=("reader",), kind=RightKind.TABLE, on="hal9cap.alembic_version", privileges=("SELECT",),
          why="tells how far the schema is"),
    Right(roles=_RUNNING, kind=RightKind.SCHEMA, on="hal9mig", privileges=("USAGE",), stores=(_HIER,),
          why="the ledger"),
    Right(roles=_RUNNING, kind=RightKind.TABLE, on="hal9mig.*", privileges=_WRITES, stores=(_HIER,),
          why="keeps runs, batches and the mode"),
    Right(roles=_RUNNING, kind=RightKind.SEQUENCE, on="hal9mig.*", privileges=("USAGE", "SELECT"), stores=(_HIER,),
          why="numbers what the ledger keeps"),
    Right(roles=("reader",), kind=RightKind.SCHEMA, on="hal9mig", privileges=("USAGE",), stores=(_HIER,),
          why="the ledger"),
    Right(roles=("reader",), kind=RightKind.TABLE, on="hal9mig.*", privileges=("SELECT",), stores=(_HIER,),
          why="reports and status"),
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Missing:
    """A right that an account lacks on one store, and the statement that mends it."""

    store: model.StoreName
    what: str
    grant: str
    why: str


def state_tables(categories: Sequence[Category], store: model.StoreName) -> list[tuple[str, str]]:
    """Return schema and name of each table that these categories have in a store."""
    found: list[tuple[str, str]] = []
    for category in categories:
        if store is _FLAT:
            found.append((category.source.schema, category.source.table))
        else:
            found += [(target.schema, target.table) for target in category.targets]
    return list(dict.fromkeys(found))


def grants(
    connection: Connection, store: model.StoreName, categories: Sequence[Category], names: Mapping[str, str]
) -> Iterator[tuple[Right, str]]:
    """Give the statements for one store; each may be run again.

    Args:
        names: the account that stands for each role to print for.
    """
    for right in RIGHTS:
        if store not in right.stores:
            continue
        for role in right.roles:
            if role in names:
                for statement in _statements(connection, store, categories, right, names[role]):
                    yield right, statement


def _statements(
    connection: Connection, store: model.StoreName, categories: Sequence[Category], right: Right, account: str
) -> Iterator[str]:
    to = sql.SQL(" TO {}").format(sql.Identifier(account))
    if right.kind is RightKind.OWNERSHIP:
        for owner in dict.fromkeys(_owners(connection, state_tables(categories, store)).values()):
            # A role is no member of itself, and PostgreSQL says so with an error.
            if owner != account:
                yield (sql.SQL("GRANT {}").format(sql.Identifier(owner)) + to).as_string(connection) + ";"
        return
    for target in _objects(connection, store, categories, right):
        text = sql.SQL("GRANT {} ON ").format(sql.SQL(", ".join(right.privileges))) + target + to
        yield text.as_string(connection) + ";"


def _objects(
    connection: Connection, store: model.StoreName, categories: Sequence[Category], right: Right
) -> Iterator[sql.Composable]:
    kind = sql.SQL(right.kind.upper() + " ")
    if right.kind is RightKind.DATABASE:
        yield kind + sql.Identifier(connection.info.dbname)
        return
    tables = state_tables(categories, store)
    if right.on == STATE:
        wanted = dict.fromkeys((schema,) for schema, _ in tables) if right.kind is RightKind.SCHEMA else tables
        for parts in wanted:
            yield kind + sql.Identifier(*parts)
        return
    schema, _, name = right.on.partition(".")
    if name == "*":
        yield sql.SQL(f"ALL {right.kind.upper()}S IN SCHEMA ") + sql.Identifier(schema)
    else:
        yield kind + sql.Identifier(*filter(None, (schema, name)))


def _owners(connection: Connection, tables: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT nspname::text, relname::text, pg_get_userbyid(relowner)::text FROM pg_class c "
            "JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind IN ('r', 'p') AND (nspname, relname) IN "
            "(SELECT * FROM unnest(%s::name[], %s::name[]))",
            ([schema for schema, _ in tables], [name for _, name in tables]),
        )
        return {(schema, name): owner for schema, name, owner in cursor.fetchall()}


def missing(connection: Connection, store: model.StoreName, categories: Sequence[Category], role: str) -> list[Missing]:
    """Return every right of a role that the connection's account lacks on a store; nothing is changed."""
    found: list[Missing] = []
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        account = str((cursor.fetchone() or ("",))[0])
    for right in RIGHTS:
        if store in right.stores and role in right.roles:
            found += _lacking(connection, store, categories, right, account)
    if role not in ("application", "reader"):
        found += _tried(connection, store, account)
    connection.rollback()
    return list({(one.store, one.grant): one for one in reversed(found)}.values())[::-1]


def _lacking(
    connection: Connection, store: model.StoreName, categories: Sequence[Category], right: Right, account: str
) -> Iterator[Missing]:
    user = sql.Identifier(account)
    for label, target, question, arguments in _questions(connection, store, categories, right):
        with connection.cursor() as cursor:
            cursor.execute(question, arguments)
            lacks = [row[0] for row in cursor.fetchall()]
        if not lacks:
            continue
        if right.kind is RightKind.OWNERSHIP:
            grant = sql.SQL("GRANT {} TO {}").format(sql.Identifier(lacks[0]), user)
            what = f"ownership of {label}, which belongs to {lacks[0]}"
        else:
            grant = sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(", ".join(lacks)), target, user)
            what = f"{', '.join(lacks)} on {right.kind} {label}"
        yield Missing(store=store, what=what, grant=grant.as_string(connection) + ";", why=right.why)


_Question = tuple[str, sql.Composable, str, tuple[object, ...]]


def _questions(
    connection: Connection, store: model.StoreName, categories: Sequence[Category], right: Right
) -> Iterator[_Question]:
    asked = list(right.privileges)
    if right.kind is RightKind.DATABASE:
        name = connection.info.dbname
        yield (name, sql.SQL("DATABASE ") + sql.Identifier(name),
               "SELECT p FROM unnest(%s::text[]) p WHERE NOT has_database_privilege(current_database(), p)",
               (asked,))  # fmt: skip
        return
    tables = state_tables(categories, store)
    if right.kind is RightKind.SCHEMA:
        for name in dict.fromkeys(schema for schema, _ in tables) if right.on == STATE else [right.on]:
            # What is not there yet is made by db upgrade, which db check names anyway.
            yield (name, sql.SQL("SCHEMA ") + sql.Identifier(name),
                   "SELECT p FROM unnest(%s::text[]) p, pg_namespace n WHERE nspname = %s "
                   "AND NOT has_schema_privilege(n.oid, p)", (asked, name))  # fmt: skip
        return
    for schema, name in tables if right.on == STATE else _within(connection, right):
        where = "pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = %s AND relname = %s AND NOT "
        label = f"{schema}.{name}"
        if right.kind is RightKind.OWNERSHIP:
            yield (label, sql.SQL(""),
                   f"SELECT pg_get_userbyid(relowner)::text FROM {where} pg_has_role(relowner, 'USAGE')",
                   (schema, name))  # fmt: skip
        else:
            function = f"has_{right.kind}_privilege"
            yield (label, sql.SQL(right.kind.upper() + " ") + sql.Identifier(schema, name),
                   f"SELECT p FROM unnest(%s::text[]) p, {where} {function}(c.oid, p)",
                   (asked, schema, name))  # fmt: skip


def _within(connection: Connection, right: Right) -> list[tuple[str, str]]:
    schema, _, name = right.on.partition(".")
    if name != "*":
        return [(schema, name)]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
            "WHERE nspname = %s AND relkind = ANY(%s) ORDER BY relname",
            (schema, ["S"] if right.kind is RightKind.SEQUENCE else ["r", "p"]),
        )
        return [(schema, str(found)) for (found,) in cursor.fetchall()]


def _tried(connection: Connection, store: model.StoreName, account: str) -> Iterator[Missing]:
    """Make what a restore makes first: an event trigger or a hook may forbid what a GRANT allows; to be rolled back."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{_PATIENCE}'")
        try:
            cursor.execute("CREATE SCHEMA hal9_probe; CREATE TABLE hal9_probe.probe (id integer PRIMARY KEY)")
        except psycopg2.errors.InsufficientPrivilege:
            grant = sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(
                sql.Identifier(connection.info.dbname), sql.Identifier(account)
            )
            yield Missing(
                store=store, what=f"CREATE on database {connection.info.dbname}", grant=grant.as_string(cursor) + ";",
                why="a restore makes its shadow tables in schemas of their own",
            )  # fmt: skip
        except psycopg2.errors.DuplicateSchema:
            pass  # somebody else checks, too: what they could make, the catalogs have answered for this account


def require(flat: Connection, hier: Connection, categories: Sequence[Category], role: str) -> None:
    """Raise where the account lacks a right of a role on either store.

    Raises:
        errors.RightsMissing: the message names each that is missing, and the hint each GRANT.
    """
    lacking = [*missing(flat, _FLAT, categories, role), *missing(hier, _HIER, categories, role)]
    if lacking:
        raise errors.RightsMissing(
            "Rights are missing: " + "; ".join(f"{one.what} ({one.store})" for one in lacking) + ".",
            hint="\n".join(one.grant for one in lacking),
        )
