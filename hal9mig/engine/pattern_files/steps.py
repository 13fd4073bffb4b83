"""Which step of an export, a transform or an import a leased batch is."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import msgspec

import hal9mig
from hal9mig import errors, model
from hal9mig.categories import wire
from hal9mig.categories.filters import EVERYTHING
from hal9mig.categories.transform import Output, Transform
from hal9mig.engine.checkpoint import chunk, place
from hal9mig.engine.desk import Desk
from hal9mig.engine.pattern_files import manifest, shapes
from hal9mig.engine.pattern_files.folder import PatternFolder
from hal9mig.engine.pattern_files.manifest import EXPORTED, TRANSFORMED, FolderManifest, RangeFiles, TableFile
from hal9mig.engine.pattern_files.origin import FileOrigin
from hal9mig.engine.pattern_files.rows_file import RowsReader, RowsWriter
from hal9mig.engine.system import System
from hal9mig.engine.transfer import planner
from hal9mig.engine.transfer.copier import Copier
from hal9mig.engine.transfer.reader import Reader
from hal9mig.ledger import batches, runs
from hal9mig.ledger.database import Session
from hal9mig.ledger.run_options import FolderOptions, MigrateOptions
from hal9mig.ledger.tuning import Tuning
from hal9mig.model import RunKind
from hal9mig.stores import projection

EXPORT, CONVERT, COPY, SEAL = "export", "convert", "copy", "seal"
#: The number of the batch that writes the manifest; those of ranges come before it.
_LAST = 2_000_000_000
#: Records that a batch lists which could not be transformed; it counts them all.
_MOST_LISTED = 5
_SEEN = "have the workers see the folder under the same path, with the same account"

Step = Callable[[System, Desk, batches.Lease, Session, Tuning], bool]


def perform(system: System, desk: Desk, held: batches.Lease, session: Session, tuned: Tuning) -> bool:
    """Work a batch that has to do with files.

    Raises:
        errors.HAL9Error, psycopg2.Error, OSError: as the step.
    """
    return STEPS[held.run_kind, held.kind](system, desk, held, session, tuned)


# Export


def plan_export(system: System, desk: Desk, held: batches.Lease, session: Session, tuned: Tuning) -> bool:
    """Cut the flat table into ranges, a file each, and plan the manifest after them."""
    _add_seal(session, held)
    return planner.plan(
        session, held, system.category(held.category), tuned, flat=desk.flat("read"),
        lease=system.settings.lease_duration,
    )  # fmt: skip


def export(system: System, desk: Desk, held: batches.Lease, session: Session, tuned: Tuning) -> bool:
    """Write the records of a range into a file, as they are at one moment."""
    started = time.monotonic()
    options, folder = _filled(system, held, session)
    shape = shapes.exported(system.category(held.category))
    flat = desk.flat("read")
    with flat.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor.execute("SELECT pg_current_snapshot()::text, clock_timestamp()")
        snapshot, read_at = cursor.fetchone() or ("", None)
    records = size = 0
    path = manifest.path(options.layout, shape.table, held.seq, held.attempt)
    scope = projection.Bounds(after=held.after, upto=held.upto)
    with (
        folder.writing(path) as stream,
        Reader(
            flat, system.category(held.category), scope, EVERYTHING, records=tuned.batch_size, size=tuned.batch_bytes
        ) as reading,
    ):
        writer = RowsWriter(stream, shape)
        for step in reading.steps():
            if step.records:
                writer.group(list(zip(*step.records, strict=True)))
            records, size = records + len(step.records), size + step.bytes
        done = writer.close()
    made = RangeFiles(
        number=held.seq, attempt=held.attempt, after=held.after, upto=held.upto, records=records, refused=0, bytes=size,
        snapshot=snapshot, read_at=read_at.isoformat(),
        files=(TableFile(table=shape.table, path=path, **msgspec.to_builtins(done)),),
    )  # fmt: skip
    _conclude(session, held, made, started)
    return True


# Transform


def plan_transform(system: System, desk: Desk, held: batches.Lease, session: Session, tuned: Tuning) -> bool:
    """Plan a batch for each range of the exported folder, and the manifest after them."""
    started = time.monotonic()
    options, _ = _filled(system, held, session)
    made = _read(system, held, session, PatternFolder(options.source), options.manifest)
    _add_seal(session, held)
    planned = [
        runs.NewBatch(seq=one.number, after=one.after, upto=one.upto, records=one.records, subject=str(one.number))
        for one in made.ranges
    ]
    _planned(session, held, CONVERT, planned, started)
    return True


def convert(system: System, desk: Desk, held: batches.Lease, session: Session, tuned: Tuning) -> bool:
    """Turn a file of flat records into one of each hierarchical table."""
    started = time.monotonic()
    options, folder = _filled(system, held, session)
    source = PatternFolder(options.source)
    one = _read(system, held, session, source, options.manifest).range(int(held.subject))
    transform = system.transform(held.category)
    made = shapes.transformed(transform.category)
    paths = [manifest.path(options.layout, shape.table, held.seq, held.attempt) for shape in made]
    (file,) = one.files
    refusals: list[list[Any]] = []
    refused = 0
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(source.reading(file))
        opened = RowsReader(stream, shapes.exported(transform.category), f"{source}/{file.path}")
        writers = [
            RowsWriter(stack.enter_context(folder.writing(path)), shape)
            for path, shape in zip(paths, made, strict=True)
        ]
        for at in range(opened.groups):
            records = [list(fields) for fields in zip(*opened.group(at), strict=True)]
            output = transform.apply(records)
            refused += len(output.rejections)
            for rejection in output.rejections[: _MOST_LISTED - len(refusals)]:
                refusals.append([list(transform.key(records[rejection.index])), rejection.error.message])
            for place, writer in enumerate(writers):
                writer.group(_columns(transform, place, output, records))
        done = [writer.close() for writer in writers]
    files = tuple(
        TableFile(table=shape.table, path=path, **msgspec.to_builtins(each))
        for shape, path, each in zip(made, paths, done, strict=True)
    )
    converted = RangeFiles(
        number=one.number, attempt=held.attempt, after=one.after, upto=one.upto, records=one.records, refused=refused,
        bytes=one.bytes, snapshot=one.snapshot, read_at=one.read_at, files=files,
    )  # fmt: skip
    _conclude(session, held, converted, started, refusals=refusals)
    return True


def _columns(
    transform: Transform, place: int, output: Output, records: Sequence[Sequence[bytes]]
) -> Sequence[Sequence[bytes]]:
    """Return what a group has for one table: the fields of each column."""
    written = transform.writers[place]
    width = len(written.columns)
    rows = [wire.split(one, width) for one in chunk.tuples(b"".join(output.pieces[place]), first=False)]
    columns: list[Sequence[bytes]] = list(zip(*rows, strict=True)) or [()] * width
    if written.target is transform.category.roots[0]:
        lost = {one.index for one in output.rejections}
        columns.append([fields[-1] for index, fields in enumerate(records) if index not in lost])
    return columns


# Import


def plan_import(system: System, desk: Desk, held: batches.Lease, session: Session, tuned: Tuning) -> bool:
    """Plan batches over the ranges of a transformed folder, a range that is larger than a batch being cut."""
    started = time.monotonic()
    options = MigrateOptions.of(held.options)
    folder = PatternFolder(options.folder)
    made = _read(system, held, session, folder, options.manifest)
    most = options.batch or tuned.effective_batch
    planned: list[runs.NewBatch] = []
    for one in made.ranges:
        for after, upto, records in _cut(system.transform(held.category), folder, one, most):
            planned.append(
                runs.NewBatch(seq=len(planned) + 1, after=after, upto=upto, records=records, subject=str(one.number))
            )
    _planned(session, held, COPY, planned, started)
    return True


def _cut(
    transform: Transform, folder: PatternFolder, one: RangeFiles, most: int
) -> list[tuple[model.Key | None, model.Key | None, int]]:
    if one.records <= most:
        return [(one.after, one.upto, one.records)]
    place = next(at for at, written in enumerate(transform.writers) if written.target is transform.category.roots[0])
    shape, file = shapes.transformed(transform.category)[place], one.files[place]
    bounds: list[model.Key | None] = [one.after]
    with folder.reading(file) as stream:
        opened = RowsReader(stream, shape, f"{folder}/{file.path}")
        rows = [
            parts for columns in opened.some(transform.category.roots[0].owner) for parts in zip(*columns, strict=True)
        ]
    bounds += [transform.key_of(rows[at - 1]) for at in range(most, len(rows), most)]
    ends = [*bounds[1:], one.upto]
    left = one.records
    found = []
    for after, upto in zip(bounds, ends, strict=True):
        count = min(most, left) if upto is not one.upto else left
        found.append((after, upto, count))
        left -= count
    return found


def copy(system: System, desk: Desk, held: batches.Lease, session: Session, tuned: Tuning) -> bool:
    """Copy a range, with the folder's files for what they still hold as the flat store does."""
    options = MigrateOptions.of(held.options)
    folder = PatternFolder(options.folder)
    one = _read(system, held, session, folder, options.manifest).range(int(held.subject))
    flat, lookup = desk.flat("read"), desk.flat("lookup")
    category = system.category(held.category)
    origin = FileOrigin(category, folder, one, flat=flat, lookup=lookup, known=held.result)
    return Copier(system, held, tuned, flat=flat, lookup=lookup, session=session, origin=origin).run()


# Both ends


def seal(system: System, desk: Desk, held: batches.Lease, session: Session, tuned: Tuning) -> bool:
    """Write the manifest: from here on the folder is whole."""
    started = time.monotonic()
    options, folder = _filled(system, held, session)
    category = system.category(held.category)
    kind = EXPORTED if held.run_kind is RunKind.EXPORT else TRANSFORMED
    with session.begin():
        run = runs.get(session, held.run_id)
        done = [one for one in batches.listing(session, held.run_id) if one["kind"] in (EXPORT, CONVERT)]
    # The same from whoever seals it, also one who was frozen: nothing in it is of this moment.
    ended = max(one["finished_at"] for one in done)
    made = FolderManifest(
        kind=kind, layout=options.layout, category=held.category, transform_version=category.transform_version,
        schema_version=manifest.SCHEMA_VERSION, system=str(model.StoreName.FLAT), store=options.store,
        mode=options.mode, epoch=options.epoch, began_at=_utc(run.created_at), finished_at=_utc(ended),
        by=run.requested_by, program=f"hal9-migrate {hal9mig.__version__}",
        columns={shape.table: shape.declared for shape in shapes.of(category, kind)},
        ranges=tuple(msgspec.convert(one["result"], RangeFiles) for one in done), place=options.place,
        of=options.manifest,
    )  # fmt: skip
    folder.finish(made)
    with session.begin():
        batches.conclude(session, held, seconds=time.monotonic() - started)
    return True


def _utc(moment: datetime.datetime) -> datetime.datetime:
    return moment.astimezone(datetime.UTC)


def _add_seal(session: Session, held: batches.Lease) -> None:
    with session.begin():
        # Only whoever holds the lease plans, so nobody else adds it meanwhile.
        if not any(batch["kind"] == SEAL for batch in batches.listing(session, held.run_id)):
            runs.add_batches(session, held.run_id, SEAL, [runs.NewBatch(seq=_LAST, phase=1)])


def _planned(
    session: Session, held: batches.Lease, kind: str, planned: Sequence[runs.NewBatch], started: float
) -> None:
    with session.begin():
        # The fence comes first: its row lock keeps everybody else from planning until this commits.
        batches.conclude(session, held, records=len(planned), seconds=time.monotonic() - started)
        runs.add_batches(session, held.run_id, kind, planned)
        runs.finish_planning(session, held.run_id)


def _conclude(session: Session, held: batches.Lease, made: RangeFiles, started: float, **more: object) -> None:
    result = msgspec.to_builtins(made) | more
    with session.begin():
        batches.conclude(
            session, held, records=made.records, bytes=made.bytes, result=result, seconds=time.monotonic() - started
        )


def _filled(system: System, held: batches.Lease, session: Session) -> tuple[FolderOptions, PatternFolder]:
    """Return the folder that a run fills, if this worker sees it.

    Raises:
        errors.LeftOut, errors.NotFound: it does not; see ``place.leave_out``.
    """
    options = FolderOptions.of(held.options)
    folder = PatternFolder(options.folder)
    if folder.place() != options.place:
        # It goes once the manifest is there, which names it.
        made = folder.manifest()
        if made is None or made.place != options.place:
            _leave_out(system, held, session, folder)
    return options, folder


def _read(system: System, held: batches.Lease, session: Session, folder: PatternFolder, wanted: str) -> FolderManifest:
    """Return the manifest of a folder that a run reads, if this worker sees it; see ``_filled``."""
    with contextlib.suppress(errors.Refused):
        made = folder.manifest()
        if made is not None and made.sha256 == wanted:
            return made
    return _leave_out(system, held, session, folder)


def _leave_out(system: System, held: batches.Lease, session: Session, folder: PatternFolder) -> NoReturn:
    place.leave_out(
        system, held, session, here=str(folder), why=f"it does not see the folder {folder} as the command does",
        nobody=f"No live worker sees the folder {folder} as the command does: {{}}", hint=_SEEN,
    )  # fmt: skip


STEPS: Mapping[tuple[RunKind, str], Step] = {
    (RunKind.EXPORT, "plan"): plan_export,
    (RunKind.EXPORT, EXPORT): export,
    (RunKind.EXPORT, SEAL): seal,
    (RunKind.TRANSFORM, "plan"): plan_transform,
    (RunKind.TRANSFORM, CONVERT): convert,
    (RunKind.TRANSFORM, SEAL): seal,
    (RunKind.MIGRATE, "plan"): plan_import,
    (RunKind.MIGRATE, COPY): copy,
}
