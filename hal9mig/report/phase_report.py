"""The report of the phase that moves the state, filled from the ledger as of one instant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hal9mig import model, units
from hal9mig.categories.declaration import Category
from hal9mig.ledger import history, mode, phases, quarantine, runs
from hal9mig.ledger.database import Session
from hal9mig.ledger.phases import Completion
from hal9mig.report import plots, proof
from hal9mig.report.model import Block, Checklist, Facts, Grid, Paragraph, Report, Section

_MOST_RUNS = 10_000


def make(session: Session, categories: Sequence[Category], *, detailed: bool) -> Report:
    """Return the report.

    Args:
        session: reads one snapshot, so that all figures are of the same moment.
        detailed: with every run, every check, the certificates and the audit trail.
    """
    found = list(reversed(runs.find(session, limit=_MOST_RUNS)))
    line = mode.read(session)
    completion = next(iter(phases.completions(session, phases.STATE_MIGRATION, limit=1)), None)
    if completion is not None and completion.at < line.since:
        completion = None
    newest = history.newest_event(session)
    state = "an empty ledger" if newest is None else f"the ledger up to event {newest[0]}, of {proof.when(newest[1])}"
    sections = [
        Section(title="Summary", blocks=list(_summary(session, found, line, completion))),
        Section(title="Migration log", blocks=_log(session, categories, found, completion)),
        Section(title="Categories", blocks=[_categories(session, categories, found)]),
        Section(title="Course", blocks=list(_course(session, found, detailed=detailed))),
        Section(title="Drift and quarantine", blocks=list(_drift(session))),
        Section(title="Validation", blocks=list(proof.validation(session, detailed=detailed))),
        Section(title="Benchmark", blocks=list(proof.benchmark(session))),
        Section(title="Checkpoints", blocks=[_checkpoints(found)]),
        Section(title="Switches", blocks=list(proof.certificates(session, detailed=detailed))),
        Section(title="Manual checklist", blocks=list(_checklist(session))),
        Section(title="Audit trail", blocks=list(proof.audit_trail(session, detailed=detailed))),
    ]
    return Report(title="State migration", state=state, sections=sections)


def _summary(
    session: Session, found: Sequence[model.Run], line: mode.ModeLine, completion: Completion | None
) -> Iterator[Block]:
    newest = next(iter(phases.validations(session, phases.STATE_MIGRATION, limit=1)), None)
    if completion is not None:
        forced = f", forced: {completion.reason}" if completion.reason else ""
        yield Paragraph(
            text=f"The phase is complete since {proof.when(completion.at)}, by {completion.actor}{forced}.",
            good=not completion.reason,
        )
    else:
        yield Paragraph(text="The phase is not complete.", good=False)
    if newest is None:
        yield Paragraph(text="No comprehensive validation was made.", good=False)
    else:
        current = newest.epoch == line.epoch
        yield Paragraph(
            text=f"The newest comprehensive validation, of {proof.when(newest.at)}, "
            f"{'passed' if newest.passed else 'did not pass'}"
            f"{'' if current else '; the write mode has changed since'}.",
            good=newest.passed and current,
        )
    yield Facts(
        rows=[
            ("Write mode", f"{line.mode}, epoch {line.epoch}, since {proof.when(line.since)}"),
            ("Runs", f"{len(found):,}, of which {sum(run.status == 'failed' for run in found):,} failed"),
            ("In quarantine", f"{sum(quarantine.counts(session).values()):,} records"),
        ]
    )


def _log(
    session: Session, categories: Sequence[Category], found: Sequence[model.Run], completion: Completion | None
) -> list[Block]:
    """The runbook's Migration Log, its blanks filled; what only a pen can fill stays blank."""
    moves = [run for run in found if run.kind is model.RunKind.MIGRATE]
    start = min((run.created_at for run in moves), default=None)
    end = completion.at if completion else None
    taken = units.format_duration((end - start).total_seconds()) if start and end else ""
    issues = list(_issues(session, found))
    return [
        Facts(
            rows=[
                ("Migration Start", proof.when(start)),
                ("Migration End", proof.when(end)),
                ("Total Duration", taken),
            ]
        ),
        Paragraph(text="Records Migrated:"),
        Facts(rows=[(category.title, f"{_migrated(moves, category.slug):,}") for category in categories]),
        Paragraph(text="Issues Encountered:"),
        Grid(columns=["ISSUE", "RESOLUTION"], rows=issues, widths=[0.6, 0.4])
        if issues
        else Paragraph(text="None was recorded."),
        Facts(rows=[("Operator Signature", "")]),
    ]


def _migrated(moves: Sequence[model.Run], slug: str) -> int:
    """Return how many records a category's standing runs have written: the newest of each filter."""
    by_filter: dict[str, model.Run] = {}
    for run in reversed(moves):
        if run.category == slug and run.undone_at is None:
            if not run.filter and run.status is model.RunStatus.SUCCEEDED and not by_filter:
                return run.done_records - run.quarantined
            by_filter.setdefault(run.filter, run)
    return sum(run.done_records - run.quarantined for run in by_filter.values())


def _issues(session: Session, found: Sequence[model.Run]) -> Iterator[tuple[str, str]]:
    for run in found:
        if run.status is model.RunStatus.FAILED:
            later = [one for one in found if one.id > run.id and one.kind is run.kind and one.category == run.category
                     and one.status is model.RunStatus.SUCCEEDED]  # fmt: skip
            done = f"run {later[0].id} succeeded" if later else "open"
            yield f"{run.name} ({run.kind} of {run.category}) failed: {run.reason}", done
    for held in history.held_causes(session, limit=20):
        done = "open" if held.status == "held" else held.status
        yield f"{held.records:,} records of {held.category} in quarantine: {held.error}", done
    for drift in history.drift_causes(session):
        done = f"{drift.left_open:,} open" if drift.left_open else drift.repair or "repaired"
        yield f"{drift.drifts:,} drifts of {drift.category}: {drift.kind}, likely cause {drift.cause}", done


def _categories(session: Session, categories: Sequence[Category], found: Sequence[model.Run]) -> Grid:
    held = quarantine.counts(session)
    rows = []
    for category in categories:
        own = [run for run in found if run.category == category.slug]
        moves = [run for run in own if run.kind is model.RunKind.MIGRATE]
        compared = [run for run in own if run.kind is model.RunKind.VERIFY and run.status is model.RunStatus.SUCCEEDED]
        rows.append(
            [
                category.title,
                f"{_migrated(moves, category.slug):,}",
                f"{len(moves):,}",
                units.format_bytes(sum(run.bytes for run in moves)),
                f"{held.get(category.slug, 0):,}",
                f"run {compared[-1].id}, {proof.when(compared[-1].finished_at)}" if compared else "never",
            ]
        )
    columns = ["CATEGORY", "MIGRATED", "RUNS", "BYTES", "QUARANTINED", "LAST COMPARED"]
    return Grid(columns=columns, rows=rows, numbers=[1, 2, 3, 4], widths=[0.24, 0.13, 0.08, 0.13, 0.14, 0.28])


def _course(session: Session, found: Sequence[model.Run], *, detailed: bool) -> Iterator[Block]:
    started = [run for run in found if run.started_at is not None]
    if not started:
        yield Paragraph(text="Nothing has run yet.")
        return
    yield plots.timeline(started, proof.switches(session))
    moves = [run for run in started if run.kind is model.RunKind.MIGRATE]
    if moves:
        begun = min(run.started_at for run in moves if run.started_at)
        ended = max((run.finished_at or run.status_since for run in moves), default=begun)
        points = history.pace(session, span=(ended - begun).total_seconds())
        if points:
            yield plots.rates(points)
    if detailed:
        rows = [
            [str(run.id), str(run.kind), run.category, run.filter or "-", str(run.status), f"{run.done_records:,}",
             _length(run)]
            for run in started
        ]  # fmt: skip
        columns = ["RUN", "KIND", "CATEGORY", "FILTER", "STATE", "RECORDS", "TIME"]
        yield Grid(columns=columns, rows=rows, numbers=[0, 5, 6], widths=[0.08, 0.13, 0.2, 0.22, 0.13, 0.13, 0.11])


def _length(run: model.Run) -> str:
    if run.started_at is None or run.finished_at is None:
        return "-"
    return units.format_duration(max(0.1, (run.finished_at - run.started_at).total_seconds()))


def _drift(session: Session) -> Iterator[Block]:
    drifts = history.drift_causes(session)
    if drifts:
        rows = [
            [one.category, one.kind, one.cause, f"{one.drifts:,}", f"{one.left_open:,}", one.repair or "-"]
            for one in drifts
        ]
        columns = ["CATEGORY", "DRIFT", "LIKELY CAUSE", "COUNT", "OPEN", "REPAIR"]
        yield Grid(columns=columns, rows=rows, numbers=[3, 4], widths=[0.2, 0.13, 0.2, 0.1, 0.09, 0.28])
    else:
        yield Paragraph(text="No record was found to drift.", good=True)
    held = history.held_causes(session)
    if held:
        rows = [[one.category, one.status, f"{one.records:,}", one.error] for one in held]
        columns = ["CATEGORY", "STATE", "RECORDS", "WHY"]
        yield Grid(columns=columns, rows=rows, numbers=[2], widths=[0.2, 0.13, 0.12, 0.55])
    else:
        yield Paragraph(text="No record went to quarantine.", good=True)


def _checkpoints(found: Sequence[model.Run]) -> Block:
    rows = []
    for run in found:
        if run.kind in (model.RunKind.CHECKPOINT, model.RunKind.RESTORE):
            options = run.options
            rows.append(
                [
                    str(options.get("checkpoint", "-")),
                    "restored" if run.kind is model.RunKind.RESTORE else "full" if options.get("full") else "marker",
                    str(options.get("description", "")) or "-",
                    str(run.status),
                    proof.when(run.finished_at),
                ]
            )
    if not rows:
        return Paragraph(text="No checkpoint was taken.")
    columns = ["CHECKPOINT", "KIND", "DESCRIPTION", "STATE", "WHEN"]
    return Grid(columns=columns, rows=rows, widths=[0.34, 0.1, 0.24, 0.12, 0.2])


def _checklist(session: Session) -> Iterator[Block]:
    given = phases.attestations(session, phases.STATE_MIGRATION)

    def attested(item: str) -> str | None:
        one = given.get(item)
        return None if one is None else f"{one.actor}, {proof.when(one.at)}{': ' + one.note if one.note else ''}"

    def named(items: Sequence[str]) -> list[tuple[str, str | None]]:
        return [(phases.ITEMS[item][0].upper() + phases.ITEMS[item][1:], attested(item)) for item in items]

    yield Paragraph(text="Before:")
    yield Checklist(items=named(phases.PREREQUISITES))
    yield Paragraph(text="After:")
    after = [item for item in phases.ITEMS if item not in phases.PREREQUISITES]
    yield Checklist(items=named(after))
    yield Facts(rows=[("Operator", ""), ("Reviewer", ""), ("Date", "")])
