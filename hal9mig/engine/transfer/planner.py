"""Shards a category into batches: walks its key index in strides and notes each bound in the ledger."""

from __future__ import annotations

import time

from hal9mig import model
from hal9mig.categories import filters, identifiers
from hal9mig.categories.declaration import Category
from hal9mig.categories.filters import Filter
from hal9mig.ledger import batches, runs, tuning
from hal9mig.ledger.database import Session
from hal9mig.ledger.run_options import MigrateOptions, RangedOptions
from hal9mig.stores import projection
from hal9mig.stores.connection import Connection

#: Bounds that are noted in one transaction; each extends the lease.
_CHUNK = 50


#: What a run's ranges are for. Those that compare are cut in bytewise order, as two servers' collations may differ.
KINDS = {
    model.RunKind.MIGRATE: "copy", model.RunKind.EXPORT: "export",
    model.RunKind.VERIFY: "verify", model.RunKind.RECONCILE: "settle",
}  # fmt: skip
_BYTEWISE = (KINDS[model.RunKind.VERIFY], KINDS[model.RunKind.RECONCILE])


def stride(
    connection: Connection, category: Category, chosen: Filter, after: model.Key | None, size: int, *, bytewise: bool
) -> tuple[int, model.Key | None]:
    """Return how many records, at most ``size``, follow a key, and the last one's key (None: no record)."""
    rows, params = projection.flat_rows(category, projection.Bounds(after=after, bytewise=bytewise), chosen)
    order = projection.key_order(category, "s", bytewise=bytewise)
    names = identifiers.listed(category.key, "s")
    texts = projection.key_texts(category, "k")
    with connection.cursor() as cursor:
        # LIMIT outside: one pass over the index that stops after the stride, however large the table.
        cursor.execute(
            f"SELECT n, {texts} FROM (SELECT {names}, row_number() OVER (ORDER BY {order}) AS n {rows} "
            f"ORDER BY {order} LIMIT %s) k ORDER BY n DESC LIMIT 1",
            [*params, size],
        )
        row = cursor.fetchone()
    return (0, None) if row is None else (int(row[0]), tuple(map(str, row[1:])))


def plan(
    session: Session,
    held: batches.Lease,
    category: Category,
    tuned: tuning.Tuning,
    *,
    flat: Connection,
    lease: float,
) -> bool:
    """Plan a run's batches from where the lease's cursor stands; False when stop was asked for.

    The last batch is open above, so that records that are added there meanwhile are taken along.

    Raises:
        errors.LeaseLost: another worker plans now.
    """
    started = time.monotonic()
    chosen = filters.parse(category, held.filter)
    kind = KINDS[held.run_kind]
    size = RangedOptions.of(held.options).batch or tuned.effective_batch
    if held.run_kind is model.RunKind.MIGRATE and MigrateOptions.of(held.options).atomic:
        # One transaction is one batch, whatever its size.
        total = count(flat, category, chosen)
        with session.begin():
            runs.add_batches(session, held.run_id, kind, [runs.NewBatch(seq=1, records=total)])
            batches.finish(session, held, seconds=time.monotonic() - started)
            runs.finish_planning(session, held.run_id)
        return True
    seq, planned, after = 1 + held.records, held.bytes, held.cursor
    while True:
        chunk: list[runs.NewBatch] = []
        ended = False
        for _ in range(_CHUNK):
            records, upto = stride(flat, category, chosen, after, size, bytewise=kind in _BYTEWISE)
            ended = records < size
            chunk.append(runs.NewBatch(seq=seq, after=after, upto=None if ended else upto, records=records))
            seq, planned, after = seq + 1, planned + records, upto or after
            if ended:
                break
        flat.rollback()
        with session.begin():
            runs.add_batches(session, held.run_id, kind, chunk)
            # The planning batch counts batches where others count records, and records where they count bytes.
            progress = batches.Progress(cursor=after, records=seq - 1, quarantined=0, bytes=planned, digest=0)
            standing = batches.advance(session, held, progress, lease=lease)
            if ended:
                batches.finish(session, held, seconds=time.monotonic() - started)
                runs.finish_planning(session, held.run_id)
        if ended:
            return True
        if not standing.go_on:
            return False


def count(connection: Connection, category: Category, chosen: Filter) -> int:
    """Return the exact number of flat records a filter takes."""
    rows, params = projection.flat_rows(category, projection.Bounds(), chosen)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) {rows}", params)
        found = cursor.fetchone()
    connection.rollback()
    return int(found[0]) if found else 0


def try_filter(connection: Connection, category: Category, chosen: Filter) -> None:
    """Have the server read a filter, and no record.

    Raises:
        psycopg2.DataError: it holds a value that is none of its field's type.
    """
    rows, params = projection.flat_rows(category, projection.Bounds(), chosen)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {rows} LIMIT 0", params)
    connection.rollback()
