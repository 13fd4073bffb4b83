"""Operational metadata: one table of everything becomes a table for each type.

Audit entries form a chain in the order of their ids: an entry's ``payload.prev`` is the ``hash`` of the
one before, and ``payload.hash`` is the SHA-256 of ``prev`` and of the rest of the payload in canonical
JSON (sorted names, no spaces, UTF-8), in hexadecimal. Whoever changes, drops or moves an entry breaks it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from hal9mig.categories.declaration import Category, Column, FilterField, Pass, Role, Source, Target

#: Each type of entry and the table that holds it.
TABLES = {"metrics": "metrics", "logs": "log_entries", "traces": "trace_spans", "audit": "audit_events"}

#: What the first audit entry has for ``prev``.
GENESIS = "0" * 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuditChain:
    """What a walk along the audit chain found: the entries' number, the ids that break it, the last hash."""

    entries: int
    broken: tuple[int, ...]
    head: str

    @property
    def intact(self) -> bool:
        """Whether every entry follows from the one before."""
        return not self.broken


def audit_hash(previous: str, entry: Mapping[str, Any]) -> str:
    """Return the hash of an audit entry, whose own ``prev`` and ``hash`` do not count."""
    rest = {name: value for name, value in entry.items() if name not in ("prev", "hash")}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256((previous + text).encode()).hexdigest()


def verify_audit_chain(rows: Iterable[tuple[int, Any]]) -> AuditChain:
    """Walk along audit entries, given as id and payload in the order of their ids.

    Args:
        rows: the payload as a mapping, or as JSON text.
    """
    entries, broken, previous = 0, [], GENESIS
    for number, payload in rows:
        entries += 1
        try:
            entry = json.loads(payload) if isinstance(payload, (str, bytes)) else payload
            if not isinstance(entry, Mapping) or not isinstance(entry.get("hash"), str):
                broken.append(number)
                continue
            follows = entry.get("prev") == previous and entry["hash"] == audit_hash(previous, entry)
        except (ValueError, RecursionError):
            # Nested too deeply, or a number that is too long: nobody has hashed such a one.
            broken.append(number)
            continue
        if not follows:
            broken.append(number)
        # Go on from what the entry says, so that one broken entry is not a break at each that follows.
        previous = entry["hash"]
    return AuditChain(entries=entries, broken=tuple(broken), head=previous)


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
