"""The ways to compare two stores: our verify, and reladiff on two tables of one shape."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from tests.benchmarks import environments, verifying
from tests.benchmarks.ways import Row, Way, take_turns
from tests.benchmarks.world import SLUG, Pair, World, command, migrate, working


def measure(world: World, pair: Pair, build: pathlib.Path, *, rounds: int) -> list[Row]:
    """Compare stores that are equal, and twins of which some rows differ.

    Args:
        build: a folder that stays, for environments.
    """
    pair.empty()
    with working(pair):
        migrate(pair)
    verifying.make_twin(world, pair)
    found = take_turns(world.say, [*_twins(world, pair, build, set()), _verify(pair)], pair.rows, rounds=rounds)
    changed = verifying.change(pair, verifying.DIFFERENT)
    return found + take_turns(world.say, _twins(world, pair, build, changed), pair.rows, rounds=rounds)


def _twins(world: World, pair: Pair, build: pathlib.Path, changed: set[str]) -> list[Way]:
    state = f"{len(changed)} rows differ" if changed else "equal"
    reference = f"ours, verify of twins, {state}"

    def ours(_: str) -> float:
        with working(pair, env=verifying.CATEGORIES):
            return verifying.compare_twins(pair, changed)

    return [
        Way(name=reference, reference=reference, run=ours),
        *(_reladiff(world, pair, build, changed, options, f"{name} of twins, {state}", reference)
          for name, options in verifying.RELADIFF.items()),
    ]  # fmt: skip


def _reladiff(
    world: World, pair: Pair, build: pathlib.Path, changed: set[str], options: Sequence[str], name: str, reference: str
) -> Way:
    return Way(
        name=name, reference=reference, install=lambda: verifying.install(world, build / "reladiff"),
        run=lambda place: verifying.run_reladiff(place, pair, options, changed),
        version=lambda _: environments.versions(build / "reladiff" / "bin", ("reladiff",)),
        lacks=("tables of one shape only",),
    )  # fmt: skip


def _verify(pair: Pair) -> Way:
    def run(_: str) -> float:
        with working(pair):
            return command(pair, "state", "verify", "--category", SLUG)

    return Way(name="ours, verify of flat and hierarchical", reference="ours, verify of twins, equal", run=run)
