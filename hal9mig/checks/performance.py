"""Performance: how long a read by key takes in each store, in rounds that take turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from hal9mig import model
from hal9mig.categories.declaration import Category
from hal9mig.checks import sample
from hal9mig.client import Client
from hal9mig.engine.system import System
from hal9mig.ledger.check_results import CheckOutcome, CheckVerdict

NAME = "performance"
ROUNDS = 5
#: A hierarchical read is too slow where its p95 is more than so many times the flat one's, and by more than this.
MOST_TIMES, MOST_MORE_MS = 2.0, 5.0


def check(system: System, client: Client, category: Category, *, count: int, seed: int) -> CheckOutcome:
    """Read a sample of records from each store, one at a time.

    Args:
        count: records of a round; seed: which ones.
    """
    wanted = sample.keys(system, category, count, seed=seed)
    with sample.opened(system) as desk:
        found = sample.judged(system, desk, category, wanted)
    if not found.both:
        return CheckOutcome(
            category=category.slug, name=NAME, verdict=CheckVerdict.SKIPPED,
            detail="no record is in both stores", measured={"sampled": len(wanted)},
            next_command=f"hal9-migrate state migrate --category {category.slug}" if wanted else "",
        )  # fmt: skip
    times: dict[model.StoreName, list[float]] = {side: [] for side in model.StoreName}
    for turn in range(ROUNDS):
        # The one that comes first warms what both use: they take turns in that too.
        for side in list(model.StoreName)[:: 1 if turn % 2 else -1]:
            times[side] += [_read(client, side, category, key) for key in found.both]
    measured = {
        f"{side}_{name}_ms": round(value * 1000, 3)
        for side, values in times.items()
        for name, value in (("p50", percentile(values, 50)), ("p95", percentile(values, 95)))
    }
    flat, hier = (measured[f"{side}_p95_ms"] for side in (model.StoreName.FLAT, model.StoreName.HIERARCHICAL))
    slow = hier > flat * MOST_TIMES and hier > flat + MOST_MORE_MS
    return CheckOutcome(
        category=category.slug, name=NAME, verdict=CheckVerdict.FAILED if slow else CheckVerdict.PASSED,
        detail=f"p95 of a read by key: flat {flat:.2f} ms, hierarchical {hier:.2f} ms, of {len(found.both):,} records "
        f"in {ROUNDS} rounds",
        next_command=f"hal9-migrate benchmark --categories {category.slug} --compare-systems" if slow else "",
        measured=measured,
    )  # fmt: skip


def percentile(values: Sequence[float], percent: int) -> float:
    """Return a percentile by linear interpolation between the two nearest values."""
    if len(values) < 2:
        return values[0] if values else 0.0
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def _read(client: Client, side: model.StoreName, category: Category, key: model.Key) -> float:
    began = time.perf_counter()
    client.fetch(side, category.slug, [key])
    return time.perf_counter() - began
