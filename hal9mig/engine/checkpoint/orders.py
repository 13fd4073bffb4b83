"""Checkpoints as a library: taking, listing, deleting, restoring.

    checkpoints = Checkpoints(system)
    run, plan = checkpoints.take(CheckpointOrder(name="before", full=True, verify=True))
    for (run,) in Coordinator(system).watch([run.id]): ...
    plan = checkpoints.plan_restore("before")
    run = checkpoints.rollback(plan)

The work is done by the workers, as runs like any other; what is returned here is their beginning.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
from collections.abc import Sequence

from hal9mig import errors, model, safe_text, units
from hal9mig.categories.declaration import Category
from hal9mig.engine import dispatcher
from hal9mig.engine.checkpoint import archive, choose, duration, place, restore_check, restore_result, save
from hal9mig.engine.checkpoint.archive import Archive
from hal9mig.engine.checkpoint.manifest import Manifest
from hal9mig.engine.checkpoint.types import (
    CheckpointListing,
    CheckpointOrder,
    Damage,
    Expected,
    Loss,
    Restored,
    RestorePlan,
    SavePlan,
    Untouched,
)
from hal9mig.engine.system import System
from hal9mig.ledger import audit, batches, database, instants, mode, runs, tuning, workers
from hal9mig.ledger.database import Session
from hal9mig.ledger.run_options import ABOUT_CHECKPOINTS, CheckpointOptions, KeptOptions, RestoreOptions
from hal9mig.stores import relation

__all__ = [
    "CheckpointListing", "CheckpointOrder", "Checkpoints", "Damage", "Loss", "RestorePlan", "Restored", "SavePlan",
    "Untouched",
]  # fmt: skip
_STORES = (model.StoreName.FLAT, model.StoreName.HIERARCHICAL)


class Checkpoints:
    """Takes orders about checkpoints."""

    def __init__(self, system: System, *, actor: str | None = None):
        self._system = system
        self._actor = actor or database.actor()

    @property
    def archive(self) -> Archive:
        """Where checkpoints lie."""
        return archive.opened(self._system.settings)

    # Taking

    def plan(self, order: CheckpointOrder) -> SavePlan:
        """Check an order and return what it would do; nothing is changed.

        Raises:
            errors.UsageError: the name cannot be one.
            errors.NameTaken: there is a checkpoint of this name.
            errors.ArchiveFull: the storage says that it has no room for it.
            errors.SchemaBehind, errors.UnknownCategory, errors.InvalidUnit: it cannot be taken so.
            errors.PoolerBetween: a snapshot cannot be held.
            errors.Unreachable: a server or the storage does not answer.
        """
        archive.check_name(order.name)
        if order.name == choose.LATEST:
            raise errors.UsageError("'latest' cannot be a checkpoint's name: it is how the newest one is asked for.")
        chosen = self._system.registry.select(order.categories)
        self._system.require_ready()
        self._system.require_direct()
        self.archive.ensure()
        if self.archive.exists(order.name):
            raise errors.NameTaken(
                f"There is a checkpoint {order.name} already.", hint="hal9-migrate state list-checkpoints"
            )
        with self._system.ledger.begin() as session:
            tuning.resolve(session, order.tuning)  # or it cannot be read
            slots = workers.slots(session)
            for run in runs.find(session, kind=model.RunKind.CHECKPOINT, active=True):
                if KeptOptions.of(run.options).checkpoint == order.name:
                    raise errors.NameTaken(
                        f"A checkpoint {order.name} is being taken already.",
                        hint=f"hal9-migrate runs show {run.id} --watch",
                    )
        rows, counted, size, chunks = self._estimated(chosen, full=order.full)
        free = self.archive.free_bytes() if order.full else None
        if free is not None and free < size:
            raise errors.ArchiveFull(
                f"The checkpoint may need {units.format_bytes(size)}, and {units.format_bytes(free)} are free.",
                hint="make room, delete an older one with hal9-migrate state checkpoint --delete NAME, "
                "or name another place with HAL9_CHECKPOINT_URL",
            )
        rate = save.own_rate(order.tuning)
        expected = self._expected(model.RunKind.CHECKPOINT, rows, verify=order.verify)
        if rate is not None and order.full:
            whole = {units.RateUnit.RECORDS: counted, units.RateUnit.BYTES: size, units.RateUnit.BATCHES: chunks}
            expected = duration.within(expected, rate, whole[rate.unit])
        return SavePlan(
            name=order.name, scope=tuple(one.slug for one in chosen), rows=rows, bytes=size, free_bytes=free,
            chunks=chunks, expected=expected, rate=rate,
            url=safe_text.masked(self._system.settings.checkpoint_url),
            warnings=[] if slots else ["no worker is alive; the run waits until one is"],
        )  # fmt: skip

    def take(self, order: CheckpointOrder) -> tuple[model.Run, SavePlan]:
        """Start a checkpoint and return its run, with what it is going to hold.

        Raises: as ``plan``.
        """
        plan = self.plan(order)
        options = CheckpointOptions(
            checkpoint=order.name, description=order.description, full=order.full,
            # A marker's digests are computed in the databases: there is nothing else to be verified.
            verify=order.verify or not order.full, label=order.label, scope=plan.scope, tuning=dict(order.tuning),
        )  # fmt: skip
        return self._start(model.RunKind.CHECKPOINT, plan.scope, options), plan

    def delete(self, name: str) -> int:
        """Delete a checkpoint, or the leavings of one, and return the bytes that are free again.

        Raises:
            errors.NotFound: there is none of this name.
            errors.Refused: it is being taken or restored.
        """
        if not self.archive.exists(name):
            raise errors.NotFound(f"There is no checkpoint {name}.", hint="hal9-migrate state list-checkpoints")
        with self._system.ledger.begin() as session:
            for run in runs.find(session, active=True):
                if run.kind in ABOUT_CHECKPOINTS and KeptOptions.of(run.options).checkpoint == name:
                    raise errors.Refused(
                        f"{run.name} is working on checkpoint {name}.", hint=f"hal9-migrate runs show {run.id}"
                    )
        freed = self.archive.delete(name)
        with self._system.ledger.begin() as session:
            audit.log(session, "checkpoint deleted", actor=self._actor, detail={"name": name, "bytes": freed})
        return freed

    # Looking

    def listing(self) -> CheckpointListing:
        """Return every checkpoint, and what looks like one and is none.

        Raises:
            errors.ArchiveUnreachable: the storage does not answer.
            errors.NotConfigured: no servers are known.
        """
        manifests, unusable = self.archive.listing()
        lacking = {one.name: one.lacks(gone) for one in manifests if (gone := self.archive.lacking(one))}
        try:
            with self._system.ledger.begin() as session:
                active = runs.find(session, kind=model.RunKind.CHECKPOINT, active=True)
        except errors.NotConfigured:
            raise
        except errors.Unreachable as error:
            # A lost database is when somebody has to know what there is to go back to.
            return CheckpointListing(
                manifests=manifests, unusable=unusable, under_way=(), lacking=lacking, unknown=error.message
            )
        taking = {KeptOptions.of(run.options).checkpoint for run in active}
        left = [one for one in unusable if one.name not in taking]
        return CheckpointListing(manifests=manifests, unusable=left, under_way=active, lacking=lacking)

    def left_out(self, run: model.Run) -> list[str]:
        """Return the workers that took no part in a run, because they keep checkpoints in another place."""
        with self._system.ledger.begin() as session:
            return place.left_out(session, run.id)

    def find(self, text: str) -> Manifest:
        """Return a checkpoint by its name, the beginning of it, or ``latest``.

        Raises:
            errors.NotFound: there is none, or several; the message lists them.
        """
        return choose.find(self.archive.listing()[0], text)

    def backup_within(self, seconds: float) -> Manifest | None:
        """Return the newest verified full checkpoint of every category, where it is not older than that."""
        oldest = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)
        for one in self.archive.listing()[0]:
            if (
                one.restorable and one.verified and one.whole and one.taken_at > oldest
                and not self.archive.lacking(one)
            ):  # fmt: skip
                return one
        return None

    # Restoring

    def plan_restore(self, text: str | None, categories: Sequence[str] = (), *, recover: bool = False) -> RestorePlan:
        """Choose a checkpoint and check that it can be restored; nothing is changed.

        Args:
            text: its name or the beginning of it; ``latest`` is the newest verified full one that was taken before
                the present migration of each category, so not one of what is to be undone.
            recover: choose for a recovery, where None is the newest verified full one.

        Raises:
            errors.NotFound, errors.NotRestorable, errors.CheckpointDamaged: there is none that could be.
            errors.CheckpointStale: its tables or schemas are not those that there are now.
            errors.RestoreActive: another restore is under way.
            errors.Refused: a table cannot be replaced; the message says what stands in the way.
            errors.Unreachable: a server or the storage does not answer.
        """
        self._system.require_ready()
        chosen = self._system.registry.select(categories)
        slugs = tuple(one.slug for one in chosen)
        with self._system.ledger.begin() as session:
            current = runs.current(session)
            line = mode.read(session)
            active = self._active(session, slugs)
        manifests = self.archive.listing()[0]
        text = choose.LATEST if text is None else text
        if text == choose.LATEST:
            # Nobody is sent to one of which parts are gone, unless that is all that there is to recover from.
            intact = [one for one in manifests if not self.archive.lacking(one)]
            manifests = intact if intact or not recover else manifests
        if recover:
            made = choose.for_recovery(manifests, text, slugs)
        else:
            made = choose.for_rollback(manifests, text, slugs, {slug: current.get(slug) for slug in slugs})
        restore_check.require_same(self._system, made, slugs)
        gone = self.archive.lacking(made)
        if gone and not recover:
            raise errors.NotRestorable(
                f"{made.lacks(gone)}.",
                hint=f"choose another, or take what is sound: hal9-migrate state recover --from-backup {made.name} "
                "--quarantine-corrupted",
            )
        rows = sum(one.rows for one in made.tables if one.category in slugs)
        refills = restore_check.require_replaceable(self._system, made, chosen)
        warnings = [*restore_check.require_mode(made, line), *([made.lacks(gone)] if gone else [])]
        return RestorePlan(
            manifest=made, categories=slugs, whole=len(chosen) == len(self._system.registry.ordered()),
            mode_now=line.mode, warnings=warnings,
            refills=refills, active=active,
            expected=self._expected(model.RunKind.RESTORE, rows),
        )  # fmt: skip

    def weigh(self, plan: RestorePlan) -> model.Run:
        """Start counting what a restore would lose.

        Raises:
            errors.Unreachable: a server does not answer.
        """
        options = KeptOptions(checkpoint=plan.manifest.name, scope=plan.categories)
        return self._start(model.RunKind.COMPARE, plan.categories, options)

    def losses(self, run: model.Run) -> Sequence[Loss]:
        """Return what ``weigh`` has counted, a row for each table."""
        found: dict[str, dict[str, int]] = {}
        with self._system.ledger.begin() as session:
            for batch in batches.listing(session, run.id):
                if batch["kind"] == "weigh" and batch["result"]:
                    sums = found.setdefault(str(batch["subject"]).rpartition(" ")[0], {})
                    for name in ("changed", "added", "removed"):
                        sums[name] = sums.get(name, 0) + int(batch["result"][name])
        tables = {
            save.subject(table.store, table.qualified): table
            for table in self.find(KeptOptions.of(run.options).checkpoint).tables
        }
        return [
            Loss(store=tables[name].store, category=tables[name].category, table=tables[name].qualified, **sums)
            for name, sums in found.items()
        ]

    def rollback(self, plan: RestorePlan, *, cancel_runs: bool = False, reason: str = "") -> model.Run:
        """Start restoring a checkpoint: beside the live tables first, and then in their place.

        Args:
            cancel_runs: end the migrations that stand in the way.

        Raises:
            errors.RunActive: a migration of a category is under way.
            errors.RestoreActive: another restore is under way.
        """
        return self._restore(
            plan, RestoreOptions(checkpoint=plan.manifest.name), cancel_runs=cancel_runs, reason=reason
        )

    def recover(
        self, plan: RestorePlan, *, quarantine: bool, validate_each: bool, cancel_runs: bool = False, reason: str = ""
    ) -> model.Run:
        """Start restoring what is sound of a checkpoint.

        Args:
            quarantine: what cannot be read goes to quarantine; without it the first damage ends the run, and
                nothing is changed.
            validate_each: compare every single row that was loaded with the file's.

        Raises: as ``rollback``.
        """
        options = RestoreOptions(
            checkpoint=plan.manifest.name, recover=True, quarantine=quarantine, validate_each=validate_each
        )
        return self._restore(plan, options, cancel_runs=cancel_runs, reason=reason)

    def outcome(self, run: model.Run) -> Restored:
        """Return what a restore did."""
        with self._system.ledger.begin() as session:
            return restore_result.collect(run, batches.listing(session, run.id))

    def _restore(self, plan: RestorePlan, options: RestoreOptions, *, cancel_runs: bool, reason: str) -> model.Run:
        with self._system.ledger.begin() as session:
            active = self._active(session, plan.categories)
            if active and not cancel_runs:
                raise errors.RunActive(
                    f"{active[0].category} is being worked on by {active[0].name} ({active[0].kind}, "
                    f"{active[0].status}).",
                    hint=f"hal9-migrate runs cancel {active[0].id}, or add --force",
                )
            for run in active:
                if run.status is not model.RunStatus.CANCELLING:
                    runs.move(session, run.id, model.RunStatus.CANCELLING, f"a restore, by {self._actor}")
        options = dataclasses.replace(options, scope=plan.categories, prove_others=not plan.whole, reason=reason)
        return self._start(model.RunKind.RESTORE, plan.categories, options)

    # Shared

    def _start(self, kind: model.RunKind, scope: Sequence[str], options: KeptOptions) -> model.Run:
        self._system.broker.ping()
        self.archive.ensure()
        options = dataclasses.replace(options, place=self.archive.identity(create=True))
        whole = len(scope) == len(self._system.registry.ordered())
        with self._system.ledger.begin() as session:
            run_id = runs.create(
                session, kind=kind, category="all" if whole else ",".join(scope), priority=model.Priority.HIGH,
                filter="", options=options.stored(), serial=False, actor=self._actor,
            )  # fmt: skip
            if kind is model.RunKind.CHECKPOINT:
                instants.create(session, run_id)
        dispatcher.tick(self._system)
        with self._system.ledger.begin() as session:
            return runs.get(session, run_id)

    def _expected(self, kind: model.RunKind, rows: int, *, verify: bool = False) -> Expected:
        with self._system.ledger.begin() as session:
            return duration.expected(runs.precedent(session, kind, verify=verify), rows)

    def _estimated(self, chosen: Sequence[Category], *, full: bool) -> tuple[int, int, int, int]:
        """Return rows, rows that count as records, bytes and chunks, all estimated."""
        rows = counted = size = chunks = 0
        for store in _STORES:
            opened = self._system.store(store)
            with contextlib.closing(opened), opened.cursor() as cursor:
                for one in save.relations(store, opened, chosen) if full else ():
                    some, heavy = relation.weigh(cursor, one)
                    rows, size = rows + some, size + heavy
                    counted += some if one.role in save.COUNTED else 0
                    chunks += max(1, -(-some // save.rows_of_chunk(some, heavy)))
        return rows, counted, size, chunks

    def _active(self, session: Session, slugs: Sequence[str]) -> list[model.Run]:
        found = runs.find(session, active=True)
        for run in found:
            if run.kind is model.RunKind.RESTORE:
                raise errors.RestoreActive(
                    f"{run.name} is restoring checkpoint {KeptOptions.of(run.options).checkpoint} already.",
                    hint=f"hal9-migrate runs show {run.id} --watch",
                )
        wanted = set(slugs)
        return [
            run
            for run in found
            if (run.kind is model.RunKind.MIGRATE and run.category in wanted) or run.kind is model.RunKind.CHECKPOINT
        ]
