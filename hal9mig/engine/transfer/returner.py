"""Brings single records of the flat store to what the hierarchical one says: the way back.

The inverse transform is the category's rebuild query. The rule is the applier's: lock the key, read
the ruling side after that, write. No copy runs in this direction, so no marks are needed.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import psycopg2
import psycopg2.errors

from hal9mig import model
from hal9mig.categories import identifiers, wire
from hal9mig.categories import keys as key_texts
from hal9mig.categories.declaration import Category
from hal9mig.categories.transform import Transform
from hal9mig.engine import foreign_errors
from hal9mig.engine.transfer import exchange, fence, impossible_keys
from hal9mig.engine.transfer.applied import Applied
from hal9mig.engine.transfer.writer import OVERRIDING, emptied, replacing
from hal9mig.ledger.database import json_text
from hal9mig.stores import binary_copy, capture, projection
from hal9mig.stores.connection import Connection, Cursor

_STAGE = "hal9_return"


class Returner:
    """Applies keys of one category from the hierarchical store to the flat one.

    Args:
        flat, hier: connections outside a transaction.
        restores: see ``fence.hold``.
    """

    def __init__(self, transform: Transform, *, flat: Connection, hier: Connection, restores: int | None = None):
        self._transform = transform
        self._restores = restores
        self._flat = flat
        self._hier = hier
        self._target = _Target(hier, transform)
        self._exchange = exchange.Exchange(self._target)

    def apply(self, keys: Sequence[model.Key]) -> Applied:
        """Make the flat records of these keys equal to the hierarchical ones, and commit.

        Raises:
            errors.StaleEpoch: the flat store rules by now, or was restored; nothing was applied.
            psycopg2.Error, errors.Unreachable: a server failed; some keys may be applied, the rest not.
        """
        return impossible_keys.set_apart(self._transform.category, self._hier, keys, self._settle)

    def _settle(self, keys: Sequence[model.Key]) -> Applied:
        wanted = {self._transform.canonical(key) for key in keys}
        if not wanted:
            return Applied(written=(), deleted=(), rejected={})
        return self._exchange.settle(wanted, self._apply)

    def _apply(self, wanted: Sequence[model.Key]) -> Applied:
        rejected: dict[model.Key, str] = {}
        with self._flat, self._flat.cursor() as cursor:
            fence.hold(cursor, model.StoreName.FLAT, restores=self._restores)
            cursor.execute(f"{capture.APPLY}; SET LOCAL client_min_messages = warning")
            self._exchange.lock(cursor, wanted)
            present = self._target.read(wanted)
            gone = [key for key in wanted if key not in present]
            self._target.delete(cursor, gone)
            written = self._write(cursor, present, rejected)
        return Applied(written=written, deleted=gone, rejected=rejected)

    def _write(
        self, cursor: Cursor, rows: Mapping[model.Key, bytes], rejected: dict[model.Key, str]
    ) -> list[model.Key]:
        if not rows:
            return []
        written = list(rows)
        cursor.execute("SAVEPOINT back")
        try:
            try:
                self._target.merge(cursor, rows)
            except psycopg2.errors.UniqueViolation:
                cursor.execute("ROLLBACK TO SAVEPOINT back")
                written = list(self._exchange.write(cursor, rows))
        except psycopg2.Error as error:
            if not foreign_errors.blames_record(error):
                raise
            cursor.execute("ROLLBACK TO SAVEPOINT back")
            keys = list(rows)
            if len(keys) == 1:
                rejected[keys[0]] = foreign_errors.sentence(error)
                return []
            middle = len(keys) // 2
            parts = ({key: rows[key] for key in part} for part in (keys[:middle], keys[middle:]))
            return [key for part in parts for key in self._write(cursor, part, rejected)]
        cursor.execute("RELEASE SAVEPOINT back")
        for key in written:
            rejected.pop(key, None)
        return written


class _Target:
    """The flat store, written from the hierarchical one."""

    def __init__(self, hier: Connection, transform: Transform):
        self._hier = hier
        self._transform = transform
        self._category: Category = transform.category
        self._table = self._category.source.qualified
        self._stage_table = identifiers.derived(_STAGE, self._category.source.schema, self._category.source.table)

    def lock(self, cursor: Cursor, keys: Sequence[model.Key]) -> None:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(k, 0)) FROM unnest(%s::text[]) WITH ORDINALITY u (k, n) "
            "ORDER BY n",
            ([f"{self._category.slug}/{json_text(list(key))}" for key in keys],),
        )

    def read(self, keys: Sequence[model.Key]) -> dict[model.Key, bytes]:
        return read(self._hier, self._transform, keys)

    def delete(self, cursor: Cursor, keys: Sequence[model.Key]) -> None:
        if keys:
            where, params = projection.Keys(keys=keys).sql(self._category, identifiers.each(self._category.key))
            cursor.execute(f"DELETE FROM {self._table} WHERE {where}", params)

    def insert(self, cursor: Cursor, records: Mapping[model.Key, bytes]) -> None:
        # What is taken out before it is put in is not there, and nothing else has these keys' locks.
        self.merge(cursor, records)

    def merge(self, cursor: Cursor, records: Mapping[model.Key, bytes]) -> None:
        """Put records in, or in the place of what is there."""
        self._stage(cursor, records)
        names, key = identifiers.listed(self._category.source.names), identifiers.listed(self._category.key)
        changed = key_texts.changed(self._category.source.columns, self._category.key)
        cursor.execute(
            f"INSERT INTO {self._table} ({names}) {OVERRIDING} "
            f"SELECT {names} FROM {self._stage_table} "
            f"ORDER BY {key} ON CONFLICT ({key}) DO " + (f"UPDATE SET {replacing(changed)}" if changed else "NOTHING")
        )

    def holders(self, cursor: Cursor, records: Mapping[model.Key, bytes]) -> list[model.Key]:
        self._stage(cursor, records)
        owner = projection.texts(self._category, self._category.key, "t")
        return exchange.holders(cursor, self._table, self._stage_table, owner)

    def waiting(self, keys: Sequence[model.Key]) -> set[model.Key]:
        return capture.waiting(self._hier, self._category.slug, keys)

    def _stage(self, cursor: Cursor, records: Mapping[model.Key, bytes]) -> None:
        names, stage = identifiers.listed(self._category.source.names), self._stage_table
        cursor.execute(
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {stage} ON COMMIT DELETE ROWS AS "
            f"SELECT {names} FROM {self._table} WITH NO DATA; {emptied(stage)}"
        )
        content = io.BytesIO(wire.document(list(records.values())))
        cursor.copy_expert(f"COPY {stage} ({names}) FROM STDIN (FORMAT binary)", content)


def read(hier: Connection, transform: Transform, keys: Sequence[model.Key]) -> dict[model.Key, bytes]:
    """Return the flat rows that the hierarchical store's records rebuild to, as tuples of a binary COPY."""
    category = transform.category
    found: dict[model.Key, bytes] = {}

    def take(row: bytes) -> None:
        found[transform.key(wire.split(row, len(category.source.columns)))] = row

    rows, params = projection.rebuilt_rows(category, projection.Keys(keys=keys))
    names = identifiers.listed(category.source.names, "s")
    with hier.cursor() as cursor:
        binary_copy.each(cursor, f"SELECT {names} {rows}", params, take)
    hier.rollback()
    return found
