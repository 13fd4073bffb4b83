"""How neuron states part into groups, by layer or by type, counted in one snapshot of the store that rules."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence

from hal9mig import errors, model
from hal9mig.categories import identifiers, neurons
from hal9mig.engine.system import System
from hal9mig.ledger.check_results import CheckOutcome, CheckVerdict
from hal9mig.stores import write_mode

#: What units can be grouped by, and the column of the flat table that holds it.
GROUPINGS: Mapping[str, str] = {"layer": "layer", "type": "neuron_type"}
#: Groups that are counted at most; a grouping of more is none that a person reads.
MOST_GROUPS = 10_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnitGroups:
    """The units of a store by group, and how many there are by another count of the same snapshot."""

    by: str
    store: model.StoreName
    mode: write_mode.Mode
    groups: Mapping[str, int]
    total: int

    @property
    def adds_up(self) -> bool:
        """Whether each unit is in exactly one group."""
        return sum(self.groups.values()) == self.total


def place(layer: str) -> tuple[int, str]:
    """Return what layers are ordered by: the lowest first, and those that HAL9 does not know behind them by name."""
    known = neurons.LAYERS
    return (known.index(layer) if layer in known else len(known), layer)


def group(system: System, *, by: str = "layer") -> UnitGroups:
    """Count the units of the ruling store by group: of flat-only and dual-write the flat one, else the hierarchical.

    Raises:
        errors.GateClosed: the write mode is being switched, so that neither store rules.
        errors.Refused: there are more than ``MOST_GROUPS`` groups.
    """
    with contextlib.closing(system.hier()) as hier:
        mode = write_mode.state(hier).mode
    if mode is write_mode.Mode.CLOSED:
        raise errors.GateClosed("The write mode is being switched.")
    table, column = _where(mode.ruling, GROUPINGS[by])
    with contextlib.closing(system.store(mode.ruling)) as store:
        # Both counts of one snapshot, so that a write between them cannot make a difference.
        store.set_session(isolation_level="REPEATABLE READ", readonly=True)
        with store, store.cursor() as cursor:
            cursor.execute(f"SELECT {column}, count(*) FROM {table} GROUP BY 1 LIMIT %s", (MOST_GROUPS + 1,))
            found = dict(cursor.fetchall())
            cursor.execute(f"SELECT count(*) FROM {table}")
            row = cursor.fetchone()
    if len(found) > MOST_GROUPS:
        raise errors.Refused(
            f"There are more than {MOST_GROUPS:,} groups by {by}; nothing was written.",
            hint="hal9-migrate neurons group --by layer",
        )
    if by == "layer":
        found = dict.fromkeys(neurons.LAYERS, 0) | found
    ordered: Sequence[str] = sorted(found, key=place if by == "layer" else str)
    return UnitGroups(
        by=by, store=mode.ruling, mode=mode, groups={name: found[name] for name in ordered},
        total=int(row[0]) if row else 0,
    )  # fmt: skip


def outcome(counted: UnitGroups) -> CheckOutcome:
    """Return the finding that is kept."""
    return CheckOutcome(
        category=neurons.CATEGORY.slug,
        name=f"groups:{counted.by}",
        verdict=CheckVerdict.PASSED if counted.adds_up else CheckVerdict.FAILED,
        detail=(
            f"{sum(counted.groups.values()):,} units in {len(counted.groups):,} groups by {counted.by}, "
            f"{counted.total:,} in the {counted.store} store."
        ),
        measured={"store": counted.store, "total_units": counted.total, "units": dict(counted.groups)},
    )


def _where(store: model.StoreName, column: str) -> tuple[str, str]:
    category = neurons.CATEGORY
    if store is model.StoreName.FLAT:
        return category.source.qualified, identifiers.quoted(column)
    (root,) = category.roots
    passed = {item.source: item.name for item in root.columns if hasattr(item, "source")}
    return root.qualified, identifiers.quoted(passed[column])
