"""What a category is: a declaration of source, key, transform, inverse and canonical form.

The engine knows nothing about HAL9's categories or yours; it reads these declarations. A declaration
says for each target column whether it passes through, is computed or comes out of an exploded value,
so that the copier decodes only what it has to.

The **canonical form** of a record is its flat row. ``Category.rebuild`` is one SQL query that builds
flat rows out of the hierarchical tables: it is the inverse transform, and the projection that the
verifier compares with the flat table. One text serves both, so they cannot disagree. A document that the
query writes as a text, just as PostgreSQL writes a ``jsonb``, stands in ``JSONB(...)``: it is a ``jsonb`` to
whoever reads values, and is hashed as the text it is. Were it written otherwise it would differ; where the
texts are equal, so are the documents.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from hal9mig import errors
from hal9mig.categories import identifiers

_QUOTED = r'"(?:[^"]|"")*"'
_RANGE = re.compile(rf'RANGE\(((?:{_QUOTED}|[^()"])*)\)')
_JSONB = re.compile(r"\bJSONB\(((?:[^()]|\([^()]*\))*)\)")
_OPERAND = re.compile(rf'(?:{_QUOTED}|[^,"])+')
_SLUG = re.compile(r"[a-z][a-z0-9-]*")


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of the source table: its name and its PostgreSQL type, as ``real[]`` or ``jsonb``."""

    name: str
    type: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """The flat table: the columns read, the key columns, and the column that grows with each change.

    ``version`` is the name of a bigint column that every update makes larger, or None where the
    application keeps none; then a copy onto an existing row replaces it. ``ignored`` names the columns that
    are left behind on purpose: one that is neither declared, nor generated, nor named there is refused, since
    it would be left behind without a word.
    """

    schema: str
    table: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    version: str | None = None
    ignored: tuple[str, ...] = ()

    @property
    def qualified(self) -> str:
        """``schema.table``, in quotes where it needs them."""
        return identifiers.qualified(self.schema, self.table)

    @property
    def names(self) -> tuple[str, ...]:
        """The column names, in declared order."""
        return tuple(column.name for column in self.columns)

    @property
    def key_columns(self) -> tuple[Column, ...]:
        """The key columns, in key order."""
        by_name = {column.name: column for column in self.columns}
        return tuple(by_name[name] for name in self.key)


@dataclasses.dataclass(frozen=True)
class Pass:
    """A target column that takes the bytes of a source column of the same type, undecoded."""

    name: str
    source: str


@dataclasses.dataclass(frozen=True)
class Computed:
    """A target column computed by ``function(*values of sources)``; it may raise to reject the record.

    With ``as_bytes`` the function gets the fields as PostgreSQL sends them (``jsonb`` as JSON text),
    None for NULL.
    """

    name: str
    type: str
    function: Callable[..., Any]
    sources: tuple[str, ...]
    as_bytes: bool = False


@dataclasses.dataclass(frozen=True)
class Element:
    """A target column taken from the tuples that the target's ``Explode`` yields, in declared order."""

    name: str
    type: str


@dataclasses.dataclass(frozen=True)
class Explode:
    """One source row becomes the rows of ``function(*values of sources)``: tuples, an item an Element.

    A plain Python function from a whole row to rows is an Explode over all source columns.
    """

    function: Callable[..., Iterable[Sequence[Any]]]
    sources: tuple[str, ...]
    as_bytes: bool = False


class Role(enum.Enum):
    """What a target table is to its record."""

    #: Exactly one row a record, in the one root whose ``when`` matches; holds the source version.
    ROOT = "root"
    #: Rows that belong to one record and come and go with it (one, or any number by Explode).
    PART = "part"
    #: Rows that many records share, such as their user or their parent nodes. Every column follows
    #: from the row's key, so that writing one twice is harmless; they are inserted where absent.
    SHARED = "shared"


TargetColumn = Pass | Computed | Element


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """A hierarchical table that a category writes.

    Attributes:
        key: the columns of the table's primary key.
        owner: for ROOT and PART, the columns that hold the record's key, in key order.
        when: write only records whose source column has this value, as ``("type", "metrics")``.
        version: for ROOT, the column that holds the source version.
    """

    schema: str
    table: str
    role: Role
    columns: tuple[TargetColumn, ...]
    key: tuple[str, ...]
    owner: tuple[str, ...] = ()
    explode: Explode | None = None
    when: tuple[str, str] | None = None
    version: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The column names, in declared order."""
        return tuple(column.name for column in self.columns)

    @property
    def qualified(self) -> str:
        """``schema.table``, in quotes where it needs them."""
        return identifiers.qualified(self.schema, self.table)


@dataclasses.dataclass(frozen=True)
class FilterField:
    """A field usable in ``--filter``: the source column it stands for and the type values are cast to."""

    column: str
    type: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Category:
    """Everything the engine knows about one category of state.

    Attributes:
        slug: the name on the command line; ``aliases`` are accepted too.
        title: the name in tables; ``line`` the name in the runbook's ``100% consistent`` lines.
        order: the category's place in a migration of all; smaller first.
        targets: shared tables first, then the roots, then the parts, in the order they are written.
        rebuild: the SQL query that returns flat rows from the hierarchical tables. Its result has the
            source's columns, by name and type. Wherever a table with the record's key is read it says
            ``RANGE(alias.key_column, ...)``, which becomes the predicate on the key.
        filters: what ``--filter`` may name.
        type_field: the filter field that ``--type`` stands for, if any.
        atomic: migrated in one transaction by default; ordered: in one serial lane by default.
        transform_version: goes up with every change of the transform; kept with quarantined records.
    """

    slug: str
    title: str
    source: Source
    targets: tuple[Target, ...]
    rebuild: str
    order: int = 100
    line: str = ""
    aliases: tuple[str, ...] = ()
    filters: Mapping[str, FilterField] = dataclasses.field(default_factory=dict)
    type_field: str | None = None
    atomic: bool = False
    ordered: bool = False
    transform_version: int = 1

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise errors.InvalidCategory(f"Category {self.slug!r}: {problem}.", hint="docs/categories.md")
        if not self.line:
            object.__setattr__(self, "line", self.title)

    @property
    def key(self) -> tuple[str, ...]:
        """The names of the key columns."""
        return self.source.key

    @property
    def roots(self) -> tuple[Target, ...]:
        """The tables of which exactly one holds a record."""
        return tuple(target for target in self.targets if target.role is Role.ROOT)

    @property
    def owned(self) -> tuple[Target, ...]:
        """The tables whose rows belong to one record: roots and parts."""
        return tuple(target for target in self.targets if target.role is not Role.SHARED)

    def typed(self, target: Target) -> tuple[Column, ...]:
        """Return a target's columns with their types: what passes through has its source's."""
        types = {column.name: column.type for column in self.source.columns}
        return tuple(
            Column(column.name, types[column.source] if isinstance(column, Pass) else column.type)
            for column in target.columns
        )

    def rebuild_where(self, predicate: Callable[[tuple[str, ...]], str], *, hashed: bool = False) -> str:
        """Return ``rebuild`` with each ``RANGE(...)`` replaced by ``predicate(columns)``.

        Args:
            hashed: leave what stands in ``JSONB(...)`` a text, as only hashes are made of it.
        """

        def replaced(found: re.Match[str]) -> str:
            return predicate(tuple(name.strip() for name in _OPERAND.findall(found[1])))

        return _RANGE.sub(replaced, _JSONB.sub(r"(\1)" if hashed else r"(\1)::jsonb", self.rebuild))


def _problems(category: Category) -> Iterable[str]:
    source, names = category.source, set(category.source.names)
    if not _SLUG.fullmatch(category.slug):
        yield "the slug must be lower-case words joined by hyphens"
    tables, columns = [source.schema, source.table], [*source.names]
    for target in category.targets:
        tables += [target.schema, target.table]
        columns += target.names
    for found in (*(identifiers.problem(name, table=True) for name in tables), *map(identifiers.problem, columns)):
        if found is not None:
            yield found
    values = [target.when[1] for target in category.targets if target.when is not None]
    for text in (category.title, category.line, category.rebuild, *category.aliases, *values):
        if not identifiers.storable(text):
            yield f"{text!r:.60} is no text that a database takes"
    if not source.key or not set(source.key) <= names:
        yield "the key columns must be among the source's columns"
    if source.version is not None and source.version not in names:
        yield f"the version column {source.version!r} is not among the source's columns"
    if not category.roots:
        yield "at least one target must be a root"
    if len(category.roots) > 1 and any(root.when is None for root in category.roots):
        yield "with several roots each needs a `when`"
    if not _RANGE.search(category.rebuild):
        yield "the rebuild query must contain RANGE(...) wherever it reads a keyed table"
    for field, filter_field in category.filters.items():
        if filter_field.column not in names:
            yield f"filter field {field!r} stands for the unknown column {filter_field.column!r}"
    if category.type_field is not None and category.type_field not in category.filters:
        yield f"type_field {category.type_field!r} is not a filter field"
    seen_owned = False
    for target in category.targets:
        if target.role is Role.SHARED and seen_owned:
            yield f"shared table {target.table} must come before the tables that belong to a record"
        seen_owned = seen_owned or target.role is not Role.SHARED
        yield from _target_problems(category, target, names)


def _target_problems(category: Category, target: Target, names: set[str]) -> Iterable[str]:
    here = f"table {target.table}"
    used: list[str] = []
    for column in target.columns:
        if isinstance(column, Pass):
            used.append(column.source)
        elif isinstance(column, Computed):
            used.extend(column.sources)
    if target.explode is not None:
        used.extend(target.explode.sources)
    if target.when is not None:
        used.append(target.when[0])
    for name in used:
        if name not in names:
            yield f"{here} uses the unknown source column {name!r}"
    if not set(target.key) <= set(target.names) or not target.key:
        yield f"the key of {here} must be among its columns"
    if (target.explode is None) == any(isinstance(column, Element) for column in target.columns):
        yield f"{here} needs Element columns exactly when it has an explode"
    if target.role is not Role.SHARED:
        if len(target.owner) != len(category.source.key) or not set(target.owner) <= set(target.names):
            yield f"the owner columns of {here} must hold the record's key"
        for owner, key in zip(target.owner, category.source.key, strict=False):
            if Pass(owner, key) not in target.columns:
                yield f"{here}.{owner} must pass the key column {key} through"
    if target.role is Role.ROOT:
        if target.explode is not None:
            yield f"{here} is a root and cannot explode"
        if (target.version is None) != (category.source.version is None):
            yield f"{here} must declare a version column exactly when the source has one"
