"""A rehearsal: the migration on a sample of the records, in databases of its own beside the real ones.

Both scratch databases are made on the stores' own servers, filled with a sample, and taken through capture,
migration, comparison, a full pass, the switch and the way back by this process alone; then they are dropped. The real
stores are only read. What it took, record by record, is what a migration of all of them is expected to take.
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import psycopg2.errors

from hal9mig import errors, model
from hal9mig.categories import identifiers
from hal9mig.categories.declaration import Category
from hal9mig.engine import dispatcher, work
from hal9mig.engine.coordinator import Coordinator, MigrateOrder
from hal9mig.engine.desk import Desk
from hal9mig.engine.reconcile import full_pass
from hal9mig.engine.reconcile.repair import RepairPolicy
from hal9mig.engine.switch import gate
from hal9mig.engine.switch.switch import Switch
from hal9mig.engine.system import System
from hal9mig.ledger import batches, quarantine, runs, tuning, workers
from hal9mig.stores import rights, schema
from hal9mig.stores.connection import Connection, addressed

_FLAT, _HIER = model.StoreName.FLAT, model.StoreName.HIERARCHICAL
#: Parts into which a category's sample is cut: how much they differ is the width of what is expected.
_PARTS = 5
_WORKER = "rehearsal"
#: Seconds between two looks at a run of which nothing is to be done just now.
_PAUSE = 0.05
#: Switches there and back whose barriers are measured.
_SWITCHES = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expected:
    """Seconds, at least and at most, that something is expected to take."""

    least: float
    most: float

    def __add__(self, other: Expected) -> Expected:
        return Expected(least=self.least + other.least, most=self.most + other.most)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CategoryRehearsal:
    """What was seen of a category.

    Attributes:
        records: in the real flat store; sampled: of them, in the rehearsal.
        migrate, verify: for all records, with the budget in force.
        rejected: of the sample, records that cannot be transformed.
    """

    category: str
    records: int
    sampled: int
    migrate: Expected
    verify: Expected
    rejected: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class RehearsalReport:
    """What a rehearsal has shown; ``blockers`` keep a migration from its end, each with what to do."""

    categories: Sequence[CategoryRehearsal]
    barrier: Expected
    blockers: Sequence[str]
    notes: Sequence[str]


def rehearse(system: System, *, sample: int, say: Callable[[str], None]) -> RehearsalReport:
    """Rehearse, and drop what was made for it; also after an error or an interrupt.

    Args:
        sample: records of each category, at most.
        say: told what goes on.

    Raises:
        errors.Refused: the account may not make a database.
        errors.Unreachable: a server does not answer.
    """
    known = [category for category in system.registry.ordered() if category.source.schema == "flat"]
    notes = [
        f"{category.slug} was left out: its tables are not made by this program"
        for category in system.registry.ordered()
        if category not in known
    ]
    blockers = list(_lacking(system))
    with _scratch(system) as copy:
        say("scratch databases made")
        sizes = {category.slug: _filled(system, copy, category, sample) for category in known}
        found, barrier, more = _taken(system, copy, known, sizes, say)
    return RehearsalReport(categories=found, barrier=barrier, blockers=[*blockers, *more], notes=notes)


def _lacking(system: System) -> Iterator[str]:
    """Yield what the real stores lack for a migration."""
    coordinator = Coordinator(system)
    for category in system.registry.ordered():
        try:
            coordinator.plan(MigrateOrder(category=category.slug, merge=True))
        except errors.HAL9Error as problem:
            yield f"{category.slug}: {problem.message}" + (f" ({problem.hint})" if problem.hint else "")
    with contextlib.closing(system.flat()) as flat, contextlib.closing(system.hier()) as hier:
        for store, connection in ((_FLAT, flat), (_HIER, hier)):
            for one in rights.missing(connection, store, system.registry.ordered(), "operator"):
                yield f"{one.what} on the {store} store is missing: {one.grant}"


@contextlib.contextmanager
def _scratch(system: System) -> Iterator[System]:
    """Make a database beside each store's, with our schemas, and drop both in the end."""
    name = f"hal9_rehearsal_{secrets.token_hex(4)}"
    # A pooler knows the databases that are there already.
    system = system.direct()
    real = dict(zip((_FLAT, _HIER), system.settings.direct_urls(), strict=True))
    urls = {store: addressed(url, f"{name}_{store}") for store, url in real.items()}
    made: list[model.StoreName] = []
    copy: System | None = None
    try:
        for store in real:
            with contextlib.closing(system.store(store)) as connection:
                _outside(connection, f"CREATE DATABASE {name}_{store}")
            made.append(store)
        schema.upgrade(urls[_FLAT], urls[_HIER])
        resolved = dataclasses.replace(
            system.settings, flat_url=urls[_FLAT], hier_url=urls[_HIER], flat_direct_url=None, hier_direct_url=None,
            queue_prefix=f"{name}:", noncritical=(), category_files=(), webhook_url=None,
        )  # fmt: skip
        copy = System(resolved, role="rehearsal")
        with copy.ledger.begin() as session:
            # No worker's desk looks at stores that no application has: what is paced would stand still for good.
            tuning.change(session, {"max-impact": "off"}, actor=_WORKER)
        yield copy
    finally:
        if copy is not None:
            copy.ledger.close()
        for store in made:
            with contextlib.closing(system.store(store)) as connection:
                _outside(connection, f"DROP DATABASE IF EXISTS {name}_{store} WITH (FORCE)")


def _outside(connection: Connection, statement: str) -> None:
    connection.rollback()
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
    except psycopg2.errors.InsufficientPrivilege as error:
        raise errors.Refused(
            "This account may not make a database for the rehearsal.", hint="ALTER ROLE ... CREATEDB, for the rehearsal"
        ) from error


def _filled(system: System, copy: System, category: Category, sample: int) -> tuple[int, int]:
    """Copy a sample of a category's flat records, and return how many there are and how many were taken."""
    table, columns = category.source.qualified, identifiers.listed(category.source.names)
    with contextlib.closing(system.flat()) as flat, contextlib.closing(copy.flat()) as target:
        with flat.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            cursor.execute(f"SELECT count(*) FROM {table}")
            (total,) = cursor.fetchone() or (0,)
            share = min(100.0, 100.0 * sample / total) if total else 100.0
            taken = f"TABLESAMPLE BERNOULLI ({share:f}) REPEATABLE (1)" if share < 100 else ""
            _piped(flat, target, f"SELECT {columns} FROM {table} {taken}", f"{table} ({columns})")
        with target, target.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {table}")
            (copied,) = cursor.fetchone() or (0,)
        flat.rollback()
    return int(total), int(copied)


def _piped(source: Connection, target: Connection, query: str, table: str) -> None:
    """Stream a query's rows into a table, binary, through a file that is not kept in memory."""
    with tempfile.TemporaryFile() as file, source.cursor() as read, target, target.cursor() as write:
        read.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT binary)", file)
        file.seek(0)
        write.copy_expert(f"COPY {table} FROM STDIN (FORMAT binary)", file)


def _taken(
    system: System,
    copy: System,
    known: Sequence[Category],
    sizes: Mapping[str, tuple[int, int]],
    say: Callable[[str], None],
) -> tuple[list[CategoryRehearsal], Expected, list[str]]:
    """Take the copy through everything, and return what was seen."""
    coordinator, desk = Coordinator(copy, actor=_WORKER), Desk(copy)
    with system.ledger.begin() as session:
        budget = tuning.resolve(session)
    blockers: list[str] = []
    found = []
    try:
        _report(copy)
        switch = Switch(copy, actor=_WORKER)
        switch.enable()
        for category in known:
            say(f"rehearsing {category.slug}: {sizes[category.slug][1]:,} of {sizes[category.slug][0]:,} records")
            found.append(_category(copy, coordinator, desk, category, sizes[category.slug], budget))
            if found[-1].rejected:
                blockers.append(
                    f"{category.slug}: {found[-1].rejected:,} of {found[-1].sampled:,} sampled records cannot be "
                    "transformed (hal9-migrate quarantine list, once they are migrated)"
                )
        if not any(one.rejected for one in found):
            say("rehearsing the switch and the way back")
            barrier, more = _switched(copy, desk, switch, known)
            blockers += more
        else:
            barrier = Expected(least=0.0, most=0.0)
    finally:
        desk.clear()
    return found, barrier, blockers


def _category(
    copy: System,
    coordinator: Coordinator,
    desk: Desk,
    category: Category,
    size: tuple[int, int],
    budget: tuning.Tuning,
) -> CategoryRehearsal:
    total, sampled = size
    part = str(max(1, -(-sampled // _PARTS)))
    run = coordinator.migrate(MigrateOrder(category=category.slug, tuning={"batch-size": part, "rate-limit": "off"}))[0]
    _worked(copy, desk, run.id)
    with copy.ledger.begin() as session:
        listed = [one for one in batches.listing(session, run.id) if one["kind"] == "copy" and one["records"]]
        rejected = quarantine.counts(session).get(category.slug, 0)
    rates = [one["records"] / max(one["busy_seconds"], 0.001) for one in listed]
    began = time.monotonic()
    verified = coordinator.verify(category.slug)
    _worked(copy, desk, verified.id)
    verify = (time.monotonic() - began) / max(1, sampled) * total
    budgeted = 0.0
    if budget.rate_limit is not None and total:
        budgeted = dispatcher.cost(budget.rate_limit, total, _bytes(copy, run.id)) / budget.rate_limit.per_second
    slots = max(1, budget.parallel_workers)
    return CategoryRehearsal(
        category=category.slug,
        records=total,
        sampled=sampled,
        # At best all workers go as fast as the fastest part, at worst one by itself as slow as the slowest.
        migrate=Expected(
            least=max(budgeted, total / max(rates) / slots if rates else 0.0),
            most=max(budgeted, total / min(rates) if rates else 0.0),
        ),
        verify=Expected(least=verify / slots, most=verify),
        rejected=rejected,
    )


def _bytes(copy: System, run_id: int) -> int:
    with copy.ledger.begin() as session:
        run = runs.get(session, run_id)
    return run.bytes // max(1, run.done_records)


def _switched(copy: System, desk: Desk, switch: Switch, known: Sequence[Category]) -> tuple[Expected, list[str]]:
    """Switch there and back, and return how long writers were held back, and what kept the gate shut."""
    held: list[float] = []
    for _ in range(_SWITCHES):
        for category in known:
            order = full_pass.PassOrder(category=category.slug, policy=RepairPolicy.AUTO)
            _worked(copy, desk, full_pass.start(copy, order, actor=_WORKER).id)
        _report(copy)
        predicates = gate.look(copy)
        shut = [one for one in predicates if not one.holds]
        if shut:
            return Expected(least=0.0, most=0.0), [f"{one.name}: {one.evidence}" for one in shut]
        done = switch.leave_flat(lambda: gate.evidence(copy, predicates, actor=_WORKER))  # noqa: B023
        back = switch.return_to_flat()
        held += [one.barrier for one in (done, back) if one.barrier is not None]
        switch.enable()
    return Expected(least=min(held), most=max(held)), []


def _report(copy: System) -> None:
    with copy.ledger.begin() as session:
        workers.report(
            session, name=_WORKER, host="here", pid=1, slots=1, draining=False, memory_bytes=0, cpu_percent=0.0
        )


def _worked(copy: System, desk: Desk, run_id: int) -> model.Run:
    """Work a run's batches in this process until it has ended.

    Raises:
        errors.RunFailed: it has not succeeded.
    """
    while True:
        _report(copy)
        dispatcher.tick(copy)
        with copy.ledger.begin() as session:
            queued = [one for one in batches.listing(session, run_id) if one["status"] == "queued"]
        for one in queued:
            work.perform(copy, desk, run_id=run_id, seq=one["seq"], attempt=one["attempt"], owner=f"{_WORKER}/1")
        with copy.ledger.begin() as session:
            run = runs.get(session, run_id)
        if run.ended:
            if run.status is not model.RunStatus.SUCCEEDED:
                raise errors.RunFailed(f"{run.kind} of {run.category} failed in the rehearsal: {run.reason}")
            return run
        if not queued:
            time.sleep(_PAUSE)
