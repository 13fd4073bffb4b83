"""Writes by plain SQL on the flat store, as an application that knows nothing of this system makes them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import psycopg2

from hal9mig import errors
from hal9mig.categories import filters
from hal9mig.categories.registry import Registry
from hal9mig.client import Transaction, connections, sides, values
from hal9mig.client.values import Record
from hal9mig.stores import capture, projection, write_mode

#: Seconds between two looks whether the flat store takes writes again.
_LOOK = 0.2
_SIDE = sides.FlatSide()


class Bypass:
    """A port of traffic that carries no epoch and follows no switch: it writes while the flat store takes it.

    Args:
        stop: ends waiting.
    """

    def __init__(self, flat_url: str, registry: Registry, stop: threading.Event):
        self.registry = registry
        self._stop = stop
        self._pool = connections.pool("flat", flat_url, application_name="hal9-traffic", connect_timeout=5.0, idle=64)

    def get(self, category: str, key: Any) -> Record | None:
        """Return the record of a key in the flat store."""
        found = self.registry.get(category)
        with self._pool.taken() as connection, connection.cursor() as cursor:
            keys = projection.Keys(keys=[sides.spelled(cursor, found, values.key_parameters(found, key))])
            return next(iter(_SIDE.read(cursor, found, keys, filters.EVERYTHING)), None)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Collect writes and make them at the end of the block.

        Raises:
            errors.WritesClosed: the flat store took no writes; it does by now, or traffic ends.
            errors.OutcomeUnknown: the connection was lost at the commit.
            errors.RecordRefused: the server refused them.
        """
        collected = Transaction(self.registry)
        yield collected
        try:
            with self._pool.taken() as connection, connection.cursor() as cursor:
                cursor.execute("BEGIN")
                sides.resolve_keys(cursor, collected.writes)
                for write in collected.writes:
                    _SIDE.write(cursor, write)
                sides.commit(connection, cursor)
        except psycopg2.Error as error:
            if error.pgcode != capture.STORE_CLOSED:
                raise errors.RecordRefused(" ".join(str(error).split())) from error
            self._wait()
            raise errors.WritesClosed from error

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def _wait(self) -> None:
        while not self._stop.wait(_LOOK):
            with contextlib.suppress(errors.HAL9Error), self._pool.taken() as connection:
                if write_mode.state(connection).mode in (write_mode.Mode.FLAT_ONLY, write_mode.Mode.DUAL_WRITE):
                    return
