"""The last batch of a checkpoint: everything that was written becomes one manifest, or nothing does."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping, Sequence
from typing import Any

import hal9mig
from hal9mig import errors, model
from hal9mig.categories.declaration import Category
from hal9mig.engine import reconciliation_log
from hal9mig.engine.checkpoint import archive, retention, save
from hal9mig.engine.checkpoint.manifest import CategoryDigest, Chunk, Manifest, Table
from hal9mig.engine.desk import Desk
from hal9mig.engine.system import System
from hal9mig.ledger import audit, batches, instants, runs
from hal9mig.ledger.database import Session
from hal9mig.ledger.run_options import ABOUT_CHECKPOINTS, CheckpointOptions, KeptOptions
from hal9mig.stores.relation import Relation


def seal(system: System, desk: Desk, held: batches.Lease, session: Session) -> None:
    """Write the manifest, clear away what is not in it, and end the run; then the oldest go, by the setting.

    Raises:
        errors.LeaseLost: another worker seals it.
        errors.NameTaken: there is another checkpoint of this name by now.
        errors.ArchiveFull, errors.ArchiveUnreachable: the storage does not take it.
    """
    started = time.monotonic()
    name = KeptOptions.of(held.options).checkpoint
    kept = archive.opened(system.settings)
    with session.begin():
        # A worker that was frozen for long may come after the next one of this name.
        save.require_own(session, kept, name, held.run_id)
        now = instants.read(session, held.run_id)
        run = runs.get(session, held.run_id)
        done = batches.listing(session, held.run_id)
    made = _manifest(system, desk, held, run, now.positions, done)
    # Looked for here, in the place that the manifest goes to: what another worker wrote elsewhere is no part of it.
    gone = kept.lacking(made)
    if gone:
        raise errors.CheckpointDamaged(
            f"{made.lacks(gone)}, at {system.settings.checkpoint_url}; every worker has to write there.",
            hint="give every worker and the command the same HAL9_CHECKPOINT_URL",
        )
    kept.put_manifest(made)
    kept.clear(made)
    with session.begin():
        result = {"rows": made.rows, "bytes": made.bytes, "raw_bytes": made.raw_bytes, "verified": made.verified}
        batches.conclude(session, held, result=result, seconds=time.monotonic() - started)
        instants.remove(session, held.run_id)
        detail = {"name": name, "kind": made.kind, "verified": made.verified, "rows": made.rows, "bytes": made.bytes}
        audit.log(session, "checkpoint taken", actor=run.requested_by, run_id=run.id, detail=detail)
    reconciliation_log.note(
        system.settings, "checkpoint", name=name, kind=made.kind, rows=made.rows, bytes=made.bytes, run=run.id
    )
    _prune(system, session, kept, name)


def _manifest(
    system: System,
    desk: Desk,
    held: batches.Lease,
    run: model.Run,
    positions: Mapping[str, Any],
    done: Sequence[Mapping[str, Any]],
) -> Manifest:
    categories = save.scope(system, held)
    order = CheckpointOptions.of(held.options)
    digests: dict[str, dict[str, CategoryDigest]] = {}
    for batch in done:
        if batch["kind"] == "digest":
            store, _, slug = str(batch["subject"]).partition(" ")
            digests.setdefault(slug, {})[store] = CategoryDigest(**batch["result"])
    schemas = dict(positions.get("schemas", {}))
    return Manifest(
        name=order.checkpoint,
        description=order.description,
        kind="full" if order.full else "marker",
        label=order.label,
        scope=tuple(one.slug for one in categories),
        whole=len(categories) == len(system.registry.ordered()),
        taken_at=_moment(positions["stores"]["flat"]["at"]),
        finished_at=datetime.datetime.now(datetime.UTC),
        by=run.requested_by,
        program=hal9mig.__version__,
        verified=order.verify,
        mode=str(positions["mode"]),
        epoch=int(positions["epoch"]),
        positions={**{name: value for name, value in positions.items() if name != "schemas"}, "run": held.run_id},
        schemas=schemas,
        tables=_tables(desk, categories, done) if order.full else (),
        digests=digests,
    )


def _moment(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text).astimezone(datetime.UTC)


def _tables(desk: Desk, categories: Sequence[Category], done: Sequence[Mapping[str, Any]]) -> tuple[Table, ...]:
    chunks: dict[str, list[Chunk]] = {}
    for batch in done:
        if batch["kind"] != "save":
            continue
        if batch["status"] != model.BatchStatus.DONE:
            raise errors.HAL9Error(f"Batch {batch['seq']} of {batch['subject']} is not done.")
        chunks.setdefault(str(batch["subject"]), []).append(
            save.chunk_of(batch["result"], _key(batch["after_key"]), _key(batch["upto_key"]))
        )
    found = []
    for store in model.StoreName:
        connection = desk.store(store, "instant")
        for one in save.relations(store, connection, categories):
            found.append(_table(one, chunks.pop(save.subject(store, one.qualified))))
        connection.rollback()
    if chunks:
        raise errors.HAL9Error(f"Chunks of unknown tables: {', '.join(chunks)}.")
    return tuple(found)


def _table(one: Relation, chunks: Sequence[Chunk]) -> Table:
    return Table(
        store=one.store, category=one.category, schema=one.schema, table=one.table,
        columns=tuple((column.name, column.type) for column in one.columns),
        key=tuple(column.name for column in one.key), owner=one.owner, role=one.role, chunks=tuple(chunks),
    )  # fmt: skip


def _prune(system: System, session: Session, kept: archive.Archive, made: str) -> None:
    """Delete the oldest checkpoints beyond the number that is to be kept."""
    with session.begin():
        current = runs.current(session)
        used = {
            KeptOptions.of(run.options).checkpoint
            for run in runs.find(session, active=True)
            if run.kind in ABOUT_CHECKPOINTS
        }
    for name in retention.prunable(kept.listing()[0], system.settings.checkpoint_keep, current):
        if name in used:
            continue
        freed = kept.delete(name)
        with session.begin():
            detail = {"name": name, "bytes": freed, "because": f"{made} was taken; checkpoints.keep"}
            audit.log(session, "checkpoint deleted", actor="retention", detail=detail)


def _key(value: Sequence[str] | None) -> model.Key | None:
    return None if value is None else tuple(value)
