"""Foreign keys of tables that are to be replaced: between them, from them to others, and from others to them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from hal9mig import errors
from hal9mig.stores.connection import Cursor
from hal9mig.stores.relation import Relation, named, spelled_out

#: What a foreign key does that leaves the referring rows alone: nothing, or refusing.
_PASSIVE = frozenset("ar")


@dataclasses.dataclass(frozen=True)
class ForeignKey:
    """A foreign key; names are as SQL has them, in quotes where they need to be.

    Attributes:
        on_update, on_delete: as in ``pg_constraint``: ``a`` nothing, ``r`` restrict, ``c`` cascade, ...
        printed: how the definition names the table it leads to.
        valid: False where rows may be there that break it.
        readable: whether the account may read both tables.
    """

    name: str
    table: str
    columns: Sequence[str]
    leads_to: str
    printed: str
    referenced: Sequence[str]
    definition: str
    on_update: str
    on_delete: str
    valid: bool
    readable: bool

    @property
    def passive(self) -> bool:
        """Whether it never changes the rows that refer."""
        return {self.on_update, self.on_delete} <= _PASSIVE

    def added_to(self, table: str, leads_to: str) -> str:
        """Return the statement that makes it of one table and to another."""
        leading = self.definition.replace(f" REFERENCES {self.printed}(", f" REFERENCES {leads_to}(", 1)
        return f"ALTER TABLE {table} ADD CONSTRAINT {self.name} {leading}"

    def dropped_from(self, table: str) -> str:
        """Return the statement that drops it from a table, where it is there."""
        return f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {self.name}"


# Those of a partition that it has from its parent are the parent's.
_FOREIGN_KEYS = f"""
SELECT quote_ident(k.conname), {named("k.conrelid")},
       ARRAY(SELECT quote_ident(attname) FROM unnest(k.conkey) WITH ORDINALITY AS u (attnum, place)
             JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum ORDER BY place),
       {named("k.confrelid")}, k.confrelid::regclass::text,
       ARRAY(SELECT quote_ident(attname) FROM unnest(k.confkey) WITH ORDINALITY AS u (attnum, place)
             JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.attnum ORDER BY place),
       pg_get_constraintdef(k.oid), k.confupdtype, k.confdeltype, k.convalidated,
       has_table_privilege(k.conrelid, 'SELECT') AND has_table_privilege(k.confrelid, 'SELECT')
  FROM pg_constraint k
 WHERE k.contype = 'f' AND k.conparentid = 0
   AND (k.conrelid = ANY(%(tables)s::regclass[]::oid[]) OR k.confrelid = ANY(%(tables)s::regclass[]::oid[]))
 ORDER BY 2, 1
"""


def keys(cursor: Cursor, relations: Sequence[Relation]) -> list[ForeignKey]:
    """Return every foreign key that one of these live tables has or is led to by."""
    with spelled_out(cursor):
        cursor.execute(_FOREIGN_KEYS, {"tables": [one.qualified for one in relations]})
        return [ForeignKey(*row) for row in cursor.fetchall()]


def made(cursor: Cursor, key: ForeignKey, table: str) -> bool:
    """Whether a table, a shadow for instance, has a foreign key of this name."""
    cursor.execute(
        "SELECT EXISTS (SELECT FROM pg_constraint WHERE conrelid = %s::regclass AND quote_ident(conname) = %s)",
        (table, key.name),
    )
    return cursor.fetchone() == (True,)


def require_kept(cursor: Cursor, found: Sequence[ForeignKey], shadows: Mapping[str, str]) -> None:
    """Raise where a foreign key between the set and other tables would not hold with the shadows' rows.

    Args:
        found: the foreign keys, as ``keys`` gives them.
        shadows: the shadow of each table of the set.

    Raises:
        errors.Refused: rows of another table would lose the rows they refer to, or the other way round.
    """
    for key in found:
        if not key.readable or (key.table in shadows) == (key.leads_to in shadows):
            continue
        lost = _lost(cursor, key, shadows)
        if lost:
            raise errors.Refused(
                f"{lost} rows of {key.table} refer ({key.name}) to rows of {key.leads_to} that "
                f"{'are not in the checkpoint' if key.leads_to in shadows else 'are not there any more'}.",
                hint=f"change those rows, or drop the foreign key {key.name} for the time of the restore",
            )


def _lost(cursor: Cursor, key: ForeignKey, shadows: Mapping[str, str]) -> int:
    def refers(table: str) -> str:
        same = " AND ".join(f"r.{one} = o.{other}" for one, other in zip(key.referenced, key.columns, strict=True))
        return f"EXISTS (SELECT FROM {table} r WHERE {same})"

    given = " AND ".join(f"o.{column} IS NOT NULL" for column in key.columns)
    if key.leads_to in shadows:
        # Rows that refer to nothing today lose nothing.
        condition = f"{refers(key.leads_to)} AND NOT {refers(shadows[key.leads_to])}"
        cursor.execute(f"SELECT count(*) FROM {key.table} o WHERE {given} AND {condition}")
    elif key.valid:
        cursor.execute(f"SELECT count(*) FROM {shadows[key.table]} o WHERE {given} AND NOT {refers(key.leads_to)}")
    else:
        return 0
    (count,) = cursor.fetchone() or (0,)
    return int(count)
