"""Straight-line Python made from a declaration, for what is done to every field of every record.

A copy is bound by the time its worker spends on a record. Looking up for each field where it goes and
how its type is written takes twice as long as the work itself; so that is decided once, here, and the
decision is compiled. ``hal9mig.categories.transform`` is what the rest of the program uses.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Sequence
from typing import Any

from hal9mig import errors
from hal9mig.categories import wire
from hal9mig.categories.declaration import Category, Computed, Element, Pass, Role, Target

Fields = Sequence[bytes]
Pieces = list[bytes]
Shared = dict[tuple[bytes, ...], None]
#: ``step(records, pieces, rows, shared)``: adds each target's tuples and their number, by target.
StepFunction = Callable[[Sequence[Fields], list[Pieces], list[int], list[Shared]], None]
#: Types whose data always has the same length, in bytes.
_WIDTHS = {
    "boolean": 1, "smallint": 2, "integer": 4, "bigint": 8, "real": 4, "double precision": 8, "uuid": 16, "date": 4,
    "timestamp with time zone": 8, "timestamp without time zone": 8,
}  # fmt: skip
_MOST_TEXTS = 1000
_LONGEST_TEXT = 64


@functools.lru_cache(maxsize=64)
def splitter(types: tuple[str, ...]) -> Callable[[bytes], list[bytes]]:
    """Return a function like ``wire.split`` for tuples of these types."""
    count = len(types)
    lines = ["def split(row):", "    if row[:2] != count:", "        raise mismatch(row)", "    p0 = 2"]
    for at, name in enumerate(types):
        width = _WIDTHS.get(wire.canonical_type(name))
        # The first byte of a length is 255 in NULL's only: no field is as long as 2 GB.
        length = "unpack(row, p{0})[0] + 4" if width is None else str(width + 4)
        lines.append(f"    p{at + 1} = p{at} + ({length} if row[p{at}] != 255 else 4)".format(at))
    slices = ", ".join(f"row[p{at}:p{at + 1}]" for at in range(count))
    lines += [f"    if p{count} != len(row):", "        raise mismatch(row)", f"    return [{slices}]"]

    def mismatch(row: bytes) -> errors.HAL9Error:
        return errors.HAL9Error(
            f"A row of {int.from_bytes(row[:2])} fields and {len(row)} bytes is not of the {count} columns asked for."
        )

    scope = {"unpack": struct.Struct("!i").unpack_from, "count": count.to_bytes(2), "mismatch": mismatch}
    return _made(lines, scope, "split")  # type: ignore[no-any-return]


class _Texts(dict[Any, bytes]):
    """Texts as fields; short ones are kept, as most columns of computed texts have few different values."""

    def __missing__(self, value: Any) -> bytes:
        if value is None:
            return wire.NULL
        encoded = wire.codec("text").encode(value)
        if len(self) < _MOST_TEXTS and len(encoded) < _LONGEST_TEXT:
            self[value] = encoded
        return encoded


class _Compiler:
    """Writes the function of one category."""

    def __init__(self, category: Category):
        self._category = category
        self._places = {column.name: at for at, column in enumerate(category.source.columns)}
        self._types = {column.name: wire.canonical_type(column.type) for column in category.source.columns}
        self._scope: dict[str, Any] = {"NULL": wire.NULL, "RecordRejected": errors.RecordRejected}
        self._loaded: dict[str, None] = {}

    def function(self) -> StepFunction:
        """Compile."""
        body: list[str] = []
        computed = [
            column for target in self._category.targets for column in target.columns if isinstance(column, Computed)
        ]
        self._names = {id(column): f"c{at}" for at, column in enumerate(computed)}
        for column in computed:
            call = self._call(column.function, column.sources, as_bytes=column.as_bytes)
            body += [f"v = {call}", f"{self._names[id(column)]} = {self._encoded('v', column.type)}"]
        body += self._routing()
        for at, target in enumerate(self._category.targets):
            lines = self._target(at, target)
            body += lines if target.when is None else [f"if matches{at}:", *(f"    {line}" for line in lines)]
        lines = ["def step(records, pieces, rows, shared):"]
        counted = []
        for at, target in enumerate(self._category.targets):
            if target.role is Role.SHARED:
                lines.append(f"    shared{at} = shared[{at}]")
            else:
                lines += [f"    extend{at} = pieces[{at}].extend", f"    count{at} = 0"]
                counted.append(f"    rows[{at}] += count{at}")
        lines.append("    for fields in records:")
        lines += [f"        {name} = fields[{self._places[name[2:]]}]" for name in self._loaded]
        lines += [f"        {line}" for line in body]
        return _made([*lines, *counted], self._scope, "step")  # type: ignore[no-any-return]

    def _field(self, source: str) -> str:
        """Return the name that holds a source column's field."""
        self._loaded[f"f_{source}"] = None
        return f"f_{source}"

    def _held(self, value: object, name: str) -> str:
        """Return the name under which the function finds an object."""
        name = f"{name}{len(self._scope)}"
        self._scope[name] = value
        return name

    def _call(self, function: Callable[..., Any], sources: Sequence[str], *, as_bytes: bool) -> str:
        arguments = ", ".join(self._decoded(name, as_bytes=as_bytes) for name in sources)
        return f"{self._held(function, 'function')}({arguments})"

    def _decoded(self, source: str, *, as_bytes: bool) -> str:
        field, kind = self._field(source), self._types[source]
        if as_bytes:
            value = f"{field}[{5 if kind == 'jsonb' else 4}:]"
        else:
            value = f"{self._held(wire.codec(kind).decode, 'decode')}({field}[4:])"
        return f"None if {field} == NULL else {value}"

    def _encoded(self, value: str, type_name: str) -> str:
        """Return the expression of a value's field; the value is a name."""
        if wire.canonical_type(type_name) == "text":
            return f"{self._held(_Texts(), 'texts')}[{value}]"
        return f"NULL if {value} is None else {self._held(wire.codec(type_name).encode, 'encode')}({value})"

    def _routing(self) -> list[str]:
        lines, roots = [], []
        for at, target in enumerate(self._category.targets):
            if target.when is not None:
                source, value = target.when
                lines.append(f"matches{at} = {self._field(source)} == {self._held(wire.field(value.encode()), 'kind')}")
                roots += [f"matches{at}"] if target.role is Role.ROOT else []
        if roots:
            lines += [
                f"if {' + '.join(roots)} != 1:",
                "    raise RecordRejected('No target table is declared for a record of this kind.')",
            ]
        return lines

    def _target(self, at: int, target: Target) -> list[str]:
        header = self._held(len(target.columns).to_bytes(2), "header")
        leading = [header]
        for column in target.columns:
            if isinstance(column, Pass):
                leading.append(self._field(column.source))
            elif isinstance(column, Computed):
                leading.append(self._names[id(column)])
        explode = target.explode
        if explode is None:
            return self._added(at, target, ", ".join(leading))
        elements = [column for column in target.columns if isinstance(column, Element)]
        names = [f"e{place}" for place in range(len(elements))]
        encoded = [self._encoded(name, column.type) for name, column in zip(names, elements, strict=True)]
        call = self._call(explode.function, explode.sources, as_bytes=explode.as_bytes)
        added = self._added(at, target, ", ".join(["leading", *encoded]))
        return [
            f"leading = {' + '.join(leading)}",
            f"for {', '.join(names)}, in {call}:",
            *(f"    {line}" for line in added),
        ]

    def _added(self, at: int, target: Target, parts: str) -> list[str]:
        # What many records share is written once for each step.
        if target.role is Role.SHARED:
            return [f"shared{at}[{parts},] = None"]
        return [f"extend{at}(({parts},))", f"count{at} += 1"]


def step(category: Category) -> StepFunction:
    """Return the function that transforms records one after the other; it raises at the first it refuses."""
    return _Compiler(category).function()


def columns(target: Target) -> tuple[str, ...]:
    """Return a target's columns in the order in which they are written: what every exploded row repeats comes first."""
    elements = [column.name for column in target.columns if isinstance(column, Element)]
    return (*(name for name in target.names if name not in elements), *elements)


def _made(lines: Sequence[str], scope: dict[str, Any], name: str) -> Any:
    # Only names and numbers of declarations get into the text, and those are checked to be plain names.
    exec(compile("\n".join(lines), f"<{name} of a category>", "exec"), scope)
    return scope[name]
