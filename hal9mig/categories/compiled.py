"""What is to be done to every field of every record, decided once from a declaration and then done by ``native``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hal9mig.categories import native, wire
from hal9mig.categories.declaration import Category, Computed, Element, Pass, Role, Target

#: What records share, by tuple: each is written once for a step.
Shared = dict[bytes, None]


class _Plan:
    """Puts the plan of one category together."""

    def __init__(self, category: Category):
        self._category = category
        self._places = {column.name: at for at, column in enumerate(category.source.columns)}
        self._types = {column.name: wire.canonical_type(column.type) for column in category.source.columns}
        computed = [column for target in category.targets for column in target.columns if isinstance(column, Computed)]
        self._numbers = {id(column): -1 - at for at, column in enumerate(computed)}
        self._computed = [
            native.Computed(
                column.function,
                self._sources(column.sources, as_bytes=column.as_bytes),
                *_written(column.type),
            )
            for column in computed
        ]

    def step(self) -> native.Step:
        """Return what the plan is carried out by."""
        targets = [self._target(target) for target in self._category.targets]
        return native.Step(len(self._places), self._computed, targets)

    def _sources(self, names: Sequence[str], *, as_bytes: bool) -> tuple[native.Source, ...]:
        return tuple(self._source(name, as_bytes=as_bytes) for name in names)

    def _source(self, name: str, *, as_bytes: bool) -> native.Source:
        kind = self._types[name]
        if as_bytes:
            # After the length, and the version byte of jsonb.
            return native.Source(self._places[name], 5 if kind == "jsonb" else 4, None)
        return native.Source(self._places[name], 4, wire.codec(kind).decode)

    def _target(self, target: Target) -> native.Target:
        leading = []
        for column in target.columns:
            if isinstance(column, Pass):
                leading.append(self._places[column.source])
            elif isinstance(column, Computed):
                leading.append(self._numbers[id(column)])
        when = None
        if target.when is not None:
            source, value = target.when
            when = (self._places[source], wire.field(value.encode()))
        explode = target.explode
        return native.Target(
            len(target.columns).to_bytes(2),
            when,
            target.role is Role.ROOT,
            target.role is Role.SHARED,
            leading,
            None if explode is None else (explode.function, self._sources(explode.sources, as_bytes=explode.as_bytes)),
            [_written(column.type) for column in target.columns if isinstance(column, Element)],
        )


def _written(type_name: str) -> tuple[int, Callable[[Any], bytes]]:
    """Return how values of a type are written: by which of the ways of ``native``, and by which codec otherwise."""
    return native.KINDS.get(wire.canonical_type(type_name), native.OTHER), wire.codec(type_name).encode


def step(category: Category) -> native.Step:
    """Return what transforms records one after the other; it raises at the first it refuses."""
    return _Plan(category).step()


def columns(target: Target) -> tuple[str, ...]:
    """Return a target's columns in the order in which they are written: what every exploded row repeats comes first."""
    elements = [column.name for column in target.columns if isinstance(column, Element)]
    return (*(name for name in target.names if name not in elements), *elements)
