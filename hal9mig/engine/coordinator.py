"""Takes orders: checks them, writes runs into the ledger, and moves runs along at an operator's word."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence

import psycopg2

from hal9mig import errors, model, units
from hal9mig.categories import filters, identifiers
from hal9mig.categories.declaration import Category
from hal9mig.engine import dispatcher, foreign_errors
from hal9mig.engine.system import System
from hal9mig.engine.transfer import planner
from hal9mig.ledger import audit, database, runs, tuning, workers
from hal9mig.ledger.run_options import KeptOptions, MigrateOptions, VerifyOptions
from hal9mig.stores import category_check, write_mode
from hal9mig.stores.connection import Connection
from hal9mig.stores.write_mode import Mode

#: Records that a plan reads to tell how large they are.
_SAMPLE = 200
# Seconds between two looks at a run that is waited for, and between the first ones: it may be a short one.
_POLL, _SOON = 0.2, 0.02


@dataclasses.dataclass(frozen=True, kw_only=True)
class MigrateOrder:
    """What to migrate and how.

    Attributes:
        tuning: the run's own values of tuning knobs, by name, as texts.
        atomic: one transaction for everything; serial: one batch at a time, in key order.
        bulk: compare the digest of each transaction instead of each record.
        merge: write into a target that holds rows no run has written.
        folder: take records out of the files there, as far as they still hold what the flat store does; manifest: the
            hash of the manifest there.
    """

    category: str
    filter: str = ""
    priority: model.Priority = model.Priority.NORMAL
    tuning: Mapping[str, str] = dataclasses.field(default_factory=dict)
    atomic: bool = False
    serial: bool = False
    bulk: bool = False
    merge: bool = False
    folder: str = ""
    manifest: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MigratePlan:
    """What a migration would do.

    Attributes:
        records: exact number of flat records the filter takes.
        record_bytes: mean size of a record as binary COPY, from a sample.
        rate: the budget in force, None for none.
        seconds: how long the budget alone makes it take, None without one.
        slots: worker slots alive.
        warnings: what an operator ought to know first, as sentences.
    """

    category: Category
    records: int
    record_bytes: int
    batch_size: int
    batches: int
    rate: units.Rate | None
    seconds: float | None
    validation: model.Validation
    slots: int
    warnings: Sequence[str]


#: How people say that a run is over.
_ENDED = {
    model.RunStatus.SUCCEEDED: "has succeeded already",
    model.RunStatus.FAILED: "has failed",
    model.RunStatus.CANCELLED: "was cancelled",
}


class Coordinator:
    """The one way in for whoever gives orders."""

    def __init__(self, system: System, *, actor: str | None = None):
        self._system = system
        self._actor = actor or database.actor()

    def plan(self, order: MigrateOrder) -> MigratePlan:
        """Check an order and return what it would do; nothing is changed.

        Raises:
            errors.UnknownCategory, errors.InvalidFilter, errors.InvalidUnit: the order is wrong.
            errors.SchemaBehind, errors.SchemaMismatch: the stores are not ready for it.
            errors.TargetNotEmpty: the target holds rows that no run has written.
            errors.RunActive: the category is being migrated already.
            errors.RestoreActive: a checkpoint is being restored.
            errors.Unreachable: a server does not answer.
        """
        category = self._system.category(order.category)
        chosen = filters.parse(category, order.filter)
        if order.atomic and order.bulk:
            raise errors.ConflictingFlags(
                "--atomic and --batch-mode exclude each other: one is a single transaction, verified record by "
                "record before it commits, the other many without.",
                hint="leave one of them out",
            )
        self._system.require_ready()
        with self._system.ledger.begin() as session:
            tuned = tuning.resolve(session, order.tuning)
            active = runs.find(session, kind=model.RunKind.MIGRATE, category=category.slug, active=True)
            known = runs.find(session, kind=model.RunKind.MIGRATE, category=category.slug, limit=1)
            slots = workers.slots(session)
            restoring = runs.find(session, kind=model.RunKind.RESTORE, active=True)
        if restoring:
            # What is copied now would go with the tables that are about to be replaced.
            raise errors.RestoreActive(
                f"{restoring[0].name} is restoring checkpoint {KeptOptions.of(restoring[0].options).checkpoint}.",
                hint=f"hal9-migrate runs show {restoring[0].id} --watch",
            )
        if active:
            raise errors.RunActive(
                f"{category.slug} is being migrated already, by {active[0].name} ({active[0].status}).",
                hint=f"hal9-migrate runs show {active[0].id}",
            )
        self._system.broker.ping()
        with contextlib.closing(self._system.flat()) as flat, contextlib.closing(self._system.hier()) as hier:
            category_check.check_category(category, flat, hier)
            _refuse_a_ruling_target(hier)
            with _usable(category, chosen):
                records = planner.count(flat, category, chosen)
            if not known and not order.merge and not _captured_before(flat):
                _refuse_foreign_rows(hier, category)
            size = record_bytes(flat, category, chosen)
        batch = tuned.batch_of(size)
        batches = -(-records // batch)
        rate, seconds = tuned.rate_limit, None
        if rate is not None:
            by_batch = rate.unit is units.RateUnit.BATCHES
            seconds = (batches if by_batch else dispatcher.cost(rate, max(1, records), size)) / rate.per_second
        return MigratePlan(
            category=category,
            records=records,
            record_bytes=size,
            batch_size=batch,
            batches=1 if order.atomic else max(1, batches),
            rate=rate,
            seconds=seconds,
            validation=tuned.validation,
            slots=slots,
            warnings=_warnings(tuned, slots, order.filter if not records else ""),
        )

    def migrate(self, order: MigrateOrder) -> tuple[model.Run, MigratePlan]:
        """Start a migration and return its run, with what it is going to do.

        Raises: as ``plan``.
        """
        plan = self.plan(order)
        options = MigrateOptions(
            tuning=dict(order.tuning), transform_version=plan.category.transform_version, batch=plan.batch_size,
            atomic=order.atomic, bulk=order.bulk, merge=order.merge, folder=order.folder,
            manifest=order.manifest,
        )  # fmt: skip
        with self._system.ledger.begin() as session:
            run_id = runs.create(
                session, kind=model.RunKind.MIGRATE, category=plan.category.slug, priority=order.priority,
                filter=order.filter, options=options.stored(), serial=order.serial, actor=self._actor,
            )  # fmt: skip
        dispatcher.tick(self._system)
        return self.run(run_id), plan

    def verify(self, category: str, *, filter: str = "", deep: bool = True) -> model.Run:
        """Start a comparison of both stores for a category and return its run.

        Args:
            deep: compare records and fields where ranges differ; without it ranges are only counted and digested.

        Raises: as ``plan``, without ``TargetNotEmpty`` and ``RunActive``.
        """
        declared = self._system.category(category)
        chosen = filters.parse(declared, filter)
        self._system.require_ready()
        self._system.broker.ping()
        with contextlib.closing(self._system.flat()) as flat, contextlib.closing(self._system.hier()) as hier:
            category_check.check_category(declared, flat, hier)
            with _usable(declared, chosen):
                planner.try_filter(flat, declared, chosen)
        with self._system.ledger.begin() as session:
            run_id = runs.create(
                session, kind=model.RunKind.VERIFY, category=declared.slug, priority=model.Priority.NORMAL,
                filter=filter, options=VerifyOptions(deep=deep).stored(), serial=False,
                actor=self._actor,
            )  # fmt: skip
        dispatcher.tick(self._system)
        return self.run(run_id)

    def run(self, run_id: int) -> model.Run:
        """Return a run as it stands.

        Raises:
            errors.NotFound: there is none of this number.
        """
        with self._system.ledger.begin() as session:
            return runs.get(session, run_id)

    def pause(self, run_id: int) -> model.Run:
        """Stop a run after the transactions that are open; a paused run stays as it is.

        Raises:
            errors.NotFound: there is no such run.
            errors.IllegalTransition: it has ended.
        """
        return self._move(run_id, model.RunStatus.PAUSING, "pause", already=(model.RunStatus.PAUSED,))

    def cancel(self, run_id: int) -> model.Run:
        """End a run after the transactions that are open; what it has written stays.

        Raises: as ``pause``.
        """
        return self._move(run_id, model.RunStatus.CANCELLING, "cancel", already=(model.RunStatus.CANCELLED,))

    def resume(self, run_id: int) -> model.Run:
        """Let a paused run go on; a running or finished one stays as it is.

        Raises: as ``pause``.
        """
        already = (model.RunStatus.RUNNING, model.RunStatus.PLANNING, model.RunStatus.SUCCEEDED)
        return self._move(run_id, model.RunStatus.RUNNING, "resume", already=already)

    def retry(self, run_id: int) -> model.Run:
        """Take up what a failed or cancelled run has left.

        Raises: as ``pause``.
        """
        with self._system.ledger.begin() as session:
            if runs.get(session, run_id).status is model.RunStatus.FAILED:
                runs.retry_failed(session, run_id)
        already = (model.RunStatus.RUNNING, model.RunStatus.PLANNING)
        return self._move(run_id, model.RunStatus.RUNNING, "retry", already=already)

    def watch(self, run_ids: Sequence[int], *, timeout: float | None = None) -> Iterator[Sequence[model.Run]]:
        """Yield the runs as they stand, several times a second, until all have ended or stand still.

        A lost connection to the ledger only delays the next look.

        Args:
            timeout: seconds.

        Raises:
            errors.TimedOut: it passed; the runs go on.
        """
        began = time.monotonic()
        while True:
            try:
                with self._system.ledger.begin() as session:
                    found = [runs.get(session, run_id) for run_id in run_ids]
            except errors.Unreachable:
                found = []
            if found:
                yield found
                if all(run.ended or run.status is model.RunStatus.PAUSED for run in found):
                    return
            if timeout is not None and time.monotonic() - began > timeout:
                names = ", ".join(str(run_id) for run_id in run_ids)
                raise errors.TimedOut(
                    f"The time limit of {units.format_duration(timeout)} passed; run {names} goes on.",
                    hint=f"hal9-migrate runs show {run_ids[0]}",
                )
            time.sleep(min(_POLL, _SOON + 0.1 * (time.monotonic() - began)))

    def _move(self, run_id: int, new: model.RunStatus, action: str, *, already: Sequence[model.RunStatus]) -> model.Run:
        with self._system.ledger.begin() as session:
            run = runs.get(session, run_id)
            if run.status not in already:
                if run.ended and (run.status, new) not in model.RUN_TRANSITIONS:
                    raise errors.IllegalTransition(
                        f"{run.name.capitalize()} {_ENDED[run.status]}; there is nothing to {action}.",
                        hint=f"hal9-migrate runs show {run_id}",
                    )
                runs.move(session, run_id, new, f"{action} by {self._actor}")
                audit.log(session, action, actor=self._actor, run_id=run_id)
        dispatcher.tick(self._system)
        return self.run(run_id)


@contextlib.contextmanager
def _usable(category: Category, chosen: filters.Filter) -> Iterator[None]:
    """Say of a filter what the server says of it."""
    try:
        yield
    except psycopg2.DataError as error:
        raise errors.InvalidFilter(
            f"The filter {chosen.text!r} cannot be used: {foreign_errors.sentence(error)}",
            hint=f"fields of {category.slug}: "
            + ", ".join(f"{name} ({field.type})" for name, field in sorted(category.filters.items())),
        ) from None


def record_bytes(flat: Connection, category: Category, chosen: filters.Filter) -> int:
    """Return what a flat record measures as binary COPY, the mean of some; 0 where there is none."""
    condition, params = chosen.sql("s")
    columns = identifiers.listed(category.source.names, "s")
    table = category.source.qualified
    with flat.cursor() as cursor:
        cursor.execute(
            f"SELECT coalesce(avg(octet_length(record_send(r))), 0)::int FROM "
            f"(SELECT row({columns}) AS r FROM {table} s WHERE {condition} LIMIT {_SAMPLE}) k",
            params,
        )
        row = cursor.fetchone()
    flat.rollback()
    return int(row[0]) if row else 0


def _refuse_a_ruling_target(hier: Connection) -> None:
    now = write_mode.state(hier)
    hier.rollback()
    if now.mode in (Mode.HIERARCHICAL_ONLY, Mode.CLOSED):
        raise errors.Refused(
            f"The write mode is {now.mode}: nothing is copied into a store that takes the application's writes.",
            hint="hal9-migrate mode",
        )


def _captured_before(flat: Connection) -> bool:
    """Whether capture has ever been on, so that rows may have come from the journal before any run."""
    now = write_mode.state(flat)
    flat.rollback()
    return now != write_mode.INITIAL


def _refuse_foreign_rows(hier: Connection, category: Category) -> None:
    for root in category.roots:
        with hier.cursor() as cursor:
            cursor.execute(f"SELECT FROM {root.qualified} LIMIT 1")
            found = cursor.rowcount
        hier.rollback()
        if found:
            raise errors.TargetNotEmpty(
                f"{root.qualified} holds rows that no run has written.",
                hint=f"look at them with `hal9-migrate state diff --category {category.slug}`; "
                "to write beside them and over older ones, add --merge",
                table=root.qualified,
            )


def _warnings(tuned: tuning.Tuning, slots: int, nothing: str) -> list[str]:
    """Return what an operator ought to know first; ``nothing`` is a filter that takes no record."""
    warnings = [f"0 records match the filter {nothing!r}, so there is nothing to migrate"] if nothing else []
    if not slots:
        warnings.append("no worker is alive; the run waits until one is")
    elif tuned.parallel_workers < 64 and tuned.parallel_workers > slots:
        warnings.append(f"parallel-workers is {tuned.parallel_workers}, but only {slots} worker slots are alive")
    if tuned.effective_batch < tuned.batch_size:
        warnings.append(f"a batch is {tuned.effective_batch} records, one second of the budget of {tuned.rate_limit}")
    return warnings
