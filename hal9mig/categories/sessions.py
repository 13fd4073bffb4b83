"""User sessions: one wide row becomes a user, a session and the session's attributes."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from hal9mig import errors
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

#: An index row holds about 2,700 bytes; the session's id and the row's head need some of them.
LONGEST_NAME = 2600

_attributes = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def attributes(data: bytes) -> Iterable[tuple[str, bytes]]:
    """Return name and value of each member of a JSON object, the value as the text it stood in.

    Values are never parsed, so that a number keeps all its digits.

    Raises:
        errors.RecordRejected: it is no object, or a name is too long for the target's primary key.
    """
    try:
        members = _attributes(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise errors.RecordRejected(f"data is no JSON object that can be split into attributes: {error}") from None
    rows = []
    for name, value in members.items():
        if len(name) > LONGEST_NAME // 4 and len(name.encode()) > LONGEST_NAME:
            raise errors.RecordRejected(f"An attribute's name is longer than {LONGEST_NAME} bytes: {name[:40]}...")
        rows.append((name, bytes(value)))
    return rows


_REBUILD = """
SELECT s.session_id, s.user_id, s.token_hash, s.ip_address, s.user_agent, s.active,
       coalesce(d.data, '{}'::jsonb) AS data,
       s.created_at, s.last_seen_at, s.expires_at, s.source_version AS version
  FROM hier.sessions AS s
  LEFT JOIN (
       SELECT a.session_id, jsonb_object_agg(a.name, a.value) AS data
         FROM hier.session_attributes AS a
        WHERE RANGE(a.session_id)
        GROUP BY a.session_id
  ) AS d ON d.session_id = s.session_id
 WHERE RANGE(s.session_id)
"""

CATEGORY = Category(
    slug="user-sessions",
    title="User Sessions",
    order=1,
    source=Source(
        schema="flat",
        table="user_sessions",
        columns=(
            Column("session_id", "uuid"),
            Column("user_id", "text"),
            Column("token_hash", "text"),
            Column("ip_address", "inet"),
            Column("user_agent", "text"),
            Column("active", "boolean"),
            Column("data", "jsonb"),
            Column("created_at", "timestamptz"),
            Column("last_seen_at", "timestamptz"),
            Column("expires_at", "timestamptz"),
            Column("version", "bigint"),
        ),
        key=("session_id",),
        version="version",
    ),
    targets=(
        Target(
            schema="hier",
            table="users",
            role=Role.SHARED,
            columns=(Pass("user_id", "user_id"),),
            key=("user_id",),
        ),
        Target(
            schema="hier",
            table="sessions",
            role=Role.ROOT,
            columns=(
                Pass("session_id", "session_id"),
                Pass("user_id", "user_id"),
                Pass("token_hash", "token_hash"),
                Pass("ip_address", "ip_address"),
                Pass("user_agent", "user_agent"),
                Pass("active", "active"),
                Pass("created_at", "created_at"),
                Pass("last_seen_at", "last_seen_at"),
                Pass("expires_at", "expires_at"),
                Pass("source_version", "version"),
            ),
            key=("session_id",),
            owner=("session_id",),
            version="source_version",
        ),
        Target(
            schema="hier",
            table="session_attributes",
            role=Role.PART,
            columns=(Pass("session_id", "session_id"), Element("name", "text"), Element("value", "jsonb")),
            key=("session_id", "name"),
            owner=("session_id",),
            explode=Explode(attributes, ("data",), as_bytes=True),
        ),
    ),
    rebuild=_REBUILD,
    filters={
        "session_id": FilterField("session_id", "uuid"),
        "user_id": FilterField("user_id", "text"),
        "active": FilterField("active", "boolean"),
        "created_at": FilterField("created_at", "timestamptz"),
        "last_seen_at": FilterField("last_seen_at", "timestamptz"),
        "expires_at": FilterField("expires_at", "timestamptz"),
    },
)
