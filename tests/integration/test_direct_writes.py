"""Writes to the store that follows, past this system: the next round looks at them, wherever its comparison is."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Callable, Iterator

import psycopg2
import pytest

from hal9mig.engine import finish
from hal9mig.engine.reconcile import reconciler
from hal9mig.ledger.drifts import Cause
from hal9mig.stores import direct_writes
from hal9mig.stores.connection import Connection
from tests.support import reconciling, servers
from tests.support.reconciling import NEURONS, World

ROOT = "hier.units"


@pytest.fixture
def world(stores: servers.Stores, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Everything of one category migrated; its rolling comparison never gets anywhere."""
    with reconciling.opened(stores, tmp_path) as opened:
        opened.only(NEURONS)
        opened.migrated(NEURONS)
        monkeypatch.setattr(reconciler.RoundWork, "sweep", lambda self, seconds: None)
        yield opened


@contextlib.contextmanager
def hier(world: World) -> Iterator[Connection]:
    with contextlib.closing(world.system.hier()) as connection:
        yield connection


def noted(world: World) -> int:
    return int(world.hier_sql("SELECT count(*) FROM hal9cap.direct_writes")[0][0])


def triggers(world: World) -> set[str]:
    return {
        row[0] for row in world.hier_sql(f"SELECT tgenabled FROM pg_trigger WHERE tgname = '{direct_writes.TRIGGER}'")
    }


def changed(world: World, key: str) -> None:
    world.hier_sql(f"UPDATE {ROOT} SET activation = activation + 1 WHERE unit_id = %s", key)


def part_gone(world: World, key: str) -> None:
    world.hier_sql("DELETE FROM hier.unit_connections WHERE unit_id = %s", key)
    world.hier_sql("DELETE FROM hier.unit_learning WHERE unit_id = %s", key)


def all_gone(world: World, key: str) -> None:
    world.drop_unit(key)


def added(world: World, key: str) -> None:
    other = '{"unit_id": "8e6e4a40-3d5c-4b7e-9a51-9d1f6f3c2b10"}'
    world.hier_sql(
        f"INSERT INTO {ROOT} SELECT (jsonb_populate_record(u, '{other}')).* FROM {ROOT} u WHERE unit_id = %s", key
    )


def as_a_replica_does(world: World, key: str) -> None:
    admin = world.stores.hier_cluster.admin_url(f"hier_{world.stores.name}")
    with contextlib.closing(psycopg2.connect(admin)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(
            f"SET session_replication_role = replica; UPDATE {ROOT} SET kind = 'drifted' WHERE unit_id = %s", (key,)
        )


@pytest.mark.parametrize("write", [changed, part_gone, all_gone, added, as_a_replica_does])
def test_what_somebody_writes_there_is_mended_by_the_next_round(
    world: World, write: Callable[[World, str], None]
) -> None:
    world.round()
    world.assert_same(NEURONS)
    write(world, world.key(3))
    assert noted(world)
    assert world.round().repaired == 1
    world.assert_same(NEURONS)
    assert noted(world) == 0
    assert world.drifts()[0].cause in (Cause.FOREIGN_WRITE, Cause.MISSED_CAPTURE)


def test_a_record_that_passes_to_another_key_is_looked_at_under_both(world: World) -> None:
    world.round()
    key, other = world.key(3), "8e6e4a40-3d5c-4b7e-9a51-9d1f6f3c2b10"
    part_gone(world, key)
    world.hier_sql("DELETE FROM hal9cap.direct_writes")
    world.hier_sql(f"UPDATE {ROOT} SET unit_id = %s WHERE unit_id = %s", other, key)
    assert noted(world) == 2
    assert world.round().repaired == 2
    world.assert_same(NEURONS)


def test_where_nothing_is_repaired_the_drift_is_noted_and_stays(world: World) -> None:
    world.round()
    world.configure(auto_fix="false")
    changed(world, world.key(3))
    assert len(world.round().outcomes) == 1
    assert noted(world) == 0
    assert len(world.drifts(open=True)) == 1


def test_what_this_system_writes_is_not_noted(world: World) -> None:
    world.round()
    world.flat_sql("UPDATE flat.neuron_states SET activation = 0.5 WHERE layer = 'cognitive'")
    world.flat_sql("DELETE FROM flat.neuron_states WHERE neuron_id = %s", world.key(1))
    assert world.round().applied > 1
    world.assert_same(NEURONS)
    assert noted(world) == 0


def test_a_write_in_the_middle_of_a_look_is_looked_at_too(world: World) -> None:
    """The key is noted already when it is written again, and only what was read is forgotten."""
    world.round()
    key = world.key(3)
    changed(world, key)
    with hier(world) as connection:
        read = direct_writes.noted(connection, NEURONS, limit=10)
        assert read.keys == [(key,)]
        changed(world, key)
        direct_writes.forget(connection, read)
        assert direct_writes.noted(connection, NEURONS, limit=10).keys == [(key,)]
    assert world.round().repaired == 1


def test_of_a_great_many_a_round_looks_at_some(world: World) -> None:
    world.round()
    world.hier_sql(f"UPDATE {ROOT} SET activation = activation + 1")
    with hier(world) as connection:
        some = direct_writes.noted(connection, NEURONS, limit=7)
        assert len(some.keys) == 7
    world.round()
    world.assert_same(NEURONS)
    assert noted(world) == 0


def test_a_table_that_is_in_use_is_watched_by_a_later_round(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciler, "_PATIENCE", 0.05)
    with contextlib.closing(psycopg2.connect(world.stores.hier_url)) as busy, busy.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {ROOT} IN ROW EXCLUSIVE MODE")
        world.round()
        assert "lock timeout" in world.lines("unwatched")[0]
        busy.rollback()
    world.round()
    assert triggers(world) == {"A"}
    with hier(world) as connection:
        assert direct_writes.unwatched(connection, world.system.category(NEURONS)) == []


def test_once_the_store_has_ruled_its_own_triggers_do_it(world: World) -> None:
    world.round()
    with world.followed():
        world.switch.leave_flat(dict)
        assert triggers(world) == {"D"}
        changed(world, world.key(3))
        assert noted(world) == 0
        world.switch.return_to_flat()
    world.switch.enable()
    world.round()
    assert triggers(world) == {"D"}
    with pytest.raises(psycopg2.Error, match="the hierarchical store takes no writes now"):
        changed(world, world.key(3))


def test_finishing_takes_them_off(world: World) -> None:
    world.round()
    with world.followed():
        world.switch.return_to_flat()
    finish.carry_out(world.system, finish.plan(world.system), actor="test")
    assert triggers(world) == set()
