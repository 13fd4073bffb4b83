"""Learning data as files, as a library: exporting, transforming, importing.

    files = PatternFiles(system)
    done = files.export("/data/export", layout="hierarchical")
    for (run,) in Coordinator(system).watch([done.run.id]): ...

The work is done by the workers, as runs like any other; what is returned here is their beginning.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from hal9mig import errors, model
from hal9mig.categories.declaration import Category
from hal9mig.categories.filters import EVERYTHING
from hal9mig.categories.learning import CATEGORY
from hal9mig.engine import dispatcher
from hal9mig.engine.coordinator import Coordinator, MigrateOrder, MigratePlan, record_bytes
from hal9mig.engine.pattern_files import folder as folders
from hal9mig.engine.pattern_files import shapes
from hal9mig.engine.pattern_files.folder import PatternFolder
from hal9mig.engine.pattern_files.manifest import EXPORTED, TRANSFORMED, FolderManifest, RangeFiles
from hal9mig.engine.pattern_files.rows_file import RowsReader
from hal9mig.engine.system import System
from hal9mig.engine.transfer import planner
from hal9mig.ledger import batches, database, runs, tuning, workers
from hal9mig.ledger.run_options import FolderOptions
from hal9mig.stores import category_check, write_mode
from hal9mig.stores.connection import Connection
from hal9mig.stores.write_mode import Mode

_STORE = (
    "SELECT (SELECT system_identifier FROM pg_control_system()) || '/' || oid FROM pg_database "
    "WHERE datname = current_database()"
)
#: Runs that are searched for the one that fills a folder.
_MOST_RUNS = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportOrder:
    """What to write into files.

    Attributes:
        folder: the path; it is made, or empty, or one that an earlier run of this order has not finished.
        layout: ``hierarchical``, a tree, or ``flat``, one folder.
        tuning: the run's own values of tuning knobs; a budget is only one that it was given itself.
    """

    folder: str
    layout: str = "hierarchical"
    tuning: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FilesPlan:
    """What an export or a transform would do.

    Attributes:
        bytes: what the records measure as binary COPY; the files are not much smaller.
        resumed: the run that has begun it, which goes on; None to begin.
        done: what is in the folder already, where there is nothing left to do.
    """

    folder: PatternFolder
    records: int
    bytes: int
    options: FolderOptions
    resumed: model.Run | None = None
    done: FolderManifest | None = None
    warnings: Sequence[str] = ()


class PatternFiles:
    """Takes orders about learning data in files."""

    def __init__(self, system: System, *, actor: str | None = None):
        self._system = system
        self._actor = actor or database.actor()
        self._coordinator = Coordinator(system, actor=self._actor)

    @property
    def category(self) -> Category:
        """The category whose records the files hold.

        Raises:
            errors.UnknownCategory: it is not declared.
            errors.SchemaMismatch: it is declared with tables that files cannot hold.
        """
        found = self._system.category(CATEGORY.slug)
        shapes.transformed(found)
        return found

    # Exporting

    def plan_export(self, order: ExportOrder) -> FilesPlan:
        """Check an order and return what it would do; nothing is changed.

        Raises:
            errors.Refused: something is in the folder.
            errors.ArchiveFull: there is no room for it.
            errors.SchemaBehind, errors.SchemaMismatch, errors.UnknownCategory: the stores are not ready for it.
            errors.Unreachable: a server does not answer.
        """
        category, folder = self.category, PatternFolder(order.folder)
        made = folder.manifest()
        if made is not None:
            raise errors.Refused(
                f"{folder} holds learning data already, {made.kind} at {made.finished_at:%Y-%m-%dT%H:%M:%SZ}; "
                "nothing was changed.",
                hint="name a new folder, or remove that one if it is not needed",
            )
        self._system.require_ready()
        self._system.broker.ping()
        with contextlib.closing(self._system.flat()) as flat, contextlib.closing(self._system.hier()) as hier:
            category_check.check_category(category, flat, hier)
            records, size = planner.count(flat, category, EVERYTHING), record_bytes(flat, category, EVERYTHING)
            store = _store(flat)
            state = write_mode.state(hier)
        with self._system.ledger.begin() as session:
            batch = tuning.resolve(session, order.tuning).batch_of(size)
        options = FolderOptions(
            folder=str(folder), place="", layout=order.layout, store=store, mode=str(state.mode), epoch=state.epoch,
            batch=batch, tuning=dict(order.tuning),
        )  # fmt: skip
        warnings = self._warnings()
        if state.mode is Mode.HIERARCHICAL_ONLY:
            warnings.append("the hierarchical store rules; the flat one follows, and may lack the last writes")
        return self._planned(model.RunKind.EXPORT, folder, options, records, records * size, warnings)

    def export(self, order: ExportOrder) -> tuple[model.Run, FilesPlan]:
        """Start an export, or go on with one that was begun in this folder, and return its run.

        Raises: as ``plan_export``.
        """
        plan = self.plan_export(order)
        return self._begun(model.RunKind.EXPORT, plan), plan

    # Transforming

    def plan_transform(self, source: str, target: str, *, validate_schemas: bool = False) -> FilesPlan:
        """Check both folders and return what would be done; nothing is changed. Reads every file.

        Args:
            validate_schemas: also compare the columns in each file with the declaration.

        Raises:
            errors.NotFound: there is no export in the source.
            errors.Refused: a file in it is damaged, missing or another's; it is transformed already; something else
                is in the target.
            errors.Unreachable: the ledger or the queue does not answer.
        """
        category, given, folder = self.category, PatternFolder(source), PatternFolder(target)
        made = given.require_manifest()
        if made.kind != EXPORTED:
            raise errors.Refused(
                f"{given} is transformed already; nothing was changed.",
                hint=f"hal9-migrate learning import --input {given.quoted} --system hierarchical",
            )
        shapes.require_declared(made, category, str(given))
        if folders.overlapping(given, folder):
            raise errors.Refused(f"{folder} and {given} are one folder, or one is in the other; nothing was changed.")
        done = folder.manifest()
        if done is not None and done.of != made.sha256:
            raise errors.Refused(
                f"{folder} holds other learning data already, {done.kind} at {done.finished_at:%Y-%m-%dT%H:%M:%SZ}; "
                "nothing was changed.",
                hint="name a new folder, or remove that one if it is not needed",
            )
        self._require_whole(given, made, category, validate_schemas=validate_schemas)
        options = FolderOptions(
            folder=str(folder), place="", layout=made.layout, store=made.store, mode=made.mode, epoch=made.epoch,
            source=str(given), manifest=made.sha256,
        )  # fmt: skip
        if done is not None:
            return FilesPlan(folder=folder, records=made.records, bytes=made.raw_bytes, options=options, done=done)
        self._system.require_ready()
        self._system.broker.ping()
        return self._planned(
            model.RunKind.TRANSFORM, folder, options, made.records, made.raw_bytes, self._warnings()
        )  # fmt: skip

    def transform(
        self, source: str, target: str, *, validate_schemas: bool = False
    ) -> tuple[model.Run | None, FilesPlan]:
        """Start a transform, or go on with one that was begun; None and what is there, where it is done already.

        Raises: as ``plan_transform``.
        """
        plan = self.plan_transform(source, target, validate_schemas=validate_schemas)
        return (None if plan.done is not None else self._begun(model.RunKind.TRANSFORM, plan)), plan

    # Importing

    def plan_import(self, source: str, *, tuned: Mapping[str, str] | None = None) -> tuple[MigrateOrder, MigratePlan]:
        """Check a folder and return what importing it would do; nothing is changed. Reads every file.

        Raises:
            errors.NotFound: there is nothing in the folder.
            errors.Refused: it is not transformed; a file in it is damaged, missing or another's; it is of another flat
                store; the hierarchical store rules.
            errors.HAL9Error: as ``Coordinator.plan``.
        """
        category, folder = self.category, PatternFolder(source)
        made = folder.require_manifest()
        if made.kind != TRANSFORMED:
            raise errors.Refused(
                f"{folder} holds flat records; they are transformed first. Nothing was changed.",
                hint=f"hal9-migrate learning transform --input {folder.quoted} --output NEW-FOLDER --validate-schemas",
            )
        shapes.require_declared(made, category, str(folder))
        order = MigrateOrder(category=category.slug, tuning=dict(tuned or {}), folder=str(folder), manifest=made.sha256)
        plan = self._coordinator.plan(order)
        with contextlib.closing(self._system.flat()) as flat:
            here = _store(flat)
        if here != made.store:
            raise errors.Refused(
                f"{folder} was exported from another database than this flat store; nothing was changed.",
                hint="export it from this one, or give the address of that one in HAL9_FLAT_URL",
                exported_from=made.store, flat_store=here,
            )  # fmt: skip
        self._require_whole(folder, made, category, validate_schemas=True)
        return order, plan

    def take(self, order: MigrateOrder) -> tuple[model.Run, MigratePlan]:
        """Start an import that ``plan_import`` has checked, and return its run.

        Raises: as ``Coordinator.migrate``.
        """
        return self._coordinator.migrate(order)

    def origins(self, run: model.Run) -> dict[str, int]:
        """Return how many records an import took from the files, and how many it had to read from the flat store."""
        found = {"from_files": 0, "read_anew": 0}
        for result in self._results(run):
            for name in found:
                found[name] += int(result.get(name, 0))
        return found

    def refusals(self, run: model.Run) -> list[tuple[model.Key, str]]:
        """Return some records that a transform could not transform, each with why."""
        return [(tuple(key), reason) for result in self._results(run) for key, reason in result.get("refusals", ())]

    # Shared

    def _results(self, run: model.Run) -> list[Mapping[str, Any]]:
        with self._system.ledger.begin() as session:
            return [one["result"] for one in batches.listing(session, run.id) if one["result"]]

    def _require_whole(
        self, folder: PatternFolder, made: FolderManifest, category: Category, *, validate_schemas: bool
    ) -> None:
        by_table = {shape.table: shape for shape in shapes.of(category, made.kind)}

        def look(one: RangeFiles) -> None:
            groups = set()
            for file in one.files:
                if file.table not in by_table:
                    raise errors.Refused(f"{folder}/{file.path} is of a table that {category.slug} does not have.")
                with open(f"{folder}/{file.path}", "rb") as stream:
                    opened = RowsReader(stream, by_table[file.table], f"{folder}/{file.path}")
                    if (opened.rows, opened.groups) != (file.rows, file.groups):
                        raise errors.Refused(f"{folder}/{file.path} has other rows than its manifest says.")
                groups.add(file.groups)
            if len(groups) != 1 or len(one.files) != len(by_table):
                raise errors.Refused(f"The files of range {one.number} in {folder} do not belong together.")

        folder.require_whole(made, look=look if validate_schemas else lambda one: None)
        _require_gapless(folder, made)

    def _planned(
        self, kind: model.RunKind, folder: PatternFolder, options: FolderOptions, records: int, size: int,
        warnings: Sequence[str],
    ) -> FilesPlan:  # fmt: skip
        resumed = self._filling(kind, folder)
        if resumed is None:
            folder.require_empty()
            folder.require_room(size)
        elif FolderOptions.of(resumed.options).manifest != options.manifest:
            raise errors.Refused(
                f"{resumed.name} transforms another folder into {folder}; nothing was changed.",
                hint=f"hal9-migrate runs show {resumed.id}",
            )
        return FilesPlan(
            folder=folder, records=records, bytes=size, options=options, resumed=resumed, warnings=warnings
        )

    def _filling(self, kind: model.RunKind, folder: PatternFolder) -> model.Run | None:
        """Return the run that fills a folder which is not finished; None where none has begun to."""
        place = folder.place()
        if place is None:
            return None
        with self._system.ledger.begin() as session:
            for one in (model.RunKind.EXPORT, model.RunKind.TRANSFORM):
                for run in runs.find(session, kind=one, limit=_MOST_RUNS):
                    if FolderOptions.of(run.options).place == place:
                        if one is not kind:
                            raise errors.Refused(
                                f"{run.name}, {'an' if one is model.RunKind.EXPORT else 'a'} {one}, fills {folder}; "
                                "nothing was changed.",
                                hint=f"hal9-migrate runs show {run.id}",
                            )
                        return run
        return None

    def _begun(self, kind: model.RunKind, plan: FilesPlan) -> model.Run:
        if plan.resumed is not None:
            return self._gone_on(plan.resumed)
        place = plan.folder.begin()
        options = dataclasses.replace(plan.options, place=place)
        with self._system.ledger.begin() as session:
            run_id = runs.create(
                session, kind=kind, category=self.category.slug, priority=model.Priority.NORMAL, filter="",
                options=options.stored(), serial=False, actor=self._actor,
            )  # fmt: skip
        dispatcher.tick(self._system)
        return self._coordinator.run(run_id)

    def _gone_on(self, run: model.Run) -> model.Run:
        if run.status in (model.RunStatus.FAILED, model.RunStatus.CANCELLED):
            return self._coordinator.retry(run.id)
        return self._coordinator.resume(run.id) if run.status is model.RunStatus.PAUSED else run

    def _warnings(self) -> list[str]:
        with self._system.ledger.begin() as session:
            slots = workers.slots(session)
        return [] if slots else ["no worker is alive; the run waits until one is"]


def _store(flat: Connection) -> str:
    with flat.cursor() as cursor:
        cursor.execute(_STORE)
        row = cursor.fetchone()
    flat.rollback()
    return str(row[0]) if row else ""


def _require_gapless(folder: PatternFolder, made: FolderManifest) -> None:
    """Raise where the ranges do not follow one upon the other, from the first key to the last."""
    bounds = [(one.after, one.upto) for one in made.ranges]
    if not bounds or [low for low, _ in bounds] != [None, *(high for _, high in bounds[:-1])] or bounds[-1][1]:
        raise errors.Refused(f"{folder} is not complete: its ranges do not follow one upon the other.")
