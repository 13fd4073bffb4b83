"""A category that changes nothing, for comparing two tables of one shape; declared as a user's own would be."""

from __future__ import annotations

from hal9mig.categories import neurons
from hal9mig.categories.declaration import Category, Pass, Role, Target

_SOURCE = neurons.CATEGORY.source

CATEGORY = Category(
    slug="twins",
    title="Twins",
    source=_SOURCE,
    targets=(
        Target(
            schema="twin",
            table="neuron_states",
            role=Role.ROOT,
            columns=tuple(Pass(name, name) for name in _SOURCE.names),
            key=_SOURCE.key,
            owner=_SOURCE.key,
            version=_SOURCE.version,
        ),
    ),
    rebuild=f"SELECT {', '.join(f's.{name}' for name in _SOURCE.names)} "
    "FROM twin.neuron_states AS s WHERE RANGE(s.neuron_id)",
)
