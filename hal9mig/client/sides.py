"""What a transaction does in a store, and how it does it in the flat one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import psycopg2

from hal9mig import errors, model
from hal9mig.categories import identifiers
from hal9mig.categories import keys as key_texts
from hal9mig.categories.declaration import Category
from hal9mig.categories.filters import EVERYTHING, Filter
from hal9mig.client.transaction import Write, conflict
from hal9mig.client.values import Record
from hal9mig.engine.transfer.writer import replacing
from hal9mig.stores import projection
from hal9mig.stores.connection import Connection, Cursor

#: The version of a new record: the server's clock in microseconds. So a record that is deleted and comes
#: back is newer than it was, and an old copy of it can never pass for the present one, while the clock goes forward.
FIRST_VERSION = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"


class Side(Protocol):
    """One of the stores, as a transaction in it is worked."""

    def lock(self, cursor: Cursor, writes: Sequence[Write]) -> None:
        """Keep others from the records of these writes where rows cannot do that by themselves."""

    def write(self, cursor: Cursor, write: Write) -> None:
        """Make a write, and note in it what became of it.

        Raises:
            errors.Conflict: the record is at another version than expected.
            errors.RecordRejected: the store cannot hold the record.
        """

    def read(self, cursor: Cursor, category: Category, scope: projection.Scope, chosen: Filter) -> list[Record]:
        """Return records in the order of their keys, texts by their bytes."""

    def keys(self, cursor: Cursor, category: Category, after: model.Key | None, limit: int) -> list[model.Key]:
        """Return the keys that come next."""


def resolve_keys(cursor: Cursor, writes: Sequence[Write]) -> None:
    """Note in each write its key as PostgreSQL spells it; the journal and the locks know no other."""
    by_category: dict[str, list[Write]] = {}
    for write in writes:
        by_category.setdefault(write.category.slug, []).append(write)
    for group in by_category.values():
        keys = _spelled(cursor, group[0].category, [write.key_parameters for write in group])
        for write, key in zip(group, keys, strict=True):
            write.key = key


def spelled(cursor: Cursor, category: Category, parameters: tuple[Any, ...]) -> model.Key:
    """Return one key as PostgreSQL spells it."""
    return _spelled(cursor, category, [parameters])[0]


def _spelled(cursor: Cursor, category: Category, keys: Sequence[tuple[Any, ...]]) -> list[model.Key]:
    kinds = [key_texts.cast(column.type) for column in category.source.key_columns]
    names = [f"k{place}" for place in range(len(kinds))]
    arrays = ", ".join(f"%s::{kind}[]" for kind in kinds)
    cursor.execute(
        f"SELECT {', '.join(map(key_texts.text_sql, kinds, names))} FROM unnest({arrays}) "
        f"WITH ORDINALITY u ({', '.join(names)}, n) ORDER BY n",
        [list(part) for part in zip(*keys, strict=True)],
    )
    return [tuple(row) for row in cursor.fetchall()]


def commit(connection: Connection, cursor: Cursor) -> None:
    """Commit.

    Raises:
        errors.OutcomeUnknown: the connection was lost, and the commit may have happened.
        psycopg2.Error: the server refused; nothing was written.
    """
    try:
        cursor.execute("COMMIT")
    except psycopg2.Error as error:
        # An error that leaves the connection is the server's word that nothing was written.
        if connection.closed or (error.pgcode or "57")[:2] == "57":
            raise errors.OutcomeUnknown from error
        raise
    if cursor.statusmessage != "COMMIT":
        raise errors.HAL9Error(f"The transaction ended with {cursor.statusmessage}; nothing was written.")


class FlatSide:
    """The flat store: one row a record."""

    def lock(self, cursor: Cursor, writes: Sequence[Write]) -> None:
        """Nothing: rows lock each other."""

    def write(self, cursor: Cursor, write: Write) -> None:
        """Make a write by one statement."""
        if write.record is None:
            self._delete(cursor, write)
        elif write.expected:
            self._update(cursor, write, write.record)
        else:
            self._upsert(cursor, write, write.record)

    def _upsert(self, cursor: Cursor, write: Write, record: Mapping[str, Any]) -> None:
        source, key = write.category.source, identifiers.listed(write.category.key)
        casts = {column.name: f"%s::{key_texts.cast(column.type)}" for column in source.columns}
        parameters: list[Any] = []
        inserted, changed = [], []
        replaced = key_texts.changed(source.columns, source.key)
        for name in source.names:
            if name == source.version:
                inserted.append(f"coalesce(%s::bigint, {FIRST_VERSION})")
                parameters.append(_number(write.given))
                changed.append(_next_version(name))
            else:
                inserted.append(casts[name])
                parameters.append(record[name])
                if name in replaced:
                    changed.append(replacing([name]))
        action = "NOTHING" if write.expected == 0 or not changed else f"UPDATE SET {', '.join(changed)}"
        if "%s" in action:
            parameters.append(_number(write.given))
        # xmax is 0 in a row that was inserted, and the locking transaction in one that was updated.
        cursor.execute(
            f"INSERT INTO {source.qualified} AS t ({identifiers.listed(source.names)}) "
            f"VALUES ({', '.join(inserted)}) "
            f"ON CONFLICT ({key}) DO {action} RETURNING t.xmax <> 0, {_version(write.category, 't')}",
            parameters,
        )
        row = cursor.fetchone()
        if row is not None:
            write.existed, write.version = row
        elif write.expected == 0:
            raise conflict(write, self._present(cursor, write))
        else:
            write.existed = True

    def _update(self, cursor: Cursor, write: Write, record: Mapping[str, Any]) -> None:
        source, version = write.category.source, str(write.category.source.version)
        replaced = key_texts.changed(source.columns, (*source.key, version))
        others = [column for column in source.columns if column.name in replaced]
        where, key = _is(write)
        changed = [f"{identifiers.quoted(column.name)} = %s::{key_texts.cast(column.type)}" for column in others]
        column = identifiers.quoted(version, "t")
        cursor.execute(
            f"UPDATE {source.qualified} AS t SET "
            f"{', '.join([*changed, _next_version(version)])} "
            f"WHERE {where} AND {column} = %s::bigint RETURNING {column}",
            [*(record[column.name] for column in others), _number(write.given), *key, _number(write.expected)],
        )
        row = cursor.fetchone()
        if row is None:
            raise conflict(write, self._present(cursor, write))
        write.existed, write.version = True, row[0]

    def _delete(self, cursor: Cursor, write: Write) -> None:
        where, parameters = _is(write)
        version = _version(write.category, "t")
        if write.expected is not None:
            where += f" AND {version} = %s::bigint"
            parameters = [*parameters, _number(write.expected)]
        cursor.execute(
            f"DELETE FROM {write.category.source.qualified} AS t WHERE {where} RETURNING {version}", parameters
        )
        row = cursor.fetchone()
        write.existed, write.version = row is not None, row[0] if row else None
        if row is None and write.expected is not None:
            found = self._present(cursor, write)
            if (found or 0) != write.expected:
                raise conflict(write, found)

    def _present(self, cursor: Cursor, write: Write) -> int | None:
        where, parameters = _is(write)
        version = _version(write.category, "t")
        cursor.execute(f"SELECT {version} FROM {write.category.source.qualified} AS t WHERE {where}", parameters)
        row = cursor.fetchone()
        return row[0] if row else None

    def read(self, cursor: Cursor, category: Category, scope: projection.Scope, chosen: Filter) -> list[Record]:
        """Return records in the order of their keys."""
        rows, parameters = projection.flat_rows(category, scope, chosen)
        return select(cursor, category, rows, parameters)

    def keys(self, cursor: Cursor, category: Category, after: model.Key | None, limit: int) -> list[model.Key]:
        """Return the keys that come next."""
        scope = projection.Bounds(after=after, bytewise=True)
        rows, parameters = projection.flat_rows(category, scope, EVERYTHING)
        cursor.execute(
            f"SELECT {projection.key_texts(category)} {rows} "
            f"ORDER BY {projection.key_order(category, 's', bytewise=True)} LIMIT %s",
            [*parameters, limit],
        )
        return [tuple(row) for row in cursor.fetchall()]


def _version(category: Category, alias: str) -> str:
    return identifiers.quoted(category.source.version, alias) if category.source.version else "NULL::bigint"


def _next_version(name: str) -> str:
    return f"{identifiers.quoted(name)} = greatest({identifiers.quoted(name, 't')} + 1, %s::bigint)"


def _is(write: Write) -> tuple[str, list[Any]]:
    columns = write.category.source.key_columns
    parts = [f"{identifiers.quoted(column.name, 't')} = %s::{key_texts.cast(column.type)}" for column in columns]
    return " AND ".join(parts), [*write.key]


def select(cursor: Cursor, category: Category, rows: str, parameters: Sequence[object]) -> list[Record]:
    """Return the records of ``FROM ... s ...`` in the order of their keys."""
    names = category.source.names
    cursor.execute(
        f"SELECT {identifiers.listed(names, 's')} {rows} ORDER BY {projection.key_order(category, 's', bytewise=True)}",
        parameters,
    )
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _number(version: int | None) -> str | None:
    # As text: the smallest bigint would be read as the negation of a number that is none.
    return None if version is None else str(version)
