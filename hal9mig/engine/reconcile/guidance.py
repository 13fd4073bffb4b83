"""Helps a person to decide about one record: both sides field by field, why it may differ, what can be done."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence

from hal9mig import model
from hal9mig.categories import identifiers
from hal9mig.categories.filters import EVERYTHING
from hal9mig.engine.compare import field_diff
from hal9mig.engine.compare.judge import Sides
from hal9mig.engine.reconcile.repair import Mender, Outcome, RepairPolicy
from hal9mig.engine.system import System
from hal9mig.engine.transfer import applier
from hal9mig.ledger.drifts import Cause
from hal9mig.ledger.verify_results import DifferenceKind, FieldDifference
from hal9mig.stores import projection
from hal9mig.stores.connection import Connection

_CAUSES = {
    Cause.MISSED_CAPTURE: (
        "A write was not captured: one from before dual-write was turned on, or one that went round the triggers. "
        "The side that rules is right."
    ),
    Cause.LATE_APPLY: "The record was applied lately, and then something older was written over it.",
    Cause.FOREIGN_WRITE: (
        "Somebody else has written to the store that follows: both have the same version, or it has a record of its "
        "own. Find out who, or it comes back; its value is lost when the side that rules is taken."
    ),
    Cause.TRANSFORM_CHANGED: (
        "The record was migrated with another version of the transform. Taking the side that rules writes it anew."
    ),
    Cause.QUARANTINE: (
        "The record is held in quarantine, because it could not be written or nobody could tell which side is right. "
        "See hal9-migrate quarantine list; taking the side that rules tries it again."
    ),
}


#: Seconds that a repair waits for the budget: somebody waits for it.
_PATIENCE = 60.0


class Choice(enum.StrEnum):
    """What can be done about a record."""

    TAKE_FLAT = "flat"
    TAKE_HIERARCHICAL = "hierarchical"
    QUARANTINE = "quarantine"
    SKIP = "skip"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Guide:
    """What a person needs to decide about a record.

    Attributes:
        sides: the fields that differ; all of them where one side has no record.
        cause: why it may differ, as sentences.
        choices: what can be done, the likely right one first.
        closed: why another choice cannot be made, as sentences.
    """

    sides: Sequence[FieldDifference]
    cause: str
    choices: Sequence[Choice]
    closed: str


def guide(both: Sides, outcome: Outcome) -> Guide:
    """Look at a record on both sides."""
    ruling = Choice.TAKE_FLAT if both.forward else Choice.TAKE_HIERARCHICAL
    choices = [ruling, Choice.QUARANTINE, Choice.SKIP] if both.forward else [ruling, Choice.SKIP]
    other = model.StoreName.HIERARCHICAL if both.forward else model.StoreName.FLAT
    return Guide(
        sides=_sides(both, outcome),
        cause=_CAUSES[outcome.cause],
        choices=choices,
        closed=(
            f"The {other} side cannot be taken: the write mode is {both.state.mode}, so the "
            f"{both.state.mode.ruling} store takes the writes. Where the {other} side is right, let the application "
            "write that to the other one."
        ),
    )


def carry_out(system: System, both: Sides, key: model.Key, choice: Choice) -> Sequence[Outcome]:
    """Do what an operator has chosen for a record, and return what became of it; nothing for one that is skipped.

    Raises:
        errors.StaleEpoch: the write mode was switched meanwhile; nothing was done.
        psycopg2.Error, errors.Unreachable: a server failed.
    """
    if choice is Choice.SKIP:
        return []
    if choice is Choice.QUARANTINE:
        _quarantine(system, both, key)
        return Mender(system, policy=RepairPolicy.OFF, insist=True).settle(both, [key])
    return Mender(system, policy=RepairPolicy.AUTO, insist=True, chosen=True, patience=_PATIENCE).settle(both, [key])


def _quarantine(system: System, both: Sides, key: model.Key) -> None:
    with system.ledger.begin() as session:
        applier.hold(
            session, both.flat, system.transform(both.category.slug), key, "Held back by an operator.", run_id=None
        )  # fmt: skip


def _sides(both: Sides, outcome: Outcome) -> list[FieldDifference]:
    if outcome.kind is DifferenceKind.MISMATCH:
        with both.flat, both.hier, both.flat.cursor() as flat, both.hier.cursor() as hier:
            found = dict(field_diff.differing(flat, hier, both.category, [outcome.key]))
        return list(found.get(outcome.key, ()))
    scope = projection.Keys(keys=[outcome.key])
    flat_side = _values(both.flat, both, projection.flat_rows(both.category, scope, EVERYTHING))
    hier_side = _values(both.hier, both, projection.rebuilt_rows(both.category, scope))
    return [
        FieldDifference(field=name, flat=flat_side.get(name), hier=hier_side.get(name))
        for name in both.category.source.names
        if name in flat_side or name in hier_side
    ]


def _values(connection: Connection, both: Sides, rows: tuple[str, list[object]]) -> dict[str, str | None]:
    names = both.category.source.names
    columns = ", ".join(f"left({identifiers.quoted(name, 's')}::text, {field_diff.CLIP})" for name in names)
    with connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT {columns} {rows[0]} LIMIT 1", rows[1])
        row = cursor.fetchone()
    return {} if row is None else dict(zip(names, row, strict=True))
