"""The moment of a restore: the shadow tables become the live ones, and everything known is brought into line.

Each store is swapped in one transaction, so a reader sees the old or the new, and a kill leaves one of
the two. The two stores are two databases, so there are two commits, and a moment between them:

- Both transactions are made ready before the first commits. Whatever may fail, or have to be waited for, in
  either store does so while nothing is changed in both; a crash or a lost server is all that can come between.
- The store that takes the application's writes goes first. What is written in between is written to
  the restored tables, and stays.
- The other store takes nothing that is applied, from before the first commit until its own: it would go
  with the tables that are replaced, while its key was pruned from the journal. Its hold outlives a crash.
- Each store notes the restore in the transaction that swaps it. Once one has there is no way but forward:
  the batch is tried, whatever happens, until the other has too; a run that was ended meanwhile goes on.

No barrier keeps captured writers out: one who waited there would have locked its table before, and wait for
us as we for it. Who locks the tables has seen every writer of them end.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import psycopg2

from hal9mig import errors, model
from hal9mig.engine import foreign_errors, reconciliation_log
from hal9mig.engine.checkpoint import restore, save
from hal9mig.engine.desk import Desk
from hal9mig.engine.system import System
from hal9mig.engine.transfer import fence
from hal9mig.ledger import audit, batches, database, dispatch, instants, mode, runs
from hal9mig.ledger.database import Session
from hal9mig.ledger.run_options import KeptOptions, RestoreOptions
from hal9mig.stores import capture, restore_notes, shadow, swap
from hal9mig.stores.connection import Connection
from hal9mig.stores.relation import Relation
from hal9mig.stores.write_mode import Mode

#: Seconds that writers, appliers and readers may be kept waiting for one try.
PATIENCE = 3.0
_FLAT, _HIER = model.StoreName.FLAT, model.StoreName.HIERARCHICAL


def swap_stores(system: System, desk: Desk, held: batches.Lease, session: Session) -> None:
    """Swap both stores, and end the run's work.

    Raises:
        errors.LeaseLost: another worker has it now, or the run is being ended.
        errors.WritersInFlight, errors.GateClosed: somebody does not give way; it is tried again.
        errors.RestoreHalfDone: one store is swapped; the other will be.
    """
    Swap(system, desk, held, session).run()


class Swap:
    """Swaps the stores for one leased batch.

    The methods that ``run`` calls are its steps; a crash between any two of them is made good by the next try.
    """

    def __init__(self, system: System, desk: Desk, held: batches.Lease, session: Session):
        self._system = system
        self._held = held
        self._session = session
        self._connections: Mapping[model.StoreName, Connection] = {
            _FLAT: desk.flat("restore"), _HIER: session.connection,
        }  # fmt: skip
        self._categories = save.scope(system, held)
        self._slugs = [category.slug for category in self._categories]
        self._name = KeptOptions.of(held.options).checkpoint
        self._known: Mapping[str, Any] = {}
        self._mark = ""
        # From here on a lost connection leaves open whether a store is swapped.
        self._committing = False

    def run(self) -> None:
        """Swap; see ``swap_stores``."""
        started = time.monotonic()
        done = self._done()
        try:
            self._known = self._held.result or self._prepared()
            if len(done) < len(self._connections):
                self._both(done)
        except errors.LeaseLost:
            raise
        except Exception as error:
            if done:
                raise errors.RestoreHalfDone(
                    f"One store is restored, the other will be as soon as it can: {foreign_errors.sentence(error)}"
                ) from error
            if not self._committing:
                self._let_go()
            raise
        self._end(time.monotonic() - started)

    def _done(self) -> set[model.StoreName]:
        """Return the stores that this restore has been through."""
        with self._session.begin():
            self._mark = restore.mark(self._session, self._held.run_id)
            done = {store for store, one in self._connections.items() if restore_notes.has(one, self._mark)}
        self._connections[_FLAT].rollback()
        return done

    def _prepared(self) -> Mapping[str, Any]:
        """Note what has to be known of the checkpoint: once a store is swapped nothing may depend on its files."""
        made = restore.manifest(self._system, self._held)
        known = {
            "mode": made.mode,
            "covers": made.positions["covers"],
            "runs": made.positions.get("runs", {}),
            "columns": {save.subject(table.store, table.qualified): table.columns for table in made.tables},
            # By each server's own clock; everything is loaded by now.
            "loaded": {store: self._clock(store) for store in self._connections},
        }
        with self._session.begin():
            progress = batches.Progress(cursor=None, records=0, quarantined=0, bytes=0, digest=0)
            batches.advance(
                self._session, self._held, progress, lease=self._system.settings.lease_duration,
                result=database.json_text(known),
            )  # fmt: skip
        return known

    def _clock(self, store: model.StoreName) -> str:
        with self._transaction(store) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()::text")
            (now,) = cursor.fetchone() or ("",)
        return str(now)

    @property
    def _then(self) -> Mode:
        return Mode(self._known["mode"])

    def _both(self, done: set[model.StoreName]) -> None:
        """Swap each store that is not ``done``, and add it there."""
        with self._session.begin():
            now = Mode(mode.read(self._session).mode)
        # The one that rules comes first.
        order = sorted(set(self._connections) - done, key=lambda store: store is not now.ruling)
        tables = {store: self._relations(store) for store in order}
        if not done:
            self._hold(order[1])
        transaction = self._session.begin()
        try:
            with contextlib.ExitStack() as stack:
                for store in {*order, _HIER}:
                    stack.enter_context(restore_notes.spoken_for(self._connections[store]))
                self._alone(now, order)
                for store in order:
                    self._one(store, tables[store], now)
            self._fence(forced=bool(done))
            self._committing = True
            for store in order:
                self._commit(store, transaction)
                done.add(store)
            if transaction.is_active:
                transaction.commit()
        except BaseException:
            # A session that is gone has rolled back already.
            with contextlib.suppress(psycopg2.Error):
                self._connections[_FLAT].rollback()
            with contextlib.suppress(psycopg2.Error, errors.StoreUnreachable):
                if transaction.is_active:
                    transaction.rollback()
            raise

    def _relations(self, store: model.StoreName) -> Sequence[Relation]:
        """Return the tables of a store that are to be replaced.

        Raises:
            errors.CheckpointStale: one has other columns than the checkpoint's by now.
        """
        with contextlib.closing(self._system.store(store)) as connection:
            found = [one for one in save.relations(store, connection, self._categories) if one.role != "ledger"]
        for one in found:
            columns = [[column.name, column.type] for column in one.columns]
            if columns != [
                list(column) for column in self._known["columns"].get(save.subject(store, one.qualified), ())
            ]:
                raise errors.CheckpointStale(f"Table {one.qualified} of the {store} store has other columns by now.")
        return found

    def _hold(self, store: model.StoreName) -> None:
        """Let nothing be applied to the store that is swapped second, until it is."""
        reason = f"run {self._held.run_id} restores checkpoint {self._name}"
        with self._transaction(store) as connection:
            capture.hold(connection, reason)

    def _let_go(self) -> None:
        """Take the hold back where nothing was swapped; if this fails the next try or a keeper does it."""
        for store in self._connections:
            with (
                contextlib.suppress(errors.HAL9Error, psycopg2.Error),
                self._transaction(store) as connection,
            ):
                capture.let_go(connection)

    @contextlib.contextmanager
    def _transaction(self, store: model.StoreName) -> Iterator[Connection]:
        """Write a store in a transaction of its own, unless the lease is another's."""
        with self._session.begin():
            yield self._connections[store]
            if not batches.extend(self._session, self._held, self._system.settings.lease_duration):
                self._connections[_FLAT].rollback()
                raise errors.LeaseLost(f"{self._held.name}: the lease was lost; nothing was swapped.")
            self._connections[_FLAT].commit()

    def _alone(self, now: Mode, order: Sequence[model.StoreName]) -> None:
        """Keep switches and appliers out of these stores until the transactions end."""
        self._session.execute(f"SET LOCAL lock_timeout = '{int(PATIENCE * 1000)}ms'")
        mode.lock_switch(self._session)
        line = mode.read(self._session)
        if line.target is not None or line.mode != now:
            raise errors.WritersInFlight(f"A switch to {line.target or line.mode} comes in between.")
        if len(order) == len(self._connections):
            self._require_no_migration()
        for store in order:
            fence.keep_out(self._connections[store], patience=PATIENCE)
            older = restore_notes.of_older_snapshots(self._connections[store], self._known["loaded"][store])
            if older:
                raise errors.WritersInFlight(
                    f"A transaction of the {store} store reads as of a moment at which the tables that are about to be "
                    f"put in place were not filled: {'; '.join(map(str, older))}."
                )

    def _require_no_migration(self) -> None:
        """Raise for one that was begun at the same moment as the restore, and was not there to be refused."""
        for run in runs.find(self._session, kind=model.RunKind.MIGRATE, active=True):
            if run.category in self._slugs:
                raise errors.WritersInFlight(
                    f"{run.name} is copying {run.category}, which is to be replaced.",
                    hint=f"hal9-migrate runs cancel {run.id}",
                )

    def _one(self, store: model.StoreName, tables: Sequence[Relation], now: Mode) -> None:
        with self._connections[store].cursor() as cursor:
            self._journal(cursor, store)
            if store is _HIER:
                self._ledger(cursor, now)
            capture.let_go(cursor.connection)
            restore_notes.note(cursor.connection, self._mark)
            swap.swap(cursor, tables, lock_timeout=PATIENCE)

    def _fence(self, *, forced: bool) -> None:
        """Make sure that the lease and the run stand until both have committed.

        Args:
            forced: whether the run's end cannot stop it any more.
        """
        # Last of all: whoever was frozen before this finds the lease gone, and undoes what it has done.
        if not batches.extend(self._session, self._held, self._system.settings.lease_duration):
            raise errors.LeaseLost(f"{self._held.name}: the lease was lost; nothing was swapped.")
        if not forced and not dispatch.lock_active(self._session, self._held.run_id):
            raise errors.WritersInFlight("The run is being paused or cancelled.")

    def _commit(self, store: model.StoreName, transaction: Any) -> None:
        if store is _FLAT:
            self._connections[_FLAT].commit()
        else:
            transaction.commit()

    def _journal(self, cursor: Any, store: model.StoreName) -> None:
        """Put the journal back to what waited then; what waits now is about a state that is gone."""
        cursor.execute("DELETE FROM hal9cap.journal WHERE category = ANY(%s)", (self._slugs,))
        if self._then.ruling is not store:
            return
        cursor.execute(
            "INSERT INTO hal9cap.journal (category, key, at) SELECT category, key, at "
            f"FROM {shadow.schema_of('hal9cap')}.journal "
            "WHERE category = ANY(%s)",
            (self._slugs,),
        )

    def _ledger(self, cursor: Any, now: Mode) -> None:
        """Bring what is known of the categories into line with what the tables hold."""
        session, slugs = self._session, self._slugs
        database.run(session, "checkpoints", "reset_category", categories=slugs)
        database.run(session, "checkpoints", "reset_sweeps", categories=slugs)
        repair = f"gone with the restore of checkpoint {self._name}"
        database.run(session, "checkpoints", "close_drifts", repair=repair, categories=slugs)
        own = self._held.run_id
        # Who is held now is so for a state that is gone, but for what this run itself has found damaged.
        cursor.execute(
            "UPDATE hal9mig.quarantine SET status = 'dropped', changed_at = clock_timestamp() "
            "WHERE status = 'held' AND category = ANY(%s) AND run_id IS DISTINCT FROM %s",
            (slugs, own),
        )
        cursor.execute(
            "INSERT INTO hal9mig.quarantine (category, key, error, payload, transform_version, run_id, attempts, "
            "found_at, origin) SELECT category, key, error, payload, transform_version, run_id, attempts, found_at, "
            f"origin FROM {shadow.schema_of('hal9mig')}.quarantine WHERE status = 'held' AND category = ANY(%s) "
            "ON CONFLICT DO NOTHING",
            (slugs,),
        )
        covers, kept = self._known["covers"], self._known["runs"]
        for slug in slugs:
            runs.take_back(session, slug, msgspec.convert(covers.get(slug, []), list[runs.Cover]), kept.get(slug, []))
        reason = ""
        if self._then.ruling is not now.ruling:
            taken = f"checkpoint {self._name} was restored, which was taken in mode {self._then}"
            reason = f"{taken}, and the mode is {now}"
        # One category that is right again does not make the others so.
        if reason or len(slugs) == len(self._system.registry.ordered()):
            database.run(session, "checkpoints", "set_standstill", reason=reason)

    def _end(self, seconds: float) -> None:
        with self._session.begin():
            now = mode.read(self._session).mode
            result = {"mode_then": self._then, "mode_now": now, "seconds": round(seconds, 3)}
            batches.conclude(self._session, self._held, result=result, seconds=seconds)
            instants.unshadowed(self._session, self._held.run_id)
            run = runs.get(self._session, self._held.run_id)
            detail = {
                "checkpoint": self._name,
                "categories": self._slugs,
                "reason": RestoreOptions.of(run.options).reason,
            }
            audit.log(
                self._session, "checkpoint restored", actor=run.requested_by, run_id=run.id, detail=detail | result
            )
        reconciliation_log.note(
            self._system.settings, "restored", checkpoint=self._name, categories=",".join(self._slugs),
            run=self._held.run_id, seconds=round(seconds, 3),
        )  # fmt: skip
