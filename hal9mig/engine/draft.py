"""A first draft of a category's declaration, made from tables that are there already.

What follows from the tables is written down: columns, types, keys, what passes through. What only their owner knows,
such as how a column is computed, is left as a function that refuses every record until it is written.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Sequence

from hal9mig import errors, model
from hal9mig.categories import identifiers
from hal9mig.engine.system import System
from hal9mig.stores.connection import Connection

_COLUMNS = """
SELECT a.attname::text, format_type(a.atttypid, a.atttypmod),
       (a.atthasdef OR a.attidentity <> '' OR a.attgenerated <> '' OR NOT a.attnotnull), a.attgenerated <> ''
  FROM pg_attribute AS a WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_KEY = """
SELECT array_agg(a.attname::text ORDER BY k.position)
  FROM pg_index AS i
 CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(attnum, position)
  JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
 WHERE i.indrelid = %s AND i.indisprimary
"""
#: Columns of one table that are referred to, and those of another that refer to them.
_REFERENCES = """
SELECT o.attname::text, a.attname::text FROM pg_constraint AS c
 CROSS JOIN LATERAL unnest(c.conkey, c.confkey) AS k(attnum, other)
  JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = k.attnum
  JOIN pg_attribute AS o ON o.attrelid = c.confrelid AND o.attnum = k.other
 WHERE c.contype = 'f' AND c.conrelid = %s AND c.confrelid = %s
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A table as its server has it.

    Attributes:
        columns: each with its type and whether it may be left out of an INSERT; without the generated ones.
    """

    schema: str
    name: str
    oid: int
    columns: Sequence[tuple[str, str, bool]]
    key: tuple[str, ...]

    @property
    def qualified(self) -> str:
        """``schema.table``, in quotes where it needs them."""
        return identifiers.qualified(self.schema, self.name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Draft:
    """A draft: the file's text, and what is left to write in it, as sentences."""

    text: str
    left: Sequence[str]


def make(system: System, slug: str, source: str, targets: Sequence[str]) -> Draft:
    """Draft a category.

    Args:
        source: the flat table, as ``schema.table``; targets: the hierarchical ones, that of the record itself first.

    Raises:
        errors.NotFound: a table is not there.
        errors.Refused: a table has no primary key.
        errors.Unreachable: a store does not answer.
    """
    with contextlib.closing(system.flat()) as flat, contextlib.closing(system.hier()) as hier:
        read = _table(flat, model.StoreName.FLAT, source)
        written = [_table(hier, model.StoreName.HIERARCHICAL, name) for name in targets]
        root = written[0]
        owners = {table.qualified: _references(hier, table, root) for table in written[1:]}
    return _Writing(slug, read, root, written[1:], owners).draft()


def _table(opened: Connection, store: model.StoreName, name: str) -> Table:
    with opened.cursor() as cursor:
        cursor.execute(
            "SELECT c.oid, n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = "
            "c.relnamespace WHERE c.oid = to_regclass(%s) AND c.relkind IN ('r', 'p')", (name,)
        )  # fmt: skip
        row = cursor.fetchone()
        if row is None:
            raise errors.NotFound(
                f"The {store} store has no table {name}.",
                hint="name it as schema.table, in quotes where SQL wants them",
            )
        oid, schema, relation = row
        cursor.execute(_COLUMNS, (oid,))
        columns = [(column, kind, free) for column, kind, free, generated in cursor.fetchall() if not generated]
        cursor.execute(_KEY, (oid,))
        key = tuple((cursor.fetchone() or (None,))[0] or ())
    opened.rollback()
    if not key:
        raise errors.Refused(
            f"Table {name} of the {store} store has no primary key.", hint=f"ALTER TABLE {name} ADD PRIMARY KEY (...)"
        )
    return Table(schema=schema, name=relation, oid=oid, columns=columns, key=key)


def _references(opened: Connection, table: Table, root: Table) -> tuple[str, ...]:
    """Return the columns that hold the key of the record a row belongs to: by a foreign key, or by their names."""
    with opened.cursor() as cursor:
        cursor.execute(_REFERENCES, (table.oid, root.oid))
        found = dict(cursor.fetchall())
    opened.rollback()
    names = {name for name, _, _ in table.columns}
    if set(root.key) <= set(found):
        # In the order of the key, whatever that of the constraint is.
        return tuple(found[name] for name in root.key)
    return root.key if set(root.key) <= names else ()


class _Writing:
    def __init__(
        self, slug: str, source: Table, root: Table, parts: Sequence[Table], owners: dict[str, tuple[str, ...]]
    ):
        self._slug, self._source, self._root, self._parts, self._owners = slug, source, root, parts, owners
        self._types = {name: kind for name, kind, _ in source.columns}
        self._functions: list[str] = []
        self._used: set[str] = set(source.key)
        held = {name: kind for name, kind, _ in root.columns}
        self._version = "version" if self._types.get("version") == held.get("version") == "bigint" else None
        self.left: list[str] = []

    def draft(self) -> Draft:
        roots = "\n".join(self._root_lines())
        parts = "\n".join(line for part in self._parts for line in self._part_lines(part))
        # What is SQL there is formatted: a percent sign in a name is written twice.
        rebuild = _quoted("\n".join(self._rebuild_lines()).replace("%", "%%"))
        for name in self._types:
            if name not in self._used:
                self.left.append(f"column {name} of {self._source.qualified} goes nowhere yet")
        if self._version is None:
            self.left.append(
                "no bigint column `version` on both sides that grows with each change: name yours, or leave it, and a "
                "copy onto a record that is there replaces it"
            )
        columns = "\n".join(f"            Column({name!r}, {kind!r})," for name, kind in self._types.items())
        subject = _quoted(f"{self._source.qualified} becomes {self._root.qualified}")
        left = "\n".join(f"#   - {one}" for one in self.left) or "#   - nothing"
        functions = "".join(f"\n\n{one}" for one in self._functions)
        return Draft(
            left=self.left,
            text=f'''"""The category {self._slug}: {subject}."""

# Drafted from the tables. Left to write, and then: hal9-migrate category check THIS_FILE
{left}

from __future__ import annotations

from hal9mig import errors
from hal9mig.categories.declaration import Category, Column, Computed, Element, Explode, Pass, Role, Source, Target
{functions}

CATEGORY = Category(
    slug={self._slug!r},
    title={self._slug.replace("-", " ").title()!r},
    source=Source(
        schema={self._source.schema!r},
        table={self._source.name!r},
        columns=(
{columns}
        ),
        key={self._source.key!r},
        version={self._version!r},
    ),
    targets=(
{roots}
{parts}
    ),
    # The inverse: the flat columns, by name and type, out of the tables above.
    rebuild="""
{rebuild}
    """,
)
''',
        )

    def _owner(self, table: Table) -> tuple[str, ...]:
        return table.key if table is self._root else self._owners[table.qualified]

    def _root_lines(self) -> Iterator[str]:
        root, source = self._root, self._source
        if len(root.key) != len(source.key):
            self.left.append(
                f"the key of {root.qualified} has {len(root.key)} columns, that of {source.qualified} "
                f"{len(source.key)}: they have to be the same"
            )
        yield from self._target(root, "ROOT", explode="")

    def _part_lines(self, part: Table) -> Iterator[str]:
        if not self._owners[part.qualified]:
            self.left.append(f"which columns of {part.qualified} hold the record's key is not known: owner=(...)")
        yield from self._target(part, "PART", explode=_word(f"{part.name} rows"))

    def _target(self, table: Table, role: str, *, explode: str) -> Iterator[str]:
        owner = self._owner(table)
        passed = dict(zip(owner, self._source.key, strict=False))
        # A part has any number of rows a record: what is not the record's key comes out of the explode.
        columns = [self._column(table, name, kind, free, passed, bool(explode)) for name, kind, free in table.columns]
        yield "        Target("
        yield f"            schema={table.schema!r}, table={table.name!r}, role=Role.{role},"
        yield "            columns=("
        yield from (f"                {one}," for one in columns if one)
        yield "            ),"
        yield f"            key={table.key!r}, owner={owner!r},"
        if table is self._root and self._version:
            yield f"            version={self._version!r},"
        if explode:
            elements = [name for name, _, _ in table.columns if name not in passed]
            yield f"            explode=Explode({explode}, {self._exploded()!r}),"
            self._functions.append(
                f"def {explode}(*values):\n"
                f'    """Yield a tuple ({", ".join(elements)}) for each row of {_quoted(table.qualified)}."""\n'
                f'    raise errors.RecordRejected("{explode} is not written yet")\n'
            )
            self.left.append(f"function {explode}: the rows of {table.qualified} out of a record")
        yield "        ),"

    def _column(
        self, table: Table, name: str, kind: str, free: bool, passed: dict[str, str], exploded: bool
    ) -> str:  # fmt: skip
        if name in passed:
            return f"Pass({name!r}, {passed[name]!r})"
        if exploded:
            return f"Element({name!r}, {kind!r})"
        if self._types.get(name) == kind:
            self._used.add(name)
            return f"Pass({name!r}, {name!r})"
        if free and name not in self._types:
            self.left.append(f"column {name} of {table.qualified} is left to its default: add it where it is not")
            return ""
        function = _word(f"{table.name} {name}")
        sources = (name,) if name in self._types else self._source.key
        self._used.update(sources)
        self._functions.append(
            f'def {function}(value):\n    """Return {_quoted(f"{table.qualified}.{name}")}, which is {kind}."""\n'
            f'    raise errors.RecordRejected("{function} is not written yet")\n'
        )
        self.left.append(f"function {function}: {table.qualified}.{name} out of {', '.join(sources)}")
        return f"Computed({name!r}, {kind!r}, {function}, {sources!r})"

    def _exploded(self) -> tuple[str, ...]:
        """Return the source's columns that a part is most likely made of: those of many values that go nowhere."""
        names = {name for name, _, _ in self._root.columns}
        found = tuple(
            name for name, kind in self._types.items()
            if name not in names and (kind in ("json", "jsonb") or kind.endswith("[]"))
        ) or self._source.key  # fmt: skip
        self._used.update(found)
        return found

    def _rebuild_lines(self) -> Iterator[str]:
        root = {name: kind for name, kind, _ in self._root.columns}
        keys = dict(zip(self._source.key, self._root.key, strict=False))
        yield "        SELECT"
        names = list(self._types)
        for name, kind in self._types.items():
            comma = "," if name != names[-1] else ""
            held = keys.get(name, name if root.get(name) == kind else None)
            if held is not None:
                alias = "" if held == name else f" AS {identifiers.quoted(name)}"
                yield f"            r.{identifiers.quoted(held)}{alias}{comma}"
            else:
                yield f"            NULL::{kind} AS {identifiers.quoted(name)}{comma}  -- out of what?"
                self.left.append(f"rebuild: how {name} comes back out of the hierarchical tables")
        ranged = ", ".join(f"r.{identifiers.quoted(name)}" for name in self._root.key)
        yield f"          FROM {self._root.qualified} AS r"
        yield f"         WHERE RANGE({ranged})"


def _quoted(text: str) -> str:
    """Return a text as it may stand between three quotation marks."""
    if "\\" not in text and '""' not in text and not text.endswith('"'):
        return text
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _word(text: str) -> str:
    """Return a name for Python."""
    found = re.sub(r"\W+", "_", text).strip("_").lower()
    return found if found and not found[0].isdigit() else f"_{found}"
