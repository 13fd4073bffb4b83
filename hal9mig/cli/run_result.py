"""How a run ended: saying so, and the error that its end amounts to."""

from __future__ import annotations

from hal9mig import errors, model, units
from hal9mig.cli.console import counted
from hal9mig.engine import run_standing
from hal9mig.ledger.run_options import KeptOptions

#: What is whole or not at all, so that a failure leaves nothing behind.
_WHOLE = {
    model.RunKind.CHECKPOINT: "Checkpoint {} was not taken, and nothing of it is left",
    model.RunKind.COMPARE: "What going back to {} would lose could not be counted",
    model.RunKind.RESTORE: "Checkpoint {} was not restored, and nothing was changed",
}


def summary(run: model.Run) -> str:
    """Return what a run did, the verdict left out: records or rows, time, rates, quarantine."""
    taken = max(0.001, run_standing.seconds(run))
    written = units.format_count(run.done_records - run.quarantined)
    noun = "row" if run.kind in _WHOLE else "record"
    parts = [f"{written} of {counted(run.total_records, noun)} in {units.format_duration(taken)}"]
    if run.kind in _WHOLE:
        return f"{run.kind} {KeptOptions.of(run.options).checkpoint}: {run.status}; {parts[0]} ({run.name})"
    if run.kind in (model.RunKind.MIGRATE, model.RunKind.EXPORT, model.RunKind.TRANSFORM):
        parts.append(f"{units.format_count(round(run.done_records / taken))}/s")
        parts.append(f"{units.format_bytes(run.bytes / taken)}/s")
    if run.kind is model.RunKind.MIGRATE:
        parts.append(f"{units.format_count(run.quarantined)} quarantined")
    return f"{run_standing.label(run)}: {run.status}; {'; '.join(parts)} ({run.name})"


def good(run: model.Run) -> bool:
    """Whether a run did everything it was to do."""
    return run.status is model.RunStatus.SUCCEEDED and not run.quarantined


def problem(run: model.Run) -> errors.HAL9Error | None:
    """Return the error that a run's end amounts to, None for a good end or none yet."""
    if run.status is model.RunStatus.FAILED and run.kind in _WHOLE:
        return errors.RunFailed(
            f"{_WHOLE[run.kind].format(KeptOptions.of(run.options).checkpoint)}: {run.reason}",
            hint=f"see it: hal9-migrate runs show {run.id}; begin it again: hal9-migrate runs retry {run.id}",
        )
    if run.status is model.RunStatus.FAILED:
        return errors.RunFailed(
            f"{run.name} of {run.category} failed: {run.reason}",
            hint=f"see it: hal9-migrate runs show {run.id}; go on: hal9-migrate runs retry {run.id}",
        )
    if run.status is model.RunStatus.PAUSED:
        return errors.RunFailed(
            f"{run.name} of {run.category} is paused: {run.reason}", hint=f"hal9-migrate runs resume {run.id}"
        )
    if run.status is model.RunStatus.CANCELLED:
        return errors.RunFailed(
            f"{run.name} of {run.category} was cancelled: {run.reason}", hint=f"hal9-migrate runs retry {run.id}"
        )
    if run.status is model.RunStatus.SUCCEEDED and run.quarantined:
        return errors.RecordsQuarantined(
            f"{counted(run.quarantined, 'record')} of {run.category} could not be migrated, and went to quarantine.",
            hint=f"hal9-migrate quarantine list --category {run.category}",
        )
    return None
