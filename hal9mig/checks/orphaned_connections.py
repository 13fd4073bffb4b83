"""Orphaned connections, mended: what they lead to is brought, and what belongs to nobody goes to quarantine.

A unit that the store which follows has lost is brought again from the one that rules, as drift is repaired;
the connections that lead to it are whole then, and no sound record has to be held back for another's loss.
What cannot be brought goes to quarantine. Rows of a unit that neither store has are taken out of the
hierarchical store, and kept as they were: in the ledger's drifts before they are taken out, so that nothing can
be lost in between, and in quarantine afterwards.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from hal9mig import model
from hal9mig.categories import identifiers, neurons
from hal9mig.checks.connection_findings import ConnectionFindings
from hal9mig.engine.compare.judge import Sides
from hal9mig.engine.reconcile.repair import Action, Mender, RepairPolicy
from hal9mig.engine.system import System
from hal9mig.engine.transfer import follower
from hal9mig.ledger import audit, database, drifts, quarantine
from hal9mig.ledger.drifts import Cause, Finding
from hal9mig.ledger.verify_results import DifferenceKind
from hal9mig.stores import projection

_REASON = "Connections or other parts of a unit that neither store has."
_CHUNK = 500  # units mended together


@dataclasses.dataclass(kw_only=True)
class Mended:
    """What became of units: brought again, held in quarantine, or left, with the reason of the last that was."""

    brought: int = 0
    quarantined: int = 0
    left: int = 0
    reason: str = ""

    @property
    def any(self) -> bool:
        """Whether something has changed."""
        return bool(self.brought or self.quarantined)


def mend(system: System, both: Sides, found: ConnectionFindings) -> Mended:
    """Mend the orphaned connections that a check has found; doing so twice is doing so once.

    Raises:
        errors.StaleEpoch: the write mode was switched meanwhile; what was done before stays.
        psycopg2.Error, errors.Unreachable: a server failed, likewise.
    """
    done = Mended()
    lost = list(found.lost)
    for start in range(0, len(lost), _CHUNK):
        # An operator has seen the plan: what was repaired again and again is repaired too.
        mender = Mender(system, policy=RepairPolicy.AUTO, insist=True)
        for one in mender.settle(both, lost[start : start + _CHUNK]):
            done.brought += one.repaired
            done.quarantined += one.action is Action.QUARANTINED
            if one.action is Action.LEFT:
                done.left, done.reason = done.left + 1, one.reason
    rootless = list(found.rootless)
    for start in range(0, len(rootless), _CHUNK):
        done.quarantined += _set_aside(system, both, rootless[start : start + _CHUNK])
    with system.ledger.begin() as session:
        audit.log(
            session, "neurons validate-connections --fix-orphaned", actor=database.actor(),
            detail=dataclasses.asdict(done),
        )  # fmt: skip
    return done


def _set_aside(system: System, both: Sides, keys: Sequence[model.Key]) -> int:
    """Move what is left of units that neither store has from the hierarchical store to quarantine."""
    slug, ruling = neurons.CATEGORY.slug, both.state.mode.ruling
    before = follower.restores(both.flat, both.hier, ruling)
    rows = {key: _rows(both, key) for key in keys}
    # Kept before it is taken out, and in a transaction of its own: a crash between the two loses nothing.
    with system.ledger.begin() as session:
        findings = [
            Finding(key=key, kind=DifferenceKind.EXTRA, cause=Cause.FOREIGN_WRITE, payload=payload)
            for key, payload in rows.items()
        ]
        drifts.note(session, slug, findings, round=None)
    applied = follower.apply(system, both.flat, both.hier, ruling, slug, list(keys), restores=before)
    # A unit that came to the flat store meanwhile was written with its own parts, and is none of these any more.
    gone = [key for key in keys if key in set(applied.deleted)]
    with system.ledger.begin() as session:
        for key in gone:
            quarantine.hold(
                session, category=slug, key=key, error=_REASON, payload=rows[key],
                transform_version=neurons.CATEGORY.transform_version, run_id=None,
            )  # fmt: skip
        drifts.quarantined(session, slug, gone, _REASON)
    return len(gone)


def _rows(both: Sides, key: model.Key) -> str:
    """Return all rows of a unit's parts as JSON, by table."""
    parts, values = [], []
    for part in neurons.CATEGORY.owned:
        where, more = projection.Keys(keys=[key]).sql(neurons.CATEGORY, identifiers.each(part.owner, "p"))
        parts.append(f"%s::text, (SELECT json_agg(row_to_json(p)) FROM {part.qualified} p WHERE {where})")
        values += [part.qualified, *more]
    with both.hier, both.hier.cursor() as cursor:
        cursor.execute(f"SELECT json_build_object({', '.join(parts)})::text", values)
        row = cursor.fetchone()
    return str(row[0]) if row else "{}"
