"""How one write is made, and how records are read, in the hierarchical store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hal9mig import errors, model
from hal9mig.categories import identifiers, wire
from hal9mig.categories import keys as key_texts
from hal9mig.categories.declaration import Category, Pass, Role, Target
from hal9mig.categories.filters import Filter
from hal9mig.categories.transform import Output, Transform
from hal9mig.client import sides, values
from hal9mig.client.transaction import Write, conflict
from hal9mig.client.values import Record
from hal9mig.engine.transfer import applier
from hal9mig.engine.transfer.writer import BatchWriter, replacing
from hal9mig.ledger import database
from hal9mig.stores import binary_copy, projection
from hal9mig.stores.connection import Cursor

_Statement = tuple[str, list[Any]]


class HierarchicalSide:
    """The hierarchical store: a record is rows of several tables, so its key is locked and not a row.

    Args:
        transform: gives a category's compiled transform.
    """

    def __init__(self, transform: Callable[[str], Transform]):
        self._transform = transform

    def lock(self, cursor: Cursor, writes: Sequence[Write]) -> None:
        """Lock the keys, all at once and in one order, so that two transactions cannot wait in a circle."""
        wanted = sorted({(write.category.slug, write.key) for write in writes})
        names = [f"{slug}/{database.json_text(list(key))}" for slug, key in wanted]
        cursor.execute(database.statements("live")["lock_keys"], {"names": names})

    def write(self, cursor: Cursor, write: Write) -> None:
        """Make a write; the key's lock is held."""
        first, found, write.existed = self._present(cursor, write)
        if write.expected is not None and (found or 0) != write.expected:
            raise conflict(write, found)
        if write.record is None:
            write.version = found
            BatchWriter(self._transform(write.category.slug)).delete(cursor, [write.key])
            return
        if write.category.source.version is not None:
            write.version = max(found + 1, write.given or 0) if found is not None else (write.given or first)
        self._replace(cursor, write, write.record)

    def _present(self, cursor: Cursor, write: Write) -> tuple[int, int | None, bool]:
        parts: list[str] = []
        parameters: list[object] = []
        for root in write.category.roots:
            where, key = projection.Keys(keys=[write.key]).sql(write.category, identifiers.each(root.owner, "r"))
            version = identifiers.quoted(root.version, "r") if root.version else "NULL"
            parts.append(f"SELECT {version}::bigint AS version FROM {root.qualified} r WHERE {where}")
            parameters += key
        cursor.execute(
            f"SELECT {sides.FIRST_VERSION}, (SELECT max(version) FROM ({' UNION ALL '.join(parts)}) v), "
            f"EXISTS ({' UNION ALL '.join(parts)})",
            parameters * 2,
        )
        row = cursor.fetchone()
        assert row is not None
        return row

    def _replace(self, cursor: Cursor, write: Write, record: Mapping[str, Any]) -> None:
        category = write.category
        transform = self._transform(category.slug)
        given = {**record, str(category.source.version): None if write.version is None else str(write.version)}
        fields = _encoded(cursor, category, given)
        output = transform.apply([fields])
        if output.rejections:
            raise output.rejections[0].error
        # All in one: each statement by itself would cost a round trip.
        statements = [
            cursor.mogrify(sql, parameters)
            for place, target in enumerate(category.targets)
            for sql, parameters in _statements(category, target, write, _rows(target, transform, place, output, given))
        ]
        cursor.execute(b"; ".join(statements))
        # What does not come back as it was given would be lost without anybody noticing.
        held = applier.hashes(cursor, transform, projection.Keys(keys=[write.key]))
        if list(held.values()) != [fields[-1]]:
            raise errors.RecordRejected(
                f"The hierarchical store cannot hold {category.slug} {'/'.join(write.key)} exactly as it was given."
            )

    def read(self, cursor: Cursor, category: Category, scope: projection.Scope, chosen: Filter) -> list[Record]:
        """Return records, rebuilt, in the order of their keys."""
        rows, parameters = projection.rebuilt_rows(category, scope)
        condition, more = chosen.sql("s")
        return sides.select(cursor, category, f"{rows} WHERE {condition}", [*parameters, *more])

    def keys(self, cursor: Cursor, category: Category, after: model.Key | None, limit: int) -> list[model.Key]:
        """Return the keys that come next, from the roots alone: rebuilding starts with knowing which."""
        parts: list[str] = []
        parameters: list[object] = []
        order = projection.key_order(category, "s", bytewise=True)
        scope = projection.Bounds(after=after, bytewise=True)
        for root in category.roots:
            owner = projection.as_key(category, root.owner, "r")
            where, bounds = scope.sql(category, identifiers.each(category.key, "s"))
            parts.append(
                f"(SELECT * FROM (SELECT {owner} FROM {root.qualified} r) s WHERE {where} ORDER BY {order} LIMIT %s)"
            )
            parameters += [*bounds, limit]
        cursor.execute(
            f"SELECT {projection.key_texts(category)} FROM ({' UNION ALL '.join(parts)}) s ORDER BY {order} LIMIT %s",
            [*parameters, limit],
        )
        return [tuple(row) for row in cursor.fetchall()]


def _rows(
    target: Target, transform: Transform, place: int, output: Output, given: Mapping[str, Any]
) -> list[list[Any]]:
    """Return the parameters of a target's rows, in its declared order; what passes through is what was given."""
    names = transform.writers[place].columns
    by_name = {column.name: column for column in target.columns}
    rows = []
    for fields in _tuples(b"".join(output.pieces[place])):
        made = dict(zip(names, fields, strict=True))
        row = []
        for name in target.names:
            column = by_name[name]
            row.append(given[column.source] if isinstance(column, Pass) else _decoded(made[name], column.type))
        rows.append(row)
    return rows


def _tuples(data: bytes) -> Iterator[list[bytes]]:
    """Yield the fields of each of the tuples of a binary COPY that stand one after the other."""
    start = 0
    while start < len(data):
        count, start = int.from_bytes(data[start : start + 2]), start + 2
        fields = []
        for _ in range(count):
            end = start + 4 + max(0, int.from_bytes(data[start : start + 4], signed=True))
            fields.append(data[start:end])
            start = end
        yield fields


def _decoded(field: bytes, type_name: str) -> Any:
    """Return the parameter of a value that the transform made."""
    kind = wire.canonical_type(type_name)
    if field == wire.NULL:
        return None
    if kind in ("json", "jsonb"):
        # As text: parsing could lose a digit.
        return field[5 if kind == "jsonb" else 4 :].decode()
    return values.parameter(wire.codec(kind).decode(field[4:]), kind)


def _statements(category: Category, target: Target, write: Write, rows: list[list[Any]]) -> Iterator[_Statement]:
    """Yield what makes a table hold these rows of the record and no others."""
    if target.role is not Role.SHARED and (target.role is Role.PART or not rows):
        # A root without a row is the one of another kind, in which the record may have been.
        owner = identifiers.each(target.owner)
        where, key = projection.Keys(keys=[write.key]).sql(category, owner)
        yield f"DELETE FROM {target.qualified} WHERE {where}", key
    if not rows:
        return
    casts = [f"%s::{key_texts.cast(column.type)}" for column in category.typed(target)]
    action = ""
    if target.role is not Role.PART:
        changed = key_texts.changed(category.typed(target), target.key)
        update = f"UPDATE SET {replacing(changed)}" if changed and target.role is Role.ROOT else "NOTHING"
        action = f" ON CONFLICT ({identifiers.listed(target.key)}) DO {update}"
    one = f"({', '.join(casts)})"
    yield (
        f"INSERT INTO {target.qualified} ({identifiers.listed(target.names)}) "
        f"VALUES {', '.join([one] * len(rows))}{action}",
        [value for row in rows for value in row],
    )


def _encoded(cursor: Cursor, category: Category, record: Mapping[str, Any]) -> list[bytes]:
    """Return a record's fields as the server sends them, with its hash, as a copy would read them."""
    columns = category.source.columns
    values = ", ".join(f"%s::{key_texts.cast(column.type)} AS {identifiers.quoted(column.name)}" for column in columns)
    names = identifiers.listed((column.name for column in columns), "s")
    fingerprint = projection.record_hash(category, "s")
    collected: list[bytes] = []
    sql = f"SELECT {names}, {fingerprint} FROM (SELECT {values}) s"
    binary_copy.each(cursor, sql, [record[column.name] for column in columns], collected.append)
    return wire.split(collected[0], len(columns) + 1)
