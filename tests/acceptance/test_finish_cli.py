"""The end: both stores are as if this program had never been there, and nothing of the application's is touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg2
import pytest

from hal9mig.engine import finish
from hal9mig.model import StoreName
from hal9mig.stores import schema
from tests.support import migration_driver, servers
from tests.support.live_state import World, execute

#: What a database holds, by kind and name: whatever this program may leave would show in one of them.
_CATALOG = """
SELECT 'schema', nspname::text FROM pg_namespace WHERE nspname !~ '^pg_(temp|toast)'
UNION ALL SELECT 'relation ' || relkind::text, c.oid::regclass::text FROM pg_class c
    WHERE relnamespace::regnamespace::text !~ '^(pg_|information_schema)'
UNION ALL SELECT 'trigger', tgname || ' on ' || tgrelid::regclass FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT 'function', oid::regprocedure::text FROM pg_proc WHERE pronamespace::regnamespace::text
    NOT IN ('pg_catalog', 'information_schema')
UNION ALL SELECT 'constraint', conname || ' ' || conrelid::regclass || ' ' || pg_get_constraintdef(oid)
    FROM pg_constraint
UNION ALL SELECT 'event trigger', evtname::text FROM pg_event_trigger
UNION ALL SELECT 'publication', pubname::text FROM pg_publication
UNION ALL SELECT 'setting', setconfig::text FROM pg_db_role_setting WHERE setdatabase =
    (SELECT oid FROM pg_database WHERE datname = current_database())
UNION ALL SELECT 'rights', c.oid::regclass || ' ' || coalesce(relacl::text, '') FROM pg_class c
    WHERE relnamespace::regnamespace::text IN ('flat', 'hier')
ORDER BY 1, 2
"""
_OURS = ("hal9cap", "hal9mig", "alembic_version")


def catalogs(world: World) -> list[list[tuple[Any, ...]]]:
    return [execute(url, _CATALOG) for url in (world.stores.flat_url, world.stores.hier_url)]


def application_only(found: list[list[tuple[Any, ...]]]) -> list[list[tuple[Any, ...]]]:
    """Return what is there without this program: what the application's own schema made."""
    return [[row for row in rows if not any(word in row[1] for word in _OURS)] for rows in found]


@pytest.mark.parametrize("over", [False, True], ids=["given-up", "completed"])
def test_nothing_is_left(cli: servers.Cli, world: World, over: bool) -> None:
    wanted = application_only(catalogs(world))
    world.load()
    before = world.flat_sql("SELECT count(*), sum(version) FROM flat.neuron_states")
    world.prepare(over=over)
    if not over:
        assert "both stores are kept in step" in cli.run("finish", "--yes", code=4).stderr
        with world.followed():
            world.switch.return_to_flat()
    else:
        assert "--give-up-way-back" in cli.run("finish", "--yes", code=4).stderr
        refused = cli("sample-data", "load", "--scale", "0.0002", "--replace", "--yes")
        assert (refused.exit_code, "The flat store takes no writes now" in refused.stderr) == (4, True), refused.stderr
        assert "would be lost" in cli.run("finish", "--keep", "flat", "--yes", code=4).stderr
    more = ("--give-up-way-back",) if over else ()
    planned = cli.run("finish", "--dry-run", "--drop-ledger").stdout
    assert "DROP TRIGGER IF EXISTS hal9cap_update ON flat.neuron_states;" in planned
    assert "DROP SCHEMA IF EXISTS hal9mig CASCADE;" in planned
    assert cli.run("finish", *more, code=4).stderr.startswith("warning")  # there is no terminal to ask on

    cli.run("finish", *more, "--yes")
    cli.run("finish", *more, "--yes")  # once more is no harm
    world.flat_sql("UPDATE flat.neuron_states SET version = version + 1")
    world.flat_sql("UPDATE flat.neuron_states SET version = version - 1")
    kept = cli.document("state", "status")
    assert kept["finished"]["keep"] == ("hierarchical" if over else "flat")
    assert cli("report", "--phase", "state-migration", "--output", "r.md").exit_code == 0
    for words in ("state verify --category metadata", "ux-test --verify-sessions", "state checkpoint --name late"):
        told = cli(*words.split())
        assert (told.exit_code, "error: The migration was finished at" in told.stderr) == (4, True), told.stderr
    cli.run("finish", *more, "--yes", "--drop-ledger")
    for left, expected in zip(catalogs(world), wanted, strict=True):
        assert (set(left) - set(expected), set(expected) - set(left)) == (set(), set())
    assert world.flat_sql("SELECT count(*), sum(version) FROM flat.neuron_states") == before


def test_a_migration_can_begin_anew(cli: servers.Cli, world: World, workers: Callable[..., Any]) -> None:
    world.load(0.0002, "configuration")
    world.prepare()
    with world.followed():
        world.switch.return_to_flat()
    cli.run("finish", "--yes")
    world.flat_sql("UPDATE flat.configuration SET value = '\"since\"'")  # captured by nobody
    schema.upgrade(world.stores.flat_url, world.stores.hier_url)
    world.switch.enable()
    # What was copied before counts for nothing, so that nothing old can pass for migrated.
    assert "coverage of configuration" in [one.name for one in world.closed()]
    world.migrate()
    world.assert_equal()


def test_a_table_in_use_is_waited_for_and_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_PATIENCE", 0.1), ("_LONGEST", 0.3), ("_PAUSE", 0.05)):
        monkeypatch.setattr(finish, name, value)
    world.prepare()
    with world.followed():
        world.switch.return_to_flat()
    made = finish.plan(world.system)
    with psycopg2.connect(world.stores.flat_url) as busy, busy.cursor() as cursor:
        cursor.execute("LOCK TABLE flat.neuron_states IN ROW EXCLUSIVE MODE")
        with pytest.raises(finish.errors.GateClosed, match=r"flat\.neuron_states"):
            finish.carry_out(world.system, made, actor="test")
    busy.close()
    finish.carry_out(world.system, finish.plan(world.system), actor="test")
    assert finish.plan(world.system).keep is StoreName.FLAT
    with migration_driver.connected(world.stores.flat_url) as cursor:
        cursor.execute("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'hal9cap%'")
        assert cursor.fetchone() == (0,)
