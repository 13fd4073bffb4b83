"""Whether the two stores have what a category declares."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import psycopg2

from hal9mig import errors
from hal9mig.categories import wire
from hal9mig.categories.declaration import Category, Column, Pass, Target
from hal9mig.stores.connection import Connection

# What a domain, or one over another, is made of; a type that is none is itself.
_BASE = """
(WITH RECURSIVE made(oid) AS (
   SELECT {type}::oid UNION ALL SELECT t.typbasetype FROM pg_type AS t JOIN made USING (oid) WHERE t.typtype = 'd')
 SELECT format_type(made.oid, NULL) FROM made JOIN pg_type AS t USING (oid) WHERE t.typtype <> 'd')
"""
_BASES = f"SELECT n, {_BASE.format(type='to_regtype(n)')} FROM unnest(%s::text[]) AS n"
_COLUMNS = f"""
SELECT a.attname, format_type(a.atttypid, a.atttypmod), {_BASE.format(type="a.atttypid")}, a.attnotnull,
       a.atthasdef OR a.attidentity <> '' OR a.attgenerated <> '', a.attgenerated <> ''
  FROM pg_attribute AS a
 WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped
"""
_LOOSE = """
SELECT a.attname::text, a.atttypid = 'numeric'::regtype AND a.atttypmod = -1,
       CASE WHEN c.collisdeterministic THEN NULL ELSE c.collname::text END
  FROM pg_attribute AS a LEFT JOIN pg_collation AS c ON c.oid = a.attcollation
 WHERE a.attrelid = to_regclass(%s) AND a.attname = ANY(%s::name[])
"""
# An index with a predicate or an expression does not make a row unique; nor does a column that may be NULL.
_KEYS = """
SELECT i.indisprimary, array_agg(a.attname::text ORDER BY k.position), bool_and(a.attnotnull)
  FROM pg_index AS i
 CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(attnum, position)
  JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
 WHERE i.indrelid = to_regclass(%s) AND i.indisunique AND i.indisvalid
   AND i.indpred IS NULL AND i.indexprs IS NULL AND k.position <= i.indnkeyatts
 GROUP BY i.indexrelid, i.indisprimary
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Found:
    type: str
    base: str
    not_null: bool
    filled: bool
    generated: bool


def check_category(category: Category, flat: Connection, hier: Connection) -> None:
    """Raise where a store lacks something that the category declares.

    Raises:
        errors.SchemaMismatch: the message lists every missing table, column or key, and every other type.
    """
    _refuse(category, problems(category, flat, hier))


def problems(category: Category, flat: Connection, hier: Connection) -> list[str]:
    """Return what a store lacks, or has and nobody declared, as sentences; none is good."""
    found = [
        *_source_problems(category, flat),
        *_undeclared(category, flat),
        *_identities(category, flat),
        *_target_problems(category, hier),
    ]
    return found or list(_rebuild_problems(category, hier))


def check_source(category: Category, flat: Connection) -> None:
    """Raise where the flat store lacks something that the category declares.

    Raises:
        errors.SchemaMismatch: as ``check_category``.
    """
    _refuse(category, list(_source_problems(category, flat)))


def _refuse(category: Category, found: Sequence[str]) -> None:
    if found:
        raise errors.SchemaMismatch(
            f"The stores are not as category {category.slug} declares them: {'; '.join(found)}.",
            category=category.slug,
        )


def _source_problems(category: Category, flat: Connection) -> Iterable[str]:
    source = category.source
    table = f"{source.schema}.{source.table}"
    found = _columns(flat, table)
    if not found:
        yield f"flat store: table {table} is missing"
        return
    bases = _bases(flat, [column.type for column in source.columns])
    for column in source.columns:
        yield from _column_problems(f"flat store: {table}", column, found, bases)
    if source.version is not None and source.version in found and found[source.version].type != "bigint":
        yield f"flat store: version column {table}.{source.version} is {found[source.version].type}, not bigint"
    keys = _keys(flat, table)
    if not any(sorted(columns) == sorted(source.key) and not_null for _, columns, not_null in keys):
        yield f"flat store: {table} has no primary key or unique NOT NULL key ({', '.join(source.key)})"


def _undeclared(category: Category, flat: Connection) -> Iterable[str]:
    source = category.source
    table = f"{source.schema}.{source.table}"
    found = _columns(flat, table)
    known = {*source.names, *source.ignored, source.version}
    for name, column in found.items():
        if name not in known and not column.generated:
            yield (
                f"flat store: {table}.{name} is not declared, and would be left behind: "
                f'declare it, or name it in ignored=("{name}",)'
            )
    for name in source.ignored:
        if found and name not in found:
            yield f"flat store: {table}.{name} is to be ignored, and is not there"


def _identities(category: Category, flat: Connection) -> Iterable[str]:
    """Say which key columns hold values that are equal and not spelled alike.

    A key's text is what is locked, marked and held: with two texts of one key two appliers would not exclude each
    other, and the older one could write last.
    """
    source = category.source
    table = f"{source.schema}.{source.table}"
    with flat.cursor() as cursor:
        cursor.execute(_LOOSE, (table, list(source.key)))
        for name, loose, collation in cursor.fetchall():
            if loose:
                yield (
                    f"flat store: key column {table}.{name} is numeric without a scale, so that 1.0 and 1.00 are one "
                    "key and two texts: give it a scale, as numeric(20,0)"
                )
            if collation:
                yield (
                    f"flat store: key column {table}.{name} has the nondeterministic collation {collation}, under "
                    "which two texts are one key: use a deterministic one"
                )


def _target_problems(category: Category, hier: Connection) -> Iterable[str]:
    types = {column.name: column.type for column in category.source.columns}
    for target in category.targets:
        here = f"hierarchical store: {target.qualified}"
        found = _columns(hier, target.qualified)
        if not found:
            yield f"hierarchical store: table {target.qualified} is missing"
            continue
        declared = [
            Column(column.name, types[column.source] if isinstance(column, Pass) else column.type)
            for column in target.columns
        ]
        bases = _bases(hier, [column.type for column in declared])
        for column in declared:
            yield from _column_problems(here, column, found, bases)
        for name, column_found in found.items():
            if name not in target.names and column_found.not_null and not column_found.filled:
                yield f"{here}.{name} is NOT NULL without a default, and the category does not write it"
        yield from _key_problems(here, target, hier)


def _key_problems(here: str, target: Target, hier: Connection) -> Iterable[str]:
    primary = [tuple(columns) for is_primary, columns, _ in _keys(hier, target.qualified) if is_primary]
    if not primary:
        yield f"{here} has no primary key"
    elif primary[0] != target.key:
        # The order counts: reads of a key range go through this index.
        yield f"{here} has primary key ({', '.join(primary[0])}), not ({', '.join(target.key)})"


def _rebuild_problems(category: Category, hier: Connection) -> Iterable[str]:
    query = category.rebuild_where(lambda columns: "false")
    with hier.cursor() as cursor:
        cursor.execute("SAVEPOINT hal9mig_inspect")
        try:
            cursor.execute(f"SELECT * FROM ({query}) AS rebuilt LIMIT 0")
        except psycopg2.Error as error:
            cursor.execute("ROLLBACK TO SAVEPOINT hal9mig_inspect")
            yield f"the rebuild query fails: {' '.join(str(error).split())}"
            return
        described = [(column.name, column.type_code) for column in cursor.description or ()]
        found: dict[str, str] = {}
        for name, oid in described:
            cursor.execute("SELECT format_type(%s, NULL)", (oid,))
            row = cursor.fetchone()
            found[name] = row[0] if row else "unknown"
        cursor.execute("RELEASE SAVEPOINT hal9mig_inspect")
    if [name for name, _ in described] != list(category.source.names):
        yield f"the rebuild query returns ({', '.join(found)}), not ({', '.join(category.source.names)})"
        return
    bases = _bases(hier, [column.type for column in category.source.columns])
    for column in category.source.columns:
        if wire.canonical_type(found[column.name]) != wire.canonical_type(bases[column.type]):
            yield f"the rebuild query returns {column.name} as {found[column.name]}, not {column.type}"


def _column_problems(here: str, column: Column, found: Mapping[str, _Found], bases: Mapping[str, str]) -> Iterable[str]:
    if column.name not in found:
        yield f"{here}.{column.name} is missing"
        return
    actual = found[column.name].type
    # A domain is declared by its own name or by what it is made of: its bytes are the same.
    same = wire.canonical_type(found[column.name].base) == wire.canonical_type(bases[column.type])
    # A declared length has to be the actual one; without one any length will do.
    if not same or ("(" in column.type and _length(actual) != _length(column.type)):
        yield f"{here}.{column.name} is {actual}, not {column.type}"


def _length(type_name: str) -> str:
    return type_name.partition("(")[2].partition(")")[0].replace(" ", "")


def _bases(opened: Connection, names: Sequence[str]) -> dict[str, str]:
    """Return for each type's name what it is made of, as the server resolves it; an unknown name stands for itself."""
    with opened.cursor() as cursor:
        cursor.execute(_BASES, (list(names),))
        return {name: base or name for name, base in cursor.fetchall()}


def _columns(opened: Connection, table: str) -> dict[str, _Found]:
    with opened.cursor() as cursor:
        cursor.execute(_COLUMNS, (table,))
        return {
            name: _Found(type=type_name, base=base, not_null=not_null, filled=filled, generated=generated)
            for name, type_name, base, not_null, filled, generated in cursor.fetchall()
        }


def _keys(opened: Connection, table: str) -> list[tuple[bool, list[str], bool]]:
    with opened.cursor() as cursor:
        cursor.execute(_KEYS, (table,))
        return cursor.fetchall()
