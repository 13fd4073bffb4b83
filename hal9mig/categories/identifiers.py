"""Names as SQL has them: the one place where they are quoted, and where a longer one is made out of several."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
#: Halves of characters, which Python's texts may hold alone.
_HALVES = re.compile("[\ud800-\udfff]")
#: The server cuts a longer name off, in bytes, and then two may be one.
LONGEST = 63
_WORDS = """
    all analyse analyze and any array as asc asymmetric authorization between bigint binary bit boolean both case
    cast char character check coalesce collate collation column concurrently constraint create cross current_catalog
    current_date current_role current_schema current_time current_timestamp current_user dec decimal default
    deferrable desc distinct do else end except exists extract false fetch float for foreign freeze from full grant
    greatest group grouping having ilike in initially inner inout int integer intersect interval into is isnull join
    json json_array json_arrayagg json_exists json_object json_objectagg json_query json_scalar json_serialize
    json_table json_value lateral leading least left like limit localtime localtimestamp merge_action national
    natural nchar none normalize not notnull null nullif numeric offset on only or order out outer overlaps overlay
    placing position precision primary real references returning right row select session_user setof similar
    smallint some substring symmetric system_user table tablesample then time timestamp to trailing treat trim true
    union unique user using values varchar variadic verbose when where window with xmlattributes xmlconcat xmlelement
    xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable
"""
#: Words that are no schema's name without quotes; behind a dot every word is a name.
RESERVED = frozenset(_WORDS.split())


def problem(name: str, *, table: bool = False) -> str | None:
    """Return what keeps a name from being declared; None where nothing does."""
    if not name or not storable(name):
        return f"{name!r} is no SQL name"
    if len(name.encode()) > LONGEST:
        return f"{name!r} is longer than the {LONGEST} bytes of a SQL name"
    if table and "%" in name:
        return f"{name!r} holds a percent sign, which the name of a table or schema must not"
    return None


def storable(text: str) -> bool:
    """Whether a database takes this text."""
    return "\0" not in text and not _HALVES.search(text)


def quoted(name: str, alias: str = "") -> str:
    """Return a column's name in quotes, after the alias of its table.

    A percent sign in it is escaped, since the driver would take it for a parameter's.
    """
    escaped = name.replace('"', '""')
    whole = f'"{escaped}"'
    if "%" in name:
        escaped = escaped.replace("\\", "\\\\").replace("%", "\\0025")
        whole = f'U&"{escaped}"'
    return f"{alias}.{whole}" if alias else whole


def listed(names: Iterable[str], alias: str = "") -> str:
    """Return columns as a list."""
    return ", ".join(each(names, alias))


def each(names: Iterable[str], alias: str = "") -> list[str]:
    """Return columns one by one."""
    return [quoted(name, alias) for name in names]


def same(left: str, names: Iterable[str], right: str, others: Iterable[str]) -> str:
    """Return the predicate that columns of one alias equal those of another."""
    pairs = zip(names, others, strict=True)
    return " AND ".join(f"{quoted(one, left)} = {quoted(other, right)}" for one, other in pairs)


def schema(name: str) -> str:
    """Return a schema's name, in quotes only where it needs them, so that what is plain is shown as it is."""
    return name if _PLAIN.fullmatch(name) and name not in RESERVED else quoted(name)


def qualified(schema_name: str, table: str) -> str:
    """Return ``schema.table`` as SQL and ``regclass`` both take it; it also tells tables apart where they are named."""
    return f"{schema(schema_name)}.{table if _PLAIN.fullmatch(table) else quoted(table)}"


def derived(prefix: str, *parts: str) -> str:
    """Return a plain name made of several: what is too long, or could be another's, ends in a hash of them."""
    whole = "_".join([prefix, *parts])
    alone = all("_" not in part for part in parts[:-1])
    if alone and _PLAIN.fullmatch(whole) and len(whole) <= LONGEST:
        return whole
    digest = hashlib.blake2s("\0".join(parts).encode(), digest_size=8).hexdigest()
    plain = re.sub(r"[^a-z0-9_]", "_", whole.lower())
    return f"{plain[: LONGEST - 17]}_{digest}"


def folder(schema_name: str, table: str) -> str:
    """Return the name of a table's folder: ``schema.table``, or a plain one where that is none on every storage."""
    whole = f"{schema_name}.{table}"
    return whole if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", whole) else derived("table", schema_name, table)


def pattern(schema_name: str, table: str) -> str:
    """Return the regular expression of a table's name in a query somebody has written, with quotes or without."""
    parts = []
    for name in (schema_name, table):
        inside = re.escape(name.replace('"', '""'))
        parts.append(f'(?:{inside}|"{inside}")' if _PLAIN.fullmatch(name) else f'"{inside}"')
    return rf'(?<![\w."]){parts[0]}\.{parts[1]}(?![\w"])'


def parted(qualified_name: str) -> tuple[str, str]:
    """Return the schema and the table that ``qualified`` was made of."""
    found = re.fullmatch(r'("(?:[^"]|"")*"|[^".]+)\.("(?:[^"]|"")*"|[^".]+)', qualified_name)
    if found is None:
        raise ValueError(f"{qualified_name!r} is not a table's name behind its schema's")
    first, second = (part[1:-1].replace('""', '"') if part[0] == '"' else part for part in found.groups())
    return first, second
