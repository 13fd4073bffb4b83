"""Recall: noisy cues of stored patterns are answered from each store's own memory, and the answers compared.

The memory is what a store holds of the sampled patterns; an answer is the pattern nearest to the cue by Euclidean
distance, as a nearest-neighbour associative memory gives it (Cover and Hart, Nearest Neighbor Pattern
Classification, 1967).
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from hal9mig import model
from hal9mig.categories import learning
from hal9mig.checks.subject import Subject
from hal9mig.client.values import Record
from hal9mig.ledger.check_results import CheckOutcome, CheckVerdict

NAME = "recall"
_COMMAND = f"hal9-migrate state diff --category {learning.CATEGORY.slug} --verbose"
_MOST_NAMED = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Answer:
    """The pattern that a cue recalls, and how far from it that is."""

    key: model.Key
    distance: float


def check(subject: Subject, *, noise: float) -> CheckOutcome:
    """Recall so many patterns as the subject samples, from both stores.

    Args:
        noise: of a cue's values, as a share of its pattern's largest value.
    """
    drawn = subject.drawn(subject.sample)[: subject.sample]
    memories = {store: _memory(subject, store, drawn) for store in model.StoreName}
    ruling = model.StoreName.FLAT if subject.sides().forward else model.StoreName.HIERARCHICAL
    cues = {key: _cue(values, noise, f"{subject.seed}/{'/'.join(key)}") for key, values in memories[ruling].items()}
    if not cues:
        return subject.outcome(
            NAME, CheckVerdict.SKIPPED, "no migrated pattern can be recalled", {"patterns": len(drawn)},
            f"hal9-migrate state migrate --category {learning.CATEGORY.slug}",
        )  # fmt: skip
    answers = {store: {key: _recalled(memory, cue) for key, cue in cues.items()} for store, memory in memories.items()}
    flat, hier = answers[model.StoreName.FLAT], answers[model.StoreName.HIERARCHICAL]
    suspects = [key for key in cues if flat[key] != hier[key]]
    involved = {key: {key, *(one.key for one in (flat[key], hier[key]) if one is not None)} for key in suspects}
    # A pattern that was written between the two readings is no difference.
    drifted = set(subject.drifted(sorted(set().union(*involved.values()))))
    wrong = [key for key in suspects if involved[key] & drifted]
    shares = {
        store: sum(answer is not None and answer.key == key for key, answer in found.items()) / len(cues)
        for store, found in answers.items()
    }
    measured: dict[str, Any] = {"patterns": len(cues), "noise": noise, "differing": len(wrong)}
    measured |= {f"{store}_accuracy": round(share, 4) for store, share in shares.items()}
    told = ", ".join(f"{store} {share:.1%}" for store, share in shares.items())
    if wrong:
        named = "; ".join("/".join(key) for key in wrong[:_MOST_NAMED])
        return subject.outcome(
            NAME, CheckVerdict.FAILED,
            f"{len(wrong)} of {len(cues):,} cues recall another pattern, or at another distance: {named}; "
            f"accuracy: {told}",
            measured, _COMMAND,
        )  # fmt: skip
    return subject.outcome(
        NAME,
        CheckVerdict.PASSED,
        f"{len(cues):,} noisy cues recall the same in both stores; accuracy: {told}",
        measured,
    )


def _memory(subject: Subject, store: model.StoreName, keys: Sequence[model.Key]) -> dict[model.Key, Sequence[float]]:
    """Return what a store holds of these patterns; those that are no vector of numbers cannot be recalled."""
    found = {}
    for key in keys:
        record = subject.read(store, key)
        if record is not None and (values := vector(record)):
            found[key] = values
    return found


def vector(record: Record) -> Sequence[float]:
    """Return a record's pattern as numbers; empty where it holds what is none."""
    values = record["pattern"]
    if not isinstance(values, list) or not all(isinstance(one, (int, float)) and math.isfinite(one) for one in values):
        return ()
    return values


def _cue(values: Sequence[float], noise: float, seed: str) -> Sequence[float]:
    drawn = random.Random(seed)
    width = noise * max(map(abs, values))
    return [value + drawn.uniform(-width, width) for value in values]


def _recalled(memory: Mapping[model.Key, Sequence[float]], cue: Sequence[float]) -> _Answer | None:
    near = min(
        ((math.dist(values, cue), key) for key, values in memory.items() if len(values) == len(cue)), default=None
    )
    return None if near is None else _Answer(key=near[1], distance=near[0])
