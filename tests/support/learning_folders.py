"""Learning data through files in one process: the three steps, each worked to its end."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from hal9mig import model
from hal9mig.engine.pattern_files.orders import ExportOrder, PatternFiles
from tests.support import live_state
from tests.support.migration_driver import Driver

LEARNING = "learning-data"
#: Records in three files, each of some steps.
RECORDS = 40
TUNED = {"batch-size": "15", "checkpoint-interval": "5"}


class Folders:
    """Exports, transforms and imports with a driver, which works the runs itself.

    Attributes:
        exported, transformed: the folders.
    """

    def __init__(self, driver: Driver, folder: pathlib.Path):
        self.driver = driver
        self.files = PatternFiles(driver.system, actor="test")
        self.exported, self.transformed = folder / "exported", folder / "transformed"

    def flat_sql(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement in the flat store, as an application does."""
        return live_state.execute(self.driver.stores.flat_url, sql, *values)

    def keys(self) -> list[str]:
        """Return the keys of the flat store's records, in their order."""
        return [key for (key,) in self.flat_sql("SELECT pattern_id::text FROM flat.learning_data ORDER BY pattern_id")]

    def export(self, *, layout: str = "hierarchical", tuned: Mapping[str, str] | None = None) -> model.Run:
        """Export and return the run, which has succeeded."""
        order = ExportOrder(folder=str(self.exported), layout=layout, tuning=dict(tuned or {}))
        return self.done(self.files.export(order)[0])

    def transform(self) -> model.Run:
        """Transform what was exported and return the run, which has succeeded."""
        run, _ = self.files.transform(str(self.exported), str(self.transformed), validate_schemas=True)
        assert run is not None
        return self.done(run)

    def begin(self, *, tuned: Mapping[str, str] | None = None) -> model.Run:
        """Start importing what was transformed and return the run."""
        order, _ = self.files.plan_import(str(self.transformed), tuned=dict(tuned or {}))
        return self.files.take(order)[0]

    def take(
        self, *, tuned: Mapping[str, str] | None = None, until: Callable[[], bool] = lambda: False
    ) -> model.Run:  # fmt: skip
        """Import what was transformed and return the run, which has succeeded."""
        return self.done(self.begin(tuned=tuned), until=until)

    def done(self, run: model.Run, *, until: Callable[[], bool] = lambda: False) -> model.Run:
        """Work a run to its end."""
        ended = self.driver.work(run.id, until=until)
        assert until() or ended.status is model.RunStatus.SUCCEEDED, ended.reason
        return ended
