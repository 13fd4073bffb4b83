"""Takes a verified checkpoint of everything, and goes back to one with a single category.

    python nightly.py NAME              takes it
    python nightly.py NAME --back SLUG  goes back to it with one category, and keeps as NAME-undo what is replaced

The addresses of the stores come from the settings, as for hal9-migrate. The workers do the work; this waits.
"""

from __future__ import annotations

import argparse
import os

from hal9mig import errors, model, settings
from hal9mig.engine.checkpoint.orders import CheckpointOrder, Checkpoints
from hal9mig.engine.coordinator import Coordinator
from hal9mig.engine.system import System


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--back", metavar="SLUG")
    arguments = parser.parse_args()
    system = System(settings.load(environ=os.environ), role="nightly")
    try:
        told = go_back(system, arguments.name, arguments.back) if arguments.back else take(system, arguments.name)
    except errors.HAL9Error as error:
        raise SystemExit(f"{error.message} {error.hint or ''}") from None
    print(told)  # noqa: T201


def take(system: System, name: str) -> str:
    """Take a checkpoint of every category."""
    checkpoints = Checkpoints(system)
    run, _ = checkpoints.take(CheckpointOrder(name=name, verify=True))
    ended(system, run)
    made = checkpoints.find(name)
    return f"{made.name}: {made.rows} rows in {made.bytes} bytes, as of {made.taken_at:%Y-%m-%dT%H:%M:%SZ}"


def go_back(system: System, name: str, slug: str) -> str:
    """Go back with one category: nobody is asked, and what is replaced is kept only because this does it."""
    checkpoints = Checkpoints(system)
    plan = checkpoints.plan_restore(name, [slug])
    losses = checkpoints.losses(ended(system, checkpoints.weigh(plan)))
    ended(system, checkpoints.take(CheckpointOrder(name=f"{name}-undo", categories=(slug,), label="safety"))[0])
    done = checkpoints.outcome(ended(system, checkpoints.rollback(plan, reason="the example")))
    lost = sum(loss.total for loss in losses)
    return f"{done.name}: {sum(rows for _, rows in done.tables)} rows are back, {lost} written since are gone"


def ended(system: System, run: model.Run) -> model.Run:
    """Wait for a run; it has to succeed."""
    *_, (now,) = Coordinator(system).watch([run.id])
    if now.status is not model.RunStatus.SUCCEEDED:
        raise errors.RunFailed(f"{now.name} is {now.status}: {now.reason}")
    return now


if __name__ == "__main__":
    main()
