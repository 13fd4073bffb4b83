"""The lines of a phase's validation: each is good only where something newer than the migration's beginning shows it.

The comparison of both stores is made anew by whoever asks; what the other checks have found is read from the ledger,
where they left it. A line that nothing shows is not good, and names the command that shows it.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator, Mapping, Sequence

from hal9mig import model, units
from hal9mig.categories.declaration import Category
from hal9mig.engine import standstill
from hal9mig.engine.compare.verify_report import CategoryVerdict
from hal9mig.engine.switch import gate
from hal9mig.engine.system import System
from hal9mig.ledger import check_results, database, mode, quarantine, runs
from hal9mig.ledger.check_results import CheckResult, CheckVerdict
from hal9mig.ledger.database import Session
from hal9mig.ledger.phases import PhaseLine
from hal9mig.stores import capture, capture_triggers
from hal9mig.stores.write_mode import Mode

_SESSIONS, _NEURONS, _LEARNING = "user-sessions", "neuron-states", "learning-data"
_CONFIGURATION, _METADATA = "configuration", "metadata"
#: The checks that show a line, and the command that runs each.
_CONTINUITY = {"continuity": f"hal9-migrate state validate --category {_SESSIONS} --tests continuity"}
_RECALL = {
    "recall": "hal9-migrate learning test --compare-systems", "gradients": "hal9-migrate learning verify-gradients",
}  # fmt: skip
_APPLIED = {
    "compare": "hal9-migrate config compare --system1 flat --system2 hierarchical",
    "reload": "hal9-migrate config test-reload --verify-application",
}
_CHAIN = {"integrity:chain": f"hal9-migrate state validate --category {_METADATA} --tests integrity"}
_GRAPH = {
    "connections": "hal9-migrate neurons validate-connections --deep",
    "signals": "hal9-migrate neurons test-signals --verify-paths",
}
_BENCHMARK = "hal9-migrate benchmark --categories all --compare-systems"
Results = Mapping[tuple[str, str], CheckResult]


def judge(system: System, verdicts: Sequence[CategoryVerdict]) -> list[PhaseLine]:
    """Return the lines of the phase that moves the state, in the runbook's order, then those of further categories.

    Args:
        verdicts: of a deep comparison of every category, made for this.

    Raises:
        errors.Unreachable: a store does not answer.
    """
    categories = system.registry.ordered()
    with system.ledger.begin() as session:
        line = mode.read(session)
        since = _begun(session)
        results = {
            (one.category, one.name): one
            for one in check_results.newest(session)
            if since is not None and one.at >= since
        }
    by_category = {verdict.category: verdict for verdict in verdicts}
    issues = list(_issues(system, categories, Mode(line.mode)))
    lines = [
        _integrity(verdicts),
        PhaseLine(
            title="State Consistency",
            good=not issues,
            words="No issues" if not issues else f"{len(issues)} issue{'s' if len(issues) > 1 else ''}",
            evidence=[text for text, _ in issues],
            next_commands=list(dict.fromkeys(command for _, command in issues)),
        ),
        _performance(categories, results),
    ]
    named = (
        ("User Sessions", "Active", _SESSIONS, _CONTINUITY), ("Learning Continuity", "Verified", _LEARNING, _RECALL),
        ("Configuration", "Applied", _CONFIGURATION, _APPLIED), ("Metadata", "Complete", _METADATA, _CHAIN),
        ("Neuron States", "Connected", _NEURONS, _GRAPH),
    )  # fmt: skip
    for title, words, slug, checks in named:
        if slug in by_category:
            lines.append(_domain(title, words, by_category.pop(slug), checks, results))
    return lines + [_domain(verdict.line, "Consistent", verdict, {}, results) for verdict in by_category.values()]


def _begun(session: Session) -> datetime.datetime | None:
    """Return when the first migration that still counts began; what was found before it is about something else."""
    found = runs.find(session, kind=model.RunKind.MIGRATE, limit=10_000)
    return min((run.created_at for run in found if run.undone_at is None), default=None)


def _integrity(verdicts: Sequence[CategoryVerdict]) -> PhaseLine:
    # Nothing is said of what the application was changing at that moment; a round of the reconciler looks at it again.
    total = sum(verdict.total - verdict.moving for verdict in verdicts)
    verified = sum(verdict.verified for verdict in verdicts)
    wrong = [verdict for verdict in verdicts if not (verdict.consistent and verdict.covered)]
    share = units.format_percent(verified, total)
    evidence = [
        f"{verdict.category}: {units.format_count(verdict.verified)} of {units.format_count(verdict.total)} records "
        f"the same in both stores{_changing(verdict)} (run {verdict.run_id})"
        for verdict in verdicts
    ]
    if not total and any(verdict.moving for verdict in verdicts):
        return PhaseLine(
            title="Data Integrity", good=False, words="all of it was changing", evidence=evidence,
            next_commands=["hal9-migrate validate --phase state-migration --comprehensive"],
        )  # fmt: skip
    if not total:
        # Nothing differs where there is nothing; that proves no migration.
        return PhaseLine(
            title="Data Integrity", good=False, words="nothing to compare", evidence=evidence,
            next_commands=["hal9-migrate state migrate --category all"],
        )  # fmt: skip
    commands = [
        f"hal9-migrate state migrate --category {verdict.category}" if verdict.pending
        else f"hal9-migrate state diff --category {verdict.category} --verbose"
        for verdict in wrong
    ]  # fmt: skip
    return PhaseLine(title="Data Integrity", good=not wrong, words=share, evidence=evidence, next_commands=commands)


def _changing(verdict: CategoryVerdict) -> str:
    return f", {units.format_count(verdict.moving)} changing at that moment" if verdict.moving else ""


def _issues(system: System, categories: Sequence[Category], now: Mode) -> Iterator[tuple[str, str]]:
    """Yield what is open, each with the command that mends it or says more."""
    with system.ledger.begin() as session:
        held = quarantine.counts(session)
        drifted = int(database.run(session, "live", "open_drifts").scalar_one())
    for slug, count in held.items():
        yield (
            f"{units.format_count(count)} records of {slug} are in quarantine",
            f"hal9-migrate quarantine list --category {slug}",
        )
    if drifted:
        yield f"{units.format_count(drifted)} drifts are unrepaired", "hal9-migrate state fix --auto"
    for problem in standstill.look(system.settings, system.ledger):
        yield problem.message, problem.next_command
    side = now.ruling
    with contextlib.closing(system.store(side)) as store:
        waiting = max((one.seconds for one in capture.lag(store).values()), default=0.0)
        store.rollback()
        if waiting > gate.MOST_LAG:
            yield (
                f"the other store is {units.format_duration(waiting)} behind the {side} one",
                "hal9-migrate state status",
            )
        if now is Mode.FLAT_ONLY:
            return
        for category in categories:
            for finding in capture_triggers.findings(store, category, side):
                yield finding, "hal9-migrate mode"


def _performance(categories: Sequence[Category], results: Results) -> PhaseLine:
    found = [one for one in results.values() if one.name.startswith("benchmark:")]
    slugs = {category.slug for category in categories}
    measured = {one.category for one in found if one.category in slugs}
    bad = [one for one in found if one.verdict is CheckVerdict.FAILED]
    passed = [one for one in found if one.verdict is CheckVerdict.PASSED]
    missing = sorted(slugs - measured)
    evidence = [_told(one) for one in found] + [f"{slug}: not measured" for slug in missing]
    good = bool(passed) and not bad and not missing
    words = "Meets SLA" if good else "slower than flat" if bad else "not measured"
    return PhaseLine(
        title="Performance", good=good, words=words, evidence=evidence, next_commands=[] if good else [_BENCHMARK]
    )


def _domain(title: str, words: str, verdict: CategoryVerdict, checks: Mapping[str, str], results: Results) -> PhaseLine:
    evidence = [f"{verdict.coverage}, {verdict.differing:,} differing (run {verdict.run_id})"]
    problems, commands = [], []
    if not (verdict.consistent and verdict.covered):
        problems.append("differs" if verdict.differing else "not wholly migrated")
        commands.append(f"hal9-migrate state diff --category {verdict.category} --verbose")
    for name, command in checks.items() if verdict.total else ():
        found = results.get((verdict.category, name))
        evidence.append(f"{name}: not run" if found is None else _told(found))
        if found is None or found.verdict is not CheckVerdict.PASSED:
            problems.append(f"{name} not run" if found is None else f"{name} {found.verdict}")
            commands.append(command if found is None or not found.next_command else found.next_command)
    shown = words if verdict.total else f"{words} (empty)"
    return PhaseLine(
        title=title, good=not problems, words=shown if not problems else ", ".join(problems),
        evidence=evidence, next_commands=list(dict.fromkeys(commands)),
    )  # fmt: skip


def _told(one: CheckResult) -> str:
    return f"{one.category}, {one.name}: {one.verdict} at {one.at:%Y-%m-%d %H:%M:%S} UTC: {one.detail}"
