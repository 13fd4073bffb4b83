"""How much the stores hold and how busy they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from hal9mig.categories.declaration import Category
from hal9mig.stores.connection import Connection

#: Tables that PostgreSQL takes for smaller are counted; what it takes for larger is believed.
_COUNTED_BELOW = 100_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Records:
    """How many records a category's flat table holds; not ``exact`` is PostgreSQL's own estimate."""

    count: int
    exact: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Activity:
    """A database: its size, and what its connections do.

    Attributes:
        ours: connections of this system; ``waiting``: those of all that wait for a lock.
        oldest_seconds: age of the oldest open transaction, 0 without one.
    """

    bytes: int
    connections: int
    ours: int
    active: int
    waiting: int
    oldest_seconds: float


def records(flat: Connection, categories: Sequence[Category]) -> dict[str, Records | None]:
    """Return the size of each category's flat table, None where the table is missing."""
    found: dict[str, Records | None] = {}
    with flat.cursor() as cursor:
        for category in categories:
            table = category.source.qualified
            cursor.execute("SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(%s)", (table,))
            row = cursor.fetchone()
            if row is None:
                found[category.slug] = None
            elif row[0] >= _COUNTED_BELOW:
                found[category.slug] = Records(count=row[0], exact=False)
            else:
                cursor.execute(f"SELECT count(*) FROM {table}")
                counted = cursor.fetchone()
                found[category.slug] = Records(count=counted[0] if counted else 0, exact=True)
    return found


def activity(opened: Connection) -> Activity:
    """Return the size and the activity of the database a connection is to."""
    with opened.cursor() as cursor:
        cursor.execute(
            "SELECT pg_database_size(current_database()), count(*), "
            "count(*) FILTER (WHERE application_name LIKE 'hal9-migrate%'), "
            "count(*) FILTER (WHERE state = 'active'), count(*) FILTER (WHERE wait_event_type = 'Lock'), "
            "coalesce(extract(epoch FROM max(clock_timestamp() - xact_start)), 0)::float8 "
            "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        row = cursor.fetchone()
    assert row is not None
    size, connections, ours, active, waiting, oldest = row
    return Activity(
        bytes=size, connections=connections, ours=ours, active=active, waiting=waiting, oldest_seconds=oldest
    )
