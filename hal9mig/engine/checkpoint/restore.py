"""The batches of a restore up to the swap: shadow tables are made, filled, indexed and proven.

Nothing of this can be seen by the application. A chunk's loading transaction begins by claiming the
chunk in the shadow's own book, so that a doubled or frozen loader cannot load it twice; the ledger is
told afterwards, and a loader that was killed in between finds its note there.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from hal9mig import errors, model
from hal9mig.categories import identifiers
from hal9mig.categories.declaration import Category
from hal9mig.engine.checkpoint import archive, chunk, salvage, save
from hal9mig.engine.checkpoint.manifest import Chunk, Manifest, Table
from hal9mig.engine.checkpoint.types import Worked
from hal9mig.engine.desk import Desk
from hal9mig.engine.system import System
from hal9mig.ledger import batches, instants, runs
from hal9mig.ledger.database import Session
from hal9mig.ledger.run_options import KeptOptions, RestoreOptions
from hal9mig.stores import binary_copy, capture, restore_notes, shadow
from hal9mig.stores.connection import Connection
from hal9mig.stores.relation import Relation

#: Phases of a restore's run; planning is phase 0.
LOADING, DERIVING, INDEXING, CONSTRAINING, PROVING, RESOLVING, SWAPPING, AFTER = range(1, 9)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RestoredTable:
    """A table of a checkpoint and the live one it stands for."""

    table: Table
    relation: Relation

    @property
    def shadow(self) -> Relation:
        """The table that is filled beside the live one."""
        return dataclasses.replace(self.relation, schema=shadow.schema(self.relation))

    @property
    def columns(self) -> str:
        """The columns that a chunk's tuples hold."""
        return identifiers.listed(name for name, _ in self.table.columns)


def manifest(system: System, held: batches.Lease) -> Manifest:
    """Return the checkpoint that a restore's run restores.

    Raises:
        errors.NotFound, errors.CheckpointDamaged: it is not there any more.
    """
    return archive.opened(system.settings).manifest(KeptOptions.of(held.options).checkpoint)


def places(
    connection: Connection, store: model.StoreName, made: Manifest, categories: Sequence[Category]
) -> list[RestoredTable]:
    """Return the tables of a store that a checkpoint holds of these categories, the ledger's among them.

    Raises:
        errors.CheckpointStale: a table is gone, or has other columns than the checkpoint's.
    """
    kept = {(table.store, table.qualified): table for table in made.tables}
    found, problems = [], []
    for one in save.relations(store, connection, categories):
        table = kept.get((store, one.qualified))
        if table is None:
            problems.append(f"{store} {one.qualified} is not in it")
            continue
        present = tuple((column.name, column.type) for column in one.columns)
        if present != table.columns:
            other = sorted({name for name, _ in set(present) ^ set(table.columns)})
            problems.append(f"{store} {one.qualified} has other columns now: {', '.join(other)}")
        found.append(RestoredTable(table=table, relation=one))
    if problems:
        raise errors.CheckpointStale(
            f"Checkpoint {made.name} was taken of other tables than there are now: {'; '.join(problems)}."
        )
    return found


def mark(session: Session, run_id: int) -> str:
    """Return what tells a restore's shadow tables, and the stores it has been through, from those of any other."""
    return f"{run_id} {runs.get(session, run_id).created_at.isoformat()}"


def own_mark(session: Session, held: batches.Lease) -> str:
    """Return the mark of the restore that a batch is a step of."""
    with session.begin():
        return mark(session, held.run_id)


def half_done(session: Session, run_id: int, flat: Connection, hier: Connection) -> bool:
    """Whether a restore has been through one store and not through the other."""
    noted = mark(session, run_id)
    return restore_notes.has(flat, noted) != restore_notes.has(hier, noted)


def plan(system: System, desk: Desk, held: batches.Lease, session: Session) -> Mapping[str, Sequence[runs.NewBatch]]:
    """Make the shadow tables and return a batch for each chunk, table and step.

    Raises:
        errors.LeaseLost: another worker plans now.
        errors.RestoreActive: an earlier restore has to go through the other store first.
        errors.CheckpointStale, errors.CheckpointDamaged: the checkpoint cannot be restored here.
    """
    made = manifest(system, held)
    categories = save.scope(system, held)
    connections = {store: desk.store(store, "restore") for store in model.StoreName}
    found = {store: places(connection, store, made, categories) for store, connection in connections.items()}
    for connection in connections.values():
        connection.rollback()
    with system.ledger.begin() as guard:
        # A keeper may be removing what an earlier restore has left: those tables have the same names.
        instants.lock_leavings(guard)
        _require_whole(guard, held, *connections.values())
        with session.begin():
            own = mark(session, held.run_id)
            # A kill from here on leaves tables behind that somebody has to clear.
            instants.shadowed(session, held.run_id)
        for store, connection in connections.items():
            # Whoever was frozen here holds the new schema's locks, so a second planner waits for its end.
            restore_notes.bound(connection)
            restore_notes.end_stragglers(connection)
            shadow.prepare(connection, [place.relation for place in found[store]], mark=own)
            restore_notes.forget(connection)
            capture.let_go(connection)
            with session.begin():
                if not batches.extend(session, held, system.settings.lease_duration):
                    connection.rollback()
                    raise errors.LeaseLost(f"{held.name}: the lease was lost; nothing was planned.")
            connection.commit()
    everything = [place for store in model.StoreName for place in found[store]]
    return _planned(everything, _others(system, held, categories), held)


def _require_whole(guard: Session, held: batches.Lease, flat: Connection, hier: Connection) -> None:
    for run_id in instants.shadowing(guard):
        if run_id != held.run_id and half_done(guard, run_id, flat, hier):
            raise errors.RestoreActive(
                f"Run {run_id} has restored one store; it goes on until the other is restored, too.",
                hint=f"hal9-migrate runs show {run_id} --watch",
            )


def _others(system: System, held: batches.Lease, categories: Sequence[Category]) -> list[Category]:
    """Return the categories that the restore must not touch, where it proves so."""
    if not RestoreOptions.of(held.options).prove_others:
        return []
    chosen = {category.slug for category in categories}
    return [category for category in system.registry.ordered() if category.slug not in chosen]


def _planned(
    everything: Sequence[RestoredTable], others: Sequence[Category], held: batches.Lease
) -> Mapping[str, Sequence[runs.NewBatch]]:
    planned: dict[str, list[runs.NewBatch]] = {}
    numbers = itertools.count(1)
    order = RestoreOptions.of(held.options)

    def add(kind: str, phase: int, subject: str, one: Chunk | None = None) -> None:
        new = runs.NewBatch(seq=next(numbers), phase=phase, subject=subject)
        if one is not None:
            # Proving reads what loading has counted already.
            rows = one.rows if kind == "load" else 0
            new = dataclasses.replace(new, after=one.after, upto=one.upto, records=rows, cost=one.rows)
        planned.setdefault(kind, []).append(new)

    def measure(phase: int, when: str) -> None:
        for category in others:
            for store in model.StoreName:
                add("measure", phase, f"{store} {category.slug} {when}")

    measure(LOADING, "before")
    for kind, phase in (("load", LOADING), ("prove", PROVING)):
        for place in everything:
            name = save.subject(place.table.store, place.relation.qualified)
            for number, one in enumerate(place.table.chunks):
                add(kind, phase, f"{name} {number}", one)
        if kind == "load":
            if order.recover:
                add("derive", DERIVING, order.checkpoint)
            for place in everything:
                add("index", INDEXING, save.subject(place.table.store, place.relation.qualified))
    for store in model.StoreName:
        add("constrain", CONSTRAINING, str(store))
    if order.recover:
        add("resolve", RESOLVING, order.checkpoint)
    add("swap", SWAPPING, order.checkpoint)
    measure(AFTER, "after")
    return planned


def load(system: System, desk: Desk, held: batches.Lease, session: Session) -> Worked:
    """Load a chunk into its shadow table.

    Raises:
        errors.LeaseLost: the shadow tables are another restore's by now.
        errors.CheckpointDamaged: the chunk is not what it was, and the run does not put up with it.
    """
    place, one, connection = find(system, desk, held)
    own = own_mark(session, held)
    with connection, connection.cursor() as cursor:
        restore_notes.bound(connection)
        note = shadow.claim(cursor, held.seq, mark=own)
        if note is None:
            note = _loaded(system, cursor, held, place, one)
            shadow.settle(cursor, held.seq, note["rows"], note)
    return Worked(note, note["rows"], one.raw_bytes)


def _loaded(system: System, cursor: Any, held: batches.Lease, place: RestoredTable, one: Chunk) -> dict[str, Any]:
    kept = archive.opened(system.settings)
    order = RestoreOptions.of(held.options)
    name = order.checkpoint
    statement = f"COPY {place.shadow.qualified} ({place.columns}) FROM STDIN (FORMAT binary)"
    if order.recover:
        return salvage.load(cursor, statement, kept, name, place.table, one, tolerant=order.quarantine)
    with kept.reading(name, one.file) as stream:
        chunk.feed(cursor, statement, chunk.Document(stream, one))
    if cursor.rowcount != one.rows:
        raise errors.CheckpointDamaged(f"{one.file} gave {cursor.rowcount} rows, and not {one.rows}.")
    return {"rows": one.rows, "digest": one.digest}


def index(system: System, desk: Desk, held: batches.Lease, session: Session) -> Worked:
    """Make the indexes and constraints of a shadow table, as the live one has them."""
    store, qualified = held.subject.split(" ", 1)
    place, connection = _find_table(system, desk, held, model.StoreName(store), qualified)
    own = own_mark(session, held)
    restore_notes.bound(connection)
    shadow.index(connection, place.relation, mark=own)
    connection.commit()
    return Worked()


def constrain(system: System, desk: Desk, held: batches.Lease, session: Session) -> Worked:
    """Make the foreign keys of a store's shadow tables, now that what they refer to has its indexes."""
    store = model.StoreName(held.subject)
    connection = desk.store(store, "restore")
    found = places(connection, store, manifest(system, held), save.scope(system, held))
    connection.rollback()
    own = own_mark(session, held)
    with connection:
        restore_notes.bound(connection)
        shadow.constrain(connection, [place.relation for place in found], mark=own)
    return Worked()


def prove(system: System, desk: Desk, held: batches.Lease, session: Session) -> Worked:
    """Read a chunk's rows back from the shadow, and compare them with what was loaded.

    Raises:
        errors.CheckpointDamaged: they differ.
    """
    place, one, connection = find(system, desk, held)
    with session.begin():
        done = batches.listing(session, held.run_id)
    note = next(row["result"] for row in done if row["kind"] == "load" and row["subject"] == held.subject)
    # Shared rows that a damage has lost have been made again.
    more = place.table.role == "shared" and note.get("damages")
    with connection, connection.cursor() as cursor:
        if RestoreOptions.of(held.options).validate_each and not more:
            _each(system, cursor, held, place, one)
        hasher = chunk.hashed(cursor, save.copying(cursor, place.shadow, held))
    if (hasher.rows, hasher.digest) != (note["rows"], note["digest"]) and not more:
        raise errors.CheckpointDamaged(
            f"{place.relation.qualified} does not read back as {one.file}: {hasher.rows} rows of {note['rows']}."
        )
    return Worked()


def _each(system: System, cursor: Any, held: batches.Lease, place: RestoredTable, one: Chunk) -> None:
    """Compare every single row with the file's."""
    expected: collections.Counter[int] = collections.Counter()
    kept = archive.opened(system.settings)
    for block in salvage.blocks(kept, KeptOptions.of(held.options).checkpoint, one):
        expected.update(map(chunk.row_hash, block.rows))
    found: collections.Counter[int] = collections.Counter()

    def count(row: bytes) -> None:
        found[chunk.row_hash(row)] += 1

    binary_copy.each(cursor, *place.shadow.select(held.after, held.upto), count)
    if found != expected:
        raise errors.CheckpointDamaged(
            f"{sum(((expected - found) + (found - expected)).values())} rows do not read back as in {one.file}."
        )


def measure(system: System, desk: Desk, held: batches.Lease, session: Session) -> Worked:
    """Count and digest a category that the restore must leave alone."""
    store_name, slug, _ = held.subject.split(" ")
    store = model.StoreName(store_name)
    connection = desk.store(store, "restore")
    with connection, connection.cursor() as cursor:
        return Worked(save.measured(cursor, system.category(slug), store))


def find(system: System, desk: Desk, held: batches.Lease) -> tuple[RestoredTable, Chunk, Connection]:
    """Return the table and the chunk that a batch is about, and a connection to the table's store."""
    store, qualified, number = save.parted(held.subject)
    place, connection = _find_table(system, desk, held, model.StoreName(store), qualified)
    return place, place.table.chunks[int(number)], connection


def _find_table(
    system: System, desk: Desk, held: batches.Lease, store: model.StoreName, qualified: str
) -> tuple[RestoredTable, Connection]:
    connection = desk.store(store, "restore")
    found = places(connection, store, manifest(system, held), save.scope(system, held))
    connection.rollback()
    return next(one for one in found if one.relation.qualified == qualified), connection
