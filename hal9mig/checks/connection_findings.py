"""What a look at connections has found: figures, verdict, and the commands to go on with.

Of a connection is said that it is

- *pending*: it leads to a unit that no migration has taken yet;
- *orphaned*: the store that follows lacks the unit it leads to or starts from, though that was migrated;
- *dangling*: the store that rules does not have the unit either. That is the application's own fact.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from hal9mig import model
from hal9mig.categories import neurons
from hal9mig.ledger.check_results import CheckOutcome, CheckVerdict

#: Differences that are listed, and units that are kept to be mended; all are counted.
MOST_LISTED, MOST_KEPT = 1_000, 100_000


@dataclasses.dataclass(kw_only=True)
class ConnectionFigures:
    """What one store's connections are, counted.

    Attributes:
        selves: lead back to the unit they start from.
        parallel: lead where another of the same unit leads already.
        duplicate: those of them with the same type and weight.
        dangling: lead to no unit of this store.
        unreadable: say no target that is a UUID.
        rootless: start from a unit that this store does not have.
    """

    units: int = 0
    connections: int = 0
    selves: int = 0
    parallel: int = 0
    duplicate: int = 0
    dangling: int = 0
    unreadable: int = 0
    rootless: int = 0

    def add(self, values: Sequence[int]) -> None:
        """Add counts, in the order of the fields."""
        for field, value in zip(dataclasses.fields(self), values, strict=True):
            setattr(self, field.name, getattr(self, field.name) + value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConnectionDifference:
    """A connection that differs, or with ``ordinal`` None a unit whose connections do; each side as text."""

    unit: str
    ordinal: int | None
    flat: str | None
    hier: str | None


@dataclasses.dataclass(kw_only=True)
class ConnectionFindings:
    """What was found; counts are of connections unless they say units.

    Attributes:
        ruling: the store whose state counts.
        layer: the layer looked at, None for all.
        compared_units: units of which each store has said the same, or the judge something.
        pending_units: not migrated yet, so that the other store cannot have their connections.
        moving_units: written while they were looked at, so that nothing is said of them.
        quarantined_units: differ, and are held in quarantine already.
        differing_units: units whose connections differ, or that one store lacks.
        pending, orphaned: see this module's first lines.
        held_back: lead to a unit that is in quarantine.
        rootless_units: units that neither store has, of which the hierarchical one holds parts.
        unreachable_units: no way of connections leads to them from ``entrance``, the lowest layer; None where that
            was not looked at.
        differences: what differs, at most ``MOST_LISTED``.
        lost: units that the store which follows has lost, and how many orphaned connections lead to or start from
            each; at most ``MOST_KEPT``.
        rootless: the units of ``rootless_units``, at most as many, and how many connections are left of each.
    """

    ruling: model.StoreName
    layer: str | None
    deep: bool
    flat: ConnectionFigures = dataclasses.field(default_factory=ConnectionFigures)
    hier: ConnectionFigures = dataclasses.field(default_factory=ConnectionFigures)
    pending: int = 0
    pending_units: int = 0
    moving_units: int = 0
    quarantined_units: int = 0
    differing_units: int = 0
    orphaned: int = 0
    held_back: int = 0
    rootless_units: int = 0
    unreachable_units: int | None = None
    entrance: str | None = None
    differences: list[ConnectionDifference] = dataclasses.field(default_factory=list)
    lost: dict[model.Key, int] = dataclasses.field(default_factory=dict)
    rootless: dict[model.Key, int] = dataclasses.field(default_factory=dict)

    @property
    def ruled(self) -> ConnectionFigures:
        """The figures of the store that rules."""
        return self.flat if self.ruling is model.StoreName.FLAT else self.hier

    @property
    def migrated_units(self) -> int:
        """Units that a migration has taken."""
        return self.ruled.units - self.pending_units

    @property
    def alike(self) -> bool:
        """Whether nothing that was migrated is connected otherwise, orphaned or held back."""
        return not (self.differing_units or self.orphaned or self.rootless_units or self.held)

    @property
    def held(self) -> int:
        """How many units and connections are held back by quarantine."""
        return self.quarantined_units + self.held_back


def outcome(found: ConnectionFindings) -> CheckOutcome:
    """Return the finding that is kept."""
    verdict = CheckVerdict.PASSED if found.alike else CheckVerdict.FAILED
    if found.alike and not found.migrated_units:
        verdict = CheckVerdict.SKIPPED
    figures = {
        name: getattr(found, name)
        for name in (
            "migrated_units", "pending", "pending_units", "moving_units", "quarantined_units", "differing_units",
            "orphaned", "held_back", "rootless_units", "unreachable_units",
        )
    }  # fmt: skip
    return CheckOutcome(
        category=neurons.CATEGORY.slug,
        name="connections" if found.layer is None else f"connections:{found.layer}",
        verdict=verdict,
        detail=sentence(found),
        next_command=next((iter(next_steps(found))), ""),
        measured={
            "ruling": found.ruling, "deep": found.deep, **figures,
            "flat": dataclasses.asdict(found.flat), "hierarchical": dataclasses.asdict(found.hier),
        },
    )  # fmt: skip


def sentence(found: ConnectionFindings) -> str:
    """Return the verdict's words: how many connections are how, and of how many units."""
    parts = [f"{found.migrated_units:,} of {found.ruled.units:,} units migrated"]
    parts += [
        f"{count:,} {words}"
        for count, words in (
            (found.differing_units, "differing"),
            (found.orphaned, "orphaned"),
            (found.rootless_units, "left of no unit"),
            (found.held, "held back by quarantine"),
            (found.pending, "pending until their layer is migrated"),
            (found.moving_units, "changing"),
        )
        if count
    ]
    whose = "" if found.layer is None else f" of {found.layer}"
    how = "connected alike in both stores" if found.alike else "NOT connected alike"
    if not found.migrated_units:
        how = "nothing is migrated yet"
    return f"Connections{whose}: {how}  ({'; '.join(parts)})"


def next_steps(found: ConnectionFindings) -> list[str]:
    """Return the commands to go on with, most urgent first."""
    steps = []
    if found.orphaned or found.rootless_units:
        steps.append("hal9-migrate neurons validate-connections --deep --fix-orphaned")
    elif found.differing_units:
        steps.append("hal9-migrate state fix --auto --safe-only --category neuron-states")
    if found.held:
        steps.append("hal9-migrate quarantine list --category neuron-states")
    if found.pending_units:
        steps.append("hal9-migrate state migrate --category neuron-states")
    return steps
