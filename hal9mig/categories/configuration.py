"""Configuration: a dotted key becomes one node per segment, with the value at its leaf."""

from __future__ import annotations

from collections.abc import Iterable

from hal9mig.categories.declaration import (
    Category,
    Column,
    Element,
    Explode,
    FilterField,
    Pass,
    Role,
    Source,
    Target,
)


def nodes(key: bytes) -> Iterable[tuple[str, str | None, str, int]]:
    """Return path, parent's path, name and depth of every node from the root down to the key.

    Splitting at each dot is one-to-one, also with empty segments: ``a..b`` is ``a``, ``a.``, ``a..b``.
    A node may hold a value and have children at once.
    """
    segments = key.decode().split(".")
    rows: list[tuple[str, str | None, str, int]] = []
    parent: str | None = None
    for depth, name in enumerate(segments, start=1):
        path = name if parent is None else f"{parent}.{name}"
        rows.append((path, parent, name, depth))
        parent = path
    return rows


_REBUILD = """
SELECT v.path AS key, v.value, v.updated_by, v.updated_at, v.source_version AS version
  FROM hier.config_values AS v
 WHERE RANGE(v.path)
"""

CATEGORY = Category(
    slug="configuration",
    title="Configuration",
    order=4,
    # Half of a configuration is worse than none.
    atomic=True,
    source=Source(
        schema="flat",
        table="configuration",
        columns=(
            Column("key", "text"),
            Column("value", "jsonb"),
            Column("updated_by", "text"),
            Column("updated_at", "timestamptz"),
            Column("version", "bigint"),
        ),
        key=("key",),
        version="version",
    ),
    targets=(
        Target(
            schema="hier",
            table="config_nodes",
            role=Role.SHARED,
            columns=(
                Element("path", "text"),
                Element("parent_path", "text"),
                Element("name", "text"),
                Element("depth", "integer"),
            ),
            key=("path",),
            explode=Explode(nodes, ("key",), as_bytes=True),
        ),
        Target(
            schema="hier",
            table="config_values",
            role=Role.ROOT,
            columns=(
                Pass("path", "key"),
                Pass("value", "value"),
                Pass("updated_by", "updated_by"),
                Pass("updated_at", "updated_at"),
                Pass("source_version", "version"),
            ),
            key=("path",),
            owner=("path",),
            version="source_version",
        ),
    ),
    rebuild=_REBUILD,
    filters={
        "key": FilterField("key", "text"),
        "updated_by": FilterField("updated_by", "text"),
        "updated_at": FilterField("updated_at", "timestamptz"),
    },
)
