"""Tables as they stand in a store, read and cut by ranges of their keys."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from hal9mig import errors, model
from hal9mig.categories import identifiers
from hal9mig.categories.declaration import Category, Column
from hal9mig.stores import domains, projection
from hal9mig.stores.connection import Connection, Cursor
from hal9mig.stores.projection import Params

#: Bytes of a table without statistics are taken to be in rows of this size.
_GUESSED_ROW = 500


@dataclasses.dataclass(frozen=True, kw_only=True)
class Relation:
    """A table of a store.

    Attributes:
        category: the slug it belongs to; empty for the journals and the quarantine.
        role: ``source``, ``root``, ``part``, ``shared`` or ``ledger``.
        columns: all that hold data, in the table's order; generated ones are left out.
        key: the columns that tell its rows apart, in the order of their index.
        owner: the columns that hold the record's key; none where a row belongs to no record.
    """

    store: model.StoreName
    category: str
    schema: str
    table: str
    role: str
    columns: tuple[Column, ...]
    key: tuple[Column, ...]
    owner: tuple[str, ...] = ()

    @property
    def qualified(self) -> str:
        """``schema.table``, in quotes where it needs them."""
        return identifiers.qualified(self.schema, self.table)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names in quotes."""
        return tuple(identifiers.quoted(column.name) for column in self.columns)

    def range(self, after: model.Key | None, upto: model.Key | None, alias: str = "t") -> tuple[str, Params]:
        """Return the predicate of the rows above ``after`` and up to ``upto``, in the server's own order."""
        columns = [identifiers.quoted(column.name, alias) for column in self.key]
        return projection.between(columns, [column.type for column in self.key], after, upto)

    def select(self, after: model.Key | None, upto: model.Key | None) -> tuple[str, Params]:
        """Return the query of a range's rows, whole, in the order of their keys."""
        where, params = self.range(after, upto)
        columns = ", ".join(f"t.{name}" for name in self.names)
        return f"SELECT {columns} FROM {self.qualified} t WHERE {where} ORDER BY {self.order}", params

    @property
    def order(self) -> str:
        """The key's columns of alias ``t``, as a list to order by."""
        return identifiers.listed((column.name for column in self.key), "t")


@contextlib.contextmanager
def spelled_out(cursor: Cursor) -> Iterator[None]:
    """Have the server print every name with its schema for the length of a block of the open transaction.

    Only while definitions are read: what is executed finds its functions as the account always does.
    """
    cursor.execute("SELECT current_setting('search_path'), set_config('search_path', 'pg_catalog, pg_temp', true)")
    (before, _) = cursor.fetchone() or ("", "")
    yield
    cursor.execute("SELECT set_config('search_path', %s, true)", (before,))


def named(oid: str) -> str:
    """Return the expression of a table's name as ``Relation.qualified`` has it."""
    plain, reserved = "~ '^[a-z_][a-z0-9_]*$'", ", ".join(f"'{word}'" for word in sorted(identifiers.RESERVED))
    return (
        f"(SELECT CASE WHEN n.nspname {plain} AND n.nspname NOT IN ({reserved}) THEN n.nspname "
        "ELSE '\"' || replace(n.nspname, '\"', '\"\"') || '\"' END || '.' || "
        f"CASE WHEN c.relname {plain} THEN c.relname ELSE '\"' || replace(c.relname, '\"', '\"\"') || '\"' END "
        f"FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {oid})"
    )


def relations(connection: Connection, categories: Sequence[Category], store: model.StoreName) -> list[Relation]:
    """Return the tables of these categories in a store, each once.

    Raises:
        errors.SchemaMismatch: one is missing, or has no such key.
    """
    found: dict[str, Relation] = {}
    for category in categories:
        for schema, table, role, key, owner in _declared(category, store):
            qualified = identifiers.qualified(schema, table)
            if qualified in found:
                continue
            columns = _columns(connection, qualified, key)
            if not columns:
                raise errors.SchemaMismatch(f"The {store} store has no table {qualified}.")
            kinds = {column.name: column for column in columns}
            if not set(key) <= kinds.keys():
                raise errors.SchemaMismatch(f"Table {qualified} of the {store} store has no key ({', '.join(key)}).")
            found[qualified] = Relation(
                store=store, category=category.slug, schema=schema, table=table, role=role, columns=columns,
                key=tuple(kinds[name] for name in key), owner=owner,
            )  # fmt: skip
    return list(found.values())


def _declared(
    category: Category, store: model.StoreName
) -> Iterable[tuple[str, str, str, tuple[str, ...], tuple[str, ...]]]:
    if store is model.StoreName.FLAT:
        source = category.source
        yield source.schema, source.table, "source", source.key, source.key
        return
    for target in category.targets:
        yield target.schema, target.table, target.role.value, target.key, target.owner


def _columns(connection: Connection, table: str, key: Sequence[str] = ()) -> tuple[Column, ...]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT attname, format_type(atttypid, atttypmod), "
            f"format_type({domains.base('atttypid')}, NULL), {domains.base('atttypid')} <> atttypid FROM pg_attribute "
            "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped AND attgenerated = '' "
            "ORDER BY attnum",
            (table,),
        )
        # Of a key what a domain is over: its text is read without the server.
        return tuple(
            Column(name, over if is_domain and name in key else kind)
            for name, kind, over, is_domain in cursor.fetchall()
        )


def journal(store: model.StoreName) -> Relation:
    """Return a store's journal of written keys."""
    columns = (
        Column("id", "bigint"), Column("category", "text"), Column("key", "text[]"),
        Column("at", "timestamp with time zone"),
    )  # fmt: skip
    return Relation(
        store=store, category="", schema="hal9cap", table="journal", role="ledger", columns=columns, key=columns[:1]
    )


def quarantine(connection: Connection) -> Relation:
    """Return the ledger's table of records that are held back."""
    columns = _columns(connection, "hal9mig.quarantine")
    return Relation(
        store=model.StoreName.HIERARCHICAL, category="", schema="hal9mig", table="quarantine", role="ledger",
        columns=columns, key=tuple(column for column in columns if column.name == "id"),
    )  # fmt: skip


def stride(cursor: Cursor, relation: Relation, after: model.Key | None, size: int) -> tuple[int, model.Key | None]:
    """Return how many rows, at most ``size``, follow a key, and the last one's key (None: no row)."""
    where, params = relation.range(after, None)
    texts = ", ".join(f"{identifiers.quoted(column.name, 'k')}::text" for column in relation.key)
    # LIMIT outside: one pass over the index that stops after the stride, however large the table.
    cursor.execute(
        f"SELECT n, {texts} FROM (SELECT {relation.order}, row_number() OVER (ORDER BY {relation.order}) AS n "
        f"FROM {relation.qualified} t WHERE {where} ORDER BY {relation.order} LIMIT %s) k ORDER BY n DESC LIMIT 1",
        [*params, size],
    )
    row = cursor.fetchone()
    return (0, None) if row is None else (int(row[0]), tuple(map(str, row[1:])))


def weigh(cursor: Cursor, relation: Relation) -> tuple[int, int]:
    """Return a table's rows, as the statistics have them, and its bytes, those stored apart and its partitions' too."""
    cursor.execute(
        "SELECT sum(greatest(c.reltuples, 0))::bigint, sum(pg_table_size(c.oid))::bigint, "
        "bool_or(c.reltuples < 0 AND pg_relation_size(c.oid) > 0) "
        "FROM pg_class c WHERE c.relkind <> 'p' "
        "AND (c.oid = %s::regclass OR c.oid IN (SELECT relid FROM pg_partition_tree(%s::regclass)))",
        (relation.qualified, relation.qualified),
    )
    rows, size, unknown = cursor.fetchone() or (0, 0, False)
    rows, size = int(rows or 0), int(size or 0)
    return (max(rows, size // _GUESSED_ROW) if unknown else rows), size
