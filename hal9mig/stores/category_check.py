"""Whether the two stores have what a category declares."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import psycopg2

from hal9mig import errors
from hal9mig.categories import keys, wire
from hal9mig.categories.declaration import Category, Column, Target
from hal9mig.stores import domains
from hal9mig.stores.connection import Connection

_COLUMNS = f"""
SELECT a.attname, CASE WHEN t.typtype = 'd' THEN format_type({domains.base("t.oid")}, NULL)
       ELSE format_type(a.atttypid, a.atttypmod) END, a.attnotnull,
       a.atthasdef OR a.attidentity <> '' OR a.attgenerated <> '', a.attgenerated <> '',
       coalesce(c.collisdeterministic, true)
  FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid LEFT JOIN pg_collation AS c ON c.oid = a.attcollation
 WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped
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


_KEY_HINT = (
    "give the column a type and a collation in which equal keys have one text, or declare another unique key: "
    "docs/categories.md lists the types"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Found:
    type: str
    not_null: bool
    filled: bool
    generated: bool
    deterministic: bool


def check_category(category: Category, flat: Connection, hier: Connection) -> None:
    """Raise where a store lacks something that the category declares.

    Raises:
        errors.SchemaMismatch: the message lists every missing table, column or key, and every other type.
    """
    _refuse(category, _key_types(domains.category(category, flat), flat, hier), hint=_KEY_HINT)
    _refuse(category, problems(category, flat, hier))


def problems(category: Category, flat: Connection, hier: Connection) -> list[str]:
    """Return what a store lacks, or has and nobody declared, as sentences; none is good."""
    category = domains.category(category, flat)
    found = [
        *_key_types(category, flat, hier),
        *_source_problems(category, flat),
        *_undeclared(category, flat),
        *_target_problems(category, hier),
    ]
    return found or list(_rebuild_problems(category, hier))


def _key_types(category: Category, flat: Connection, hier: Connection) -> list[str]:
    return [*_source_key(category, flat), *_target_keys(category, hier)]


def check_source(category: Category, flat: Connection) -> None:
    """Raise where the flat store lacks something that the category declares.

    Raises:
        errors.SchemaMismatch: as ``check_category``.
    """
    category = domains.category(category, flat)
    _refuse(category, list(_source_key(category, flat)), hint=_KEY_HINT)
    _refuse(category, list(_source_problems(category, flat)))


def _refuse(category: Category, problems: Sequence[str], *, hint: str | None = None) -> None:
    if problems:
        raise errors.SchemaMismatch(
            f"The stores are not as category {category.slug} declares them: {'; '.join(problems)}.",
            hint=hint,
            category=category.slug,
        )


def _source_key(category: Category, flat: Connection) -> Iterable[str]:
    table = category.source.qualified
    return _key_type_problems(f"flat store: {table}", category.key, _columns(flat, table))


def _target_keys(category: Category, hier: Connection) -> Iterable[str]:
    for target in category.owned:
        here = f"hierarchical store: {target.qualified}"
        yield from _key_type_problems(here, target.owner, _columns(hier, target.qualified))


def _source_problems(category: Category, flat: Connection) -> Iterable[str]:
    source = category.source
    table = source.qualified
    found = _columns(flat, table)
    if not found:
        yield f"flat store: table {table} is missing"
        return
    for column in source.columns:
        yield from _column_problems(f"flat store: {table}", column, found)
    if source.version is not None and source.version in found and found[source.version].type != "bigint":
        yield f"flat store: version column {table}.{source.version} is {found[source.version].type}, not bigint"
    keys = _keys(flat, table)
    if not any(sorted(columns) == sorted(source.key) and not_null for _, columns, not_null in keys):
        yield f"flat store: {table} has no primary key or unique NOT NULL key ({', '.join(source.key)})"


def _undeclared(category: Category, flat: Connection) -> Iterable[str]:
    source = category.source
    found = _columns(flat, source.qualified)
    known = {*source.names, *source.ignored, source.version}
    for name, column in found.items():
        if name not in known and not column.generated:
            yield (
                f"flat store: {source.qualified}.{name} is not declared, and would be left behind: "
                f'declare it, or name it in ignored=("{name}",)'
            )
    for name in source.ignored:
        if found and name not in found:
            yield f"flat store: {source.qualified}.{name} is to be ignored, and is not there"


def _target_problems(category: Category, hier: Connection) -> Iterable[str]:
    for target in category.targets:
        here = f"hierarchical store: {target.qualified}"
        found = _columns(hier, target.qualified)
        if not found:
            yield f"hierarchical store: table {target.qualified} is missing"
            continue
        for column in category.typed(target):
            yield from _column_problems(here, column, found)
        for name, column_found in found.items():
            if name not in target.names and column_found.not_null and not column_found.filled:
                yield f"{here}.{name} is NOT NULL without a default, and the category does not write it"
        yield from _key_problems(here, target, hier)


def _key_type_problems(here: str, names: Sequence[str], found: dict[str, _Found]) -> Iterable[str]:
    for name in names:
        if name in found:
            why = keys.refusal(found[name].type, deterministic=found[name].deterministic)
            if why is not None:
                yield f"{here}.{name} {why}"


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
            cursor.execute(f"SELECT * FROM ({query}) AS rebuilt LIMIT 0", ())  # so that %% is one percent sign
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
    for column in category.source.columns:
        if wire.canonical_type(found[column.name]) != wire.canonical_type(column.type):
            yield f"the rebuild query returns {column.name} as {found[column.name]}, not {column.type}"


def _column_problems(here: str, column: Column, found: dict[str, _Found]) -> Iterable[str]:
    if column.name not in found:
        yield f"{here}.{column.name} is missing"
        return
    actual = found[column.name].type
    same = wire.canonical_type(actual) == wire.canonical_type(column.type)
    # A declared length has to be the actual one; without one any length will do.
    if not same or ("(" in column.type and _length(actual) != _length(column.type)):
        yield f"{here}.{column.name} is {actual}, not {column.type}"


def _length(type_name: str) -> str:
    return type_name.partition("(")[2].partition(")")[0].replace(" ", "")


def _columns(opened: Connection, table: str) -> dict[str, _Found]:
    with opened.cursor() as cursor:
        cursor.execute(_COLUMNS, (table,))
        return {
            name: _Found(
                type=type_name, not_null=not_null, filled=filled, generated=generated, deterministic=deterministic
            )
            for name, type_name, not_null, filled, generated, deterministic in cursor.fetchall()
        }


def _keys(opened: Connection, table: str) -> list[tuple[bool, list[str], bool]]:
    with opened.cursor() as cursor:
        cursor.execute(_KEYS, (table,))
        return cursor.fetchall()
