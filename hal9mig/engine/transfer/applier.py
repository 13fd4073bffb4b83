"""Brings single records of the target to what the source says now.

Mark, lock, read, write: a key is marked, so that a copy which has read it before leaves it alone; it
is locked; only then the source is read; then the target is written. Whoever applies a key last has
read it last, so the order in which captures, retries and repairs of a key arrive does not matter.

That holds while the source rules. Whoever applies keeps its fence until it commits, and a switch
closes the fence before it opens the store that was written: one that was slow, or frozen since before
the switch, then finds that this store rules itself, and writes nothing over what it took since.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import psycopg2
import psycopg2.errors

from hal9mig import model
from hal9mig.categories import identifiers, wire
from hal9mig.categories.filters import EVERYTHING
from hal9mig.categories.transform import Transform
from hal9mig.engine import foreign_errors
from hal9mig.engine.transfer import exchange, fence, impossible_keys, reader
from hal9mig.engine.transfer.applied import Applied
from hal9mig.engine.transfer.writer import BatchWriter
from hal9mig.ledger import marks, quarantine
from hal9mig.ledger.database import Ledger, Session
from hal9mig.stores import binary_copy, capture, projection
from hal9mig.stores.connection import Connection, Cursor


@dataclasses.dataclass(kw_only=True)
class _Outcome:
    written: dict[model.Key, bytes] = dataclasses.field(default_factory=dict)
    rejected: dict[model.Key, str] = dataclasses.field(default_factory=dict)


class _Target:
    """The hierarchical store, written from the flat one."""

    def __init__(self, session: Session, flat: Connection, transform: Transform):
        self._session = session
        self._flat = flat
        self._transform = transform
        self._writer = BatchWriter(transform)
        self._slug = transform.category.slug

    def lock(self, _: Cursor, keys: Sequence[model.Key]) -> None:
        marks.lock_keys(self._session, self._slug, keys)

    def read(self, keys: Sequence[model.Key]) -> dict[model.Key, list[bytes]]:
        found = reader.read(self._flat, self._transform.category, list(keys), EVERYTHING)
        return {self._transform.key(fields): fields for fields in found}

    def delete(self, cursor: Cursor, keys: Sequence[model.Key]) -> None:
        self._writer.delete(cursor, keys)

    def insert(self, cursor: Cursor, records: Mapping[model.Key, list[bytes]]) -> None:
        self._writer.straight(cursor, self._transform.apply(list(records.values())))

    def holders(self, cursor: Cursor, records: Mapping[model.Key, list[bytes]]) -> list[model.Key]:
        self._writer.stage(cursor, self._transform.apply(list(records.values())))
        return self._writer.holders(cursor)

    def waiting(self, keys: Sequence[model.Key]) -> set[model.Key]:
        return capture.waiting(self._flat, self._slug, keys)


class Applier:
    """Applies keys of one category from the flat store to the hierarchical one.

    Args:
        session: a connection to the target and the ledger, outside a transaction.
        flat: a connection to the source, outside a transaction.
        restores: see ``fence.hold``; None where the keys have not been looked up but are somebody's order.
        waiting: apply only what still waits in the source's journal; so what a restore has taken from it is left alone.
    """

    def __init__(
        self,
        transform: Transform,
        *,
        session: Session,
        flat: Connection,
        restores: int | None = None,
        waiting: bool = False,
    ):
        self._transform = transform
        self._restores = restores
        self._waiting = waiting
        self._writer = BatchWriter(transform)
        self._category = transform.category
        self._session = session
        self._flat = flat
        self._target = _Target(session, flat, transform)
        self._exchange = exchange.Exchange(self._target)

    def apply(self, keys: Sequence[model.Key], *, run_id: int | None = None) -> Applied:
        """Make the target's records of these keys equal to the source's present ones, and commit.

        A key that the source has no more is deleted from the target. A record that the target cannot
        hold exactly goes to quarantine; one that was there and can be written now is released.

        Raises:
            errors.StaleEpoch: the target rules by now, or was restored; nothing was applied.
            psycopg2.Error, errors.Unreachable: a server failed; some keys may be applied, the rest not.
        """

        def hold_odd(key: model.Key, reason: str) -> None:
            with self._session.begin():
                quarantine.hold(
                    self._session, category=self._category.slug, key=key, error=reason, payload=None,
                    transform_version=self._category.transform_version, run_id=run_id,
                )  # fmt: skip

        return impossible_keys.set_apart(
            self._category, self._flat, keys, lambda possible: self._settle(possible, run_id), hold_odd
        )

    def _settle(self, keys: Sequence[model.Key], run_id: int | None) -> Applied:
        wanted = {self._transform.canonical(key) for key in keys}
        if not wanted:
            return Applied(written=(), deleted=(), rejected={})
        applied = self._exchange.settle(wanted, lambda grown: self._apply(grown, run_id))
        self._release(keys, applied)
        return applied

    def _release(self, keys: Sequence[model.Key], applied: Applied) -> None:
        """Release what is held under another spelling, from before a key had one text only."""
        done = {*applied.written, *applied.deleted}
        others = [key for key in keys if (one := self._transform.canonical(key)) != key and one in done]
        if others:
            with self._session.begin():
                quarantine.release(self._session, self._category.slug, others)

    def _apply(self, wanted: Sequence[model.Key], run_id: int | None) -> Applied:
        slug = self._category.slug
        # In a transaction of its own: a copy that commits from here on sees the mark, and one that
        # has looked for marks already is waited for below.
        with self._session.begin():
            marks.mark(self._session, slug, wanted)
        with self._session.begin():
            gone, outcome = self._bring(wanted, delete=False)
            self._note(outcome, run_id)
        if gone:
            # A write onto a copy's uncommitted row waits for it; a delete would not see the row at
            # all. So deletes wait for the copies in flight, and read the source again after that. They do
            # not keep them out: one that writes from here on finds the mark.
            marks.wait_for_copies(self._session, slug)
            with self._session.begin():
                deleted, late = self._bring(gone, delete=True)
                self._note(late, run_id)
                quarantine.release(self._session, slug, deleted)
            outcome.written.update(late.written)
            outcome.rejected.update(late.rejected)
            gone = deleted
        return Applied(written=list(outcome.written), deleted=gone, rejected=outcome.rejected)

    def _bring(self, keys: Sequence[model.Key], *, delete: bool) -> tuple[list[model.Key], _Outcome]:
        cursor: Cursor = self._session.connection.cursor()
        fence.hold(cursor, model.StoreName.HIERARCHICAL, restores=self._restores)
        if self._waiting:
            wanted = self._target.waiting(keys)
            keys = [key for key in keys if key in wanted]
        self._exchange.lock(cursor, keys)
        cursor.execute(capture.APPLY)
        present = self._target.read(keys)
        gone = [key for key in keys if key not in present]
        if delete:
            self._target.delete(cursor, gone)
        outcome = _Outcome()
        self._write(cursor, present, outcome)
        self._compare(cursor, outcome)
        return gone, outcome

    def _write(self, cursor: Cursor, records: Mapping[model.Key, list[bytes]], outcome: _Outcome) -> None:
        """Write records, halving those that fail until each is written or rejected."""
        if not records:
            return
        keys = list(records)
        output = self._transform.apply(list(records.values()))
        for rejection in output.rejections:
            outcome.rejected[keys[rejection.index]] = rejection.error.message
        good = {key: fields for key, fields in records.items() if key not in outcome.rejected}
        cursor.execute("SAVEPOINT apply")
        try:
            try:
                self._writer.merge(cursor, output, newer_only=False)
            except psycopg2.errors.UniqueViolation:
                cursor.execute("ROLLBACK TO SAVEPOINT apply")
                good = self._exchange.write(cursor, good)
        except psycopg2.Error as error:
            if not foreign_errors.blames_record(error):
                raise
            cursor.execute("ROLLBACK TO SAVEPOINT apply")
            if len(good) <= 1:
                outcome.rejected.update(dict.fromkeys(good, foreign_errors.sentence(error)))
                return
            middle = len(good) // 2
            for part in (list(good)[:middle], list(good)[middle:]):
                self._write(cursor, {key: good[key] for key in part}, outcome)
            return
        cursor.execute("RELEASE SAVEPOINT apply")
        for key, fields in good.items():
            # One half's write may have brought along what the other half could not write.
            outcome.rejected.pop(key, None)
            outcome.written[key] = fields[-1]

    def _compare(self, cursor: Cursor, outcome: _Outcome) -> None:
        """Read back what was written; what does not read back as the source's record is rejected."""
        if outcome.written:
            found = hashes(cursor, self._transform, projection.Keys(keys=list(outcome.written)))
            read_back = {self._transform.key_of(parts): value for parts, value in found.items()}
            for key, value in list(outcome.written.items()):
                if read_back.get(key) != value:
                    del outcome.written[key]
                    outcome.rejected[key] = "What the target holds does not read back as the source's record."
        # An older state of a rejected record would be one that nobody can tell from a current one.
        self._target.delete(cursor, list(outcome.rejected))

    def _note(self, outcome: _Outcome, run_id: int | None) -> None:
        for key, reason in outcome.rejected.items():
            hold(self._session, self._flat, self._transform, key, reason, run_id=run_id)
        quarantine.release(self._session, self._category.slug, list(outcome.written))


def apply(
    ledger: Ledger,
    flat: Connection,
    transform: Transform,
    keys: Sequence[model.Key],
    *,
    run_id: int | None = None,
    restores: int | None = None,
) -> Applied:
    """Apply keys on a connection of the ledger's pool; see ``Applier``."""
    with ledger.connection() as session:
        return Applier(transform, session=session, flat=flat, restores=restores).apply(keys, run_id=run_id)


def hold(
    session: Session, flat: Connection, transform: Transform, key: model.Key, reason: str, *, run_id: int | None
) -> None:
    """Put a record into quarantine with what the source has of it now."""
    category = transform.category
    rows, params = projection.flat_rows(category, projection.Keys(keys=[key]), EVERYTHING)
    with flat.cursor() as cursor:
        cursor.execute(f"SELECT row_to_json(s)::text {rows}", params)
        row = cursor.fetchone()
    flat.rollback()
    quarantine.hold(
        session,
        category=category.slug,
        key=key,
        error=reason,
        payload=None if row is None else str(row[0]),
        transform_version=category.transform_version,
        run_id=run_id,
    )


def digest(cursor: Cursor, transform: Transform, scope: projection.Scope) -> tuple[int, int]:
    """Return the number of records that the target holds in a scope, and the sum of their hashes."""
    rows, params = projection.rebuilt_rows(transform.category, scope, hashed=True)
    fingerprint = projection.record_hash(transform.category, "s")
    cursor.execute(f"SELECT count(*), coalesce(sum({fingerprint}), 0) {rows}", params)
    row = cursor.fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def hashes(cursor: Cursor, transform: Transform, scope: projection.Scope) -> dict[tuple[bytes, ...], bytes]:
    """Return the hash field of each record that the target holds in a scope, by its key fields."""
    category = transform.category
    rows, params = projection.rebuilt_rows(category, scope, hashed=True)
    keys = identifiers.listed(category.key, "s")
    sql = f"SELECT {keys}, {projection.record_hash(category, 's')} {rows}"
    count = len(category.key) + 1
    found: dict[tuple[bytes, ...], bytes] = {}

    def take(row: bytes) -> None:
        *key, value = wire.split(row, count)
        found[tuple(key)] = value

    binary_copy.each(cursor, sql, params, take)
    return found
