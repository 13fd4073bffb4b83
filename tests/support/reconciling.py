"""Two stores in dual-write with everything migrated, and the reconciler in this process."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

from hal9mig.engine import reconciliation_log
from hal9mig.engine.reconcile import reconciler
from hal9mig.engine.reconcile.reconciler import Done
from hal9mig.engine.transfer import follower
from hal9mig.ledger import drifts, quarantine, raised_alarms, rounds, sweeps
from tests.support import comparison, live_state, servers

NEURONS = live_state.NEURONS


class World(live_state.World):
    """Both stores of a test, the reconciler's rounds, and what these leave in the ledger and in their log."""

    def __init__(self, stores: servers.Stores, folder: pathlib.Path, **environ: str):
        super().__init__(stores, servers.environ(stores, folder) | {"HAL9_LOG_DIR": str(folder / "log")} | environ)
        self.log = folder / "log" / reconciliation_log.LOG_NAME

    def migrated(self, *categories: str, scale: float = 0.0002) -> None:
        """Load sample data, go to dual-write, and migrate these categories or all; rounds get through all they have."""
        self.load(scale)
        self.switch.enable()
        self.migrate(*categories)
        self.configure(reconcile_share="1")

    def round(self) -> Done:
        """Do a round, as if it were time for the next one."""
        self.hier_sql("UPDATE hal9mig.rounds SET began = began - interval '1 hour'")
        done = reconciler.round_(self.system, self.desk)
        assert done is not None
        return done

    @contextlib.contextmanager
    def lagging(self) -> Iterator[None]:
        """Nothing is applied for the length of a block, as if the appliers were far behind."""
        with self.system.ledger.begin() as session:
            assert follower.lane_lock(session, 0)
            yield

    def key(self, offset: int = 0) -> str:
        """Return a neuron's key."""
        return str(self.flat_sql(f"SELECT neuron_id FROM flat.neuron_states ORDER BY 1 OFFSET {offset} LIMIT 1")[0][0])

    def uncaptured(self, sql: str, *values: object) -> None:
        """Write neurons of the flat store so that capture does not see it."""
        self.flat_sql("ALTER TABLE flat.neuron_states DISABLE TRIGGER USER")
        self.flat_sql(sql, *values)
        self.flat_sql("ALTER TABLE flat.neuron_states ENABLE TRIGGER USER")

    def drop_unit(self, key: str) -> None:
        """Delete a neuron from the hierarchical store."""
        for table in ("unit_connections", "unit_learning", "units"):
            self.hier_sql(f"DELETE FROM hier.{table} WHERE unit_id = %s", key)

    def drifts(self, **more: Any) -> list[drifts.Drift]:
        """Return the drifts that were noted."""
        with self.system.ledger.begin() as session:
            return list(drifts.find(session, **more))

    def sweeps(self) -> dict[str, sweeps.Sweep]:
        """Return where each category's pass is, and since when it is clean."""
        with self.system.ledger.begin() as session:
            return dict(sweeps.find(session))

    def rounds(self) -> list[rounds.Round]:
        """Return the rounds, newest first."""
        with self.system.ledger.begin() as session:
            return list(rounds.newest(session))

    def held(self) -> list[quarantine.Held]:
        """Return what is in quarantine."""
        with self.system.ledger.begin() as session:
            return list(quarantine.find(session))

    def alarms(self) -> dict[str, raised_alarms.Alarm]:
        """Return the alarms that stand, by name."""
        with self.system.ledger.begin() as session:
            return {alarm.name: alarm for alarm in raised_alarms.find(session, open=True)}

    def lines(self, event: str) -> list[str]:
        """Return the log's lines of a kind."""
        return [line for line in self.log.read_text().splitlines() if f" event={event} " in f"{line} "]

    def assert_same(self, category: str) -> None:
        """Assert that both stores hold the same of a category."""
        comparison.assert_equal(self.stores, self.system.category(category))


@contextlib.contextmanager
def opened(stores: servers.Stores, folder: pathlib.Path, **environ: str) -> Iterator[World]:
    """Open a world for the length of a block."""
    world = World(stores, folder, **environ)
    try:
        yield world
    finally:
        world.close()
