"""Waiting for runs, or not: they are shown until they have ended; a time limit or Ctrl-C leaves them to the workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hal9mig import errors, model
from hal9mig.cli import run_progress
from hal9mig.cli.invocation import Invocation
from hal9mig.engine import run_standing


def for_end(
    call: Invocation, runs: Sequence[model.Run], *, expected: Mapping[int, int] | None = None, timeout: float | None
) -> Sequence[model.Run]:
    """Show runs on stderr until they have ended or stand still, and return them as they are then.

    Raises:
        errors.TimedOut: the time limit passed; the runs go on.
        errors.Interrupted: somebody pressed Ctrl-C; the runs go on.
    """
    latest = runs
    try:
        with run_progress.Gauge(call.console, expected=expected) as shown:
            for latest in call.coordinator.watch([run.id for run in runs], timeout=timeout):
                shown.show(latest)
    except KeyboardInterrupt:
        going = [run for run in latest if not run.ended] or list(latest)
        names = " and ".join(run.name for run in going)
        raise errors.Interrupted(
            f"Interrupted; {names} {'goes' if len(going) == 1 else 'go'} on on the workers.",
            hint=f"watch it again: hal9-migrate runs show {going[0].id} --watch; "
            f"stop it: hal9-migrate runs cancel {going[0].id}",
        ) from None
    return latest


def detached(call: Invocation, run: model.Run, **more: object) -> None:
    """Say how a run that is not waited for is watched, and end the command.

    Args:
        more: what the JSON document holds beside it.
    """
    steps = [f"hal9-migrate runs show {run.id} --watch"]
    if not call.json:
        call.console.line(str(run.id))
        call.console.say(f"watch: {steps[0]}")
    call.conclude({"run": run_standing.document(run), **more, "next_steps": steps})
