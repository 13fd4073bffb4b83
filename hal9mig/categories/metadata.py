"""Operational metadata: one table of everything becomes a table for each type."""

from __future__ import annotations

from hal9mig.categories.declaration import Category, Column, FilterField, Pass, Role, Source, Target

#: Each type of entry and the table that holds it.
TABLES = {"metrics": "metrics", "logs": "log_entries", "traces": "trace_spans", "audit": "audit_events"}


def _root(kind: str, table: str) -> Target:
    return Target(
        schema="hier",
        table=table,
        role=Role.ROOT,
        columns=(
            Pass("id", "id"),
            Pass("source", "source"),
            Pass("payload", "payload"),
            Pass("recorded_at", "recorded_at"),
            Pass("source_version", "version"),
        ),
        key=("id",),
        owner=("id",),
        when=("type", kind),
        version="source_version",
    )


_REBUILD = " UNION ALL ".join(
    f"""
SELECT {table}.id, '{kind}'::text AS type, {table}.source, {table}.payload, {table}.recorded_at,
       {table}.source_version AS version
  FROM hier.{table}
 WHERE RANGE({table}.id)
"""
    for kind, table in TABLES.items()
)

CATEGORY = Category(
    slug="metadata",
    title="Operational Metadata",
    line="Metadata",
    aliases=("operational-metadata",),
    order=5,
    source=Source(
        schema="flat",
        table="operational_metadata",
        columns=(
            Column("id", "bigint"),
            Column("type", "text"),
            Column("source", "text"),
            Column("payload", "jsonb"),
            Column("recorded_at", "timestamptz"),
            Column("version", "bigint"),
        ),
        key=("id",),
        version="version",
    ),
    targets=tuple(_root(kind, table) for kind, table in TABLES.items()),
    rebuild=_REBUILD,
    type_field="type",
    filters={
        "id": FilterField("id", "bigint"),
        "type": FilterField("type", "text"),
        "source": FilterField("source", "text"),
        "recorded_at": FilterField("recorded_at", "timestamptz"),
    },
)
