"""What the checks of neuron states see: both directions, what is legal, what dangles, and live writes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import psycopg2.extras
import pytest

from hal9mig.checks import layers, neuron_graph
from hal9mig.checks.connection_findings import ConnectionFindings
from hal9mig.checks.connections import ConnectionCheck
from hal9mig.checks.signals import PathEnd, SignalCheck, SignalFindings
from hal9mig.engine.reconcile import full_pass
from hal9mig.stores import capture, write_mode
from hal9mig.stores.write_mode import Mode
from tests.support import live_state, servers
from tests.support.live_state import NEURONS, World, neuron

#: Units by number, and one that is never there.
UNITS = [str(uuid.UUID(int=number)) for number in range(1, 7)]
A, B, C, D, E, F = UNITS
NOBODY = str(uuid.UUID(int=99))


@pytest.fixture
def world(stores: servers.Stores, stack_env: dict[str, str]) -> Iterator[World]:
    with live_state.opened(stores, stack_env) as opened:
        yield opened


def link(target: str, weight: float = 0.5, kind: str = "forward") -> dict[str, Any]:
    """Return a connection as the flat store has it."""
    return {"target": target, "weight": weight, "conn_type": kind}


def put(world: World, key: str, *links: dict[str, Any], layer: str = "substrate", activation: float = 0.25) -> None:
    """Write a unit into the flat store."""
    made = neuron(key, "") | {"connections": list(links), "layer": layer, "activation": activation, "version": 1}
    values = [psycopg2.extras.Json(value) if name in ("connections", "memory") else value
              for name, value in made.items()]  # fmt: skip
    world.flat_sql(
        f"INSERT INTO flat.neuron_states ({', '.join(made)}) VALUES ({', '.join(['%s'] * len(made))}) "
        "ON CONFLICT (neuron_id) DO UPDATE SET connections = excluded.connections, version = 2",
        *values,
    )


def connected(world: World, **more: Any) -> ConnectionFindings:
    """Look at all connections."""
    both = full_pass.sides(world.system, world.desk, world.system.category(NEURONS))
    return ConnectionCheck(both, deep=True, **more).run()


def signalled(world: World, *, steps: int = 5, whole: bool = True, **more: Any) -> SignalFindings:
    """Send a signal from every unit."""
    both = full_pass.sides(world.system, world.desk, world.system.category(NEURONS))
    return SignalCheck(both, samples=100, seed=1, steps=steps, whole_paths=whole, **more).run()


class TestConnections:
    def test_what_is_legal_is_counted_and_what_dangles_is_the_applications_own(self, world: World) -> None:
        put(world, A, link(A), link(B), link(B), link(B, 0.75), link(NOBODY))
        put(world, B)
        put(world, C, link(A), layer="protocol")
        world.migrate(NEURONS)
        found = connected(world)
        assert found.alike
        for figures in (found.flat, found.hier):
            assert vars(figures) == {
                "units": 3, "connections": 6, "selves": 1, "parallel": 2, "duplicate": 1, "dangling": 1,
                "unreadable": 0, "rootless": 0,
            }  # fmt: skip
        assert (found.orphaned, found.pending) == (0, 0)
        assert (found.entrance, found.unreachable_units) == ("substrate", 1)

    def test_every_way_in_which_a_connection_can_differ(self, world: World) -> None:
        put(world, A, link(B), link(C))
        put(world, B)
        put(world, C)
        world.migrate(NEURONS)
        assert connected(world).alike
        world.hier_sql("CREATE TABLE kept AS SELECT * FROM hier.unit_connections")
        for change in (
            "UPDATE hier.unit_connections SET weight = 0.25 WHERE ordinal = 1",
            "UPDATE hier.unit_connections SET weight_exact = 0.50 WHERE ordinal = 1",
            "UPDATE hier.unit_connections SET connection_type = 'other' WHERE ordinal = 2",
            "UPDATE hier.unit_connections k SET target_id = o.target_id FROM kept o WHERE o.ordinal = 3 - k.ordinal",
            "INSERT INTO hier.unit_connections SELECT unit_id, 3, target_id, 'x', 1, 1 FROM kept WHERE ordinal = 1",
            "DELETE FROM hier.unit_connections WHERE ordinal = 2",
        ):
            world.hier_sql(change)
            found = connected(world)
            assert found.differing_units == 1, change
            assert {one.unit for one in found.differences} == {A}
            assert all(one.flat != one.hier for one in found.differences)
            assert not connected(world, layer="cognitive").differing_units
            assert not connected(world, layer="substrate").alike
            world.hier_sql("TRUNCATE hier.unit_connections; INSERT INTO hier.unit_connections SELECT * FROM kept")
        assert connected(world).alike

    def test_a_list_that_is_none_is_held_back_and_stops_nothing(self, world: World) -> None:
        put(world, A, link(B))
        put(world, B)
        world.flat_sql("UPDATE flat.neuron_states SET connections = '{\"no\": 1}' WHERE neuron_id = %s", B)
        put(world, C, {"target": "nobody", "weight": 1, "conn_type": "x"})
        run_id = world.start(NEURONS)
        while world.batch(run_id):
            pass
        found = connected(world)
        assert (found.quarantined_units, found.held_back, found.differing_units) == (2, 1, 0)
        assert (found.flat.unreadable, found.alike) == (1, False)
        assert signalled(world).differing

    def test_what_waits_in_the_journal_is_no_difference(self, world: World) -> None:
        world.keep_worker()
        put(world, A, link(B))
        put(world, B)
        world.migrate(NEURONS)
        world.switch.enable()
        put(world, A, link(B), link(A))
        put(world, C, link(A))
        found = connected(world)
        assert (found.alike, found.moving_units) == (True, 2)
        assert signalled(world, sleep=lambda _: None).moving == 2
        signals = signalled(world, sleep=lambda _: world.drain())
        assert (signals.differing, signals.moving, signals.alike) == (0, 0, 2)
        assert connected(world).moving_units == 0

    def test_the_other_way_round_once_the_hierarchical_store_rules(self, world: World) -> None:
        put(world, A, link(B), link(NOBODY))
        put(world, B)
        world.only(NEURONS)
        world.prepare(over=True)
        assert write_mode.state(world.desk.hier("test")).mode is Mode.HIERARCHICAL_ONLY
        assert layers.group(world.system).store == "hierarchical"
        assert connected(world).alike
        with world.desk.flat("test") as flat, flat.cursor() as cursor:
            cursor.execute(capture.APPLY)
            cursor.execute("DELETE FROM flat.neuron_states WHERE neuron_id = %s", (B,))
        found = connected(world)
        assert (found.ruling, found.differing_units, found.orphaned, list(found.lost)) == (
            "hierarchical", 1, 1, [(B,)],
        )  # fmt: skip
        assert found.hier.dangling == 1
        assert signalled(world).differing == 1


class TestSignals:
    def test_the_first_step_that_parts_is_named(self, world: World) -> None:
        for at, key in enumerate(UNITS[:-1]):
            put(world, key, link(UNITS[at + 1], 0.5))
        put(world, F)
        world.migrate(NEURONS)
        found = signalled(world)
        assert (found.alike, found.steps, found.differing) == (5, 15, 0)

        world.hier_sql("UPDATE hier.units SET activation = 0.5 WHERE unit_id = %s", C)
        parted = {one.start: (one.step, one.what) for one in signalled(world).differences}
        assert parted == {A: (2, "value"), B: (1, "value"), C: (0, "value")}
        # Its value goes on to every end.
        assert signalled(world, whole=False).differing == 3

    def test_another_way_to_the_same_end_needs_the_whole_path(self, world: World) -> None:
        put(world, A, link(B, 0), activation=0.0)
        put(world, B, link(D, 0))
        put(world, C, link(D, 0))
        put(world, D)
        world.migrate(NEURONS)
        world.hier_sql("UPDATE hier.unit_connections SET target_id = %s WHERE unit_id = %s", C, A)
        assert signalled(world, whole=False).differing == 0
        (one,) = signalled(world).differences
        assert (one.start, one.step, one.what) == (A, 0, "path")

    def test_the_same_seed_takes_the_same_ways(self, world: World) -> None:
        world.load(0.0002, NEURONS)
        world.migrate(NEURONS)
        both = full_pass.sides(world.system, world.desk, world.system.category(NEURONS))
        ruler, follower = neuron_graph.parts(both)
        paths = []
        for seed, side in ((1, ruler), (1, ruler), (1, follower), (2, ruler)):
            check = SignalCheck(both, samples=20, seed=seed, steps=8, whole_paths=True)
            paths.append(check.walk(side, check.starts()))
        assert paths[0] == paths[1] == paths[2] != paths[3]
        assert {path.end for path in paths[0]} <= set(PathEnd)
