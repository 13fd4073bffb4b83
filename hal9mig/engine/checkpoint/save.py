"""The batches of a checkpoint: planning its chunks, writing one, digesting a category.

A chunk's file is written before the ledger says so. Its name holds the attempt, so a worker that was
frozen and wakes up late writes beside the file that counts, and never over it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from hal9mig import errors, model, units
from hal9mig.categories import filters, identifiers
from hal9mig.categories.declaration import Category
from hal9mig.engine.checkpoint import archive, chunk, instant
from hal9mig.engine.checkpoint.archive import Archive
from hal9mig.engine.checkpoint.manifest import Chunk
from hal9mig.engine.checkpoint.types import Worked
from hal9mig.engine.compare import digest
from hal9mig.engine.desk import Desk
from hal9mig.engine.system import System
from hal9mig.ledger import batches, instants, runs
from hal9mig.ledger.database import Session
from hal9mig.ledger.run_options import CheckpointOptions, KeptOptions
from hal9mig.stores import projection, relation
from hal9mig.stores.connection import Connection
from hal9mig.stores.relation import Relation

#: A chunk's size as binary COPY, and the records at which one is cut that has small ones.
CHUNK_BYTES = 32 << 20
MOST_ROWS, FEWEST_ROWS = 100_000, 500
#: Roles of which a row counts as a record: a part belongs to the record of its root.
COUNTED = ("source", "root")
#: Phases of a checkpoint's run; planning is phase 0.
SAVING, SEALING = 1, 2


def scope(system: System, held: batches.Lease) -> Sequence[Category]:
    """Return the categories that a checkpoint's or restore's run is about."""
    return [system.category(slug) for slug in KeptOptions.of(held.options).scope]


def subject(store: model.StoreName, table: str) -> str:
    """Return how a batch names a table."""
    return f"{store} {table}"


def parted(text: str) -> tuple[str, str, str]:
    """Return the store, the table and the chunk's number of a batch's subject; a table's name may hold blanks."""
    store, rest = text.split(" ", 1)
    qualified, number = rest.rsplit(" ", 1)
    return store, qualified, number


def relations(store: model.StoreName, connection: Connection, categories: Sequence[Category]) -> Sequence[Relation]:
    """Return every table of one store that a checkpoint of these categories holds."""
    found = list(relation.relations(connection, categories, store))
    found.append(relation.journal(store))
    if store is model.StoreName.HIERARCHICAL:
        found.append(relation.quarantine(connection))
    return found


def rows_of_chunk(rows: int, size: int) -> int:
    """Return how many rows of a table make a chunk, given the table's estimated rows and bytes."""
    each = max(1, size // max(1, rows))
    return max(FEWEST_ROWS, min(MOST_ROWS, CHUNK_BYTES // each))


def plan(system: System, desk: Desk, held: batches.Lease, session: Session) -> Mapping[str, Sequence[runs.NewBatch]]:
    """Cut the tables into chunks under the checkpoint's snapshots, and return a batch for each.

    Raises:
        errors.InstantLost: there is no snapshot to read under just now.
        errors.NameTaken: this run is tried again, and its name was given to another meanwhile.
    """
    categories, order = scope(system, held), CheckpointOptions.of(held.options)
    with session.begin():
        require_own(session, archive.opened(system.settings), order.checkpoint, held.run_id)
        # It was removed with the leavings of a run that is tried again.
        instants.create(session, held.run_id)
    with session.begin():
        now = instants.read(session, held.run_id)
    rate = own_rate(order.tuning)
    chunks: list[runs.NewBatch] = []
    for store in model.StoreName:
        with instant.under(desk.store(store, "instant"), now, store) as cursor:
            for one in relations(store, cursor.connection, categories) if order.full else ():
                chunks += _chunks(cursor, one, len(chunks) + 1, rate)
    digests: list[runs.NewBatch] = []
    if order.verify or not order.full:
        digests = [
            runs.NewBatch(seq=len(chunks) + place, phase=SAVING, subject=f"{store} {category.slug}")
            for place, (store, category) in enumerate(((s, c) for s in model.StoreName for c in categories), start=1)
        ]
    last = runs.NewBatch(seq=len(chunks) + len(digests) + 1, phase=SEALING, subject=order.checkpoint)
    return {"save": chunks, "digest": digests, "seal": [last]}


def require_own(session: Session, kept: Archive, name: str, run_id: int) -> None:
    """Raise where a checkpoint's name was given to a later run, or what lies under it is finished and not this run's.

    Raises:
        errors.NameTaken: it was; also where the manifest there cannot be read, so that nobody can tell.
    """
    for run in runs.find(session, kind=model.RunKind.CHECKPOINT, active=True):
        if run.id > run_id and KeptOptions.of(run.options).checkpoint == name:
            raise errors.NameTaken(f"{run.name.capitalize()} is taking a checkpoint {name} by now.")
    try:
        owner = kept.manifest(name).positions.get("run")
    except errors.NotFound:
        return
    except (errors.CheckpointDamaged, errors.Refused) as error:
        raise errors.NameTaken(f"There is a checkpoint {name} already: {error.message}") from None
    if owner != run_id:
        raise errors.NameTaken(f"There is a checkpoint {name} by now, which run {owner} has taken.")


def own_rate(tuned: Mapping[str, str]) -> units.Rate | None:
    """Return the budget that a checkpoint was given; what is configured for migrations is none of its."""
    return units.parse_rate(tuned["rate-limit"]) if "rate-limit" in tuned else None


def _chunks(cursor: Any, one: Relation, seq: int, rate: units.Rate | None) -> Sequence[runs.NewBatch]:
    estimated, heavy = relation.weigh(cursor, one)
    size = rows_of_chunk(estimated, heavy)
    bounds = list(_strides(cursor, one, size))
    total = max(1, sum(rows for _, _, rows in bounds))
    return [
        runs.NewBatch(
            seq=seq + place, after=after, upto=upto, records=rows, phase=SAVING,
            subject=subject(one.store, one.qualified), cost=_cost(rate, one, rows, heavy * rows // total),
        )
        for place, (after, upto, rows) in enumerate(bounds)
    ]  # fmt: skip


def _strides(cursor: Any, one: Relation, size: int) -> Iterator[tuple[model.Key | None, model.Key | None, int]]:
    after: model.Key | None = None
    while True:
        rows, upto = relation.stride(cursor, one, after, size)
        yield after, None if rows < size else upto, rows
        if rows < size:
            return
        after = upto


def _cost(rate: units.Rate | None, one: Relation, rows: int, size: int) -> int:
    """Return what a chunk takes of the checkpoint's own budget; in bytes, its share of the table as that lies."""
    if rate is not None and rate.unit is units.RateUnit.BYTES:
        return size
    if rate is not None and rate.unit is units.RateUnit.BATCHES:
        return 1
    return rows if one.role in COUNTED else 0


def save(
    system: System, desk: Desk, held: batches.Lease, session: Session, *, pause: chunk.Pause = chunk.no_pause
) -> Worked:
    """Write a chunk's file, or keep the one that an older snapshot gave where it is equal.

    Args:
        pause: called now and then while the rows are read; the server waits meanwhile, and holds nothing that anybody
            needs but the snapshot.

    Raises:
        errors.InstantLost: the snapshot is gone.
        errors.ArchiveFull, errors.ArchiveUnreachable: the storage does not take it.
        errors.CheckpointDamaged: what was written does not read back.
    """
    with session.begin():
        now = instants.read(session, held.run_id)
    store = model.StoreName(held.subject.partition(" ")[0])
    kept = archive.opened(system.settings)
    order = CheckpointOptions.of(held.options)
    name = order.checkpoint
    with instant.under(desk.store(store, "instant"), now, store) as cursor:
        one = find(relations(store, cursor.connection, scope(system, held)), held.subject)
        query = copying(cursor, one, held)
        done = _unchanged(cursor, query, kept, name, held, pause)
        if done is None:
            done = _written(cursor, query, kept, name, held, one, pause)
        if order.verify and done.pop("checked", None) != now.number:
            _prove(cursor, query, kept, name, held, done, pause)
    return Worked(done | {"checked": now.number}, done["rows"], done["raw_bytes"])


def find(found: Sequence[Relation], text: str) -> Relation:
    """Return the relation that a batch's subject names.

    Raises:
        errors.SchemaMismatch: the table is gone.
    """
    for one in found:
        if subject(one.store, one.qualified) == text:
            return one
    raise errors.SchemaMismatch(f"The table of {text} is not there any more.")


def chunk_of(result: Mapping[str, Any], after: model.Key | None, upto: model.Key | None) -> Chunk:
    """Return the chunk that the result of a range's batch describes."""
    return msgspec.convert({**result, "after": after, "upto": upto}, Chunk)


def digest_category(system: System, desk: Desk, held: batches.Lease, session: Session) -> Worked:
    """Count and digest a category in one store, as it was at the instant.

    Raises:
        errors.InstantLost: the snapshot is gone.
    """
    with session.begin():
        now = instants.read(session, held.run_id)
    store_name, _, slug = held.subject.partition(" ")
    store = model.StoreName(store_name)
    with instant.under(desk.store(store, "instant"), now, store) as cursor:
        return Worked(measured(cursor, system.category(slug), store))


def measured(cursor: Any, category: Category, store: model.StoreName) -> dict[str, int]:
    """Return records and digest of a category in one store, in the cursor's transaction."""
    cursor.execute(digest.RANGE)
    if store is model.StoreName.FLAT:
        rows = projection.flat_rows(category, projection.Bounds(), filters.EVERYTHING)
    else:
        rows = projection.rebuilt_rows(category, projection.Bounds(), hashed=True)
    found = digest.read(cursor, category, rows, digest.TRUE)
    return {"records": found.count, "digest": found.total % (1 << 64)}


def copying(cursor: Any, one: Relation, held: batches.Lease) -> str:
    """Return the COPY of the range of a table that a batch is about."""
    sql, params = one.select(held.after, held.upto)
    return f"COPY ({cursor.mogrify(sql, params).decode()}) TO STDOUT (FORMAT binary)"


def _unchanged(
    cursor: Any, query: str, kept: Archive, name: str, held: batches.Lease, pause: chunk.Pause
) -> dict[str, Any] | None:
    """Return the result of an older snapshot where the store's rows are still those of its file."""
    if held.result is None or "file" not in held.result:
        return None
    hasher = chunk.hashed(cursor, query, pause)
    if (hasher.rows, hasher.digest) != (held.result["rows"], held.result["digest"]):
        return None
    return dict(held.result) if kept.holds(name, str(held.result["file"])) else None


def _written(
    cursor: Any, query: str, kept: Archive, name: str, held: batches.Lease, one: Relation, pause: chunk.Pause
) -> dict[str, Any]:
    file = f"{one.store}/{identifiers.folder(one.schema, one.table)}/{held.seq:06d}-{held.attempt}.copy.zst"
    with kept.writing(name, file) as stream:
        writer = chunk.ChunkWriter(stream, pause)
        cursor.copy_expert(query, writer)
        done = writer.close()
    return {"file": file, **msgspec.to_builtins(done)}


def _prove(
    cursor: Any,
    query: str,
    kept: Archive,
    name: str,
    held: batches.Lease,
    done: Mapping[str, Any],
    pause: chunk.Pause,
) -> None:
    """Read the file back, and the store once more, and compare."""
    with kept.reading(name, str(done["file"])) as stream:
        chunk.check(stream, chunk_of(done, held.after, held.upto))
    hasher = chunk.hashed(cursor, query, pause)
    if (hasher.rows, hasher.digest) != (done["rows"], done["digest"]):
        raise errors.CheckpointDamaged(
            f"{done['file']} holds {done['rows']} rows, and the store under the same snapshot gives "
            f"{hasher.rows} or other ones."
        )
