"""The client: reads and writes go to the store that rules, through every switch of the write mode."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import psycopg2
import psycopg2.errors

from hal9mig import errors, model, settings
from hal9mig.categories import filters, registry
from hal9mig.categories.declaration import Category
from hal9mig.categories.transform import Transform
from hal9mig.client import connections, sides, subscription, values
from hal9mig.client.hierarchical import HierarchicalSide
from hal9mig.client.mirror import Mirror
from hal9mig.client.ruling import Place, Ruling
from hal9mig.client.transaction import Transaction, Write
from hal9mig.model import StoreName
from hal9mig.stores import capture, domains, projection, write_mode
from hal9mig.stores import connection as stores
from hal9mig.stores.connection import Cursor
from hal9mig.stores.write_mode import Mode

log = logging.getLogger(__name__)
T = TypeVar("T")

#: Seconds that a call goes on trying while no store takes writes, or the ruling one is down.
PATIENCE = 30.0
#: Connections to each store that are kept open when nobody uses them.
_IDLE = 8
#: Records that a scan reads at a time.
PAGE = 500
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0
#: What passes by itself, with nothing written: serialization failure, deadlock.
_AGAIN = ("40001", "40P01")
_MOVED = (capture.STALE_EPOCH, capture.STORE_CLOSED)


@dataclasses.dataclass(kw_only=True)
class Counters:
    """What a client has done so far.

    Attributes:
        writes: that were acknowledged.
        mirrored, left: writes in dual-write that were brought to the other store at once, and those that
            are left to the workers.
        repeated: attempts that were undone and made again: a switch, a lost connection, a deadlock.
    """

    writes: int = 0
    mirrored: int = 0
    left: int = 0
    repeated: int = 0


class _Moved(Exception):
    """The store asked does not rule any more."""


def connect(
    resolved: settings.Settings | None = None,
    *,
    flat_url: str | None = None,
    hier_url: str | None = None,
    application_name: str = "hal9mig.client",
    patience: float = PATIENCE,
) -> Client:
    """Return a client.

    Args:
        resolved: the settings; without them those of the environment and the settings files.
        flat_url, hier_url: addresses of the stores, instead of those of the settings.
        application_name: shown in ``pg_stat_activity``.
        patience: seconds that a call goes on trying while no store takes writes, or the ruling one is down.

    Raises:
        errors.NotConfigured: an address is not known.
        errors.InvalidSettings, errors.InvalidCategory: a file cannot be read.
    """
    found = resolved or settings.load(environ=os.environ)
    flat = flat_url or found.require_flat()

    def connect() -> stores.Connection:
        return stores.connect(flat, application_name=application_name, connect_timeout=found.connect_timeout)

    return Client(
        flat_url=flat,
        hier_url=hier_url or found.require_hier(),
        categories=domains.resolved(registry.load(found.category_files), connect),
        noncritical=found.noncritical,
        application_name=application_name,
        connect_timeout=found.connect_timeout,
        patience=patience,
    )


class Client:
    """Reads, writes, deletes and scans records of every category; safe to share between threads.

    A record is a mapping of its category's flat columns, in every mode.

    Args:
        noncritical: operations that are paused during dual-write.
    """

    def __init__(
        self,
        *,
        flat_url: str,
        hier_url: str,
        categories: registry.Registry,
        noncritical: Collection[str] = (),
        application_name: str = "hal9mig.client",
        connect_timeout: float = 5.0,
        patience: float = PATIENCE,
    ):
        self.registry = categories
        self.noncritical = frozenset(noncritical)
        self.counters = Counters()
        self._patience = patience
        self._counting = threading.Lock()
        make = functools.partial(
            connections.pool, application_name=application_name, connect_timeout=connect_timeout, idle=_IDLE
        )
        self._pools = {
            StoreName.FLAT: make("flat", flat_url),
            StoreName.HIERARCHICAL: make("hierarchical", hier_url),
        }
        self._ruling = Ruling(self._pools)
        self._sides: Mapping[StoreName, sides.Side] = {
            StoreName.FLAT: sides.FlatSide(),
            StoreName.HIERARCHICAL: HierarchicalSide(self._transform),
        }
        self._mirror = Mirror(
            hier_url,
            self._pools[StoreName.FLAT],
            self._transform,
            application_name=application_name,
            connect_timeout=connect_timeout,
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are not in use."""
        for pool in self._pools.values():
            pool.clear()
        self._mirror.close()

    @property
    def mode(self) -> Mode:
        """The write mode, asked of the stores; ``closed`` while a switch is under way.

        Raises:
            errors.Unreachable: a store that would have to be asked cannot be reached.
        """
        place = self._ruling.look()
        return place.state.mode if place.open else Mode.CLOSED

    @contextlib.contextmanager
    def operation(self, name: str) -> Iterator[None]:
        """Guard a block that can wait until the migration is over.

        Raises:
            errors.OperationPaused: the name is on the list of the settings and dual-write is on, or a
                switch is under way.
        """
        if name in self.noncritical and self.mode in (Mode.DUAL_WRITE, Mode.CLOSED):
            raise errors.OperationPaused(f"The operation {name} is paused while the state is being migrated.")
        yield

    def get(self, category: str, key: Any) -> values.Record | None:
        """Return the record of a key, or None.

        Raises:
            errors.InvalidRecord: it is no key of this category.
            errors.Unreachable: the ruling store stays down.
        """
        found = self.registry.get(category)
        parameters = values.key_parameters(found, key)

        def read(side: sides.Side, cursor: Cursor) -> list[values.Record]:
            keys = projection.Keys(keys=[sides.spelled(cursor, found, parameters)])
            return side.read(cursor, found, keys, filters.EVERYTHING)

        return next(iter(self._read(read)), None)

    def scan(
        self, category: str, *, after: Any = None, limit: int | None = None, filter: str = ""
    ) -> Iterator[values.Record]:
        """Yield records in the order of their keys, texts by their bytes; the order is that of every mode.

        Records are read a page at a time, each page as it is when it is read.

        Args:
            after: the key behind which to begin.
            limit: how many at most.
            filter: ``field op value``, joined by commas, as in ``--filter``.

        Raises:
            errors.InvalidFilter: the filter has another form or names an unknown field.
            errors.Unreachable: the ruling store stays down.
        """
        found = self.registry.get(category)
        chosen = filters.parse(found, filter)
        parameters = None if after is None else values.key_parameters(found, after)
        return self._pages(found, chosen, parameters, limit)

    def _pages(
        self, category: Category, chosen: filters.Filter, after: tuple[Any, ...] | None, limit: int | None
    ) -> Iterator[values.Record]:
        left = limit
        while left is None or left > 0:
            start = after

            def read(side: sides.Side, cursor: Cursor) -> tuple[list[model.Key], list[values.Record]]:
                begin = None if start is None else sides.spelled(cursor, category, start)  # noqa: B023
                keys = side.keys(cursor, category, begin, PAGE)
                return keys, side.read(cursor, category, projection.Keys(keys=keys), chosen) if keys else []

            keys, records = self._read(read)
            yield from records if left is None else records[:left]
            if len(keys) < PAGE:
                return
            after = keys[-1]
            left = None if left is None else left - len(records)

    def put(self, category: str, record: Mapping[str, Any], *, expected_version: int | None = None) -> int | None:
        """Insert a record, or replace the one of its key, and return its version.

        A category's version always grows: the version is one more than what is there, or the record's
        own where that is larger; a new record without one begins at the server's clock, in microseconds.

        Args:
            record: every column of the category but the version, which may be left out.
            expected_version: write only when the record is at this version; 0 when there must be none.

        Raises:
            errors.Conflict: the record is at another version than expected.
            errors.InvalidRecord: it has another form than its category declares.
            errors.RecordRefused: it breaks a rule of the store, such as a unique value.
            errors.RecordRejected: the hierarchical store, which rules, cannot hold it.
            errors.OutcomeUnknown: the connection was lost at the commit, which may have happened.
            errors.WritesClosed: a switch of the mode did not end in time.
            errors.Unreachable: the ruling store stays down; nothing was written.
        """
        with self.transaction() as transaction:
            write = transaction.put(category, record, expected_version=expected_version)
        return write.version

    def delete(self, category: str, key: Any, *, expected_version: int | None = None) -> bool:
        """Delete the record of a key, and return whether there was one; raises as ``put`` does."""
        with self.transaction() as transaction:
            write = transaction.delete(category, key, expected_version=expected_version)
        return write.existed

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Collect writes, and make them all or none at the end of the block; raises there as ``put`` does.

        When the block raises, nothing is written.
        """
        collected = Transaction(self.registry)
        yield collected
        if collected.writes:
            self._make(collected.writes)

    def fetch(self, side: StoreName, category: str, keys: Sequence[model.Key]) -> list[values.Record]:
        """Return the records of these keys in one of the stores, whether it rules or not.

        Raises:
            errors.Unreachable: the store cannot be reached.
        """
        found = self.registry.get(category)
        with self._pools[side].taken() as connection, connection.cursor() as cursor:
            return self._sides[side].read(cursor, found, projection.Keys(keys=keys), filters.EVERYTHING)

    def place(self) -> Place:
        """Return which store rules, asked of the stores."""
        return self._ruling.look()

    def waiting(self) -> int:
        """Return how many written keys are still to be brought to the other store.

        Raises:
            errors.Unreachable: the ruling store cannot be reached.
        """
        with self._pools[self._ruling.look().side].taken() as connection:
            return sum(one.records for one in capture.lag(connection).values())

    @functools.lru_cache(maxsize=64)  # noqa: B019 - a client lives as long as its process
    def _transform(self, slug: str) -> Transform:
        return Transform(self.registry.get(slug))

    def _make(self, writes: Sequence[Write]) -> None:
        """Make writes on the side that rules, as often as it takes to be sure."""
        place = self._persist(lambda place: self._attempt(place, writes))
        self._count(writes=len(writes))
        if place.state.mode is Mode.DUAL_WRITE:
            brought = self._mirror.bring(list({(write.category.slug, write.key): None for write in writes}))
            self._count(**{"mirrored" if brought else "left": len(writes)})

    def _attempt(self, place: Place, writes: Sequence[Write]) -> Place:
        if not place.open:
            raise _Moved
        side = self._sides[place.side]
        with self._pools[place.side].taken() as connection, connection.cursor() as cursor:
            cursor.execute(
                "BEGIN ISOLATION LEVEL READ COMMITTED; SET CONSTRAINTS ALL DEFERRED; "
                "SELECT set_config('hal9.epoch', %s, true), set_config('lock_timeout', %s, true); "
                # Admitted before anything else, so that what follows is on the side that rules.
                "SELECT hal9cap.admit(%s)",
                (str(place.state.epoch), f"{max(1, round(self._patience * 1000))}ms", str(place.side)),
            )
            sides.resolve_keys(cursor, writes)
            side.lock(cursor, writes)
            for write in writes:
                side.write(cursor, write)
            subscription.announce(cursor, writes)
            sides.commit(connection, cursor)
        return place

    def _read(self, read: Callable[[sides.Side, Cursor], T]) -> T:
        """Read from the side that rules, and make sure that it ruled then."""

        def attempt(place: Place) -> T:
            with self._pools[place.side].taken() as connection, connection.cursor() as cursor:
                found = read(self._sides[place.side], cursor)
                # A later look than the reading's: as a mode never comes back with its epoch, it held all along.
                now = write_mode.state(connection)
            if now != place.state or (not place.open and self._ruling.look() != place):
                raise _Moved
            return found

        return self._persist(attempt)

    def _persist(self, attempt: Callable[[Place], T]) -> T:
        """Try until it works, what is wrong does not pass by itself, or the patience is at an end."""
        deadline = time.monotonic() + self._patience
        pause, first = _FIRST_PAUSE, True
        while True:
            # The first time what is known may be old, which the store says; after that ask.
            problem: errors.HAL9Error
            try:
                return attempt(self._ruling.known if first else self._ruling.look())
            except _Moved:
                problem = errors.WritesClosed()
            except errors.OutcomeUnknown:
                raise
            except (errors.Unreachable, errors.WritesClosed) as error:
                if isinstance(error, (errors.LoginRefused, errors.NotConfigured)):
                    raise
                problem = error
            except psycopg2.Error as error:
                problem = _translated(error)
                if error.pgcode not in (*_AGAIN, *_MOVED):
                    raise problem from error
            if time.monotonic() > deadline:
                raise problem
            self._count(repeated=1)
            if first:
                first = False
                continue
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _count(self, **more: int) -> None:
        with self._counting:
            for name, number in more.items():
                setattr(self.counters, name, getattr(self.counters, name) + number)


def _translated(error: psycopg2.Error) -> errors.HAL9Error:
    code, detail = error.pgcode or "", " ".join(str(error).split())
    if code in _MOVED:
        return errors.StaleEpoch(detail)
    if isinstance(error, psycopg2.errors.LockNotAvailable):
        return errors.TimedOut("Another transaction holds the record, or keeps a switch from ending.")
    if code[:2] in ("22", "23", "54"):
        return errors.RecordRefused(detail)
    return errors.HAL9Error(f"The store refused: {detail}")
