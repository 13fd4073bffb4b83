"""A category for tests: neurons, of which a record with a momentum of -9 takes its whole process with it."""

from __future__ import annotations

import dataclasses
import os

from hal9mig.categories import neurons
from hal9mig.categories.declaration import Computed, Target


def momentum(given: float | None) -> float:
    """Return the momentum, or die as a bug in native code would."""
    if given == -9:
        os._exit(9)
    return neurons.momentum(given)


def _deadly(target: Target) -> Target:
    columns = tuple(
        dataclasses.replace(column, function=momentum)
        if isinstance(column, Computed) and column.name == "momentum"
        else column
        for column in target.columns
    )
    return dataclasses.replace(target, columns=columns)


CATEGORY = dataclasses.replace(
    neurons.CATEGORY, slug="deadly-neurons", targets=tuple(map(_deadly, neurons.CATEGORY.targets))
)
