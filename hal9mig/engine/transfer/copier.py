"""Copies a batch: read, transform, write, compare, note, commit; step by step.

A step's rows, its quarantined records and its line in the ledger are one transaction on the target,
fenced by the lease's attempt. So a step happens once or not at all, whatever is killed when.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, Self

import psycopg2
import psycopg2.errors

from hal9mig import errors, model
from hal9mig.categories import filters, identifiers
from hal9mig.categories.transform import Transform
from hal9mig.engine import foreign_errors, pace
from hal9mig.engine.system import System
from hal9mig.engine.transfer import applier as applier_module
from hal9mig.engine.transfer import fence
from hal9mig.engine.transfer.reader import Reader, Step
from hal9mig.engine.transfer.writer import BatchWriter
from hal9mig.ledger import batches, database, marks, quarantine, tuning
from hal9mig.ledger.database import Session
from hal9mig.ledger.run_options import MigrateOptions, TunedOptions
from hal9mig.stores import capture, projection
from hal9mig.stores.connection import Connection, Cursor

_MODULUS = 1 << 64
_SAMPLE_SPAN = 1 << 16
Fields = list[bytes]


class Steps(Protocol):
    """What is copied, step by step, in key order."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def steps(self) -> Iterator[Step]:
        """Yield the steps; the last one says so."""

    def cut(self, records: int) -> None:
        """Have the steps to come hold no more records than this."""


class Origin(Protocol):
    """Another origin of records than the flat table by itself.

    What it gives as a record has to be what the flat table held at a moment after the lease was claimed, as a copy
    that reads it would have found it.
    """

    @property
    def transform(self) -> Transform:
        """What makes target rows of its records."""

    @property
    def result(self) -> Mapping[str, int]:
        """What is noted of it in the batch's line."""

    def reading(self, scope: projection.Bounds, *, first: int, records: int, size: int) -> Steps:
        """Return the records of a scope; steps are cut as ``Reader`` says, and each record ends with its hash."""


def _total(records: Sequence[Fields]) -> int:
    """Return the sum of the records' hashes."""
    return sum(struct.unpack(f">{len(records)}q", b"".join([fields[-1][4:] for fields in records])))


def signed(total: int) -> int:
    """Return a sum of hashes modulo 2^64 as the signed number that a bigint holds."""
    total %= _MODULUS
    return total - _MODULUS if total >= _MODULUS // 2 else total


class Copier:
    """Copies one leased batch; make one for each lease.

    Args:
        flat: a connection that streams; ``lookup`` is one more, for single records.
        session: the connection to the target and the ledger, outside a transaction.
        origin: where records come from, where it is not the flat table by itself.
    """

    def __init__(
        self,
        system: System,
        held: batches.Lease,
        tuned: tuning.Tuning,
        *,
        flat: Connection,
        lookup: Connection,
        session: Session,
        origin: Origin | None = None,
    ):
        self._held = held
        self._tuned = tuned
        self._lease = system.settings.lease_duration
        self._flat = flat
        self._lookup = lookup
        self._session = session
        self._transform: Transform = system.transform(held.category) if origin is None else origin.transform
        self._read = self._read_flat if origin is None else origin.reading
        self._origin = origin
        self._category = self._transform.category
        self._writer = BatchWriter(self._transform)
        self._ledger = system.ledger
        self._filter = filters.parse(self._category, held.filter)
        self._atomic = MigrateOptions.of(held.options).atomic
        self._validated = tuned.validation.mode != "off"
        self._merging = False
        self._held_keys: set[model.Key] = set()  # what earlier runs left in quarantine
        self._held_now: set[model.Key] = set()  # what this step puts there
        self._suspects: dict[model.Key, Fields] = {}  # what this step cannot decide by itself
        self._rejected_apart = 0
        self._cursor_key = held.cursor
        self._records, self._quarantined = held.records, held.quarantined
        self._bytes, self._digest = held.bytes, held.digest

    def run(self) -> bool:
        """Copy the batch; return whether it came to its end (False: stop was asked for, the rest remains).

        Raises:
            errors.LeaseLost: another worker has it now.
            psycopg2.Error: a server failed.
        """
        started = time.monotonic()
        if self._held.step_records == 0 and not self._atomic:
            self._quarantine_culprit()
        with self._session.begin():
            self._held_keys = quarantine.held_keys(self._session, self._category.slug)
        scope = projection.Bounds(after=self._cursor_key or self._held.after, upto=self._held.upto)
        full = self._tuned.checkpoint_interval
        first = self._held.step_records if self._held.step_records is not None else full
        size = max(1, first)
        transaction = None
        with self._read(scope, first=size, records=full, size=self._tuned.batch_bytes) as reading:
            for step in reading.steps():
                began = time.monotonic()
                size = min(size * 2, full)
                transaction = transaction or self._session.begin()
                try:
                    self._write(step)
                    standing = None
                    if step.last or not self._atomic:
                        standing = self._advance(size if size < full else None)
                    if step.last:
                        batches.finish(self._session, self._held, seconds=time.monotonic() - started)
                except BaseException:
                    transaction.rollback()
                    raise
                if step.last or not self._atomic:
                    transaction.commit()
                    transaction = None
                if step.last:
                    return True
                took = time.monotonic() - began
                if self._tuned.max_impact is not None:
                    reading.cut(pace.sized(len(step.records), took, most=full))
                if standing is not None and not pace.go_on(standing, self._tuned, took):
                    return False
        raise errors.HAL9Error("The range ended without a last step.")

    def _read_flat(self, scope: projection.Bounds, *, first: int, records: int, size: int) -> Reader:
        return Reader(
            self._flat, self._category, scope, self._filter, records=records, size=size, first=first,
            hashed=self._validated,
        )  # fmt: skip

    @property
    def _raw(self) -> Cursor:
        raw: Cursor = self._session.connection.cursor()
        return raw

    def _advance(self, next_size: int | None) -> batches.Outlook:
        progress = batches.Progress(
            cursor=self._cursor_key,
            records=self._records,
            quarantined=self._quarantined,
            bytes=self._bytes,
            digest=signed(self._digest),
            step_records=next_size,
        )
        result = None if self._origin is None else database.json_text(self._origin.result)
        return batches.advance(self._session, self._held, progress, lease=self._lease, result=result)

    def _write(self, step: Step) -> None:
        """Write a step in the open transaction, without the records that others have to decide."""
        if not step.records:
            return
        cursor = self._raw
        # A worker that was frozen since before a switch must not write over what came after.
        fence.hold(cursor, model.StoreName.HIERARCHICAL)
        # No commit waits for the disk: what a crash of the server loses is the tail of its log, whole
        # transactions with their lines in the ledger, and the next one that waits, such as the one that
        # ends the run, makes all before it durable.
        cursor.execute(f"{capture.APPLY}; SET LOCAL synchronous_commit = off; SAVEPOINT before")
        records: Sequence[Fields] = step.records
        last = self._transform.key(step.records[-1])
        while True:
            self._held_now = set()
            # Before the look for marks and until the commit: who deletes a key waits for this.
            marks.share_copy(self._session, self._category.slug)
            self._suspects = {}
            self._isolating(cursor, records)
            if self._validated:
                low = self._cursor_key or self._held.after
                self._validate(cursor, records, projection.Bounds(after=low, upto=last))
            theirs = self._marked(records)
            if not theirs and not self._suspects:
                break
            # Taken out by writing the step again without them: undoing a part would leave what it
            # replaced. A marked record is its applier's; a suspect is brought under its lock now.
            cursor.execute("ROLLBACK TO SAVEPOINT before")
            apart = theirs | set(self._suspects)
            self._bring(cursor, [key for key in self._suspects if key not in theirs])
            records = [fields for fields in records if self._transform.key(fields) not in apart]
        self._cursor_key = last
        self._records += len(step.records) - len(self._held_now) - self._rejected_apart
        self._quarantined += len(self._held_now) + self._rejected_apart
        self._rejected_apart = 0
        if self._held_keys:
            written = self._held_keys.intersection(map(self._transform.key, records)) - self._held_now
            quarantine.release(self._session, self._category.slug, list(written))
            self._held_keys -= written
        self._bytes += step.bytes
        if self._validated:
            self._digest += _total(step.records)

    def _marked(self, records: Sequence[Fields]) -> set[model.Key]:
        """Return the records whose keys somebody has applied since this lease began to read."""
        marked = marks.since(self._session, self._category.slug, self._held.claimed_at)
        return marked.intersection(map(self._transform.key, records)) if marked else marked

    def _bring(self, cursor: Cursor, keys: Sequence[model.Key]) -> None:
        """Decide suspects apart from the step, each under its key's lock.

        The step's transaction is back at its start, so that it holds nothing the other could wait for.
        """
        if not keys:
            return
        if self._atomic:
            # Nothing may be visible before the end, so there is no second transaction to decide in.
            for key in keys:
                self._hold_key(key, "It cannot be written, or does not read back as the source's record.")
            cursor.execute("SAVEPOINT before")
            self._rejected_apart += len(keys)
            return
        applied = applier_module.apply(self._ledger, self._lookup, self._transform, keys, run_id=self._held.run_id)
        self._rejected_apart += len(applied.rejected)

    def _isolating(self, cursor: Cursor, records: Sequence[Fields]) -> None:
        """Write records; those that cannot be written end in quarantine, found by halving."""
        output = self._transform.apply(records)
        refused = {rejection.index for rejection in output.rejections}
        for rejection in output.rejections:
            self._hold(records[rejection.index], rejection.error)
        good = [fields for index, fields in enumerate(records) if index not in refused] if refused else records
        if not good:
            return
        cursor.execute("SAVEPOINT step")
        try:
            if not self._merging and self._is_elsewhere(cursor, good):
                self._merging = True
            if not self._merging:
                try:
                    self._writer.straight(cursor, output)
                except psycopg2.errors.UniqueViolation:
                    # Something of this range is there: a run before this one, or a write of the
                    # application. The rest of the batch is likely to meet more of it.
                    cursor.execute("ROLLBACK TO SAVEPOINT step")
                    self._merging = True
            if self._merging:
                self._writer.merge(cursor, output)
        except psycopg2.Error as error:
            if not foreign_errors.blames_record(error):
                raise
            cursor.execute("ROLLBACK TO SAVEPOINT step; RELEASE SAVEPOINT step")
            if len(good) == 1:
                if isinstance(error, psycopg2.errors.UniqueViolation):
                    # Another record holds a value this one has now: that takes both to put right.
                    self._suspects[self._transform.key(good[0])] = good[0]
                else:
                    self._hold(good[0], error)
                return
            middle = len(good) // 2
            self._isolating(cursor, good[:middle])
            self._isolating(cursor, good[middle:])
            return
        cursor.execute("RELEASE SAVEPOINT step")

    def _is_elsewhere(self, cursor: Cursor, records: Sequence[Fields]) -> bool:
        """Whether one of several roots has a record already: a COPY into another would not collide."""
        if len(self._category.roots) < 2:
            return False
        scope = projection.Keys(keys=[self._transform.key(fields) for fields in records])
        for root in self._category.roots:
            where, params = scope.sql(self._category, identifiers.each(root.owner))
            cursor.execute(f"SELECT FROM {root.qualified} WHERE {where} LIMIT 1", params)
            if cursor.rowcount:
                return True
        return False

    def _validate(self, cursor: Cursor, records: Sequence[Fields], span: projection.Bounds) -> None:
        """Read back what was written; what does not hash as the source's record becomes a suspect."""
        validation = self._tuned.validation
        places = self._transform.key_places
        expected = {
            tuple(fields[place] for place in places): fields
            for fields in records
            if validation.mode == "strict" or int.from_bytes(fields[-1][-2:]) < validation.share * _SAMPLE_SPAN
        }
        if not expected:
            return
        scope: projection.Scope = span
        if len(expected) < len(records) or self._held.filter or not self._ordered_alike:
            scope = projection.Keys(keys=[self._transform.key(fields) for fields in expected.values()])
        if isinstance(scope, projection.Bounds):
            # Of a range in a table that fills, and so has no statistics yet, the planner expects one record, and
            # would read the parts of all of them anew for each.
            cursor.execute("SET LOCAL enable_nestloop = off; SET LOCAL jit = off")
        if not self._alike(cursor, scope, list(expected.values())):
            found = applier_module.hashes(cursor, self._transform, scope)
            for parts, fields in expected.items():
                if found.get(parts) != fields[-1] and (key := self._transform.key(fields)) not in self._held_now:
                    self._suspects[key] = fields
        # What follows in this transaction looks for single records.
        cursor.execute("SET LOCAL enable_nestloop TO DEFAULT")

    def _alike(self, cursor: Cursor, scope: projection.Scope, records: Sequence[Fields]) -> bool:
        """Whether the target holds exactly these records in a range; False where it takes another look to tell."""
        if MigrateOptions.of(self._held.options).bulk:
            return applier_module.digest(cursor, self._transform, scope) == (len(records), _total(records))
        if isinstance(scope, projection.Keys):
            return False
        # All hashes in the order of their keys, as one value: a row for each takes the worker longer to read.
        rows, params = projection.rebuilt_rows(self._category, scope, hashed=True)
        fingerprint, order = projection.record_hash(self._category, "s"), projection.key_order(self._category, "s")
        cursor.execute(f"SELECT string_agg(int8send({fingerprint}), ''::bytea ORDER BY {order}) {rows}", params)
        row = cursor.fetchone()
        return row is not None and bytes(row[0] or b"") == b"".join([fields[-1][4:] for fields in records])

    @property
    def _ordered_alike(self) -> bool:
        """Whether both servers are sure to order the keys alike; texts depend on their collations."""
        return not any(projection.is_text(column.type) for column in self._category.source.key_columns)

    def _hold(self, fields: Fields, error: BaseException) -> None:
        self._hold_key(self._transform.key(fields), foreign_errors.sentence(error))

    def _hold_key(self, key: model.Key, reason: str) -> None:
        # An older state of it would be one that nobody can tell from a current one.
        self._writer.delete(self._raw, [key])
        applier_module.hold(self._session, self._lookup, self._transform, key, reason, run_id=self._held.run_id)
        self._held_now.add(key)

    def _quarantine_culprit(self) -> None:
        """Hold back the next record: the worker has died with it alone in a step."""
        scope = projection.Bounds(after=self._cursor_key or self._held.after, upto=self._held.upto)
        rows, params = projection.flat_rows(self._category, scope, self._filter)
        with self._lookup.cursor() as cursor:
            cursor.execute(
                f"SELECT {projection.record_hash(self._category, 's')}, {projection.key_texts(self._category)} {rows} "
                f"ORDER BY {projection.key_order(self._category, 's')} LIMIT 1",
                params,
            )
            row = cursor.fetchone()
        self._lookup.rollback()
        if row is None:
            return
        fingerprint, *parts = row
        key = tuple(map(str, parts))
        with self._session.begin():
            self._raw.execute(capture.APPLY)
            self._hold_key(key, f"The worker process died {self._held.crashes} times with this record in hand.")
            self._quarantined += 1
            self._digest += int(fingerprint)
            self._cursor_key = key
            self._advance(1)


def run_tuning(session: Session, held: batches.Lease) -> tuning.Tuning:
    """Return the tuning in force for a lease: the cluster's, with the run's own values over it."""
    return tuning.resolve(session, TunedOptions.of(held.options).tuning)
