"""Holds the snapshots of checkpoints under way, and clears what runs that failed have left behind.

Every worker's parent process has a keeper; each instant has one of them. So the snapshots outlive the
command that asked for them, take no worker's slot, and cost one more reading when their keeper dies.
"""

from __future__ import annotations

import contextlib
import logging
import threading

import psycopg2

from hal9mig import errors, model, safe_text
from hal9mig.engine.checkpoint import archive, instant, restore, save
from hal9mig.engine.checkpoint.instant import Taken
from hal9mig.engine.outage import Outage
from hal9mig.engine.system import System
from hal9mig.ledger import audit, instants, runs
from hal9mig.ledger.database import Session
from hal9mig.ledger.run_options import KeptOptions
from hal9mig.stores import capture, restore_notes, shadow

log = logging.getLogger(__name__)

_LOOK_EVERY = 0.5  # seconds
_PATIENCE = "5s"
_TROUBLE = (errors.HAL9Error, psycopg2.Error, OSError)


class Keeper(threading.Thread):
    """Takes and holds instants until ``end``.

    Args:
        name: who keeps them; unique among the workers.
        outage: what is told of servers that fail; its own by default.
    """

    def __init__(self, system: System, name: str, *, outage: Outage | None = None):
        super().__init__(name="keeper", daemon=True)
        self._system = system
        self._keeper = name
        self._outage = outage or Outage()
        self._lease = system.settings.lease_duration
        self._held: dict[tuple[int, int], Taken] = {}
        self._ended = threading.Event()

    def run(self) -> None:
        """Look after instants until ``end``."""
        while not self._ended.wait(_LOOK_EVERY):
            try:
                self.look()
                self._outage.passed("the keeper's look")
            except _TROUBLE as error:
                self._outage.failed("the keeper's look", error)
            except Exception:
                log.exception("the keeper missed a look")
        for run_id, number in list(self._held):
            self._drop(run_id, number)

    def end(self) -> None:
        """Let everything go, so that another keeper can take over at once."""
        self._ended.set()

    def look(self) -> None:
        """Extend what is held, take what nobody holds, and clear what was left.

        Raises:
            errors.Unreachable, psycopg2.Error: a server failed.
        """
        self._extend()
        with self._system.ledger.single() as session:
            if not instants.anything(session):
                return
            wanted = instants.unkept(session)
            left = instants.leavings(session)
        for run_id in wanted:
            self._take(run_id)
        # Asked again in the transaction that clears them: nearly every look finds nothing, and needs none.
        if left:
            self._clear()

    def _extend(self) -> None:
        for (run_id, number), taken in list(self._held.items()):
            alive = taken.alive()
            with self._system.ledger.begin() as session:
                if alive and instants.extend(session, run_id, number, keeper=self._keeper, lease=self._lease):
                    continue
            self._drop(run_id, number)

    def _drop(self, run_id: int, number: int) -> None:
        self._held.pop((run_id, number)).close()
        with contextlib.suppress(*_TROUBLE), self._system.ledger.begin() as session:
            instants.release(session, run_id, number, keeper=self._keeper)

    def _take(self, run_id: int) -> None:
        with self._system.ledger.begin() as session:
            number = instants.claim(session, run_id, keeper=self._keeper, lease=self._lease)
            if number is None:
                return
            run = runs.get(session, run_id)
        try:
            # Another worker's settings may declare what this one does not know.
            scope = [self._system.category(slug) for slug in KeptOptions.of(run.options).scope]
            taken = instant.take(self._system, scope)
        except _TROUBLE as error:
            log.warning("%s: no snapshot yet: %s", run.name, safe_text.masked(" ".join(str(error).split())))
            with self._system.ledger.begin() as session:
                instants.release(session, run_id, number, keeper=self._keeper)
            return
        self._held[run_id, number] = taken
        with self._system.ledger.begin() as session:
            known = instants.publish(
                session, run_id, number, keeper=self._keeper, lease=self._lease,
                flat=taken.snapshots[model.StoreName.FLAT],
                hierarchical=taken.snapshots[model.StoreName.HIERARCHICAL], positions=taken.positions,
            )  # fmt: skip
            if known:
                detail = {"number": number, "keeper": self._keeper}
                audit.log(session, "snapshots taken", actor=self._keeper, run_id=run_id, detail=detail)
        if not known:
            self._drop(run_id, number)

    def _clear(self) -> None:
        with self._system.ledger.begin() as session:
            for left in instants.leavings(session):
                # Retried at this moment: it goes on with what it has.
                if not instants.lock_ended(session, left.run_id):
                    continue
                if left.kind is model.RunKind.CHECKPOINT:
                    name = KeptOptions.of(left.options).checkpoint
                    kept = archive.opened(self._system.settings)
                    # Begun under this name after that run had ended: what lies there is not what it has left.
                    with contextlib.suppress(errors.NameTaken):
                        save.require_own(session, kept, name, left.run_id)
                        kept.delete(name)
                    instants.remove(session, left.run_id)
                elif not self._unshadowed(session, left.run_id):
                    continue
                runs.begin_anew(session, left.run_id)
                audit.log(session, "cleared what it had left", actor=self._keeper, run_id=left.run_id)

    def _unshadowed(self, session: Session, run_id: int) -> bool:
        """Remove the shadows that a restore has left; False where it has to go on instead."""
        active = [run for run in runs.find(session, kind=model.RunKind.RESTORE, active=True) if run.id != run_id]
        with contextlib.closing(self._system.flat()) as flat, contextlib.closing(self._system.hier()) as hier:
            if restore.half_done(session, run_id, flat, hier):
                # One that was begun meanwhile ends when it finds this.
                if not active:
                    self._go_on(session, run_id)
                return False
            # One that came after it makes its own, and removes these: its planning waits for this lock.
            if not active:
                for connection in (flat, hier):
                    with connection, connection.cursor() as cursor:
                        cursor.execute(f"SET LOCAL lock_timeout = '{_PATIENCE}'")
                        restore_notes.end_stragglers(connection)
                        shadow.drop(connection)
                        capture.let_go(connection)
        instants.unshadowed(session, run_id)
        return True

    def _go_on(self, session: Session, run_id: int) -> None:
        reason = "one store is restored already, so there is no way but forward"
        runs.retry_failed(session, run_id)
        runs.move(session, run_id, model.RunStatus.RUNNING, reason)
        audit.log(session, "goes on", actor=self._keeper, run_id=run_id, detail={"reason": reason})
