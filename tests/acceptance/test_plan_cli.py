"""A rehearsal as an operator sees it: what is expected, what stands in the way, and nothing left of it."""

from __future__ import annotations

from tests.support import checkpoint_runs, servers
from tests.support.live_state import World, execute

REHEARSE = ("plan", "--rehearse", "--sample", "60")


def databases(world: World) -> set[str]:
    return {
        row[0]
        for url in (world.stores.flat_url, world.stores.hier_url)
        for row in execute(url, "SELECT datname FROM pg_database WHERE datname LIKE 'hal9_rehearsal%'")
    }


def test_what_is_expected_and_what_stands_in_the_way(cli: servers.Cli, world: World) -> None:
    world.load()
    before = [checkpoint_runs.contents(world.stores.flat_url, "flat"),
              checkpoint_runs.contents(world.stores.hier_url, "hier")]  # fmt: skip
    told = cli(*REHEARSE)
    assert told.exit_code == 0, told.stdout + told.stderr
    assert "✅ the sample came through all of it" in told.stdout
    found = cli.document(*REHEARSE)
    for one in found["categories"]:
        assert one["sampled"] > 0
        assert 0 <= one["migrate_seconds"]["least"] <= one["migrate_seconds"]["most"]
    assert 0 < found["barrier_seconds"]["least"] <= found["barrier_seconds"]["most"]

    # A budget is counted in: so many records a second cannot be gone through faster.
    world.configure(rate_limit="1/s")
    slow = {one["category"]: one for one in cli.document(*REHEARSE)["categories"]}
    assert slow["user-sessions"]["migrate_seconds"]["least"] >= slow["user-sessions"]["records"] * 0.9

    # A record that cannot be transformed, and a column that nobody has declared.
    world.flat_sql("UPDATE flat.learning_data SET payload = 'no'; ALTER TABLE flat.configuration ADD COLUMN more text")
    wrong = cli.document(*REHEARSE, code=3)
    assert any("cannot be transformed" in one for one in wrong["blockers"])
    assert any("more" in one and one.startswith("configuration") for one in wrong["blockers"])
    world.flat_sql("ALTER TABLE flat.configuration DROP COLUMN more")
    assert databases(world) == set()
    assert checkpoint_runs.contents(world.stores.hier_url, "hier") == before[1]


def test_an_empty_store_is_rehearsed_too(cli: servers.Cli, world: World) -> None:
    assert cli(*REHEARSE).exit_code == 0
    assert databases(world) == set()
