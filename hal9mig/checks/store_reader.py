"""Reads all records of a category from one store, whether it rules or not, a page at a time in the order of keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hal9mig import model
from hal9mig.categories import filters
from hal9mig.categories.declaration import Category
from hal9mig.client import connections
from hal9mig.client.hierarchical import HierarchicalSide
from hal9mig.client.sides import FlatSide, Side
from hal9mig.client.values import Record
from hal9mig.engine.system import System
from hal9mig.stores import projection

_PAGE = 500


def records(system: System, store: model.StoreName, category: Category) -> Iterator[Record]:
    """Yield the records; each page is as it is when it is read.

    Raises:
        errors.Unreachable: the store does not answer.
    """
    flat = store is model.StoreName.FLAT
    side: Side = FlatSide() if flat else HierarchicalSide(system.transform)
    url = system.settings.require_flat() if flat else system.settings.require_hier()
    pool = connections.pool(
        str(store), url, application_name=system.role, connect_timeout=system.settings.connect_timeout, idle=1
    )
    after: model.Key | None = None
    try:
        while True:
            with pool.taken() as connection, connection.cursor() as cursor:
                keys = side.keys(cursor, category, after, _PAGE)
                found = side.read(cursor, category, projection.Keys(keys=keys), filters.EVERYTHING) if keys else []
            yield from found
            if len(keys) < _PAGE:
                return
            after = keys[-1]
    finally:
        pool.clear()


def values(record: Record) -> dict[str, Any]:
    """Return a record's values as JSON has them."""
    return {name: value if isinstance(value, (int, float, bool, str, list, dict, type(None))) else str(value)
            for name, value in record.items()}  # fmt: skip
