"""Copying, batch by batch in one process, on real stores: every record once, whatever its key."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence

import psycopg2
import pytest

from hal9mig.categories import registry
from hal9mig.categories.declaration import Category, Column, Pass, Role, Source, Target
from hal9mig.engine.coordinator import MigrateOrder
from hal9mig.ledger import tuning
from tests.support import migration_driver
from tests.support.migration_driver import Driver
from tests.support.servers import Stores

Make = Callable[..., Driver]
#: Ten records a batch, four a transaction: a batch ends in the middle of one.
TINY = {"batch-size": "10", "checkpoint-interval": "4"}


def things(name: str, *kinds: str) -> Category:
    """Declare a category with a key of these types: one flat table, one hierarchical one with the same columns."""
    key = ("k1", "k2")[: len(kinds)]
    columns = (*map(Column, key, kinds), Column("note", "text"), Column("version", "bigint"))
    keyed = ", ".join(f"t.{column}" for column in key)
    return Category(
        slug=name,
        title=name,
        source=Source(schema="public", table=f"flat_{name}", columns=columns, key=key, version="version"),
        targets=(
            Target(
                schema="public",
                table=name,
                role=Role.ROOT,
                columns=tuple(Pass(column.name, column.name) for column in columns),
                key=key,
                owner=key,
                version="version",
            ),
        ),
        rebuild=f"SELECT {keyed}, t.note, t.version FROM public.{name} t WHERE RANGE({keyed})",
    )


def make_tables(stores: Stores, category: Category, *, flat_collation: str = "", collation: str = "") -> None:
    """Create the tables of ``things``; a collation is that of the key's texts."""
    for url, table, order in (
        (stores.flat_url, category.source.table, flat_collation),
        (stores.hier_url, category.targets[0].table, collation),
    ):
        columns = [
            f"{column.name} {column.type}" + (f" COLLATE {order}" if order and column.type == "text" else "")
            for column in category.source.columns
        ]
        with migration_driver.connected(url) as cursor:
            cursor.execute(
                f"CREATE TABLE public.{table} ({', '.join(columns)}, PRIMARY KEY ({', '.join(category.key)}))"
            )


def insert(stores: Stores, category: Category, keys: Sequence[Sequence[str]]) -> None:
    """Insert flat records of these keys, given as texts."""
    values = ", ".join(f"%s::{column.type}" for column in category.source.key_columns)
    with migration_driver.connected(stores.flat_url) as cursor:
        cursor.executemany(f"INSERT INTO public.{category.source.table} VALUES ({values}, 'kept', 1)", keys)


@pytest.fixture
def make(stores: Stores, stack_env: dict[str, str]) -> Iterator[Make]:
    """``make(*categories)`` returns a driver that knows these categories only, or HAL9's own."""
    with migration_driver.drivers(stores, stack_env) as opened:
        yield opened


def assert_migrates(driver: Driver, category: Category, records: int, **tuned: str) -> int:
    """Migrate a category, assert that it came out whole, and return the number of batches."""
    run = driver.copy(category.slug, tuned={**TINY, **tuned})
    driver.assert_equal(category.slug, records=records)
    driver.assert_once(run.id)
    assert not driver.held(category.slug)
    return run.total_batches


def test_any_number_of_records(make: Make, stores: Stores) -> None:
    """None, one, and each edge of a transaction and of a batch; numbers with gaps."""
    counts = (0, 1, 3, 4, 5, 9, 10, 11, 20, 40)
    categories = [things(f"things{count}", "bigint") for count in counts]
    driver = make(*categories)
    for count, category in zip(counts, categories, strict=True):
        make_tables(stores, category)
        insert(stores, category, [(str(number * number * 7 - 50),) for number in range(count)])
        assert assert_migrates(driver, category, count) == count // 10 + 1


def test_batches_of_wide_records_are_cut_by_their_bytes(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one of 202 MB for one worker: as many as fit, and at least one."""
    driver = make()
    driver.load(migration_driver.NEURONS, 200)
    order = MigrateOrder(category=migration_driver.NEURONS, tuning={"batch-size": "150"})
    whole = driver.coordinator.plan(order)
    assert (whole.batch_size, whole.batches) == (150, 2)
    monkeypatch.setattr(tuning, "BATCH_BYTES", 40 * whole.record_bytes)
    cut = driver.coordinator.plan(order)
    assert (cut.batch_size, cut.batches) == (40, 5)
    run = driver.copy(migration_driver.NEURONS, tuned={"batch-size": "150"})
    copied = [batch["records"] for batch in driver.batches(run.id) if batch["kind"] == "copy"]
    assert (max(copied), sum(copied)) == (40, 200)
    monkeypatch.setattr(tuning, "BATCH_BYTES", 1)
    assert driver.coordinator.plan(order).batch_size == 1


def test_any_type_of_key(make: Make, stores: Stores) -> None:
    """Batches and cursors name a key by its text, which means the same record everywhere."""
    kinds = {
        "bigint": ["-9223372036854775808", "-1", "0", "9223372036854775807"],
        "smallint": ["-32768", "0", "32767"],
        "uuid": [str(uuid.UUID(int=0)), str(uuid.UUID(int=1 << 127)), str(uuid.UUID(int=2**128 - 1))],
        "numeric(60,5)": ["-1e40", "-0.5", "0", "0.00001", "1.50", "1e40", "NaN"],
        "date": ["0001-01-01", "1999-12-31", "2000-01-01", "9999-12-31"],
        "timestamptz": ["0001-01-01 00:00+00", "1999-12-31 23:59:59.999999+00", "2024-02-29 12:00:00.5+00"],
        "timestamp": ["0001-01-01", "2000-01-01 00:00:00.000001", "9999-12-31 23:59:59.9"],
        "boolean": ["false", "true"],
        "text": ["", " ", "'", '"', "\\", "%s", "%", "{}", "NULL", "ä", "\U0001f596", "x" * 2000, "a,b", "(c)"],
        "character varying(20)": ["", "a", "a ", "b"],
        "character(5)": ["", "a", "b"],
    }
    categories = {kind: things(f"keyed{number}", kind) for number, kind in enumerate(kinds)}
    driver = make(*categories.values())
    for kind, category in categories.items():
        make_tables(stores, category)
        insert(stores, category, [(value,) for value in kinds[kind]])
        assert_migrates(driver, category, len(kinds[kind]), **{"batch-size": "2", "checkpoint-interval": "1"})


def test_a_key_of_two_columns(make: Make, stores: Stores) -> None:
    """A batch may end between two records that have the first column in common."""
    category = things("pairs", "integer", "text")
    make_tables(stores, category)
    insert(stores, category, [(str(number // 7), f"k{number}") for number in range(45)])
    assert_migrates(make(category), category, 45)


def test_texts_in_another_order_than_at_the_target(make: Make, stores: Stores) -> None:
    """Ranges follow the source's collation, wherever one can be had that does not order by bytes."""
    category = things("words", "text")
    make_tables(stores, category, flat_collation=unlike_bytes(stores), collation='"C"')
    words = [f"{first}{rest}" for first in "aAbBzZäÄ-_.0 " for rest in ("", "a", "B", "-1", "_2", "é")]
    insert(stores, category, [(word,) for word in words])
    assert_migrates(make(category), category, len(words))


def unlike_bytes(stores: Stores) -> str:
    """Return a collation that orders a before B; the last one the server has, where none does."""
    found = '"C"'
    with migration_driver.connected(stores.flat_url) as cursor:
        cursor.execute("SELECT quote_ident(collname) FROM pg_collation WHERE collisdeterministic ORDER BY collname")
        for (name,) in cursor.fetchall():
            try:
                cursor.execute(f"SELECT 'a' COLLATE {name} < 'B' COLLATE {name}")
            except psycopg2.Error:
                continue  # of another encoding, or not built in
            found = name
            if cursor.fetchone() == (True,):
                break
    return found


def test_records_that_came_in_below_are_found_by_the_next_run(make: Make, stores: Stores) -> None:
    """Without capture a run sees what is there when it reads; what was inserted behind it is no loss for good."""
    category = things("late", "integer")
    make_tables(stores, category)
    insert(stores, category, [(str(number),) for number in range(100, 140)])
    driver = make(category)
    run = driver.start("late", tuned=TINY)
    driver.work(run, until=lambda: driver.run(run).done_records >= 20)
    insert(stores, category, [(str(number),) for number in (1, 2, 3, 500)])
    driver.work(run)
    assert {key for (key,) in driver.missing("late")} == {"1", "2", "3"}
    assert_migrates(driver, category, 44)


@pytest.mark.parametrize("again", [False, True], ids=["first", "over older ones"])
def test_every_type_s_edges_survive_in_all_five_categories(make: Make, again: bool) -> None:
    """NaN, infinities, -0.0, microseconds, 'infinity', endless numbers, unicode, NULL, empty and megabytes."""
    driver = make()
    for category in registry.builtin().ordered():
        records = driver.load(category.slug, 200, edge_cases=True)
        tuned = {"batch-size": "100", "checkpoint-interval": "30"}
        driver.copy(category.slug, tuned=tuned)
        if again:
            # The largest version stays: it has no successor.
            source = category.source
            with migration_driver.connected(driver.stores.flat_url) as cursor:
                table = f"{source.schema}.{source.table}"
                cursor.execute(f"UPDATE {table} SET version = version + 1 WHERE version < 9223372036854775807")
            driver.copy(category.slug, tuned=tuned)
        driver.assert_equal(category.slug, records=records)
        assert not driver.held(category.slug)
