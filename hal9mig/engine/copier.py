"""Copies a batch: read, transform, write, compare, note, commit; step by step.

A step's rows, its quarantined records and its line in the ledger are one transaction on the target,
fenced by the lease's attempt. So a step happens once or not at all, whatever is killed when.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import psycopg2
import psycopg2.errors

from hal9mig import errors, model
from hal9mig.categories import filters
from hal9mig.categories.transform import Transform
from hal9mig.engine import applier as applier_module
from hal9mig.engine.applier import Applier
from hal9mig.engine.reader import Reader, Step
from hal9mig.engine.system import System
from hal9mig.engine.writer import Cursor, Writer
from hal9mig.ledger import batches, quarantine, tuning
from hal9mig.ledger.database import Session
from hal9mig.stores import projection
from hal9mig.stores.connection import Connection

_MODULUS = 1 << 64
_SAMPLE_SPAN = 1 << 16
_EVERY = 10**9
Fields = list[bytes]


def signed(total: int) -> int:
    """Return a sum of hashes modulo 2^64 as the signed number that a bigint holds."""
    total %= _MODULUS
    return total - _MODULUS if total >= _MODULUS // 2 else total


class Copier:
    """Copies one leased batch; make one for each lease.

    Args:
        flat: a connection that streams; ``lookup`` is one more, for single records.
        session: the connection to the target and the ledger, outside a transaction.
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
    ):
        self._held = held
        self._tuned = tuned
        self._lease = system.settings.lease_duration
        self._flat = flat
        self._lookup = lookup
        self._session = session
        self._transform: Transform = system.transform(held.category)
        self._category = self._transform.category
        self._writer = Writer(self._transform)
        self._applier = Applier(self._transform, self._writer)
        self._filter = filters.parse(self._category, held.filter)
        self._merging = False
        self._held_keys: set[model.Key] = set()  # what earlier runs left in quarantine
        self._held_now: set[model.Key] = set()  # what this step puts there
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
        atomic = bool(self._held.options.get("atomic"))
        if self._held.step_records == 0:
            self._quarantine_culprit()
        with self._session.begin():
            earlier = quarantine.find(self._session, category=self._category.slug, limit=_EVERY)
        self._held_keys = {record.key for record in earlier}
        scope = projection.Bounds(after=self._cursor_key or self._held.after, upto=self._held.upto)
        full = self._tuned.checkpoint_interval
        first = self._held.step_records if self._held.step_records is not None else full
        size = max(1, first)
        transaction = None
        with Reader(
            self._flat, self._category, scope, self._filter, records=full, size=self._tuned.batch_bytes, first=size
        ) as reading:
            for step in reading.steps():
                size = min(size * 2, full)
                transaction = transaction or self._session.begin()
                try:
                    self._write(step)
                    go_on = True
                    if step.last or not atomic:
                        go_on = self._advance(size if size < full else None).go_on
                    if step.last:
                        batches.finish(self._session, self._held, seconds=time.monotonic() - started)
                except BaseException:
                    transaction.rollback()
                    raise
                if step.last or not atomic:
                    transaction.commit()
                    transaction = None
                if step.last:
                    return True
                if not go_on:
                    return False
        raise errors.HAL9Error("The range ended without a last step.")

    @property
    def _raw(self) -> Cursor:
        raw: Cursor = self._session.connection.cursor()  # type: ignore[assignment]
        return raw

    def _advance(self, next_size: int | None) -> batches.Standing:
        progress = batches.Progress(
            cursor=self._cursor_key,
            records=self._records,
            quarantined=self._quarantined,
            bytes=self._bytes,
            digest=signed(self._digest),
            step_records=next_size,
        )
        return batches.advance(self._session, self._held, progress, lease=self._lease)

    def _write(self, step: Step) -> None:
        if not step.records:
            return
        cursor = self._raw
        self._held_now = set()
        self._isolating(cursor, step.records)
        keys = [self._transform.key(fields) for fields in (step.records[0], step.records[-1])]
        if self._tuned.validation.mode != "off":
            self._validate(cursor, step.records, projection.Bounds(after=self._cursor_key, upto=keys[1]))
        self._cursor_key = keys[1]
        self._records += len(step.records) - len(self._held_now)
        self._quarantined += len(self._held_now)
        if self._held_keys:
            written = self._held_keys.intersection(map(self._transform.key, step.records)) - self._held_now
            quarantine.release(self._session, self._category.slug, list(written))
            self._held_keys -= written
        self._bytes += step.bytes
        self._digest += sum(int.from_bytes(fields[-1][4:]) for fields in step.records)

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
            if not applier_module.blames_record(error):
                raise
            cursor.execute("ROLLBACK TO SAVEPOINT step")
            if len(good) == 1:
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
            where, params = scope.sql(self._category, root.owner)
            cursor.execute(f"SELECT FROM {root.qualified} WHERE {where} LIMIT 1", params)
            if cursor.rowcount:
                return True
        return False

    def _validate(self, cursor: Cursor, records: Sequence[Fields], span: projection.Bounds) -> None:
        """Read back what was written and compare each record's hash with the source's."""
        validation = self._tuned.validation
        places = self._transform.key_places
        expected = {
            tuple(fields[place] for place in places): fields
            for fields in records
            if validation.mode == "strict"
            or int.from_bytes(fields[-1][-2:]) < validation.share * _SAMPLE_SPAN
        }  # fmt: skip
        if not expected:
            return
        scope: projection.Scope = span
        if len(expected) < len(records) or self._held.filter or not self._ordered_alike:
            scope = projection.Keys(keys=[self._transform.key(fields) for fields in expected.values()])
        if self._held.options.get("bulk") and applier_module.digest(cursor, self._transform, scope) == (
            len(expected),
            sum(int.from_bytes(fields[-1][4:], signed=True) for fields in expected.values()),
        ):
            return
        found = applier_module.hashes(cursor, self._transform, scope)
        suspects = [fields for key, fields in expected.items() if found.get(key) != fields[-1]]
        keys = [key for key in map(self._transform.key, suspects) if key not in self._held_now]
        if keys:
            self._settle(cursor, keys)

    @property
    def _ordered_alike(self) -> bool:
        """Whether both servers are sure to order the keys alike; texts depend on their collations."""
        return not any(projection.is_text(column.type) for column in self._category.source.key_columns)

    def _settle(self, cursor: Cursor, keys: Sequence[model.Key]) -> None:
        """Decide records that read back otherwise than they were read: lagging, or not transformable.

        The source may have moved on, or the target may hold something newer. Reading again under the
        key's lock tells: what still differs then is not held exactly by the target.
        """
        cursor.execute("SAVEPOINT settle")
        applied = self._applier.apply(cursor, self._lookup, keys)
        rejected = dict(applied.rejected)
        scope = projection.Keys(keys=list(applied.written))
        found = applier_module.hashes(cursor, self._transform, scope) if applied.written else {}
        read_back = {self._transform.key_of(parts): value for parts, value in found.items()}
        for key, value in applied.written.items():
            if read_back.get(key) != value:
                rejected[key] = "What the target holds does not read back as the source's record."
        cursor.execute("RELEASE SAVEPOINT settle")
        self._writer.delete(cursor, list(rejected))
        for key, reason in rejected.items():
            self._hold_key(key, reason)

    def _hold(self, fields: Fields, error: BaseException) -> None:
        self._hold_key(self._transform.key(fields), applier_module.sentence(error))

    def _hold_key(self, key: model.Key, reason: str) -> None:
        quarantine.hold(
            self._session,
            category=self._category.slug,
            key=key,
            error=reason,
            payload=payload(self._lookup, self._transform, key),
            transform_version=self._category.transform_version,
            run_id=self._held.run_id,
        )
        self._held_now.add(key)

    def _quarantine_culprit(self) -> None:
        """Hold back the next record: the worker has died with it alone in a step."""
        scope = projection.Bounds(after=self._cursor_key or self._held.after, upto=self._held.upto)
        rows, params = projection.flat_rows(self._category, scope, self._filter)
        with self._lookup.cursor() as cursor:
            cursor.execute(
                f"SELECT {projection.key_texts(self._category)} {rows} "
                f"ORDER BY {projection.key_order(self._category, 's')} LIMIT 1",
                params,
            )
            row = cursor.fetchone()
        self._lookup.rollback()
        if row is None:
            return
        key = tuple(map(str, row))
        with self._session.begin():
            self._hold_key(key, f"The worker process died {self._held.crashes} times with this record in hand.")
            self._quarantined += 1
            self._cursor_key = key
            self._advance(1)


def payload(lookup: Connection, transform: Transform, key: model.Key) -> str | None:
    """Return a record's flat row as JSON text, None when it is gone."""
    category = transform.category
    rows, params = projection.flat_rows(category, projection.Keys(keys=[key]), filters.Filter(text=""))
    with lookup.cursor() as cursor:
        cursor.execute(f"SELECT row_to_json(s)::text {rows}", params)
        row = cursor.fetchone()
    lookup.rollback()
    return None if row is None else str(row[0])


def run_tuning(session: Session, held: batches.Lease) -> tuning.Tuning:
    """Return the tuning in force for a lease: the cluster's, with the run's own values over it."""
    overrides = held.options.get("tuning", {})
    return tuning.resolve(session, {str(name): str(value) for name, value in dict(overrides).items()})
