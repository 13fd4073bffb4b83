"""Keys that no record of a category can have, such as one that waits from before the category was declared anew.

One of them among a step's keys must not keep the others from being applied for ever.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import psycopg2

from hal9mig import model
from hal9mig.categories import keys as key_texts
from hal9mig.categories.declaration import Category
from hal9mig.engine import foreign_errors
from hal9mig.engine.transfer.applied import Applied
from hal9mig.stores.connection import Connection


def set_apart(
    category: Category,
    source: Connection,
    keys: Sequence[model.Key],
    apply: Callable[[Sequence[model.Key]], Applied],
    hold: Callable[[model.Key, str], None] = lambda key, reason: None,
) -> Applied:
    """Call ``apply`` with the keys that are possible; the others are rejected beside what it rejects.

    Args:
        hold: called with each of the others as texts, and why it is none.

    Raises:
        psycopg2.Error: what ``apply`` raises and no key is to blame for.
    """
    odd = _misshapen(category, keys)
    try:
        applied = apply([key for key in keys if key not in odd])
    except psycopg2.DataError:
        source.rollback()
        left = [key for key in keys if key not in odd]
        unread = _unread(category, source, left)
        if not unread:
            raise
        odd |= unread
        applied = apply([key for key in left if key not in unread])
    for key, reason in odd.items():
        hold(tuple(map(str, key)), reason)
    return dataclasses.replace(applied, rejected={**applied.rejected, **odd})


def _misshapen(category: Category, keys: Sequence[model.Key]) -> dict[model.Key, str]:
    count = len(category.key)
    return {
        key: f"It is no key of {category.slug}, which has {count} part{'s' if count != 1 else ''}."
        for key in keys
        if len(key) != count or not all(isinstance(part, str) for part in key)
    }


def _unread(category: Category, source: Connection, keys: Sequence[model.Key]) -> Mapping[model.Key, str]:
    """Return the keys that the server does not take for values of the key's types."""
    casts = ", ".join(f"%s::{key_texts.cast(column.type)}" for column in category.source.key_columns)
    found: dict[model.Key, str] = {}
    for key in keys:
        try:
            with source, source.cursor() as cursor:
                cursor.execute(f"SELECT {casts}", key)
        except psycopg2.DataError as error:
            found[key] = f"It is no key of {category.slug}: {foreign_errors.sentence(error)}"
    return found
