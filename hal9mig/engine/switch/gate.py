"""The gate before a switch over: named predicates, each with its evidence and the next command."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from hal9mig import errors, model, units
from hal9mig.categories import identifiers
from hal9mig.categories.declaration import Category, Role
from hal9mig.engine.compare import digest
from hal9mig.engine.switch import lock_patience
from hal9mig.engine.system import System
from hal9mig.ledger import database, mode, quarantine, runs, tuning, workers
from hal9mig.stores import capture, capture_triggers, category_check, write_mode
from hal9mig.stores.connection import Connection
from hal9mig.stores.write_mode import Mode

#: Seconds of lag with which a switch is tried; the rest is brought over behind the barrier.
MOST_LAG = 5.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predicate:
    """One condition: whether it holds, what shows it, and the command that helps where it does not."""

    name: str
    holds: bool
    evidence: str
    next_command: str = ""


def look(system: System) -> Sequence[Predicate]:
    """Evaluate every predicate; nothing is changed.

    Raises:
        errors.Unreachable: a store does not answer.
    """
    categories = system.registry.ordered()
    with (
        contextlib.closing(system.flat()) as flat,
        contextlib.closing(system.hier()) as hier,
        system.ledger.begin() as session,
    ):
        return [
            _mode(session, flat),
            *(_coverage(session, flat, category) for category in categories),
            _runs(session),
            _quarantine(session),
            _drifts(session),
            _workers(session, system.settings.workers_hint),
            _lag(flat),
            *(_declared(flat, hier, category) for category in categories),
            *(_captured(flat, category) for category in categories),
            *(_clean_pass(session, category) for category in categories),
        ]


def require(found: Sequence[Predicate]) -> None:
    """Raise where a predicate does not hold.

    Raises:
        errors.GateClosed: with every blocker and its next command.
    """
    blockers = [predicate for predicate in found if not predicate.holds]
    if blockers:
        listed = "; ".join(f"{one.name}: {one.evidence}" for one in blockers)
        commands = list(dict.fromkeys(one.next_command for one in blockers if one.next_command))
        raise errors.GateClosed(
            f"The gate is closed by {len(blockers)} of {len(found)} predicates. {listed}.",
            hint=" ; ".join(commands),
        )


def evidence(system: System, found: Sequence[Predicate], *, actor: str) -> Mapping[str, Any]:
    """Return the certificate's document; call it behind the barrier, when nobody writes.

    Counts and digests of both sides are taken there, at the same state, and have to agree.

    Raises:
        errors.GateClosed: the sides differ, capture of the hierarchical side does not work, or somebody holds
            a lock for too long; who does is named.
    """
    counts, positions = lock_patience.hurried(system, _counted)
    return {
        "schema": 1,
        "kind": "hal9-migrate switch certificate",
        "at": datetime.datetime.now(datetime.UTC).isoformat(),
        "actor": actor,
        "predicates": [dataclasses.asdict(one) for one in found],
        "records": counts,
        "wal_positions": positions,
        "journal_empty": True,
        "reverse_capture": "a write to each table that holds rows was journalled, and undone",
    }


def _counted(system: System) -> tuple[Mapping[str, Mapping[str, int]], Mapping[str, str]]:
    """Return the records of each category, by side, and the position of each side."""
    with contextlib.closing(system.flat()) as flat, contextlib.closing(system.hier()) as hier:
        counts: dict[str, dict[str, int]] = {}
        for category in system.registry.ordered():
            sides = {
                model.StoreName.FLAT: _count(flat, category.source.qualified),
                model.StoreName.HIERARCHICAL: sum(_count(hier, root.qualified) for root in category.roots),
            }
            with system.ledger.begin() as session:
                held = quarantine.counts(session).get(category.slug, 0)
            if sides[model.StoreName.FLAT] != sides[model.StoreName.HIERARCHICAL] + held:
                raise errors.GateClosed(
                    f"{category.slug}: {units.format_count(sides[model.StoreName.FLAT])} flat records, "
                    f"{units.format_count(sides[model.StoreName.HIERARCHICAL])} hierarchical ones and {held} in "
                    "quarantine behind the barrier.",
                    hint="hal9-migrate reconcile --full",
                )
            counts[category.slug] = {str(side): count for side, count in sides.items()} | {"quarantined": held}
            _prove_capture(hier, category)
        return counts, {"flat": _position(flat), "hierarchical": _position(hier)}


def sealed(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a certificate with the hash of all the rest of it, which is its JSON with sorted names."""
    bare = {name: value for name, value in document.items() if name != "sha256"}
    text = json.dumps(bare, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return bare | {"sha256": hashlib.sha256(text.encode()).hexdigest()}


def _mode(session: database.Session, flat: Connection) -> Predicate:
    line, state = mode.read(session), write_mode.state(flat)
    under_way = line.target == Mode.HIERARCHICAL_ONLY
    good = state.mode is Mode.DUAL_WRITE or under_way
    return Predicate(
        name="write mode",
        holds=good,
        evidence=f"{state.mode}, epoch {state.epoch}" + (f", a switch is at step {line.step}" if under_way else ""),
        next_command="" if good else "hal9-migrate mode migration --enable",
    )


def _coverage(session: database.Session, flat: Connection, category: Category) -> Predicate:
    predicate, params = digest.covered(category, runs.covers(session, category.slug))
    with flat, flat.cursor() as cursor:
        cursor.execute(
            f"SELECT count(*), count(*) FILTER (WHERE {predicate}) FROM {category.source.qualified} s",
            params,
        )
        total, covered = cursor.fetchone() or (0, 0)
    return Predicate(
        name=f"coverage of {category.slug}",
        # A category that no run has ever covered is not covered, even when it is empty.
        holds=covered == total and predicate != digest.FALSE[0],
        evidence=f"{units.format_count(covered)} of {units.format_count(total)} migrated",
        next_command=f"hal9-migrate state migrate --category {category.slug}",
    )


def _runs(session: database.Session) -> Predicate:
    active = runs.find(session, kind=model.RunKind.MIGRATE, active=True)
    names = ", ".join(f"{run.name} ({run.category}, {run.status})" for run in active)
    return Predicate(
        name="no migration under way",
        holds=not active,
        evidence=names or "none",
        next_command="hal9-migrate runs list --active",
    )


def _quarantine(session: database.Session) -> Predicate:
    held = sum(quarantine.counts(session).values())
    allowed = int(str(tuning.value(session, "quarantine-policy")))
    return Predicate(
        name="quarantine within policy",
        holds=held <= allowed,
        evidence=f"{units.format_count(held)} held, {units.format_count(allowed)} allowed",
        next_command="hal9-migrate quarantine list",
    )


def _drifts(session: database.Session) -> Predicate:
    left = int(database.run(session, "live", "open_drifts").scalar_one())
    return Predicate(
        name="no drift left unrepaired",
        holds=left == 0,
        evidence=f"{units.format_count(left)} unrepaired",
        next_command="hal9-migrate state fix --auto",
    )


def _workers(session: database.Session, hint: str) -> Predicate:
    alive = [worker.name for worker in workers.accepting(session)]
    return Predicate(
        name="workers alive",
        holds=bool(alive),
        evidence=", ".join(alive) or "none",
        next_command=hint,
    )


def _lag(flat: Connection) -> Predicate:
    waiting = capture.lag(flat)
    records = sum(one.records for one in waiting.values())
    seconds = max((one.seconds for one in waiting.values()), default=0.0)
    return Predicate(
        name="lag",
        holds=seconds < MOST_LAG,
        evidence=f"{units.format_count(records)} writes, {units.format_duration(seconds)}; "
        "what is left is brought over behind the barrier",
        next_command="hal9-migrate state status",
    )


def _declared(flat: Connection, hier: Connection, category: Category) -> Predicate:
    with flat, hier:
        problems = category_check.problems(category, flat, hier)
    return Predicate(
        name=f"declaration of {category.slug}",
        holds=not problems,
        evidence="; ".join(problems) or "every column is declared or ignored by name",
        next_command="hal9-migrate db check",
    )


def _captured(flat: Connection, category: Category) -> Predicate:
    unseen = capture_triggers.findings(flat, category, model.StoreName.FLAT)
    return Predicate(
        name=f"capture of {category.slug}",
        holds=not unseen,
        evidence="; ".join(unseen) or "every table with its triggers",
        next_command="hal9-migrate mode migration --enable",
    )


def _clean_pass(session: database.Session, category: Category) -> Predicate:
    row = database.run(session, "live", "clean_pass", category=category.slug).one()
    good = row.clean_from is not None and row.clean_from > row.last_change
    found = "none yet" if row.clean_from is None else f"began {row.clean_from:%Y-%m-%d %H:%M:%S} UTC"
    return Predicate(
        name=f"clean pass over {category.slug}",
        holds=good,
        evidence=f"{found}; last change of its migration {row.last_change:%Y-%m-%d %H:%M:%S} UTC",
        next_command="hal9-migrate reconcile --full",
    )


def _count(connection: Connection, table: str) -> int:
    with connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}")
        row = cursor.fetchone()
    return int(row[0]) if row else 0


def _position(connection: Connection) -> str:
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_wal_lsn()::text")
        row = cursor.fetchone()
    return str(row[0]) if row else ""


def _prove_capture(hier: Connection, category: Category) -> None:
    """Write a row of each captured table as the application would, see it journalled, and undo it."""
    for target in category.owned:
        if target.role is Role.SHARED:
            continue
        try:
            with hier.cursor() as cursor:
                cursor.execute(capture.REHEARSE)
                cursor.execute("SELECT count(*) FROM hal9cap.journal")
                before = (cursor.fetchone() or (0,))[0]
                # Of a key that the database makes some are not to be updated, to whatever value.
                column = identifiers.quoted(
                    next((name for name in target.names if name not in target.key), target.owner[0])
                )
                cursor.execute(
                    f"UPDATE {target.qualified} SET {column} = {column} WHERE ctid IN "
                    f"(SELECT ctid FROM {target.qualified} LIMIT 1)"
                )
                touched = cursor.rowcount
                cursor.execute("SELECT count(*) FROM hal9cap.journal")
                after = (cursor.fetchone() or (0,))[0]
        finally:
            hier.rollback()
        if touched and after != before + 1:
            raise errors.GateClosed(
                f"A write to {target.qualified} was not captured.", hint="hal9-migrate mode migration --enable"
            )
