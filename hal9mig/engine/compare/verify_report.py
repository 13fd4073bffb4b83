"""What a comparison says of a category: counts that add up, how much of it they cover, and what differs."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from hal9mig import errors, model, units
from hal9mig.categories.declaration import Category
from hal9mig.engine.compare.tally import Tally, hexadecimal
from hal9mig.ledger import runs, verify_results
from hal9mig.ledger.database import Session
from hal9mig.ledger.verify_results import Difference

#: Goes up with every change of the document that a reader has to know of.
SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class CategoryVerdict:
    """A category's comparison. Consistency is of what was migrated: see ``coverage`` for how much that is.

    Attributes:
        line: the name in the runbook's ``100% consistent`` lines.
        complete: every range of keys was compared.
        total: flat records compared.
        migrated: those of them that a migration has taken: all but the pending ones.
        verified: the same in both stores, field by field or by digest.
        mismatches, missing, extra: see ``verify_results.DifferenceKind``.
        pending: not migrated yet, so no difference.
        quarantined: differ and are held in quarantine.
        moving: changed at the source while being compared, so nothing is said of them.
        consistent: complete, and nothing migrated differs, is missing, extra or in quarantine.
        unlisted: differences that are counted but not among ``differences``.
        flat_digest, hier_digest: hexadecimal sums of the record hashes of all but pending records.
    """

    category: str
    line: str
    run_id: int
    filter: str
    complete: bool
    total: int
    migrated: int
    verified: int
    mismatches: int
    missing: int
    extra: int
    pending: int
    quarantined: int
    moving: int
    consistent: bool
    flat_digest: str
    hier_digest: str
    seconds: float
    unlisted: int
    differences: Sequence[Difference]

    @property
    def coverage(self) -> str:
        """How much of the category the verdict is about, as ``0 of 100,000 migrated``."""
        return f"{self.migrated:,} of {self.total:,} migrated"

    @property
    def covered(self) -> bool:
        """Whether the verdict is about the whole category."""
        return self.complete and not self.filter and self.pending == 0

    @property
    def differing(self) -> int:
        """How many records differ, listed or not."""
        return self.mismatches + self.missing + self.extra + self.quarantined


def sentence(one: CategoryVerdict) -> str:
    """Return the line of a category, as ``Neuron States: 100% consistent  (1,000 of 1,000 migrated)``."""
    share = units.format_percent(one.verified, one.verified + one.differing)
    parts = [one.coverage]
    if one.differing:
        mismatches = "mismatch" if one.mismatches == 1 else "mismatches"
        counts = [(one.mismatches, mismatches), (one.missing, "missing"), (one.extra, "extra")]
        if one.quarantined:
            counts.append((one.quarantined, "quarantined"))
        parts.append(", ".join(f"{units.format_count(count)} {name}" for count, name in counts))
    if one.moving:
        parts.append(f"{units.format_count(one.moving)} changing")
    if not one.complete:
        share = "not wholly compared, so far " + share
    return f"{one.line}: {share} consistent  ({'; '.join(parts)})"


def collect(session: Session, category: Category, run_id: int, *, limit: int = 1000) -> CategoryVerdict:
    """Add up what a verify run has found so far.

    Args:
        limit: most differences to return.

    Raises:
        errors.NotFound: there is no verify run of this number for the category.
        errors.HAL9Error: the run's ranges leave a gap, or its counts do not add up.
    """
    run = runs.get(session, run_id)
    if run.kind is not model.RunKind.VERIFY or run.category != category.slug:
        raise errors.NotFound(f"Run {run_id} does not compare {category.slug}.", hint="hal9-migrate runs list")
    ranges = verify_results.ranges(session, run_id)
    tally = Tally()
    for found in ranges:
        if found.result is not None:
            part = Tally.from_document({name: value for name, value in found.result.items() if name != "listed"})
            part.check()
            tally.add(part)
    complete = run.planned and all(found.done for found in ranges)
    if complete:
        _require_whole(run, ranges)
    differing = tally.mismatches + tally.missing + tally.extra + tally.quarantined
    listed = sum(verify_results.counts(session, run_id).values())
    if listed + tally.unlisted != differing:
        raise errors.HAL9Error(
            f"{run.name} counts {differing:,} differences and notes {listed:,}, with {tally.unlisted:,} left out."
        )
    shown = verify_results.find(session, run_id, limit=limit)
    return CategoryVerdict(
        category=category.slug,
        line=category.line,
        run_id=run_id,
        filter=run.filter,
        complete=complete,
        total=tally.flat,
        migrated=tally.flat - tally.pending,
        verified=tally.verified,
        mismatches=tally.mismatches,
        missing=tally.missing,
        extra=tally.extra,
        pending=tally.pending,
        quarantined=tally.quarantined,
        moving=tally.moving,
        consistent=complete and differing == 0,
        flat_digest=hexadecimal(tally.flat_digest),
        hier_digest=hexadecimal(tally.hier_digest),
        seconds=tally.seconds,
        unlisted=differing - len(shown),
        differences=shown,
    )


def _require_whole(run: model.Run, ranges: Sequence[verify_results.Range]) -> None:
    """Raise unless the ranges follow one upon the other, from open below to open above."""
    bound: model.Key | None = None
    for place, found in enumerate(ranges, start=1):
        last = place == len(ranges)
        if found.seq != place or found.after != bound or (found.upto is None) != last or found.result is None:
            raise errors.HAL9Error(f"{run.name} has a gap before its batch {found.seq}: not every key was compared.")
        bound = found.upto
    if not ranges:
        raise errors.HAL9Error(f"{run.name} has compared nothing.")


def report(
    verdicts: Sequence[CategoryVerdict],
    *,
    at: datetime.datetime | None = None,
    stores: Sequence[str] = ("flat", "hierarchical"),
) -> dict[str, Any]:
    """Return the verdicts as one JSON document.

    Args:
        at: when they were reached; now by default.
        stores: the two that were compared.
    """
    return {
        "schema": SCHEMA_VERSION,
        "kind": "consistency-report",
        "generated_at": (at or datetime.datetime.now(datetime.UTC)).astimezone(datetime.UTC).isoformat(),
        "stores": list(stores),
        "consistent": all(verdict.consistent for verdict in verdicts),
        "covered": all(verdict.covered for verdict in verdicts),
        "totals": {
            name: sum(getattr(verdict, name) for verdict in verdicts)
            for name in ("total", "migrated", *_COUNTS)
        },
        "categories": [_category(verdict) for verdict in verdicts],
        "next_steps": next_steps(verdicts),
    }  # fmt: skip


_COUNTS = ("verified", "mismatches", "missing", "extra", "pending", "quarantined", "moving")


def _category(verdict: CategoryVerdict) -> Mapping[str, Any]:
    return {
        "category": verdict.category,
        "line": verdict.line,
        "run": verdict.run_id,
        "filter": verdict.filter,
        "complete": verdict.complete,
        "consistent": verdict.consistent,
        "coverage": {"total": verdict.total, "migrated": verdict.migrated, "text": verdict.coverage},
        **{name: getattr(verdict, name) for name in _COUNTS},
        "digests": {"flat": verdict.flat_digest, "hierarchical": verdict.hier_digest},
        "seconds": round(verdict.seconds, 3),
        "differences": [
            {
                "key": list(difference.key),
                "kind": str(difference.kind),
                "fields": [
                    {"field": field.field, "flat": field.flat, "hierarchical": field.hier}
                    for field in difference.fields
                ],
            }
            for difference in verdict.differences
        ],
        "differences_not_listed": verdict.unlisted,
    }


def next_steps(verdicts: Sequence[CategoryVerdict]) -> list[str]:
    """Return the commands to go on with, most urgent first; none where all is the same in both stores."""
    steps: list[str] = []
    for verdict in verdicts:
        option = f"--category {verdict.category}"
        if not verdict.complete:
            steps.append(f"hal9-migrate runs show {verdict.run_id}")
        if verdict.mismatches or verdict.missing or verdict.extra:
            steps.append(f"hal9-migrate state diff {option} --verbose")
        if verdict.quarantined:
            steps.append(f"hal9-migrate quarantine list {option}")
        if verdict.pending:
            steps.append(f"hal9-migrate state migrate {option}")
        elif verdict.moving:
            steps.append(f"hal9-migrate state verify {option}")
    return steps
