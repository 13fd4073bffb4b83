"""Gradients: computed again from what each store holds, numerically, and compared with what is stored beside it."""

from __future__ import annotations

import array
import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

from hal9mig import errors, model
from hal9mig.categories import learning
from hal9mig.checks import recall
from hal9mig.checks.subject import Subject
from hal9mig.client.values import Record
from hal9mig.ledger.check_results import CheckOutcome, CheckVerdict

NAME = "gradients"
#: Step of the differences. The loss is quadratic, so that central differences have no error of their own.
_STEP = 1e-3
#: A stored gradient has 32 bits, and is a sum of products of such numbers.
RELATIVE, ABSOLUTE = 1e-4, 1e-5
_LOSS = "linear-mse"
#: A layer wider than this is a damaged record; computing it would take all memory.
_MOST_OUTPUTS = 65536


@dataclasses.dataclass(kw_only=True)
class _Tally:
    """What a store's records came to; ``worst`` is the largest deviation."""

    checked: int = 0
    unknown: int = 0
    wrong: list[str] = dataclasses.field(default_factory=list)
    worst: float = 0.0


def check(subject: Subject, *, relative: float = RELATIVE, absolute: float = ABSOLUTE) -> CheckOutcome:
    """Compute the gradients of a sample of records again on both sides.

    Args:
        relative, absolute: a gradient may deviate by this share of it, and by this much.
    """
    drawn = subject.drawn(subject.sample)[: subject.sample]
    tallies = {store: _Tally() for store in model.StoreName}
    unlike: list[model.Key] = []
    for key in drawn:
        records = {store: subject.read(store, key) for store in tallies}
        for store, record in records.items():
            if record is not None:
                _count(tallies[store], key, record, relative, absolute)
        # What one store cannot compute again may be what it has lost.
        if len({record is not None and _known(record) for record in records.values()}) > 1 or None in records.values():
            unlike.append(key)
    lost = subject.drifted(unlike)
    checked = sum(tally.checked for tally in tallies.values())
    measured: dict[str, Any] = {"sampled": len(drawn), "relative": relative, "absolute": absolute}
    for store, tally in tallies.items():
        measured |= {
            f"{store}_checked": tally.checked, f"{store}_unknown": tally.unknown, f"{store}_wrong": len(tally.wrong),
            f"{store}_worst": tally.worst,
        }  # fmt: skip
    problems = [f"{store}: {one}" for store, tally in tallies.items() for one in tally.wrong]
    problems += [f"{'/'.join(key)} cannot be computed again in both stores" for key in lost]
    if problems:
        return subject.outcome(
            NAME, CheckVerdict.FAILED, f"{len(problems)} deviations: {'; '.join(problems[:3])}", measured,
            f"hal9-migrate state diff --category {learning.CATEGORY.slug} --verbose",
        )  # fmt: skip
    unknown = sum(tally.unknown for tally in tallies.values())
    more = f"; {unknown:,} without a loss that is known here" if unknown else ""
    if not checked:
        return subject.outcome(
            NAME, CheckVerdict.SKIPPED, f"no migrated record has gradients that can be computed again{more}", measured,
            "" if drawn else f"hal9-migrate state migrate --category {learning.CATEGORY.slug}",
        )  # fmt: skip
    return subject.outcome(
        NAME, CheckVerdict.PASSED,
        f"gradients of {len(drawn):,} records, computed again in both stores, within {relative:g} of each and "
        f"{absolute:g}{more}",
        measured,
    )  # fmt: skip


def _known(record: Record) -> bool:
    """Whether a record says how its gradients came about, and holds all that it takes."""
    meta = record["meta"]
    stated = isinstance(meta, dict) and meta.get("loss") == _LOSS
    return stated and bool(recall.vector(record)) and record["payload"] is not None


def _count(tally: _Tally, key: model.Key, record: Record, relative: float, absolute: float) -> None:
    if not _known(record):
        tally.unknown += 1
        return
    meta, values = record["meta"], recall.vector(record)
    name = "/".join(key)
    try:
        wanted = numeric(values, outputs=int(meta["outputs"]), gain=float(meta["gain"]), target=int(meta["class"]))
        stored = {one: _floats(packed) for one, packed in learning.unpack(bytes(record["payload"]))[0]}
    except (errors.RecordRejected, KeyError, TypeError, ValueError) as problem:
        tally.wrong.append(f"{name} cannot be computed again: {problem}")
        return
    tally.checked += 1
    for one, numbers in wanted.items():
        held = stored.get(one)
        if held is None or len(held) != len(numbers):
            tally.wrong.append(f"{name} has no {one} of {len(numbers)} values")
            return
        off = [abs(a - b) for a, b in zip(held, numbers, strict=True)]
        tally.worst = max(tally.worst, *off) if off else tally.worst
        bad = [at for at, value in enumerate(off) if not value <= absolute + relative * abs(numbers[at])]
        if bad:
            at = bad[0]
            tally.wrong.append(f"{name}, {one}[{at}]: {held[at]:g} is stored, {numbers[at]:g} is right")
            return


def numeric(values: Sequence[float], *, outputs: int, gain: float, target: int) -> dict[str, list[float]]:
    """Return the gradients of the linear loss that ``categories.learning`` states, by central differences.

    A weight and a bias change one term of the loss only, which is the one that is evaluated.

    Raises:
        ValueError: there are no such outputs.
    """
    if not 0 < outputs <= _MOST_OUTPUTS or not 0 <= target < outputs:
        raise ValueError(f"{outputs} outputs with class {target}")
    residuals = [0.0] * outputs
    for place, value in enumerate(values):
        residuals[place % outputs] += gain * value
    residuals[target] -= 1.0

    def slope(residual: float, value: float) -> float:
        ahead, behind = residual + _STEP * value, residual - _STEP * value
        return (0.5 * ahead * ahead - 0.5 * behind * behind) / (2 * _STEP)

    return {
        "weight": [slope(residual, value) for residual in residuals for value in values],
        "bias": [slope(residual, 1.0) for residual in residuals],
    }


def _floats(packed: bytes) -> Sequence[float]:
    held = array.array("f", packed)
    if sys.byteorder == "big":
        held.byteswap()
    return held
