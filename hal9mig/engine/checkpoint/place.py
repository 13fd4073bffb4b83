"""Whether a worker keeps checkpoints where the command does that ordered the work."""

from __future__ import annotations

from typing import NoReturn

from hal9mig import errors, safe_text
from hal9mig.engine import reconciliation_log
from hal9mig.engine.checkpoint import archive
from hal9mig.engine.system import System
from hal9mig.ledger import audit, batches, workers
from hal9mig.ledger.database import Session
from hal9mig.ledger.run_options import KeptOptions

_LEFT_OUT = "left out"


def require(system: System, held: batches.Lease, session: Session) -> None:
    """Raise where this worker's archive is another place than the one that the run was ordered for.

    It would write chunks that nobody finds, and take chunks that are somewhere else for lost. The batch goes back, and
    another worker takes it; once every live worker was left out, the run ends.

    Raises:
        errors.LeftOut: this worker is left out.
        errors.NotFound: so is every other one.
    """
    ordered = KeptOptions.of(held.options).place
    if ordered is None or archive.opened(system.settings).identity() == ordered:
        return
    here = system.settings.checkpoint_url
    leave_out(
        system, held, session, here=here,
        why=f"it keeps checkpoints at {here}, which is another place than the command's",
        nobody="No live worker keeps checkpoints where the command does: {} keeps them elsewhere",
        hint="start the workers with the command's HAL9_CHECKPOINT_URL",
    )  # fmt: skip


def leave_out(
    system: System, held: batches.Lease, session: Session, *, here: str, why: str, nobody: str, hint: str
) -> NoReturn:
    """Leave this worker out of a run, whose place it does not see: the batch goes back, and another one takes it.

    Args:
        here: the place, as this worker knows it.
        why: what is wrong with it, as a half of a sentence.
        nobody: what is wrong with all workers, with ``{}`` for their names.
        hint: what mends it.

    Raises:
        errors.LeftOut: this worker is left out.
        errors.NotFound: so is every other one.
    """
    with session.begin():
        known = {one.actor for one in audit.events(session, run_id=held.run_id, limit=1000) if one.action == _LEFT_OUT}
        if held.worker not in known:
            audit.log(
                session, _LEFT_OUT, actor=held.worker, run_id=held.run_id, detail={"place": safe_text.masked(here)}
            )
        alive = {one.name for one in workers.accepting(session)}
    if held.worker not in known:
        reconciliation_log.note(system.settings, "left-out", worker=held.worker, run=held.run_id, place=here)
    out = known | {held.worker}
    if alive <= out:
        raise errors.NotFound(f"{nobody.format(', '.join(sorted(out)))}.", hint=hint)
    raise errors.LeftOut(f"Worker {held.worker} is left out: {why}.", hint=hint)


def left_out(session: Session, run_id: int) -> list[str]:
    """Return the workers that were left out of a run."""
    found = audit.events(session, run_id=run_id, limit=1000)
    return sorted({one.actor for one in found if one.action == _LEFT_OUT})
