"""The benchmark as an operator runs it: it measures both stores, leaves nothing, and says which one is slower."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from hal9mig.checks import benchmark
from hal9mig.ledger.check_results import CheckVerdict
from tests.support import checkpoint_runs, servers
from tests.support.live_state import World
from tests.support.migration_driver import connected

FEW = ("--samples", "4", "--rounds", "5")


def test_nothing_to_measure_is_skipped(cli: servers.Cli, world: World) -> None:
    world.load(0.0002, "user-sessions")
    found = cli.document("benchmark", "--categories", "user-sessions", *FEW)
    assert {one["verdict"] for one in found["checks"]} == {"skipped"}


@pytest.mark.parametrize("over", [False, True], ids=["dual-write", "hierarchical-only"])
def test_it_measures_and_leaves_nothing(cli: servers.Cli, world: World, tmp_path: pathlib.Path, over: bool) -> None:
    world.load()
    world.prepare(over=over)
    world.drain()
    before = [checkpoint_runs.contents(world.stores.flat_url, "flat"),
              checkpoint_runs.contents(world.stores.hier_url, "hier")]  # fmt: skip
    shown = cli("benchmark", "--operations", "read,write,update", "--categories", "all", "--compare-systems", *FEW,
                "--sla", "10s", "--plot", "plot.svg", "--report", "figures.json")  # fmt: skip
    assert shown.exit_code == 0, shown.stdout + shown.stderr
    assert shown.stdout.count(": passed: ") == 15, shown.stdout
    assert (tmp_path / "plot.svg").read_text().startswith("<?xml")
    figures = json.loads((tmp_path / "figures.json").read_text())["checks"]
    assert all(one["measured"]["hierarchical_p50_ms"] > 0 for one in figures)
    after = [checkpoint_runs.contents(world.stores.flat_url, "flat"),
             checkpoint_runs.contents(world.stores.hier_url, "hier")]  # fmt: skip
    assert after == before
    assert (world.waiting(), world.waiting(benchmark._HIER)) == (0, 0)

    # A store that is slower shows, but for who is content with that.
    world.hier_sql("CREATE FUNCTION hier.slow() RETURNS trigger LANGUAGE plpgsql AS "
                   "'BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END'; CREATE TRIGGER slow BEFORE INSERT OR UPDATE "
                   "ON hier.sessions FOR EACH ROW EXECUTE FUNCTION hier.slow()")  # fmt: skip
    words = ("benchmark", "--categories", "user-sessions", "--operations", "write", *FEW)
    slow = cli.document(*words, "--sla", "1ms", code=3)
    assert "over the SLA" in slow["checks"][0]["detail"]
    assert "within the SLA" in cli.document(*words, "--sla", "10s")["checks"][0]["detail"]


SWAP = """
UPDATE flat.user_sessions SET token_hash = 'parked' WHERE session_id = %(one)s;
UPDATE flat.user_sessions SET token_hash = %(its)s WHERE session_id = %(other)s;
UPDATE flat.user_sessions SET token_hash = %(others)s WHERE session_id = %(one)s"""
RENAME = "UPDATE flat.user_sessions SET session_id = gen_random_uuid() WHERE session_id = %(one)s"


@pytest.mark.parametrize("moved", [SWAP, RENAME], ids=["two exchange theirs", "of one that gets another key"])
def test_unique_values_that_the_application_moves_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch, moved: str
) -> None:
    """The benchmark has looked at records, and before it updates them a unique value is another record's."""
    world.load(0.0002, "user-sessions")
    world.prepare()
    world.drain()
    (one, its), (other, others) = world.flat_sql("SELECT session_id, token_hash FROM flat.user_sessions LIMIT 2")
    unseen, moves = benchmark._Bench.unseen, [moved]

    def after_a_move(bench: Any, store: Any, record: Any) -> None:
        if moves:
            with connected(world.stores.flat_url) as cursor:
                cursor.execute(moves.pop(), {"one": one, "its": its, "other": other, "others": others})
        unseen(bench, store, record)

    monkeypatch.setattr(benchmark._Bench, "unseen", after_a_move)
    order = benchmark.BenchmarkOrder(operations=["update"], rounds=2, samples=1000, sla=10_000.0)
    category = world.system.category("user-sessions")
    (found,) = benchmark.run(world.system, [category], order, actor="test")
    assert (found.verdict, moves) == (CheckVerdict.PASSED, []), found.detail
