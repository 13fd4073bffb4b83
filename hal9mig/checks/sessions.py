"""User sessions: who is logged in stays logged in, as the same user, by the same token, until the same moment."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from hal9mig import model
from hal9mig.categories import sessions
from hal9mig.checks.continuity import Promise
from hal9mig.checks.subject import Subject
from hal9mig.client.values import Record
from hal9mig.model import StoreName
from hal9mig.stores.connection import Connection

SLUG = sessions.CATEGORY.slug
TABLES = {StoreName.FLAT: "flat.user_sessions", StoreName.HIERARCHICAL: "hier.sessions"}


def valid(record: Record) -> bool:
    """Whether whoever holds a session's token is let in now."""
    until = record["expires_at"]
    if not record["active"]:
        return False
    # PostgreSQL's infinity comes as a text, for no moment of Python's is that far away.
    return not isinstance(until, datetime.datetime) or until > datetime.datetime.now(datetime.UTC)


def by_token(connection: Connection, side: StoreName, tokens: Sequence[str]) -> dict[str, str]:
    """Return the session that each token leads to in one store."""
    with connection, connection.cursor() as cursor:
        cursor.execute(
            f"SELECT token_hash, session_id::text FROM {TABLES[side]} WHERE token_hash = ANY(%s)", (list(tokens),)
        )
        return dict(cursor.fetchall())


def _reached(subject: Subject, read: Sequence[tuple[model.Key, Record]]) -> list[model.Key]:
    tokens = {record["token_hash"]: key for key, record in read}
    lost: dict[model.Key, None] = {}
    for side in StoreName:
        found = by_token(subject.store(side), side, list(tokens))
        lost |= {key: None for token, key in tokens.items() if found.get(token) != key[0]}
    return list(lost)


PROMISE = Promise(nouns="valid sessions", fields=("user_id", "token_hash", "expires_at"), holds=valid, reached=_reached)
