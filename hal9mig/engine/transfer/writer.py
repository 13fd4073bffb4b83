"""The writing half of a copy: transformed records into the hierarchical tables.

The usual range has nothing in the target yet and goes straight into the tables by COPY. Where a row
is there already, that step falls back to temporary tables and a merge that only lets a newer source
version replace what is there.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

from hal9mig.categories import identifiers
from hal9mig.categories import keys as key_texts
from hal9mig.categories.declaration import Category, Role, Target
from hal9mig.categories.transform import Output, Transform
from hal9mig.engine.transfer import exchange
from hal9mig.stores import projection
from hal9mig.stores.connection import Cursor

_CHUNK = 1 << 18  # bytes handed to the driver at a time
#: A column GENERATED ALWAYS AS IDENTITY takes the other store's value by no other word; COPY needs none.
OVERRIDING = "OVERRIDING SYSTEM VALUE"


def _stage(target: Target) -> str:
    return identifiers.derived("hal9_stage", target.schema, target.table)


def _columns(names: Sequence[str], alias: str = "") -> str:
    return identifiers.listed(names, alias)


def _equal(left: str, left_names: Sequence[str], right: str, right_names: Sequence[str]) -> str:
    return identifiers.same(left, left_names, right, right_names)


def replacing(names: Sequence[str]) -> str:
    """Return the assignments of an ON CONFLICT that takes what is new of these columns."""
    return ", ".join(f"{identifiers.quoted(name)} = {identifiers.quoted(name, 'excluded')}" for name in names)


def emptied(table: str) -> str:
    """Return the statement that empties a temporary table, which the transaction may have filled before.

    Most often it is empty, and a TRUNCATE makes a new file even then, which takes longer than a small write.
    """
    return f"DO $$BEGIN IF EXISTS (SELECT FROM {table}) THEN TRUNCATE {table}; END IF; END$$"


class BatchWriter:
    """Writes a step's output inside the caller's transaction; keeps nothing between steps."""

    def __init__(self, transform: Transform):
        self.category: Category = transform.category
        # Of its own for each category: a session works several, whose keys have other types.
        self._won_table = identifiers.derived("hal9_won", self.category.slug.replace("-", "_"))
        self._columns = [writer.columns for writer in transform.writers]

    def straight(self, cursor: Cursor, output: Output) -> None:
        """COPY into the tables themselves.

        Raises:
            psycopg2.errors.UniqueViolation: a record is there already; roll back and ``merge``.
        """
        for place, target in enumerate(self.category.targets):
            if not output.rows[place]:
                continue
            if target.role is Role.SHARED:
                self._load(cursor, place, target, output)
                self._share(cursor, target)
            else:
                self._copy(cursor, target.qualified, place, output)

    def merge(self, cursor: Cursor, output: Output, *, newer_only: bool = True) -> None:
        """Write through temporary tables, replacing a record only by a newer source version.

        With ``newer_only`` false, or where the source has no version, what comes replaces what is
        there: then the caller must hold the keys' locks and have read the source after taking them.
        """
        cursor.execute("SET LOCAL client_min_messages = warning")
        self._won(cursor)
        for place, target in enumerate(self.category.targets):
            self._load(cursor, place, target, output)
            if target.role is Role.SHARED:
                self._share(cursor, target)
        for root in self.category.roots:
            self._merge_root(cursor, root, newer_only=newer_only and root.version is not None)
        for target in self.category.targets:
            if target.role is Role.PART:
                self._replace_part(cursor, target)

    def stage(self, cursor: Cursor, output: Output) -> None:
        """Load a step's output into the temporary tables and nothing else."""
        cursor.execute("SET LOCAL client_min_messages = warning")
        for place, target in enumerate(self.category.targets):
            self._load(cursor, place, target, output)

    def holders(self, cursor: Cursor) -> list[tuple[str, ...]]:
        """Return the keys of records that hold a unique value of what is staged."""
        found: list[tuple[str, ...]] = []
        for target in self.category.owned:
            owner = projection.texts(self.category, target.owner, "t")
            found += exchange.holders(cursor, target.qualified, _stage(target), owner)
        return found

    def delete(self, cursor: Cursor, keys: Sequence[tuple[str, ...]]) -> None:
        """Remove all rows that belong to the records of these keys."""
        if not keys:
            return
        arrays = [list(part) for part in zip(*keys, strict=True)]
        kinds = ", ".join(f"%s::{key_texts.cast(column.type)}[]" for column in self.category.source.key_columns)
        # Parts first: a root may be referenced by them.
        for target in reversed(self.category.owned):
            owner = _columns(target.owner)
            cursor.execute(f"DELETE FROM {target.qualified} WHERE ({owner}) IN (SELECT * FROM unnest({kinds}))", arrays)

    def _copy(self, cursor: Cursor, table: str, place: int, output: Output) -> None:
        columns = _columns(self._columns[place])
        stream = io.BytesIO(output.document(place))
        cursor.copy_expert(f"COPY {table} ({columns}) FROM STDIN (FORMAT binary)", stream, _CHUNK)

    def _load(self, cursor: Cursor, place: int, target: Target, output: Output) -> None:
        stage, columns = _stage(target), _columns(self._columns[place])
        cursor.execute(
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {stage} ON COMMIT DELETE ROWS AS "
            f"SELECT {columns} FROM {target.qualified} WITH NO DATA; {emptied(stage)}"
        )
        if output.rows[place]:
            self._copy(cursor, stage, place, output)

    def _share(self, cursor: Cursor, target: Target) -> None:
        # In key order: two workers that insert the same parents then wait for each other in one
        # direction only, and cannot deadlock.
        names, key = _columns(target.names), _columns(target.key)
        cursor.execute(
            f"INSERT INTO {target.qualified} ({names}) {OVERRIDING} SELECT {names} FROM {_stage(target)} "
            f"ORDER BY {key} ON CONFLICT ({key}) DO NOTHING"
        )

    def _won(self, cursor: Cursor) -> None:
        keys = ", ".join(
            f"NULL::{key_texts.cast(column.type)} AS k{at}"
            for at, column in enumerate(self.category.source.key_columns)
        )
        cursor.execute(
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {self._won_table} ON COMMIT DELETE ROWS AS "
            f"SELECT {keys} WITH NO DATA; {emptied(self._won_table)}"
        )

    @property
    def _won_columns(self) -> list[str]:
        return [f"k{at}" for at in range(len(self.category.key))]

    def _merge_root(self, cursor: Cursor, root: Target, *, newer_only: bool) -> None:
        names, key = _columns(root.names), _columns(root.key)
        others = [other for other in self.category.roots if other is not root]
        changed = key_texts.changed(self.category.typed(root), root.key)
        # A record whose kind changed sits in another root; a newer one there wins too.
        elsewhere = "".join(
            f" AND NOT EXISTS (SELECT FROM {other.qualified} o WHERE {_equal('o', other.owner, 's', root.owner)}"
            f" AND {identifiers.quoted(other.version, 'o')} >= {identifiers.quoted(root.version, 's')})"
            for other in others
            if newer_only and other.version and root.version
        )
        update = replacing(changed)
        version = root.version if newer_only else None
        condition = (
            ""
            if version is None
            else (f" WHERE {identifiers.quoted(version, 'excluded')} > {identifiers.quoted(version, 't')}")
        )
        action = f"UPDATE SET {update}{condition}" if changed else "NOTHING"
        cursor.execute(
            f"WITH won AS (INSERT INTO {root.qualified} AS t ({names}) {OVERRIDING} "
            f"SELECT {names} FROM {_stage(root)} s WHERE true{elsewhere} ORDER BY {key} "
            f"ON CONFLICT ({key}) DO {action} RETURNING {_columns(root.owner, 't')}) "
            f"INSERT INTO {self._won_table} SELECT * FROM won"
        )
        for other in others:
            # Only what this root has just won: its stage says which records those are.
            cursor.execute(
                f"DELETE FROM {other.qualified} o USING {self._won_table} w, {_stage(root)} s "
                f"WHERE {_equal('o', other.owner, 'w', self._won_columns)} "
                f"AND {_equal('s', root.owner, 'w', self._won_columns)}"
            )

    def _replace_part(self, cursor: Cursor, part: Target) -> None:
        names = _columns(part.names)
        cursor.execute(
            f"DELETE FROM {part.qualified} p USING {self._won_table} w "
            f"WHERE {_equal('p', part.owner, 'w', self._won_columns)}"
        )
        cursor.execute(
            f"INSERT INTO {part.qualified} ({names}) {OVERRIDING} "
            f"SELECT {_columns(part.names, 's')} FROM {_stage(part)} s "
            f"JOIN {self._won_table} w ON {_equal('s', part.owner, 'w', self._won_columns)} "
            f"ORDER BY {_columns(part.key, 's')}"
        )
