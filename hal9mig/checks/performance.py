"""Performance: how long one record takes to read in each store, in alternating rounds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from hal9mig import model
from hal9mig.checks.subject import Subject
from hal9mig.ledger.check_results import CheckOutcome, CheckVerdict
from hal9mig.model import StoreName

#: Rounds, each of which reads every key of the sample once from each store.
ROUNDS = 6
_MOST_KEYS = 100


def check_reads(subject: Subject) -> CheckOutcome:
    """Read a sample by key from both stores; failed when the hierarchical store is slower beyond the bound.

    The two take turns at being first, so that neither always finds warm what the other has fetched. What is
    compared is each round's quotient; where those scatter, the noise band (their middle half) is wide, and only
    when all of it lies beyond the bound is that a failure. What nobody notices is none: on one machine a read takes
    a fraction of a millisecond, and a moment in which something else runs is many times that.
    """
    keys = subject.drawn(_MOST_KEYS)[: min(_MOST_KEYS, subject.sample)]
    # Only what both have: not to find something is quicker.
    keys = [key for key in keys if all(subject.read(side, key) is not None for side in StoreName)]
    if not keys:
        return subject.outcome("performance:read", CheckVerdict.SKIPPED, "no migrated records to read", {})
    rounds: dict[StoreName, list[list[float]]] = {side: [] for side in StoreName}
    for number in range(ROUNDS):
        for side in list(StoreName) if number % 2 else list(StoreName)[::-1]:
            rounds[side].append([_timed(subject, side, key) for key in keys])
    flat, hier = rounds[StoreName.FLAT], rounds[StoreName.HIERARCHICAL]
    bands = {share: _band(flat, hier, share) for share in (50, 95)}
    figures = {
        f"{side}_p{share}_ms": round(percentile([one for taken in rounds[side] for one in taken], share) * 1000, 3)
        for side in StoreName
        for share in bands
    }
    for share, band in bands.items():
        for name, value in zip(("low", "middle", "high"), band, strict=True):
            figures[f"quotient_p{share}_{name}"] = round(value, 3)
    beyond = [share for share, (low, _, _) in bands.items() if low > subject.bound]
    slow = [share for share in beyond if figures[f"{StoreName.HIERARCHICAL}_p{share}_ms"] > subject.sla]
    told = next(iter((*slow, *beyond)), 50)
    low, middle, high = bands[told]
    detail = (
        f"flat p50 {figures['flat_p50_ms']} ms, p95 {figures['flat_p95_ms']} ms; "
        f"hierarchical p50 {figures['hierarchical_p50_ms']} ms, p95 {figures['hierarchical_p95_ms']} ms; "
        f"p{told} {middle:.2f} times (noise band {low:.2f} to {high:.2f}, bound {subject.bound:g})"
        + (f", within the SLA of {subject.sla:g} ms" if beyond and not slow else "")
    )
    return subject.outcome(
        "performance:read",
        CheckVerdict.FAILED if slow else CheckVerdict.PASSED,
        detail,
        figures
        | {
            "bound": subject.bound,
            "sla_ms": subject.sla,
            "reads": len(keys) * ROUNDS * len(StoreName),
            "keys": len(keys),
        },
        "hal9-migrate state stats --resources" if slow else "",
    )


def percentile(taken: Sequence[float], share: int) -> float:
    """Return the value that so many in a hundred do not exceed, by linear interpolation between neighbours."""
    if len(taken) == 1:
        return taken[0]
    return statistics.quantiles(taken, n=100, method="inclusive")[share - 1]


def _timed(subject: Subject, side: StoreName, key: model.Key) -> float:
    started = time.perf_counter()
    subject.read(side, key)
    return time.perf_counter() - started


def _band(flat: Sequence[Sequence[float]], hier: Sequence[Sequence[float]], share: int) -> tuple[float, float, float]:
    """Return the quartiles of the rounds' quotients, hierarchical by flat."""
    quotients = [percentile(ours, share) / percentile(theirs, share) for theirs, ours in zip(flat, hier, strict=True)]
    low, middle, high = statistics.quantiles(quotients, n=4, method="inclusive")
    return low, middle, high
