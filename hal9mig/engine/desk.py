"""A worker process's open connections, kept from batch to batch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import psycopg2

from hal9mig import model
from hal9mig.engine.system import System
from hal9mig.stores.connection import Connection, lost


class Desk:
    """A worker process's open connections, kept from batch to batch; ``clear`` after any doubt."""

    def __init__(self, system: System):
        self._system = system
        self._open: dict[str, Connection] = {}

    def flat(self, purpose: str) -> Connection:
        """Return the flat store's connection of this purpose."""
        return self._kept(f"flat {purpose}", self._system.flat)

    def hier(self, purpose: str) -> Connection:
        """Return the hierarchical store's connection of this purpose."""
        return self._kept(f"hier {purpose}", self._system.hier)

    def store(self, store: model.StoreName, purpose: str) -> Connection:
        """Return a store's connection of this purpose."""
        return self.flat(purpose) if store is model.StoreName.FLAT else self.hier(purpose)

    @contextlib.contextmanager
    def trusted(self) -> Iterator[None]:
        """Close everything when the block fails: a connection in doubt is not used again.

        Raises:
            errors.StoreUnreachable: one of them broke.
        """
        try:
            yield
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            broken = [connection for connection in self._open.values() if connection.closed]
            self.clear()
            if broken:
                raise lost(broken[0], error) from error
            raise
        except BaseException:
            self.clear()
            raise

    def _kept(self, name: str, connect: Callable[[], Connection]) -> Connection:
        found = self._open.get(name)
        if found is None or found.closed:
            found = self._open[name] = connect()
        return found

    def clear(self) -> None:
        """Close everything."""
        for connection in self._open.values():
            with contextlib.suppress(psycopg2.Error):
                connection.close()
        self._open.clear()
