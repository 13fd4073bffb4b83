"""Which step of a checkpoint or restore a leased batch is, and how the ledger is told what came of it."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence

from hal9mig import errors
from hal9mig.engine.checkpoint import loss, place, recover, restore, save, seal, swap
from hal9mig.engine.checkpoint.types import Worked
from hal9mig.engine.desk import Desk
from hal9mig.engine.pace import Rests
from hal9mig.engine.system import System
from hal9mig.ledger import batches, runs
from hal9mig.ledger.database import Session
from hal9mig.model import RunKind

#: Returns the batches to be planned, by kind.
Plan = Callable[[System, Desk, batches.Lease, Session], Mapping[str, Sequence[runs.NewBatch]]]
#: Returns what came of it; None where it has told the ledger itself, together with what has to commit with that.
Step = Callable[[System, Desk, batches.Lease, Session], Worked | None]

#: What plans a run, by its kind.
PLANS: Mapping[RunKind, Plan] = {
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


def perform(system: System, desk: Desk, held: batches.Lease, session: Session, rests: Rests) -> bool:
    """Work a batch of a checkpoint, of a comparison with one, or of a restore.

    Raises:
        errors.HAL9Error, psycopg2.Error: as the step.
    """
    if held.kind != "plan" and held.kind not in STEPS:
        raise errors.HAL9Error(f"This program does not know how to {held.kind}.")
    place.require(system, held, session)
    started = time.monotonic()
    if held.kind == "plan":
        planned = PLANS[held.run_kind](system, desk, held, session)
        with session.begin():
            # The fence comes first: its row lock keeps everybody else from planning until this commits.
            records = sum(map(len, planned.values()))
            batches.conclude(session, held, records=records, seconds=time.monotonic() - started)
            for kind, new in planned.items():
                runs.add_batches(session, held.run_id, kind, new)
            runs.finish_planning(session, held.run_id)
        return True
    step = STEPS[held.kind]
    if step is save.save:
        # The one kind of batch here that waits for the application and is a piece of any length.
        step = functools.partial(save.save, pause=rests.now_and_then)
    done = step(system, desk, held, session)
    if done is not None:
        with session.begin():
            batches.conclude(session, held, **done._asdict(), seconds=time.monotonic() - started)
    return True
