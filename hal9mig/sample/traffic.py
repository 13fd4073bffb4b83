"""Live writes to try a migration under: writers that insert, update, delete and re-insert.

Each writer owns its keys, new ones and a share of those that were there, so that the last of its
acknowledged writes is what has to be in the store. Hot keys are everybody's; there versions decide.
What a writer does follows from the seed and its number.
"""

from __future__ import annotations

import array
import dataclasses
import pathlib
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from hal9mig import errors
from hal9mig.client import Client
from hal9mig.client.values import Record
from hal9mig.sample import traffic_records
from hal9mig.sample.traffic_log import TrafficLog
from hal9mig.sample.traffic_writer import Port, TrafficWriter


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrafficPlan:
    """What is asked for.

    Attributes:
        rate: writes a second of all writers together.
        duration: seconds.
        writes: stop after this many acknowledged writes, or None.
        hot: shared keys of each category.
        existing: records of each category that were there before and are written too.
    """

    categories: Sequence[str]
    writers: int
    rate: float
    duration: float
    seed: int
    writes: int | None = None
    hot: int = 0
    existing: int = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """What was done.

    Attributes:
        writes: records whose write was acknowledged.
        operations: acknowledged transactions of each kind.
        failed: transactions that were not made, by their error's code; ``reasons`` has the first of each.
        maybe: transactions whose outcome nobody knows.
        p50, p95, most: latencies of acknowledged transactions, in seconds.
        stall: the longest time in which none of the writers got anything acknowledged.
    """

    seconds: float
    writes: int
    operations: dict[str, int]
    failed: dict[str, int]
    reasons: dict[str, str]
    maybe: int
    p50: float
    p95: float
    most: float
    stall: float


class Traffic:
    """Runs the writers.

    Args:
        existing: gives records of a category that were there before, at most so many.
        stop: ends it before its time when set.
    """

    def __init__(
        self,
        plan: TrafficPlan,
        port: Port,
        path: pathlib.Path,
        existing: Callable[[str, int], Iterator[Record]],
        *,
        stop: threading.Event | None = None,
    ) -> None:
        self.plan = plan
        self.port = port
        self.log = TrafficLog(path)
        self.stop = stop or threading.Event()
        self.targets: list[str] = []
        self._lock = threading.Lock()
        self._operations: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._reasons: dict[str, str] = {}
        self._latencies = array.array("d")
        self._maybe = self._acknowledged = 0
        self._last = self._stall = 0.0
        self._existing = existing
        self._fault: BaseException | None = None

    def run(self) -> Summary:
        """Run until the time is up, enough is written, or ``stop`` is set."""
        writers = [TrafficWriter(self, number) for number in range(self.plan.writers)]
        self._share_out(writers)
        started = self._last = time.monotonic()
        threads = [threading.Thread(target=self._guarded, args=(writer,), daemon=True) for writer in writers]
        for thread in threads:
            thread.start()
        self.stop.wait(self.plan.duration)
        self.stop.set()
        for thread in threads:
            thread.join()
        self.log.close()
        if self._fault is not None:
            raise self._fault
        ended = time.monotonic()
        sorted_ones = sorted(self._latencies)
        return Summary(
            seconds=ended - started,
            writes=self._acknowledged,
            operations=dict(sorted(self._operations.items())),
            failed=dict(sorted(self._failed.items())),
            reasons=self._reasons,
            maybe=self._maybe,
            p50=_quantile(sorted_ones, 0.5),
            p95=_quantile(sorted_ones, 0.95),
            most=sorted_ones[-1] if sorted_ones else 0.0,
            stall=max(self._stall, ended - self._last),
        )

    def _guarded(self, writer: TrafficWriter) -> None:
        try:
            writer.run()
        except BaseException as error:
            # Traffic that goes on with fewer writers than asked for would only look like traffic.
            self._fault = error
            self.stop.set()

    def _share_out(self, writers: Sequence[TrafficWriter]) -> None:
        for slug in (traffic_records.NEURONS, *self.plan.categories):
            category = self.port.registry.get(slug)
            for record in self._existing(slug, self.plan.existing):
                key = record[category.key[0]]
                if slug == traffic_records.NEURONS and len(self.targets) < self.plan.existing:
                    self.targets.append(key)
                if slug in self.plan.categories and traffic_records.writable(slug, record):
                    writers[zlib.crc32(str(key).encode()) % len(writers)].adopt(slug, key)

    def acknowledge(self, operation: str, writes: int, seconds: float) -> None:
        """Count a transaction that was acknowledged."""
        now = time.monotonic()
        with self._lock:
            self._operations[operation] += 1
            self._latencies.append(seconds)
            self._acknowledged += writes
            self._stall = max(self._stall, now - self._last)
            self._last = now
            if self.plan.writes is not None and self._acknowledged >= self.plan.writes:
                self.stop.set()

    def miss(self, error: errors.HAL9Error) -> None:
        """Count a transaction that failed, or whose outcome nobody knows."""
        with self._lock:
            if isinstance(error, errors.OutcomeUnknown):
                self._maybe += 1
            else:
                self._failed[error.code] += 1
                self._reasons.setdefault(error.code, error.message)


def _quantile(values: Sequence[float], share: float) -> float:
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def existing_of(client: Client) -> Callable[[str, int], Iterator[Record]]:
    """Return what gives records that are there, by the client."""
    return lambda slug, limit: client.scan(slug, limit=limit) if limit else iter(())
