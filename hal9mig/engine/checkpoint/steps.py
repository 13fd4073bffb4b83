"""Which step of a checkpoint or restore a leased batch is."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hal9mig import errors
from hal9mig.engine.checkpoint import loss, place, recover, restore, save, seal, swap
from hal9mig.engine.desk import Desk
from hal9mig.engine.system import System
from hal9mig.ledger import batches
from hal9mig.ledger.database import Session
from hal9mig.model import RunKind

Step = Callable[[System, Desk, batches.Lease, Session], bool]

#: What plans a run, by its kind.
PLANS: Mapping[RunKind, Step] = {
    RunKind.CHECKPOINT: save.plan,
    RunKind.COMPARE: loss.plan,
    RunKind.RESTORE: restore.plan,
}
STEPS: Mapping[str, Step] = {
    "save": save.save,
    "digest": save.digest_category,
    "seal": seal.seal,
    "weigh": loss.weigh,
    "load": restore.load,
    "derive": recover.derive,
    "index": restore.index,
    "constrain": restore.constrain,
    "prove": restore.prove,
    "resolve": recover.resolve,
    "measure": restore.measure,
    "swap": swap.swap_stores,
}


def perform(system: System, desk: Desk, held: batches.Lease, session: Session) -> bool:
    """Work a batch of a checkpoint, of a comparison with one, or of a restore.

    Raises:
        errors.HAL9Error, psycopg2.Error: as the step.
    """
    step = PLANS.get(held.run_kind) if held.kind == "plan" else STEPS.get(held.kind)
    if step is None:
        raise errors.HAL9Error(f"This program does not know how to {held.kind}.")
    place.require(system, held, session)
    return step(system, desk, held, session)
