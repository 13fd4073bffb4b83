"""Checkpoints in a test: taken and restored in this process, with a keeper beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from hal9mig import model
from hal9mig.engine.checkpoint.archive import Archive
from hal9mig.engine.checkpoint.keeper import Keeper
from hal9mig.engine.checkpoint.manifest import Manifest
from hal9mig.engine.checkpoint.orders import CheckpointOrder, Checkpoints, Restored
from hal9mig.engine.switch import gate
from hal9mig.engine.system import System
from hal9mig.ledger import runs
from tests.support.live_state import execute
from tests.support.migration_driver import Driver, connected

SESSIONS, NEURONS, LEARNING = "user-sessions", "neuron-states", "learning-data"
CONFIGURATION, METADATA = "configuration", "metadata"
ALL = (SESSIONS, NEURONS, LEARNING, CONFIGURATION, METADATA)


class Keeping:
    """Takes and restores checkpoints of a driver's stores."""

    def __init__(self, driver: Driver):
        self.driver = driver
        self.checkpoints = Checkpoints(driver.system, actor="test")

    @property
    def archive(self) -> Archive:
        """Where they lie."""
        return self.checkpoints.archive

    def take(self, name: str, **order: Any) -> Manifest:
        """Take a checkpoint and return it; it has succeeded."""
        run = self.finished(self.checkpoints.take(CheckpointOrder(name=name, **order))[0])
        assert run.status is model.RunStatus.SUCCEEDED, run.reason
        return self.checkpoints.find(name)

    def roll_back(self, name: str, *categories: str, **options: Any) -> Restored:
        """Restore a checkpoint and return what was done; it has succeeded."""
        plan = self.checkpoints.plan_restore(name, categories)
        run = self.finished(self.checkpoints.rollback(plan, **options))
        assert run.status is model.RunStatus.SUCCEEDED, run.reason
        return self.checkpoints.outcome(run)

    def recover(self, name: str | None, *categories: str, quarantine: bool = True, each: bool = True) -> model.Run:
        """Recover from a checkpoint and return the run, however it ended."""
        plan = self.checkpoints.plan_restore(name, categories, recover=True)
        return self.finished(self.checkpoints.recover(plan, quarantine=quarantine, validate_each=each))

    def finished(self, run: model.Run) -> model.Run:
        """Work a run in this process until it has ended."""
        return self.driver.work(run.id)


@contextlib.contextmanager
def keeping(driver: Driver) -> Iterator[Keeping]:
    """Keep checkpoints of a driver's stores, with a keeper of its own."""
    keeper = Keeper(System(driver.system.settings, role="test keeper"), "keeper")
    keeper.start()
    try:
        yield Keeping(driver)
    finally:
        keeper.end()
        keeper.join()


def contents(url: str, schema: str) -> dict[str, tuple[int, str]]:
    """Return rows and a hash of every table of a schema, by a program that shares nothing with the product's."""
    found = {}
    with connected(url) as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = %s AND c.relkind = 'r' AND c.relname <> 'alembic_version' ORDER BY 1",
            (schema,),
        )
        for (name,) in cursor.fetchall():
            cursor.execute(
                f"SELECT count(*), coalesce(md5(string_agg(h, '' ORDER BY h)), '') "
                f"FROM (SELECT md5(record_send(t)) AS h FROM {schema}.{name} t) s"
            )
            found[name] = cursor.fetchone()
    return found


def both(driver: Driver) -> dict[str, dict[str, tuple[int, str]]]:
    """Return the contents of both stores."""
    return {
        "flat": contents(driver.stores.flat_url, "flat"),
        "hier": contents(driver.stores.hier_url, "hier"),
    }


def shape(url: str, schemas: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return what a schema's tables have beside their rows: columns, constraints, indexes, triggers, privileges."""
    queries = (
        "SELECT table_name, column_name, data_type, is_nullable, column_default, is_identity, generation_expression "
        "FROM information_schema.columns WHERE table_schema = ANY(%(schemas)s)",
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), condeferrable, convalidated "
        "FROM pg_constraint WHERE connamespace = ANY(%(schemas)s::regnamespace[])",
        "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = ANY(%(schemas)s)",
        "SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(oid), tgenabled FROM pg_trigger t "
        "WHERE NOT tgisinternal AND (SELECT relnamespace FROM pg_class WHERE oid = tgrelid) "
        "= ANY(%(schemas)s::regnamespace[])",
        "SELECT c.relname, c.relacl::text, c.relowner::regrole::text, c.reloptions, c.relkind::text FROM pg_class c "
        "WHERE c.relnamespace = ANY(%(schemas)s::regnamespace[]) AND c.relkind <> 't'",
    )
    found: list[tuple[Any, ...]] = []
    with connected(url) as cursor:
        for query in queries:
            cursor.execute(f"SELECT r::text FROM ({query}) r ORDER BY 1", {"schemas": list(schemas)})
            found += cursor.fetchall()
    return found


def change(driver: Driver) -> None:
    """Write to every category in both stores, as an application that has gone wrong."""
    execute(
        driver.stores.flat_url,
        "UPDATE flat.user_sessions SET user_agent = 'other' WHERE active;"
        "DELETE FROM flat.neuron_states WHERE layer = 'protocol'; DELETE FROM flat.learning_data;"
        "UPDATE flat.configuration SET value = '1'; DELETE FROM flat.operational_metadata WHERE type = 'audit'",
    )
    execute(
        driver.stores.hier_url,
        "DELETE FROM hier.unit_connections; UPDATE hier.sessions SET user_agent = 'other'",
    )


def whole(driver: Driver, category: str) -> set[int]:
    """Return the runs whose work stands whole."""
    with driver.system.ledger.begin() as session:
        return {one for one, _ in runs.whole(session, category)}


def coverage(driver: Driver) -> list[str]:
    """Return what the gate says about coverage."""
    return [one.evidence for one in gate.look(driver.system) if one.name.startswith("coverage")]
