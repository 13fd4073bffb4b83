"""Compares what traffic was told is written with what the stores hold."""

from __future__ import annotations

import dataclasses
import enum
import pathlib
from collections.abc import Iterable, Sequence

from hal9mig import errors, units
from hal9mig.client import Client
from hal9mig.client.values import Record
from hal9mig.model import Key, StoreName
from hal9mig.sample import traffic_log
from hal9mig.sample.traffic_log import BEGUN, DONE, FAILED, MAYBE, PUT, Line

_CHUNK = 500
#: Versions further apart than those of two writes that go on together: a new record's is the server's clock in
#: microseconds, and that of one that comes back after its deletion is a lower one where the clock was put back.
_APART = 500_000
Subject = tuple[str, Key]


class TrafficProblem(enum.StrEnum):
    """What can be wrong with a record."""

    #: An acknowledged write is not there at all.
    MISSING = "missing"
    #: The store holds an earlier state than the last acknowledged one.
    OLD = "old"
    #: The last acknowledged write was a deletion, and the record is there.
    RESURRECTED = "resurrected"
    #: The store holds what no write of the file was.
    OTHER = "other"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrafficFinding:
    """A record that is not as it was acknowledged."""

    store: StoreName
    category: str
    key: Key
    problem: TrafficProblem
    expected: str
    found: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checked:
    """What a check found.

    Attributes:
        acknowledged, maybe, failed: writes of the file.
        keys: records compared in each store; ``undecided`` had no acknowledged write.
    """

    stores: Sequence[StoreName]
    acknowledged: int
    maybe: int
    failed: int
    keys: int
    undecided: int
    findings: Sequence[TrafficFinding]

    def count(self, problem: TrafficProblem) -> int:
        """Return how many records have a problem."""
        return sum(finding.problem is problem for finding in self.findings)


@dataclasses.dataclass(kw_only=True)
class _History:
    """The acknowledged writes of one key, and those that may have happened after the last of them.

    Attributes:
        ended: the place in the file at which the last one was acknowledged.
    """

    last: Line | None = None
    ended: int = 0
    earlier: set[str | None] = dataclasses.field(default_factory=set)
    maybes: list[Line] = dataclasses.field(default_factory=list)

    def acknowledge(self, line: Line, *, began: int, ended: int) -> None:
        # What began after the other was acknowledged came after it, whatever clock their versions are of; only of
        # two that went on together do versions tell.
        if line.hot and self.last is not None and began < self.ended and _rank(line) < _rank(self.last):
            if (self.last.version or 0) - (line.version or 0) > _APART:
                self.maybes.append(line)
            self.earlier.add(line.hash)
            return
        if self.last is not None:
            self.earlier.add(self.last.hash)
        self.last, self.ended = line, ended
        if not line.hot:
            # One writer, one after the other: what came before cannot come after.
            self.maybes.clear()


def _rank(line: Line) -> tuple[int, bool]:
    """Order the writes of a hot key: by version, and a deletion after the version that it took away."""
    return line.version or 0, line.op != PUT


def check(path: pathlib.Path, client: Client, stores: Sequence[StoreName] = ()) -> Checked:
    """Compare a file with stores; without names, with the one that rules now.

    Raises:
        errors.UsageError: it is no file of traffic's.
        errors.Refused: the file holds no acknowledged write, or both stores are asked for and a journal
            still holds writes.
        errors.Unreachable: a store cannot be reached.
    """
    histories, counts = _histories(path)
    chosen = list(stores) or [client.place().side]
    if len(chosen) > 1:
        waiting = client.waiting()
        if waiting:
            raise errors.Refused(
                f"{units.format_count(waiting)} writes wait in a journal, so the stores cannot be alike yet.",
                hint="try again when hal9-migrate mode shows empty journals",
            )
    decided = {subject: history for subject, history in histories.items() if history.last is not None}
    if not decided:
        raise errors.Refused(f"{path} holds no acknowledged write, so there is nothing to compare.", hint="")
    findings = [finding for store in chosen for finding in _compare(client, store, decided)]
    return Checked(
        stores=chosen,
        acknowledged=counts[DONE],
        maybe=counts[MAYBE],
        failed=counts[FAILED],
        keys=len(decided),
        undecided=len(histories) - len(decided),
        findings=findings,
    )


def _histories(path: pathlib.Path) -> tuple[dict[Subject, _History], dict[str, int]]:
    histories: dict[Subject, _History] = {}
    counts = {DONE: 0, MAYBE: 0, FAILED: 0}
    begun: dict[tuple[str, int], tuple[int, Line]] = {}
    for place, line in enumerate(traffic_log.read(path)):
        history = histories.setdefault((line.category, line.key), _History())
        if line.state == BEGUN:
            # It counts as one that may have happened, until its other line is read.
            begun[line.run, line.n] = place, line
            history.maybes.append(line)
            continue
        counts[line.state] += 1
        began, first = begun.pop((line.run, line.n), (place, None))
        if line.state == MAYBE:
            continue
        if first in history.maybes:
            history.maybes.remove(first)
        # Deleting a hot key that was not there says nothing about which write came last.
        if line.state == DONE and not (line.hot and line.version is None):
            history.acknowledge(line, began=began, ended=place)
    counts[MAYBE] += len(begun)
    return histories, counts


def _compare(client: Client, store: StoreName, histories: dict[Subject, _History]) -> Iterable[TrafficFinding]:
    for slug in sorted({category for category, _ in histories}):
        category = client.registry.get(slug)
        keys = [key for found, key in histories if found == slug]
        for start in range(0, len(keys), _CHUNK):
            chunk = keys[start : start + _CHUNK]
            records = client.fetch(store, slug, chunk)
            held = {tuple(str(record[name]) for name in category.key): record for record in records}
            for key in chunk:
                record = held.get(key)
                fingerprint = None if record is None else traffic_log.fingerprint(category, record)
                version = None if record is None or not category.source.version else record[category.source.version]
                problem = _problem(histories[slug, key], record, fingerprint, version)
                if problem is not None:
                    last = histories[slug, key].last
                    assert last is not None
                    yield TrafficFinding(
                        store=store,
                        category=slug,
                        key=key,
                        problem=problem,
                        expected="no record" if last.op != PUT else f"version {last.version}, {last.hash}",
                        found="no record" if record is None else f"version {version}, {fingerprint}",
                    )


def _problem(
    history: _History, record: Record | None, fingerprint: str | None, version: int | None
) -> TrafficProblem | None:
    last = history.last
    assert last is not None
    if any(maybe.hash == fingerprint for maybe in history.maybes):
        return None  # None for a deletion, and for no record
    if last.op != PUT:
        return None if record is None else TrafficProblem.RESURRECTED
    if record is None:
        return TrafficProblem.MISSING
    if fingerprint == last.hash and version == last.version:
        return None
    older = version is not None and last.version is not None and version < last.version
    return TrafficProblem.OLD if older or fingerprint in history.earlier else TrafficProblem.OTHER
