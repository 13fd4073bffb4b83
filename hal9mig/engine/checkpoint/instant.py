"""One instant of both stores: two exported snapshots, tied together so that they are a pair.

The stores are different databases, so no one snapshot holds both. While the two are taken nobody
applies anything from the ruling store to the other one. Then every write of the ruling store's snapshot
that the other snapshot does not have stands in the ruling journal, as of the same snapshot; and the
other snapshot has no write that the ruling one has not. Applying that journal makes the pair equal.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg2
import psycopg2.errors

from hal9mig import errors, model
from hal9mig.categories.declaration import Category
from hal9mig.engine.system import System
from hal9mig.engine.transfer import fence
from hal9mig.ledger import database, instants, mode, runs
from hal9mig.ledger.instants import Instant
from hal9mig.stores import schema, write_mode
from hal9mig.stores.connection import Connection

#: Seconds that appliers may be kept waiting, and that a switch of the mode is waited for.
PATIENCE = 2.0


@dataclasses.dataclass(kw_only=True)
class Taken:
    """Snapshots that live until ``close``.

    Attributes:
        snapshots: the name under which each store exports its own.
        positions: where everything stood, as JSON.
    """

    snapshots: Mapping[model.StoreName, str]
    positions: Mapping[str, Any]
    _holding: contextlib.ExitStack
    _flat: Connection
    _hier: database.Session

    def alive(self) -> bool:
        """Whether both snapshots are still held."""
        try:
            with self._flat.cursor() as cursor:
                cursor.execute("SELECT 1")
            self._hier.execute("SELECT 1")
        except Exception:
            # Whatever it is: who cannot be asked holds nothing that could be trusted.
            return False
        return True

    def close(self) -> None:
        """Let the snapshots go."""
        with contextlib.suppress(psycopg2.Error, errors.HAL9Error):
            self._holding.close()


def take(system: System, categories: Sequence[Category]) -> Taken:
    """Take both snapshots at one instant and export them.

    Raises:
        errors.Refused: a switch of the write mode is half way; it has to be finished first.
        errors.GateClosed: a worker or a client is applying a write, for longer than they may be kept waiting.
        errors.Unreachable, psycopg2.Error: a store failed.
    """
    with contextlib.ExitStack() as stack:
        system = system.direct()
        flat = stack.enter_context(contextlib.closing(system.flat()))
        ledger = stack.enter_context(contextlib.closing(_own_ledger(system)))
        flat.set_session(isolation_level="REPEATABLE READ", readonly=True)
        with system.ledger.begin() as guard:
            # The mode stays what it is until both are taken.
            guard.execute(f"SET LOCAL lock_timeout = '{int(PATIENCE * 1000)}ms'")
            mode.lock_switch(guard)
            line = mode.read(guard)
            if line.target is not None:
                raise errors.Refused(
                    f"A switch to {line.target} is half way, so the stores have no state that could be kept.",
                    hint="hal9-migrate mode",
                )
            ruling = write_mode.Mode(line.mode).ruling
            with contextlib.closing(_target(system, ruling)) as target, fence.closed(target, patience=PATIENCE):
                hier = stack.enter_context(ledger.snapshot())
                snapshots = {
                    model.StoreName.FLAT: _export_flat(flat, categories),
                    model.StoreName.HIERARCHICAL: _export_hier(hier, categories),
                }
        found = _positions(system, categories, line, flat, hier)
        return Taken(snapshots=snapshots, positions=found, _holding=stack.pop_all(), _flat=flat, _hier=hier)


@contextlib.contextmanager
def under(connection: Connection, instant: Instant, store: model.StoreName) -> Iterator[psycopg2.extensions.cursor]:
    """Read a store as it was at an instant, for the length of a block.

    Raises:
        errors.InstantLost: the snapshot is gone.
    """
    connection.rollback()
    connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
    try:
        with connection.cursor() as cursor:
            try:
                cursor.execute("SET TRANSACTION SNAPSHOT %s", (instant.snapshot(store),))
            except (psycopg2.errors.InvalidParameterValue, psycopg2.errors.UndefinedObject):
                raise errors.InstantLost("The snapshot that this checkpoint was read under is gone.") from None
            yield cursor
    finally:
        if not connection.closed:
            connection.rollback()
            connection.set_session(isolation_level="READ COMMITTED", readonly=False)


def _own_ledger(system: System) -> database.Ledger:
    """Return the ledger on a connection of its own: it is held for as long as the checkpoint takes."""
    return database.Ledger(
        system.settings.direct_urls()[1],
        application_name=f"{system.role} instant",
        connect_timeout=system.settings.connect_timeout,
        pool_size=1,
    )


def _target(system: System, ruling: model.StoreName) -> Connection:
    return system.hier() if ruling is model.StoreName.FLAT else system.flat()


def _export_flat(flat: Connection, categories: Sequence[Category]) -> str:
    # The locks come before the snapshot: a table that is swapped afterwards would look empty under it.
    tables = [*(one.source.qualified for one in categories), "hal9cap.journal"]
    with flat.cursor() as cursor:
        cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        cursor.execute(f"LOCK TABLE {', '.join(dict.fromkeys(tables))} IN ACCESS SHARE MODE")
        cursor.execute("SELECT pg_export_snapshot()")
        row = cursor.fetchone()
    return str(row[0]) if row else ""


def _export_hier(hier: database.Session, categories: Sequence[Category]) -> str:
    tables = [target.qualified for one in categories for target in one.targets]
    tables += ["hal9cap.journal", "hal9mig.quarantine"]
    hier.execute(f"LOCK TABLE {', '.join(dict.fromkeys(tables))} IN ACCESS SHARE MODE")
    return str(hier.execute("SELECT pg_export_snapshot()").scalar_one())


def _positions(
    system: System, categories: Sequence[Category], line: mode.ModeLine, flat: Connection, hier: database.Session
) -> Mapping[str, Any]:
    opened = {model.StoreName.FLAT: flat, model.StoreName.HIERARCHICAL: hier.connection}
    states = {store: write_mode.state(connection) for store, connection in opened.items()}
    current = schema.status(system.settings.require_flat(), system.settings.require_hier())
    return {
        "mode": line.mode,
        "epoch": line.epoch,
        "ledger": instants.positions(hier),
        "covers": {
            one.slug: [dataclasses.asdict(cover) for cover in runs.covers(hier, one.slug)] for one in categories
        },
        "runs": {one.slug: runs.whole(hier, one.slug) for one in categories},
        "transforms": {one.slug: one.transform_version for one in categories},
        "stores": {
            str(store): {"state": states[store].mode, "epoch": states[store].epoch, **_server(connection)}
            for store, connection in opened.items()
        },
        "schemas": {state.name: state.current for state in current},
    }


def _server(connection: Connection) -> Mapping[str, object]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_database(), current_setting('server_version'), pg_current_snapshot()::text, "
            "clock_timestamp()::text, CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() "
            "ELSE pg_current_wal_lsn() END::text"
        )
        row = cursor.fetchone()
    names = ("database", "server_version", "snapshot", "at", "wal_position")
    return dict(zip(names, row or (), strict=True))
