"""What a restore would lose: the rows that were written since the checkpoint, counted one by one.

A chunk of the checkpoint is a key range of a table, and the ranges follow one upon the other without
a gap. So each range is read as it is now, and compared with the chunk: equal digests say that nothing
was written, and otherwise every row is told apart by its key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hal9mig.categories import wire
from hal9mig.engine.checkpoint import archive, chunk, restore, salvage, save
from hal9mig.engine.checkpoint.manifest import Chunk, Table
from hal9mig.engine.checkpoint.types import Worked
from hal9mig.engine.desk import Desk
from hal9mig.engine.system import System
from hal9mig.ledger import batches, runs
from hal9mig.ledger.database import Session
from hal9mig.ledger.run_options import KeptOptions
from hal9mig.stores import binary_copy, write_mode

_WEIGHING = 1  # phase


def plan(system: System, desk: Desk, held: batches.Lease, session: Session) -> Mapping[str, Sequence[runs.NewBatch]]:
    """Return a batch for each chunk of the store that takes the application's writes now.

    Raises:
        errors.CheckpointStale: the tables are not those of the checkpoint.
    """
    made = restore.manifest(system, held)
    connection = desk.hier("restore")
    store = write_mode.state(connection).mode.ruling
    connection.rollback()
    connection = desk.store(store, "restore")
    places = restore.places(connection, store, made, save.scope(system, held))
    connection.rollback()
    planned: list[runs.NewBatch] = []
    for place in places:
        # Shared rows follow from their keys, and the ledger is no state of the application's.
        if place.table.role in ("shared", "ledger"):
            continue
        name = save.subject(store, place.relation.qualified)
        for number, one in enumerate(place.table.chunks):
            planned.append(
                runs.NewBatch(
                    seq=len(planned) + 1, after=one.after, upto=one.upto, records=one.rows, phase=_WEIGHING,
                    subject=f"{name} {number}",
                )
            )  # fmt: skip
    return {"weigh": planned}


def weigh(system: System, desk: Desk, held: batches.Lease, session: Session) -> Worked:
    """Count what differs between a chunk and its range as it is now."""
    place, one, connection = restore.find(system, desk, held)
    with connection, connection.cursor() as cursor:
        hasher = chunk.hashed(cursor, save.copying(cursor, place.relation, held))
        found = {"changed": 0, "added": 0, "removed": 0}
        if (hasher.rows, hasher.digest) != (one.rows, one.digest):
            found = _compared(system, cursor, held, place, one)
    return Worked(found, one.rows)


def _compared(
    system: System, cursor: Any, held: batches.Lease, place: restore.RestoredTable, one: Chunk
) -> dict[str, int]:
    key = _key(place.table)
    then: dict[bytes, int] = {}
    kept = archive.opened(system.settings)
    for block in salvage.blocks(kept, KeptOptions.of(held.options).checkpoint, one):
        for row in block.rows:
            then[key(row)] = chunk.row_hash(row)
    counted = {"changed": 0, "added": 0}

    def count(row: bytes) -> None:
        old = then.pop(key(row), None)
        if old is None:
            counted["added"] += 1
        elif old != chunk.row_hash(row):
            counted["changed"] += 1

    binary_copy.each(cursor, *place.relation.select(held.after, held.upto), count)
    return counted | {"removed": len(then)}


def _key(table: Table) -> Callable[[bytes], bytes]:
    names = [name for name, _ in table.columns]
    places, count = [names.index(name) for name in table.key], len(names)
    return lambda row: b"".join([wire.split(row, count)[place] for place in places])
