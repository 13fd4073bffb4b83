"""Reads what pages show, at most once a second however many look, and says what does not answer."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from hal9mig import errors, model
from hal9mig.categories.declaration import Category
from hal9mig.dashboard import overview, run_view
from hal9mig.dashboard.aside import Aside
from hal9mig.dashboard.overview import Figures, Overview, Server, Surroundings
from hal9mig.dashboard.run_view import RunView
from hal9mig.engine import foreign_errors
from hal9mig.engine.checkpoint.orders import Checkpoints
from hal9mig.engine.checkpoint.types import CheckpointListing
from hal9mig.engine.coordinator import Coordinator
from hal9mig.engine.outage import Outage
from hal9mig.engine.reconcile import alarm_rules
from hal9mig.engine.reconcile.alarm_rules import JournalBacklog
from hal9mig.engine.system import System
from hal9mig.queue import broker
from hal9mig.settings import Settings
from hal9mig.stores import connection, store_size
from hal9mig.stores.store_size import Records

T = TypeVar("T")
FLAT, HIERARCHICAL, QUEUE = "flat store", "hierarchical store", "queue"
#: Seconds that a server has for an answer, and that a statement waits for a lock: a page is not waited for for long.
PATIENCE = 2.0
#: Seconds for which a page is not read again, and for which sizes and checkpoints are not.
_FRESH, _FRESH_ASIDE = 1.0, 30.0
_READING = "reading the ledger"
_LOOKERS = 8  # threads


@dataclasses.dataclass(frozen=True, kw_only=True)
class Away:
    """That a page cannot be shown: why, and which servers answer."""

    error: errors.HAL9Error
    servers: Sequence[Server]


class Reader:
    """Reads for all who look, from any thread.

    Args:
        resolved: the connection plane.
        categories: what is migrated.
    """

    def __init__(self, resolved: Settings, categories: Sequence[Category]):
        patient = min(PATIENCE, resolved.connect_timeout)
        self.settings = dataclasses.replace(resolved, connect_timeout=patient)
        self.system = System(self.settings, role="dashboard")
        self.system.patience = PATIENCE
        self._categories = categories
        self._outage = Outage()
        self._lock = threading.Lock()
        self._kept: dict[object, tuple[float, object]] = {}
        self._pool = ThreadPoolExecutor(_LOOKERS, thread_name_prefix="look")
        self._sizes: Aside[dict[str, Records | None]] = Aside(
            self._read_sizes, {}, pool=self._pool, fresh=_FRESH_ASIDE, patience=PATIENCE
        )
        self._checkpoints: Aside[tuple[CheckpointListing | None, str]] = Aside(
            self._read_checkpoints, (None, "It is being read."), pool=self._pool, fresh=_FRESH_ASIDE, patience=PATIENCE
        )

    def close(self) -> None:
        """Close the connections to the ledger; what is being read is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.system.ledger.close()

    def overview(self, *, before: int | None = None) -> Overview | Away:
        """Return where everything stands."""
        return self._once(("overview", before), lambda: self._overview(before))

    def figures(self) -> Figures | Away:
        """Return what monitoring is told beside the page."""
        return self._once("figures", lambda: self._tried(lambda: overview.figures(self.system), lambda: ()))

    def run(self, run_id: int) -> RunView | Away:
        """Return one run.

        Raises:
            errors.NotFound: there is none of this number.
        """
        return self._once(("run", run_id), lambda: self._run(run_id))

    def order(self, run_id: int, order: model.RunOrder, *, actor: str) -> None:
        """Do to a run what an operator wants, and read everything anew after it.

        Raises:
            errors.HAL9Error: it is not legal, or the ledger does not answer.
        """
        coordinator = Coordinator(self.system, actor=actor)
        try:
            getattr(coordinator, order.value)(run_id)
        except Exception as error:
            raise self._told(error) from error
        finally:
            with self._lock:
                self._kept.clear()

    # Reading

    def _once(self, key: object, read: Callable[[], T]) -> T:
        # One at a time: whoever comes meanwhile gets what was read for the one before.
        with self._lock:
            at, value = self._kept.get(key, (float("-inf"), None))
            if time.monotonic() - at <= _FRESH:
                return value  # type: ignore[return-value]
            fresh = read()
            if len(self._kept) > 100:
                self._kept.clear()
            self._kept[key] = (time.monotonic(), fresh)
            return fresh

    def _overview(self, before: int | None) -> Overview | Away:
        around = self._around()
        return self._tried(
            lambda: overview.read(self.system, self._categories, around, before=before), lambda: around.servers
        )

    def _run(self, run_id: int) -> RunView | Away:
        return self._tried(lambda: run_view.read(self.system, run_id), lambda: self._around().servers)

    def _tried(self, read: Callable[[], T], servers: Callable[[], Sequence[Server]]) -> T | Away:
        try:
            found = read()
        except errors.NotFound:
            raise
        except Exception as error:
            told = self._told(error)
            self._outage.failed(_READING, told)
            return Away(error=told, servers=servers())
        self._outage.passed(_READING)
        return found

    def _around(self) -> Surroundings:
        # Side by side: two that do not answer are waited for once.
        looks = [
            self._pool.submit(self._journal, self.settings.require_flat),
            self._pool.submit(self._journal, self.settings.require_hier),
        ]
        queue = self._pool.submit(self._depth)
        sizes = self._sizes.get()
        checkpoints, archive_trouble = self._checkpoints.get()
        (flat, flat_trouble), (hier, hier_trouble) = (look.result() for look in looks)
        messages, queue_trouble = queue.result()
        return Surroundings(
            servers=(
                Server(name=FLAT, trouble=flat_trouble),
                Server(name=HIERARCHICAL, trouble=hier_trouble),
                Server(name=QUEUE, trouble=queue_trouble),
            ),
            journals={FLAT: flat, HIERARCHICAL: hier},
            sizes=sizes,
            messages=messages,
            checkpoints=checkpoints,
            archive_trouble=archive_trouble,
        )

    def _journal(self, url: Callable[[], str]) -> tuple[JournalBacklog | None, str]:
        try:
            with contextlib.closing(
                connection.connect(
                    url(), application_name=self.system.role, connect_timeout=self.settings.connect_timeout
                )
            ) as opened:
                return alarm_rules.waiting(opened), ""
        except Exception as error:
            told = self._told(error)
            # Without capture, as after `finish`, the store is there all the same.
            return None, "" if isinstance(told, errors.SchemaBehind) else told.message

    def _depth(self) -> tuple[int | None, str]:
        try:
            broker.ping(self.settings.require_redis(), patience=PATIENCE)
            return self.system.broker.depth(), ""
        except Exception as error:
            return None, self._told(error).message

    def _read_sizes(self) -> dict[str, Records | None]:
        try:
            with connection.connected(
                self.settings.require_flat(),
                application_name=self.system.role,
                connect_timeout=self.settings.connect_timeout,
            ) as flat:
                return store_size.records(flat, self._categories)
        except Exception as error:
            self._told(error)  # its journal tells the trouble
            return {}

    def _read_checkpoints(self) -> tuple[CheckpointListing | None, str]:
        try:
            return Checkpoints(self.system).listing(), ""
        except Exception as error:
            return None, self._told(error).message

    def _told(self, error: Exception) -> errors.HAL9Error:
        """Return the error of ours that says what went wrong; what nobody knows is a fault of ours, and goes on."""
        found = foreign_errors.translated(error)
        if found is None:
            raise error
        return foreign_errors.fitting(found, self.settings)
