"""A benchmark as a picture: for each operation the latency of both stores, category by category."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

from hal9mig.ledger.check_results import CheckOutcome, CheckVerdict

FORMATS = (".png", ".svg", ".pdf")
_COLOURS = {"flat": "#4477aa", "hierarchical": "#ee6677"}
#: Without a date and with fixed identities the same figures give the same bytes.
_METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None},
    ".pdf": {"CreationDate": None, "Producer": None, "Creator": None},
}


def draw(outcomes: Sequence[CheckOutcome], file: pathlib.Path) -> None:
    """Write a picture of what was measured; its form is told by the file's name.

    Bars are medians, the lines on them reach to p95.
    """
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "hal9-migrate"
    from matplotlib import pyplot

    measured = [one for one in outcomes if one.verdict is not CheckVerdict.SKIPPED]
    operations = list(dict.fromkeys(one.name.partition(":")[2] for one in measured))
    figure, axes = pyplot.subplots(
        1, max(1, len(operations)), figsize=(4.2 * max(1, len(operations)), 3.6), squeeze=False, layout="constrained"
    )
    for axis, operation in zip(axes[0], operations or [""], strict=True):
        found = [one for one in measured if one.name == f"benchmark:{operation}"]
        for place, (store, colour) in enumerate(_COLOURS.items()):
            middle = [one.measured[f"{store}_p50_ms"] for one in found]
            high = [max(0.0, one.measured[f"{store}_p95_ms"] - low) for one, low in zip(found, middle, strict=True)]
            at = [number + (place - 0.5) * 0.38 for number in range(len(found))]
            axis.bar(
                at, middle, width=0.36, color=colour, label=store, yerr=[[0.0] * len(high), high], capsize=3,
                error_kw={"elinewidth": 1.0, "ecolor": "#555555"},
            )  # fmt: skip
        axis.set_xticks(range(len(found)), [one.category for one in found], rotation=30, ha="right")
        axis.set_title(operation or "nothing was measured")
        axis.set_ylabel("latency, ms: p50, and p95 above it")
        axis.set_ylim(bottom=0)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    if operations:
        axes[0][0].legend(frameon=False, loc="upper left")
    figure.savefig(file, dpi=110, metadata=_METADATA[file.suffix.lower()])
    pyplot.close(figure)
