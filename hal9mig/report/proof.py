"""What shows that the migration went well: validations, figures, certificates, the audit trail."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from hal9mig import units
from hal9mig.engine.switch import gate
from hal9mig.ledger import audit, check_results, mode, phases
from hal9mig.ledger.check_results import CheckVerdict
from hal9mig.ledger.database import Session
from hal9mig.report.model import Block, Facts, Grid, Paragraph

#: Events that a detailed report lists; all of them are in the chain whose end it shows.
_MOST_EVENTS = 500
_FIGURES = ("p50_ms", "p95_ms", "p99_ms", "per_second")


def when(at: datetime.datetime | None) -> str:
    """Return a moment in UTC; nothing where there is none."""
    return "" if at is None else at.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def switches(session: Session) -> list[tuple[datetime.datetime, str]]:
    """Return when the write mode changed, and to what."""
    found = reversed(audit.events(session, limit=100_000))
    return [(one.at, one.action.removeprefix("mode ")) for one in found if one.action.startswith("mode ")]


def validation(session: Session, *, detailed: bool) -> Iterator[Block]:
    """Yield the newest validation's lines, and what the checks found."""
    newest = next(iter(phases.validations(session, phases.STATE_MIGRATION, limit=1)), None)
    if newest is None:
        yield Paragraph(text="No comprehensive validation was made.", good=False)
    else:
        yield Paragraph(text=f"Validation {newest.id}, {when(newest.at)}, by {newest.actor}, epoch {newest.epoch}:")
        for line in newest.lines:
            yield Paragraph(text=str(line), good=line.good)
            for text in line.evidence if detailed else ():
                yield Paragraph(text=f"    {text}")
    found = [one for one in check_results.newest(session) if not one.name.startswith("benchmark:")]
    if found:
        rows = [[one.category, one.name, str(one.verdict), when(one.at), one.detail] for one in found]
        columns = ["CATEGORY", "CHECK", "VERDICT", "WHEN", "FINDING"]
        yield Grid(columns=columns, rows=rows, widths=[0.15, 0.13, 0.1, 0.15, 0.47])


def benchmark(session: Session) -> Iterator[Block]:
    """Yield the newest figures of each operation and category."""
    found = [one for one in check_results.newest(session) if one.name.startswith("benchmark:")]
    measured = [one for one in found if one.verdict is not CheckVerdict.SKIPPED]
    if not measured:
        yield Paragraph(text="Nothing was measured.")
        return
    rows = [
        [
            one.category,
            one.name.partition(":")[2],
            store,
            *(f"{one.measured[f'{store}_{name}']:,}" for name in _FIGURES),
        ]
        for one in measured
        for store in ("flat", "hierarchical")
        if f"{store}_p50_ms" in one.measured
    ]
    columns = ["CATEGORY", "OPERATION", "STORE", "P50 MS", "P95 MS", "P99 MS", "PER SECOND"]
    yield Grid(columns=columns, rows=rows, numbers=[3, 4, 5, 6], widths=[0.2, 0.14, 0.16, 0.12, 0.12, 0.12, 0.14])
    for one in measured:
        operation = one.name.partition(":")[2]
        yield Paragraph(text=f"{one.category}, {operation}: {one.detail}", good=one.verdict is CheckVerdict.PASSED)


def certificates(session: Session, *, detailed: bool) -> Iterator[Block]:
    """Yield the changes of the write mode and the certificate of each switch over."""
    changes = switches(session)
    if not changes:
        yield Paragraph(text="The write mode was never changed.")
    else:
        yield Grid(columns=["WHEN", "WRITE MODE"], rows=[[when(at), name] for at, name in changes], widths=[0.4, 0.6])
    for one in reversed(mode.certificates(session, limit=1000)):
        sound = gate.sealed(one.document)["sha256"] == one.document.get("sha256")
        holding = sum(bool(predicate["holds"]) for predicate in one.document.get("predicates", []))
        yield Paragraph(
            text=f"Certificate {one.id}, {when(one.at)}, by {one.actor}: {holding} of "
            f"{len(one.document.get('predicates', []))} conditions held; "
            f"{'as it was sealed' if sound else 'changed since it was sealed'}.",
            good=sound,
        )
        yield Facts(rows=[("SHA-256", str(one.document.get("sha256", "none")))])
        if detailed:
            rows = [
                [slug, *(f"{counts[side]:,}" for side in ("flat", "hierarchical", "quarantined"))]
                for slug, counts in one.document.get("records", {}).items()
            ]
            columns = ["CATEGORY", "FLAT", "HIERARCHICAL", "QUARANTINED"]
            yield Grid(columns=columns, rows=rows, numbers=[1, 2, 3], widths=[0.4, 0.2, 0.2, 0.2])


def audit_trail(session: Session, *, detailed: bool) -> Iterator[Block]:
    """Yield the end of the chain, whether it is whole, and in detail the newest events."""
    chain = audit.follow(session)
    yield Paragraph(
        text=f"{units.format_count(chain.events)} events in the chain, "
        + ("none changed since it was sealed." if chain.broken is None else f"broken at event {chain.broken}."),
        good=chain.broken is None,
    )
    yield Facts(rows=[("Newest hash", chain.head), ("Not yet in the chain", f"{chain.unsealed:,} events")])
    if detailed:
        found = list(reversed(audit.events(session, limit=_MOST_EVENTS)))
        rows = [
            [str(one.id), when(one.at), one.actor, one.action,
             ", ".join(f"{name}={value}" for name, value in one.detail.items())[:300]]
            for one in found
        ]  # fmt: skip
        columns = ["EVENT", "WHEN", "BY", "ACTION", "DETAIL"]
        yield Grid(columns=columns, rows=rows, numbers=[0], widths=[0.08, 0.15, 0.15, 0.2, 0.42])
