"""A category that changes nothing: the same table on both sides, for comparing tables of one shape."""

from __future__ import annotations

import dataclasses

from hal9mig.categories import neurons
from hal9mig.categories.declaration import Pass, Role, Target

_SOURCE = neurons.CATEGORY.source
TWINS = dataclasses.replace(
    neurons.CATEGORY,
    slug="twins",
    title="Twins",
    line="Twins",
    order=99,
    targets=(
        Target(
            schema="flat",
            table="straight",
            role=Role.ROOT,
            columns=tuple(Pass(name, name) for name in _SOURCE.names),
            key=_SOURCE.key,
            owner=_SOURCE.key,
            version=_SOURCE.version,
        ),
    ),
    rebuild=f"SELECT {', '.join(f't.{name}' for name in _SOURCE.names)} FROM flat.straight AS t "
    "WHERE RANGE(t.neuron_id)",
)
