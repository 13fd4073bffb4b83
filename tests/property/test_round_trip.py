"""Whatever the flat store holds comes back out of the hierarchical one byte for byte, or is held in quarantine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from hal9mig import model
from hal9mig.categories import registry
from hal9mig.categories.declaration import Category
from hal9mig.ledger import quarantine
from tests.property.flat_rows import TAME, WILD, Row, Values, records
from tests.support import comparison, migration_driver
from tests.support.migration_driver import Driver

#: Several batches of several transactions for a handful of records.
TINY = {"batch-size": "3", "checkpoint-interval": "2"}
# An example is two migrations: a failing one is shown as it was found, since making it smaller would take minutes.
_SLOW = settings(
    max_examples=6,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def put(driver: Driver, category: Category, rows: Sequence[Row]) -> None:
    """Insert flat records, or replace those of their keys."""
    source = category.source
    names = source.names
    places = ", ".join(f"%s::{column.type}" for column in source.columns)
    update = ", ".join(f"{name} = excluded.{name}" for name in names if name not in source.key)
    with migration_driver.connected(driver.stores.flat_url) as cursor:
        cursor.executemany(
            f"INSERT INTO {source.schema}.{source.table} ({', '.join(names)}) VALUES ({places}) "
            f"ON CONFLICT ({', '.join(source.key)}) DO UPDATE SET {update}",
            [[row[name] for name in names] for row in rows],
        )


def empty(driver: Driver, category: Category) -> None:
    """Take away all that an earlier example has left."""
    with migration_driver.connected(driver.stores.flat_url) as cursor:
        cursor.execute(f"TRUNCATE {category.source.schema}.{category.source.table}")
    with migration_driver.connected(driver.stores.hier_url) as cursor:
        cursor.execute(
            f"TRUNCATE {', '.join(target.qualified for target in category.targets)}, hal9mig.quarantine CASCADE"
        )


def migrate_twice(
    driver: Driver, slug: str, columns: Mapping[str, Values], data: st.DataObject
) -> dict[model.Key, tuple[str, str | None]]:
    """Migrate random records, change some, migrate again; after each, what is not equal is held. Return that."""
    category = driver.system.category(slug)
    key, unique = category.key[0], ("session_id", "token_hash")
    drawn = data.draw(st.lists(records(columns), max_size=8, unique_by=lambda row: row[key]))
    changed = data.draw(st.lists(records(columns), max_size=len(drawn)))
    empty(driver, category)
    seen: dict[model.Key, quarantine.Held] = {}
    kept = [{name: old[name] for name in (key, *unique) if name in old} for old in drawn]
    for rows in (drawn, [dict(new) | old for new, old in zip(changed, kept, strict=False)]):
        put(driver, category, rows)
        driver.copy(slug, tuned=TINY, merge=True)
        found = comparison.differences(driver.stores, category)
        held = driver.held(slug)
        assert found == comparison.Differences(compared=len(drawn), missing=frozenset(held))
        seen |= held
    return {key: (record.error, record.payload) for key, record in seen.items()}


@pytest.mark.parametrize("slug", [category.slug for category in registry.builtin().ordered()])
@_SLOW
@given(data=st.data())
def test_what_the_target_can_hold(shared: Driver, slug: str, data: st.DataObject) -> None:
    """It is there, and nothing ends in quarantine."""
    assert not migrate_twice(shared, slug, TAME[slug], data)


@pytest.mark.parametrize("slug", sorted(WILD))
@_SLOW
@given(data=st.data())
def test_what_it_cannot_hold_is_held_back(shared: Driver, slug: str, data: st.DataObject) -> None:
    """What cannot be held exactly is held back, and nothing else is; nothing is ever altered."""
    migrate_twice(shared, slug, WILD[slug], data)
