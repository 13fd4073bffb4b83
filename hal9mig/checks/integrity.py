"""Integrity: constraints, references between a record's rows, the records' digests, and metadata's audit chain."""

from __future__ import annotations

import time
from collections.abc import Iterator

from hal9mig import model, units
from hal9mig.categories import metadata
from hal9mig.categories.declaration import Category
from hal9mig.checks import sample
from hal9mig.engine.compare import orphans
from hal9mig.engine.desk import Desk
from hal9mig.engine.system import System
from hal9mig.ledger.check_results import CheckOutcome, CheckVerdict
from hal9mig.stores import projection
from hal9mig.stores.connection import Connection

NAME = "integrity"
#: Audit entries that are read at a time.
_PAGE = 2000
#: Looks at a gap in a chain, and the seconds between them.
_LOOKS, _PAUSE = 10, 0.5
_FLAT, _HIER = model.StoreName.FLAT, model.StoreName.HIERARCHICAL
#: Where the audit entries of each store stand.
_AUDIT = {_FLAT: "flat.operational_metadata WHERE type = 'audit' AND", _HIER: "hier.audit_events WHERE"}


def check(system: System, category: Category, *, count: int, seed: int) -> CheckOutcome:
    """Look at what the stores say of themselves, and at the full digests of a sample of records.

    Args:
        count: records whose digests are compared; seed: which ones.
    """
    wanted = sample.keys(system, category, count, seed=seed)
    with sample.opened(system) as desk:
        flat, hier = desk.flat("check"), desk.hier("check")
        problems = [*_constraints(flat, category, _FLAT), *_constraints(hier, category, _HIER)]
        problems += _references(hier, category)
        found = sample.judged(system, desk, category, wanted)
        if found.drifting:
            named = ", ".join(f"{'/'.join(one.key)} ({one.kind})" for one in found.drifting[:3])
            problems.append(f"{len(found.drifting)} of {len(wanted):,} sampled records differ: {named}")
        chained = _chains(desk, category, problems, pending=found.pending > 0)
    measured = {"sampled": len(wanted), "both": len(found.both), "pending": found.pending, "problems": len(problems)}
    if problems:
        return CheckOutcome(
            category=category.slug, name=NAME, verdict=CheckVerdict.FAILED, measured=measured | chained,
            detail="; ".join(problems), next_command=f"hal9-migrate state diff --category {category.slug} --verbose",
        )  # fmt: skip
    if not wanted:
        return CheckOutcome(
            category=category.slug, name=NAME, verdict=CheckVerdict.SKIPPED, detail="there are no records",
            measured=measured,
        )  # fmt: skip
    told = f"constraints hold, no row without its record, digests of {len(wanted):,} sampled records: {found.told}"
    if chained:
        told += f"; the audit chain is whole in its order ({units.format_count(chained['chain'])} entries)"
    return CheckOutcome(
        category=category.slug, name=NAME, verdict=CheckVerdict.PASSED, measured=measured | chained, detail=told
    )


def _constraints(connection: Connection, category: Category, store: model.StoreName) -> Iterator[str]:
    tables = [category.source.qualified] if store is _FLAT else [target.qualified for target in category.targets]
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT conname, conrelid::regclass::text FROM pg_constraint "
            "WHERE NOT convalidated AND conrelid = ANY(%s::regclass[])",
            (tables,),
        )
        for name, table in cursor.fetchall():
            yield f"the constraint {name} of {table} was never checked against the rows that are there"
        cursor.execute(
            "SELECT i.indexrelid::regclass::text, i.indrelid::regclass::text FROM pg_index i "
            "WHERE NOT i.indisvalid AND i.indrelid = ANY(%s::regclass[])",
            (tables,),
        )
        for name, table in cursor.fetchall():
            yield f"the index {name} of {table} is not valid"


def _references(hier: Connection, category: Category) -> Iterator[str]:
    query = orphans.query(category, projection.Bounds())
    if query is None:
        return
    with hier, hier.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM ({query[0]}) o", query[1])
        (count,) = cursor.fetchone() or (0,)
    if count:
        yield f"{units.format_count(count)} records have rows without their root"


def _chains(desk: Desk, category: Category, problems: list[str], *, pending: bool) -> dict[str, int]:
    """Walk along the audit chain of each store, and note where it breaks.

    Args:
        pending: not all is migrated yet, so that the chain of the hierarchical store has gaps.
    """
    if category.slug != metadata.CATEGORY.slug:
        return {}
    flat = _walked(desk, _FLAT)
    if flat.broken:
        problems.append(f"the audit chain of the flat store breaks at entry {flat.broken[0]}")
    if pending:
        return {"chain": flat.entries}
    hier = _walked(desk, _HIER)
    for _ in range(_LOOKS):
        if hier.broken == flat.broken:
            break
        # Entries are brought over several at a time and not in their order: a gap of a moment closes.
        time.sleep(_PAUSE)
        hier = _walked(desk, _HIER)
    if hier.broken != flat.broken:
        entry = next(iter(hier.broken), None)
        problems.append(
            f"the audit chain of the hierarchical store breaks at entry {entry}, that of the flat one does not"
            if entry is not None
            else "the flat store's audit chain breaks where the hierarchical one's does not"
        )
    return {"chain": hier.entries}


def _walked(desk: Desk, store: model.StoreName) -> metadata.AuditChain:
    return metadata.verify_audit_chain(_entries(desk.store(store, "check"), store))


def _entries(connection: Connection, store: model.StoreName) -> Iterator[tuple[int, str]]:
    """Yield id and payload in the order of ids, all as of one instant and a page at a time."""
    after = -(1 << 63)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            while True:
                cursor.execute(
                    f"SELECT id, payload::text FROM {_AUDIT[store]} id > %s ORDER BY id LIMIT %s", (after, _PAGE)
                )
                rows = cursor.fetchall()
                yield from rows
                if len(rows) < _PAGE:
                    return
                after = rows[-1][0]
    finally:
        connection.rollback()
