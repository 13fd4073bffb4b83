"""An update that changes a key is captured under both, however the key comes to change."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from hal9mig.engine.reconcile import alarm_rules
from hal9mig.model import StoreName
from hal9mig.stores import capture_triggers
from tests.support import reconciling, servers
from tests.support.live_state import CONFIGURATION
from tests.support.reconciling import World

UPPER = (
    "INSERT INTO flat.configuration (key, value, updated_by, updated_at, version) VALUES ('Upper', '1', 'me', now(), 1)"
)
#: A trigger of the application's own, which keeps its keys in lower case.
LOWERING = """
CREATE FUNCTION flat.lowered() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.key := lower(NEW.key); RETURN NEW; END';
CREATE TRIGGER lowered BEFORE INSERT OR UPDATE ON flat.configuration FOR EACH ROW EXECUTE FUNCTION flat.lowered();
"""


@pytest.fixture
def world(stores: servers.Stores, tmp_path: pathlib.Path) -> Iterator[World]:
    with reconciling.opened(stores, tmp_path) as opened:
        opened.only(CONFIGURATION)
        opened.load(0.0002, CONFIGURATION)
        opened.flat_sql(UPPER)
        yield opened


def journal(world: World) -> set[str]:
    return {key for ((key,),) in world.flat_sql("SELECT DISTINCT key FROM hal9cap.journal")}


def key_columns(world: World) -> int:
    """Return how many columns there are of which a statement has to name one for the trigger of keys to be asked."""
    ((count,),) = world.flat_sql(
        "SELECT cardinality(tgattr::int2[]) FROM pg_trigger "
        "WHERE tgrelid = 'flat.configuration'::regclass AND tgname = 'hal9cap_key'"
    )
    return int(count)


@pytest.mark.parametrize(
    ("write", "keys"),
    [
        ("UPDATE flat.configuration SET value = '2' WHERE key = 'Upper'", {"Upper"}),
        ("UPDATE flat.configuration SET key = 'other' WHERE key = 'Upper'", {"Upper", "other"}),
        ("UPDATE flat.configuration SET key = key, value = '2' WHERE key = 'Upper'", {"Upper"}),
        (
            f"{UPPER} ON CONFLICT (key) DO UPDATE SET key = 'other'",
            {"Upper", "other"},
        ),
        (
            "MERGE INTO flat.configuration c USING (SELECT 'Upper' AS k) s ON c.key = s.k "
            "WHEN MATCHED THEN UPDATE SET key = 'other'",
            {"Upper", "other"},
        ),
    ],
)
def test_what_a_statement_names_is_captured(world: World, write: str, keys: set[str]) -> None:
    if "MERGE" in write and world.stores.flat_cluster.version < 15:
        return
    world.switch.enable()
    assert key_columns(world) == 1
    world.flat_sql("DELETE FROM hal9cap.journal")
    world.flat_sql(write)
    assert journal(world) == keys


def test_what_a_trigger_of_the_applications_changes_is_captured_too(world: World) -> None:
    world.flat_sql(LOWERING)
    world.switch.enable()
    assert key_columns(world) == 0
    world.flat_sql("DELETE FROM hal9cap.journal")
    world.flat_sql("UPDATE flat.configuration SET value = '2' WHERE key = 'Upper'")
    assert journal(world) == {"Upper", "upper"}


def test_such_a_trigger_that_comes_later_is_told_and_seen_from_then_on(world: World) -> None:
    world.switch.enable()
    world.migrate(CONFIGURATION)
    world.configure(reconcile_share="1")
    world.flat_sql(LOWERING)
    category = world.system.category(CONFIGURATION)
    told = capture_triggers.findings(world.desk.flat("test"), category, StoreName.FLAT)
    assert told == ["the trigger lowered on flat.configuration may change a key that the statement does not name"]
    # In the time until the next round; the pass that the finding begins anew finds the old key's record.
    world.flat_sql("UPDATE flat.configuration SET value = '2' WHERE key = 'Upper'")
    world.round()
    assert "lowered" in world.alarms()[alarm_rules.UNSEEN].message
    assert key_columns(world) == 0
    world.round()
    world.assert_same(CONFIGURATION)
    assert alarm_rules.UNSEEN not in world.alarms()
