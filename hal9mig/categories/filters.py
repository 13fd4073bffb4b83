"""The ``--filter`` grammar: ``field op value``, joined by commas that mean AND.

``op`` is one of ``= != < <= > >= in``; a list for ``in`` is joined by ``|``. A value with a comma or
blank goes in quotes. Fields are declared by the category; a value only ever becomes a parameter.
"""

from __future__ import annotations

import dataclasses
import difflib
import re

from hal9mig import errors
from hal9mig.categories import identifiers
from hal9mig.categories.declaration import Category

_CONDITION = re.compile(
    r"""\s*(?P<field>[A-Za-z_][\w-]*)\s*(?P<op><=|>=|!=|=|<|>|\bin\b)\s*"""
    r"""(?P<value>'[^']*'|"[^"]*"|[^,]*?)\s*(?:,|$)"""
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Condition:
    """One comparison of a source column with values, cast to the field's type."""

    column: str
    type: str
    op: str
    values: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Filter:
    """Conditions that all hold; no conditions take every record."""

    text: str
    conditions: tuple[Condition, ...] = ()

    def sql(self, alias: str) -> tuple[str, list[object]]:
        """Return the predicate over the flat table's alias, and its parameters."""
        parts: list[str] = []
        values: list[object] = []
        for condition in self.conditions:
            column = identifiers.quoted(condition.column, alias)
            if condition.op == "in":
                parts.append(f"{column} = ANY(%s::{condition.type}[])")
                values.append(list(condition.values))
            else:
                operator = "<>" if condition.op == "!=" else condition.op
                parts.append(f"{column} {operator} %s::{condition.type}")
                values.append(condition.values[0])
        return " AND ".join(parts) or "TRUE", values


#: Takes every record.
EVERYTHING = Filter(text="")


def parse(category: Category, text: str) -> Filter:
    """Read a filter for a category.

    Raises:
        errors.InvalidFilter: it has another form or names an unknown field.
    """
    conditions = []
    position = 0
    valid = ", ".join(sorted(category.filters)) or "none"
    while position < len(text):
        found = _CONDITION.match(text, position)
        if not found or not found["value"]:
            raise errors.InvalidFilter(
                f"The filter {text!r} cannot be read at {text[position:].strip()!r}.",
                hint=f"write field op value, joined by commas; fields of {category.slug}: {valid}",
            )
        name = found["field"].replace("-", "_")
        field = category.filters.get(name)
        if field is None:
            near = difflib.get_close_matches(name, category.filters, n=1)
            raise errors.InvalidFilter(
                f"{category.slug} has no filter field {name!r}" + (f"; did you mean {near[0]!r}?" if near else "."),
                hint=f"fields of {category.slug}: {valid}",
            )
        value = found["value"].strip()
        quoted = value[:1] in ("'", '"') and value[-1:] == value[:1] and len(value) > 1
        value = value[1:-1] if quoted else value
        values = tuple(part.strip() for part in value.split("|")) if found["op"] == "in" else (value,)
        conditions.append(Condition(column=field.column, type=field.type, op=found["op"], values=values))
        position = found.end()
    return Filter(text=text.strip(), conditions=tuple(conditions))


def with_types(category: Category, types: str) -> str:
    """Return the filter that ``--type a,b`` stands for.

    Raises:
        errors.ConflictingFlags: the category has no types.
    """
    if category.type_field is None:
        raise errors.ConflictingFlags(
            f"--type does not go with {category.slug}, whose records have no types.", hint="leave --type out"
        )
    return f"{category.type_field} in {'|'.join(part.strip() for part in types.split(',') if part.strip())}"
