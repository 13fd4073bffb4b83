"""The moment of a restore: the shadow tables become the live ones, and everything known is brought into line.

Each store is swapped in one transaction, so a reader sees the old or the new, and a kill leaves one of
the two. The two stores are two databases, so there is a moment between them:

- The store that takes the application's writes goes first. What is written in between is written to
  the restored tables, and stays.
- The other store takes nothing that is applied, from before the first swap until its own is done: it
  would go with the tables that are replaced, while its key was pruned from the journal.
- Once the first is swapped there is no way but forward: the batch is tried until the second is, too.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg2
from sqlalchemy import exc

from hal9mig import errors, model
from hal9mig.categories.declaration import Category
from hal9mig.engine import alerts, applier
from hal9mig.engine.checkpoint import restoring, saving
from hal9mig.engine.checkpoint.manifest import Manifest
from hal9mig.engine.checkpoint.restoring import Place
from hal9mig.engine.system import System
from hal9mig.engine.work import Desk
from hal9mig.ledger import batches, database, instants, mode, presence, runs
from hal9mig.ledger.database import Session
from hal9mig.stores import capture, shadow, swap
from hal9mig.stores.capture import Mode
from hal9mig.stores.connection import Connection

#: Seconds that writers, appliers and readers may be kept waiting for one try.
PATIENCE = 3.0
_FLAT, _HIER = model.StoreName.FLAT, model.StoreName.HIERARCHICAL


def swap_stores(system: System, desk: Desk, held: batches.Lease, session: Session) -> bool:
    """Swap both stores, and end the run's work.

    Raises:
        errors.LeaseLost: another worker has it now.
        errors.WritersInFlight, errors.GateClosed: somebody does not give way; it is tried again.
        errors.RestoreHalfDone: one store is swapped; the other will be.
    """
    return Swap(system, desk, held, session).run()


class Swap:
    """Swaps the stores for one leased batch."""

    def __init__(self, system: System, desk: Desk, held: batches.Lease, session: Session):
        self._system = system
        self._held = held
        self._session = session
        self._flat = desk.flat("restore")
        self._made: Manifest = restoring.manifest(system, held)
        self._categories: Sequence[Category] = saving.scope(system, held)
        self._slugs = [category.slug for category in self._categories]
        self._then = Mode(self._made.mode)

    def run(self) -> bool:
        """Swap; see ``swap_stores``."""
        started = time.monotonic()
        done = {_FLAT: self._swapped(_FLAT), _HIER: self._swapped(_HIER)}
        try:
            with self._alone() as now:
                first = now.ruling
                second = _HIER if first is _FLAT else _FLAT
                self._keep_off(second, done[second])
                for store in (first, second):
                    if not done[store]:
                        self._one(store, now)
                        done[store] = True
        except (errors.HAL9Error, psycopg2.Error, exc.DBAPIError) as error:
            if any(done.values()) and not isinstance(error, errors.LeaseLost):
                raise errors.RestoreHalfDone(
                    f"One store is restored, the other will be as soon as it can: {applier.sentence(error)}"
                ) from error
            raise
        self._end(now, time.monotonic() - started)
        return True

    def _swapped(self, store: model.StoreName) -> bool:
        with self._session.begin():
            connection = self._flat if store is _FLAT else self._raw
            found = shadow.swapped(connection)
        self._flat.rollback()
        return found

    @property
    def _raw(self) -> Connection:
        raw: Connection = self._session.connection.driver_connection  # type: ignore[assignment]
        return raw

    @contextlib.contextmanager
    def _alone(self) -> Iterator[Mode]:
        """Keep switches, captured writers and appliers out for the length of a block."""
        with contextlib.ExitStack() as stack:
            # Connections of their own: these locks belong to a session, and must outlive its transactions.
            guard = stack.enter_context(contextlib.closing(self._own_ledger()))
            switching = stack.enter_context(guard.begin())
            switching.exec_driver_sql(f"SET LOCAL lock_timeout = '{int(PATIENCE * 1000)}ms'")
            switching.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
            mode.lock_switch(switching)
            line = mode.read(switching)
            if line.target is not None:
                raise errors.WritersInFlight(f"A switch to {line.target} is half way.", hint="hal9-migrate mode")
            # One that was begun at the same moment as the restore, and was not there to be refused or cancelled.
            for run in runs.find(switching, kind=model.RunKind.MIGRATE, active=True):
                if run.category in self._slugs:
                    raise errors.WritersInFlight(
                        f"{run.name} is copying {run.category}, which is to be replaced.",
                        hint=f"hal9-migrate runs cancel {run.id}",
                    )
            for opened in (self._system.flat(), self._system.hier()):
                connection = stack.enter_context(contextlib.closing(opened))
                stack.enter_context(applier.fenced(connection, patience=PATIENCE))
                stack.enter_context(capture.barrier(connection, patience=PATIENCE))
            yield Mode(line.mode)

    def _own_ledger(self) -> database.Ledger:
        return database.Ledger(
            self._system.settings.require_hier(), application_name=f"{self._system.role} restore", pool_size=1
        )

    def _keep_off(self, store: model.StoreName, swapped: bool) -> None:
        """Let nothing be applied to the store that is swapped second."""
        if swapped:
            return
        reason = f"run {self._held.run_id} restores checkpoint {self._made.name}"
        with self._transaction(store) as cursor:
            capture.hold(cursor.connection, reason)

    def _one(self, store: model.StoreName, now: Mode) -> None:
        places = self._places(store)
        with self._transaction(store) as cursor:
            self._journal(cursor, store, places)
            if store is _HIER:
                self._ledger(cursor, places, now)
            capture.let_go(cursor.connection)
            swap.swap(cursor, [one.relation for one in places if one.table.role != "ledger"], lock_timeout=PATIENCE)

    def _places(self, store: model.StoreName) -> Sequence[Place]:
        with contextlib.closing(self._system.flat() if store is _FLAT else self._system.hier()) as connection:
            return restoring.places(connection, store, self._made, self._categories)

    @contextlib.contextmanager
    def _transaction(self, store: model.StoreName) -> Iterator[Any]:
        """Write a store in one transaction, which the lease's fence ends when it is another's."""
        if store is _HIER:
            with self._session.begin():
                self._fence(self._session)
                with self._raw.cursor() as cursor:
                    yield cursor
            return
        with self._flat, self._flat.cursor() as cursor:
            yield cursor
            # Last: whoever was frozen before this finds the lease gone, and undoes what it has done.
            with self._session.begin():
                self._fence(self._session)

    def _fence(self, session: Session) -> None:
        if not batches.extend(session, self._held, self._system.settings.lease_duration):
            raise errors.LeaseLost(f"{self._held.name}: the lease was lost; nothing was swapped.")

    def _journal(self, cursor: Any, store: model.StoreName, places: Sequence[Place]) -> None:
        """Put the journal back to what waited then; what waits now is about a state that is gone."""
        cursor.execute("DELETE FROM hal9cap.journal WHERE category = ANY(%s)", (self._slugs,))
        if self._then.ruling is not store:
            return
        kept = next(one.shadow.qualified for one in places if one.relation.table == "journal")
        cursor.execute(
            f"INSERT INTO hal9cap.journal (category, key, at) SELECT category, key, at FROM {kept} "
            "WHERE category = ANY(%s)",
            (self._slugs,),
        )

    def _ledger(self, cursor: Any, places: Sequence[Place], now: Mode) -> None:
        """Bring what is known of the categories into line with what the tables hold."""
        session, slugs = self._session, self._slugs
        database.run(session, "checkpoints", "reset_category", categories=slugs)
        database.run(session, "checkpoints", "reset_sweeps", categories=slugs)
        repair = f"gone with the restore of checkpoint {self._made.name}"
        database.run(session, "checkpoints", "close_drifts", repair=repair, categories=slugs)
        kept = next(one.shadow.qualified for one in places if one.relation.table == "quarantine")
        own = self._held.run_id
        # Who is held now is so for a state that is gone, but for what this run itself has found damaged.
        cursor.execute(
            "UPDATE hal9mig.quarantine SET status = 'dropped', changed_at = clock_timestamp() "
            "WHERE status = 'held' AND category = ANY(%s) AND run_id IS DISTINCT FROM %s",
            (slugs, own),
        )
        cursor.execute(
            "INSERT INTO hal9mig.quarantine (category, key, error, payload, transform_version, run_id, attempts, "
            "found_at) SELECT category, key, error, payload, transform_version, run_id, attempts, found_at "
            f"FROM {kept} WHERE status = 'held' AND category = ANY(%s) ON CONFLICT DO NOTHING",
            (slugs,),
        )
        covers = self._made.positions["covers"]
        for slug in slugs:
            runs.take_back(session, slug, [_cover(one) for one in covers.get(slug, [])])
        reason = ""
        if self._then.ruling is not now.ruling:
            taken = f"checkpoint {self._made.name} was restored, which was taken in mode {self._then}"
            reason = f"{taken}, and the mode is {now}"
        database.run(session, "checkpoints", "set_standstill", reason=reason)

    def _end(self, now: Mode, seconds: float) -> None:
        result = {"mode_then": self._then, "mode_now": now, "seconds": round(seconds, 3)}
        with self._session.begin():
            batches.conclude(self._session, self._held, result=result, seconds=seconds)
            instants.unshadowed(self._session, self._held.run_id)
            run = runs.get(self._session, self._held.run_id)
            detail = {"checkpoint": self._made.name, "categories": self._slugs, "reason": run.options.get("reason")}
            presence.log(
                self._session, "checkpoint restored", actor=run.requested_by, run_id=run.id, detail=detail | result
            )
        alerts.note(
            self._system.settings, "restored", checkpoint=self._made.name, categories=",".join(self._slugs),
            run=self._held.run_id, seconds=round(seconds, 3),
        )  # fmt: skip


def _cover(document: Any) -> runs.Cover:
    after, upto = document.get("after"), document.get("upto")
    return runs.Cover(
        filter=document["filter"],
        after=None if after is None else tuple(after),
        upto=None if upto is None else tuple(upto),
    )
