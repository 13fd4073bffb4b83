"""How the time of a copy, a comparison and a checkpoint is shared: by process, by statement, by place in a worker.

Processor time is what the kernel has counted for each process. What the servers' sessions do is looked at many times a
second, as is where the workers are: a thing's share of the looks is its share of the time.
"""

from __future__ import annotations

import collections
import contextlib
import json
import pathlib
import re
import threading
from collections.abc import Iterator

import psutil

from tests.benchmarks.report import Figure, percent
from tests.benchmarks.world import SLUG, Pair, World, command, query, working

_EVERY = 0.02  # seconds between two looks at the servers' sessions
_MOST = 8  # statements and places that are shown
JOBS = {
    "copy, validation off": ("state", "migrate", "--category", SLUG, "--validation-mode", "off", "--merge", "--yes"),
    "copy, strict": ("state", "migrate", "--category", SLUG, "--validation-mode", "strict", "--merge", "--yes"),
    "verify": ("state", "verify", "--category", SLUG),
    "checkpoint": ("state", "checkpoint", "--full-backup", "--category", SLUG, "--name", "profiled"),
}
#: What a statement is for, by its first kilobyte, which is what a server shows of it; the first that fits.
_KINDS = (
    (r"COPY \(SELECT", "COPY of rows out"),
    (r"COPY (\S+)", r"COPY into \1"),
    (r"INSERT INTO hier\.", "merge of staged rows"),
    (r".*hal9mig\.", "the ledger"),
    (r".*hal9cap\.", "capture"),
    (r"SELECT.*int8send\(hash_record", "reading back, record by record"),
    (r"SELECT coalesce\(part", "digests of ranges"),
    (r"(COMMIT|BEGIN|ROLLBACK|SAVEPOINT|RELEASE|SET)", r"\1"),
)
_SESSIONS = (
    "SELECT pid, query, wait_event_type, wait_event FROM pg_stat_activity "
    "WHERE state = 'active' AND application_name LIKE 'hal9-migrate %'"
)


class _Sampler(threading.Thread):
    """Looks at a server's sessions until ``end``: how often each does what, and the processor time of its processes."""

    def __init__(self, url: str, server: psutil.Process):
        super().__init__(daemon=True)
        self.seen: collections.Counter[str] = collections.Counter()
        self.waits: collections.Counter[str] = collections.Counter()
        self._url = url
        self._server = server
        self._began: dict[psutil.Process, float] = {}
        self._last: dict[psutil.Process, float] = {}
        self._ended = threading.Event()

    def run(self) -> None:
        """Look."""
        self._began = self._processors()
        with query(self._url) as cursor:
            looks = 0
            while not self._ended.wait(_EVERY):
                cursor.execute(_SESSIONS)
                for row in cursor.fetchall():
                    self.seen[_kind(row["query"])] += 1
                    self.waits[f"{row['wait_event_type']}: {row['wait_event']}" if row["wait_event"] else "none"] += 1
                looks += 1
                if looks % 10 == 0:  # one that ends takes what it has not told with it
                    self._last |= self._processors()
        self._last |= self._processors()

    def end(self) -> float:
        """Stop looking; return the seconds of processor time that the server's processes have had."""
        self._ended.set()
        self.join()
        return sum(seconds - self._began.get(one, 0.0) for one, seconds in self._last.items())

    def _processors(self) -> dict[psutil.Process, float]:
        return dict(processor(one) for one in [self._server, *self._server.children(recursive=True)])


def server(url: str) -> psutil.Process:
    """Return the process that a server's sessions are children of."""
    with query(url) as cursor:
        cursor.execute("SELECT pg_backend_pid() AS pid")
        return psutil.Process(psutil.Process(cursor.fetchone()["pid"]).ppid())


def processor(process: psutil.Process) -> tuple[psutil.Process, float]:
    """Return a process with the seconds of processor time that it has had; 0 where it is gone."""
    with contextlib.suppress(psutil.Error):
        times = process.cpu_times()
        return process, times.user + times.system
    return process, 0.0


def _kind(statement: str) -> str:
    flat = " ".join(statement.split())
    for pattern, name in _KINDS:
        if found := re.match(pattern, flat):
            return found.expand(name)
    return flat[:50]


def measure(world: World, pair: Pair) -> list[Figure]:
    """Do each job once, with workers that note where they are; return what took which part of it."""
    figures: list[Figure] = []
    pair.empty()
    for job, words in JOBS.items():
        if job.startswith("copy"):
            pair.empty()
        file = world.folder / f"frames{len(figures)}.jsonl"
        env, args = {"HAL9_BENCH_FRAMES": str(file)}, ["--include", "tests.benchmarks.frames"]
        with (
            working(pair, env=env, args=args) as workers,
            _sampled(pair.flat_admin) as flat, _sampled(pair.hier_admin) as hier,
        ):  # fmt: skip
            pools = [one for worker in workers for one in worker.children()]
            before = [processor(one)[1] for one in pools]
            command(pair, *words)
            seconds = float(pair.last_run()["seconds"])
            worked = sum(processor(one)[1] - start for one, start in zip(pools, before, strict=True))
            servers = {"the flat server": flat.end(), "the hierarchical server": hier.end()}
        world.say(f"profile of {job}: {seconds:.1f} s, workers {worked:.1f} s of processor time")
        figures += _computed(job, pair.rows, seconds, {"workers": worked, **servers})
        figures += _shares(f"{job}: flat sessions", flat.seen, flat.waits)
        figures += _shares(f"{job}: hierarchical sessions", hier.seen, hier.waits)
        figures += _shares(f"{job}: workers", _places(file), collections.Counter())
    return figures


@contextlib.contextmanager
def _sampled(url: str) -> Iterator[_Sampler]:
    sampler = _Sampler(url, server(url))
    sampler.start()
    try:
        yield sampler
    finally:
        sampler.end()


def _places(file: pathlib.Path) -> collections.Counter[str]:
    seen: collections.Counter[str] = collections.Counter()
    if file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            seen.update(json.loads(line))
    return seen


def _computed(job: str, rows: int, seconds: float, spent: dict[str, float]) -> list[Figure]:
    return [
        Figure(
            what=f"{job}: processor time of {who}", ours=f"{1e6 * taken / rows:.1f} us a record",
            ratio=f"{taken / seconds:.2f} cores", detail={"seconds": taken, "of_seconds": seconds},
        )
        for who, taken in spent.items()
    ]  # fmt: skip


def _shares(where: str, seen: collections.Counter[str], waits: collections.Counter[str]) -> list[Figure]:
    total = sum(seen.values()) or 1
    return [
        Figure(what=f"{where}: {name}", ours=f"{count:,} looks", ratio=percent(count / total))
        for name, count in seen.most_common(_MOST)
    ] + [
        Figure(what=f"{where} wait for {name}", ours=f"{count:,} looks", ratio=percent(count / total))
        for name, count in waits.most_common(_MOST // 2)
        if name != "none" and count / total >= 0.02
    ]
