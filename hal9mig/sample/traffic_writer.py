"""One writer of traffic: what it does next, and what it knows of its own records."""

from __future__ import annotations

import contextlib
import random
import time
from typing import TYPE_CHECKING, Any, Protocol

from hal9mig import errors
from hal9mig.categories.registry import Registry
from hal9mig.client import Transaction
from hal9mig.client.values import Record
from hal9mig.sample import traffic_log, traffic_records
from hal9mig.sample.traffic_log import DELETE, DONE, FAILED, MAYBE, PUT

if TYPE_CHECKING:
    from hal9mig.sample.traffic import Traffic

#: Records of its own that a writer keeps, so that a long run does not fill the store.
_MOST_LIVE = 5000
#: Seconds that a writer holds still after an error, before it tries again.
_REST = 0.2

Key = tuple[str, Any]


class Port(Protocol):
    """Where writers write: the client, or plain SQL."""

    registry: Registry

    def get(self, category: str, key: Any) -> Record | None:
        """Return the record of a key."""

    def transaction(self) -> contextlib.AbstractContextManager[Transaction]:
        """Collect writes and make them at the end of the block."""


class TrafficWriter:
    """One writer, and what it knows of its keys."""

    def __init__(self, traffic: Traffic, number: int):
        self._traffic = traffic
        self._port = traffic.port
        # Other values in a further run on the same file: those of the first are taken.
        self._rng = random.Random(f"{traffic.plan.seed}:{number}:{traffic.log.earlier}")
        self._owner = f"{traffic.plan.seed}:{number}"
        self._made = 0
        #: Records by category and key; None where it has to be read first.
        self._live: dict[Key, Record | None] = {}
        self._dead: list[Key] = []
        self._adopted: set[Key] = set()

    def adopt(self, slug: str, key: Any) -> None:
        """Take a record that was there before into one's own."""
        self._live[slug, key] = None
        self._adopted.add((slug, key))

    def run(self) -> None:
        """Write at the pace that is this writer's share."""
        plan, stop = self._traffic.plan, self._traffic.stop
        interval = plan.writers / plan.rate
        due = time.monotonic() + self._rng.random() * interval
        while not stop.wait(max(0.0, due - time.monotonic())):
            try:
                self._step()
            except errors.HAL9Error as error:
                self._traffic.miss(error)
                stop.wait(_REST)
            # What was missed is not made up for: a burst after a stall is not the load asked for.
            due = max(due + interval, time.monotonic() - interval)

    def _step(self) -> None:
        draw = self._rng.random()
        if self._traffic.plan.hot and draw < 0.2:
            self._hot()
            return
        draw = self._rng.random()
        if not self._live or (draw < 0.30 and len(self._live) < _MOST_LIVE):
            self._insert()
            return
        if draw < 0.65:
            self._update()
            return
        if draw < 0.80 or len(self._live) >= _MOST_LIVE:
            self._delete()
            return
        if draw < 0.90:
            self._insert_again()
            return
        if draw < 0.95:
            self._swap()
        else:
            self._rename()

    def _insert(self) -> None:
        slug = self._rng.choice(self._traffic.plan.categories)
        self._made += 1
        key = (slug, traffic_records.fresh_key(slug, self._owner, self._made))
        self._write("insert", {key: self._new(key)})

    def _update(self) -> None:
        key = self._rng.choice(list(self._live))
        record = self._known(key)
        if record is not None:
            changed = traffic_records.changed(key[0], record, self._rng, self._traffic.targets)
            self._write("update", {key: changed})

    def _delete(self) -> None:
        key = self._rng.choice(list(self._live))
        if key in self._adopted and not traffic_records.deletable(key[0]):
            self._update()
            return
        self._write("delete", {key: None})

    def _insert_again(self) -> None:
        if not self._dead:
            self._delete()
            return
        key = self._dead[self._rng.randrange(len(self._dead))]
        self._write("re-insert", {key: self._new(key)})

    def _swap(self) -> None:
        """Let two sessions exchange their tokens, which are unique, in one transaction."""
        ours = [key for key in self._live if key[0] == traffic_records.SESSIONS]
        if len(ours) < 2:
            self._insert()
            return
        one, other = self._rng.sample(ours, 2)
        first, second = self._known(one), self._known(other)
        if first is None or second is None:
            return
        # By way of a third value, as the flat store's constraint is checked at each statement.
        parked = {**first, "token_hash": traffic_records.token(self._rng)}
        self._write(
            "swap",
            {other: {**second, "token_hash": first["token_hash"]}, one: {**first, "token_hash": second["token_hash"]}},
            before=(one, parked),
        )

    def _rename(self) -> None:
        """Give a record another key, keeping its unique values, in one transaction."""
        ours = [key for key in self._live if key not in self._adopted]
        if not ours:
            self._insert()
            return
        old = self._rng.choice(ours)
        record = self._known(old)
        if record is None:
            return
        self._made += 1
        new = (old[0], traffic_records.fresh_key(old[0], self._owner, self._made))
        name = self._port.registry.get(old[0]).key[0]
        self._write("key change", {old: None, new: {**record, name: new[1]}})

    def _hot(self) -> None:
        slug = self._rng.choice(self._traffic.plan.categories)
        number = self._rng.randrange(self._traffic.plan.hot)
        key = (slug, traffic_records.fresh_key(slug, f"{self._traffic.plan.seed}:hot", number))
        delete = self._rng.random() < 0.2
        self._write("hot delete" if delete else "hot put", {key: None if delete else self._new(key)}, hot=True)

    def _new(self, key: Key) -> Record:
        return traffic_records.made(key[0], key[1], self._rng, self._traffic.targets)

    def _known(self, key: Key) -> Record | None:
        """Return one of the own records, read where that is not known; None when it is not there."""
        record = self._live[key]
        if record is None:
            record = self._live[key] = self._port.get(*key)
            if record is None:
                self._bury(key)
        return record

    def _bury(self, key: Key) -> None:
        self._live.pop(key, None)
        if key not in self._dead:
            self._dead.append(key)

    def _write(
        self,
        operation: str,
        states: dict[Key, Record | None],
        *,
        before: tuple[Key, Record] | None = None,
        hot: bool = False,
    ) -> None:
        """Bring records to these states in one transaction, note it, and remember what they are now."""
        entries = [self._entry(key, record, hot) for key, record in states.items()]
        lines = self._traffic.log.begin(entries)
        started = time.monotonic()
        try:
            with self._port.transaction() as transaction:
                if before is not None:
                    transaction.put(before[0][0], _unversioned(before[1]))
                writes = [
                    transaction.delete(*key) if record is None else transaction.put(key[0], _unversioned(record))
                    for key, record in states.items()
                ]
        except errors.HAL9Error as error:
            maybe = isinstance(error, errors.OutcomeUnknown)
            self._traffic.log.end(lines, MAYBE if maybe else FAILED)
            if maybe and not hot:
                for key in states:
                    self._live[key] = None
                    self._undead(key)
            raise
        self._traffic.log.end(lines, DONE, [write.version for write in writes])
        self._traffic.acknowledge(operation, len(lines), time.monotonic() - started)
        if hot:
            return
        for key, record in states.items():
            if record is None:
                self._bury(key)
            else:
                self._live[key] = record
                self._undead(key)

    def _undead(self, key: Key) -> None:
        with contextlib.suppress(ValueError):
            self._dead.remove(key)

    def _entry(self, key: Key, record: Record | None, hot: bool) -> dict[str, Any]:
        category = self._port.registry.get(key[0])
        return {
            "category": key[0],
            "key": [str(key[1])],
            "op": DELETE if record is None else PUT,
            "hash": None if record is None else traffic_log.fingerprint(category, record),
            "hot": hot,
        }


def _unversioned(record: Record) -> Record:
    return {name: value for name, value in record.items() if name != "version"}
