"""``hal9-migrate neurons`` as an operator sees it: groups, a layer's verdict, connections and signals."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import servers
from tests.support.live_state import NEURONS, World

Workers = Callable[..., list[servers.Running]]
CONNECTIONS = "neurons validate-connections --deep --fix-orphaned"
SIGNALS = "neurons test-signals --samples 1000 --verify-paths"


@pytest.fixture
def run(cli: servers.Cli) -> Callable[..., servers.CliResult]:
    """Runs a line and checks its exit code, and that there is no traceback."""
    return lambda line, code=0: cli.run(*line.split(), code=code)


Run = Callable[..., servers.CliResult]


def document(run: Run, line: str, code: int = 0) -> Any:
    """Return the one JSON document of a command."""
    found = json.loads(run(f"{line} --json", code).stdout)
    assert ("error" in found) == (code != 0)
    return found


def test_the_runbooks_lines_in_their_order(world: World, run: Run, workers: Workers, tmp_path: pathlib.Path) -> None:
    """Layers are migrated bottom-up, and connections point upwards: pending until their layer is done."""
    world.load(0.001, NEURONS)
    workers(1)
    told = run("neurons group --by layer --output neuron-groups.json")
    assert told.stdout.splitlines()[:3] == [
        "✅ 1,000 units of 1,000 in 5 groups by layer  (flat store, which rules in flat-only)",
        "LAYER\tUNITS\tSHARE",
        "substrate\t400\t40.0%",
    ]
    written = json.loads((tmp_path / "neuron-groups.json").read_text(encoding="utf-8"))
    assert written["total"] == sum(one["units"] for one in written["groups"]) == 1000

    # Before anything is migrated both say so, and pass over nothing silently.
    assert "nothing is migrated yet  (0 of 1,000 units migrated)" in run(CONNECTIONS).stdout
    assert "no migrated unit has connections" in run(SIGNALS).stdout

    run("state migrate --category neuron-states --filter layer=substrate")
    first = document(run, "neurons verify --layer substrate")
    assert first["records"]["categories"][0]["verified"] == 400
    assert first["connections"]["pending"] > 100
    assert (first["connections"]["orphaned"], first["connections"]["alike"]) == (0, True)
    ahead = document(run, SIGNALS)
    assert ahead["pending"] > 100
    assert ahead["differing"] == 0

    run("state migrate --category neuron-states --filter layer!=substrate")
    assert run("neurons verify --layer intelligence").stdout.startswith(
        "✅ intelligence: Neuron States: 100% consistent"
    )
    told = run(CONNECTIONS)
    assert told.stdout.startswith("✅ Connections: connected alike in both stores  (1,000 of 1,000 units migrated)\n")
    assert "plan" not in told.stdout
    assert run(SIGNALS).stdout.startswith("✅ Signals: ")

    kept = world.hier_sql("SELECT DISTINCT ON (name) name, verdict FROM hal9mig.check_results ORDER BY name, id DESC")
    assert dict(kept) == {
        "groups:layer": "passed", "connections": "passed", "signals": "passed",
        "connections:substrate": "passed", "connections:intelligence": "passed",
    }  # fmt: skip

    # And each can fail.
    world.hier_sql(
        "UPDATE hier.unit_connections SET weight = weight + 1, weight_exact = NULL WHERE unit_id = "
        "(SELECT unit_id FROM hier.units JOIN hier.unit_connections USING (unit_id) WHERE layer = 'substrate' LIMIT 1)"
    )
    assert "state diff" in run("neurons verify --layer substrate", 3).stderr
    assert document(run, SIGNALS, 3)["differences"][0]["what"] == "weight"
    found = document(run, CONNECTIONS, 3)
    assert (found["differing_units"], found["orphaned"], found["plan"]) == (1, 0, [])
    assert found["next_steps"] == ["hal9-migrate state fix --auto --safe-only --category neuron-states"]


def test_a_plan_is_shown_asked_about_and_carried_out_once(world: World, run: Run) -> None:
    world.load(0.0002, NEURONS)
    world.migrate(NEURONS)
    (lost,) = world.hier_sql("SELECT target_id FROM hier.unit_connections ORDER BY unit_id, ordinal LIMIT 1")
    nobody = "00000000-0000-4000-8000-000000000000"
    world.hier_sql("DELETE FROM hier.units WHERE unit_id = %s", *lost)
    world.hier_sql(
        "INSERT INTO hier.unit_connections SELECT %s, n, %s, 'stray', n, NULL FROM generate_series(1, 3) n",
        nobody,
        *lost,
    )
    before = world.hier_sql("SELECT * FROM hier.unit_connections ORDER BY 1, 2")

    found = document(run, f"{CONNECTIONS} --dry-run", 3)
    assert [one["unit"] for one in found["lost"]] == list(lost)
    assert found["rootless"] == [{"unit": nobody, "connections": 3}]
    assert len(found["plan"]) == 2
    refused = run(CONNECTIONS, 4)
    assert "plan:\n  Bring 1 unit again from the flat store" in refused.stdout
    assert world.hier_sql("SELECT * FROM hier.unit_connections ORDER BY 1, 2") == before

    mended = document(run, f"{CONNECTIONS} --yes", 3)
    assert mended["mended"] == {"brought": 1, "quarantined": 1, "left": 0, "reason": ""}
    assert mended["error"]["code"] == "RECORDS_QUARANTINED"
    assert (mended["alike"], mended["orphaned"], mended["rootless_units"]) == (True, 0, 0)
    ((status, payload),) = world.hier_sql("SELECT status, payload::text FROM hal9mig.quarantine")
    assert status == "held"
    assert [row["weight"] for row in json.loads(payload)["hier.unit_connections"]] == [1, 2, 3]
    world.assert_equal()

    again = run(f"{CONNECTIONS} --yes")
    assert "plan" not in again.stdout
    assert world.hier_sql("SELECT count(*) FROM hal9mig.quarantine") == [(1,)]


def test_an_empty_store_a_layer_that_is_none_and_a_missing_table(world: World, run: Run) -> None:
    assert "There is no layer 'substrat'" in run("neurons verify --layer substrat", 2).stderr
    assert document(run, "neurons group")["total"] == 0
    assert "(0 of 0 units migrated)" in run(CONNECTIONS).stdout
    world.hier_sql("DROP TABLE hier.unit_connections")
    assert "unit_connections" in run(CONNECTIONS, 4).stderr
