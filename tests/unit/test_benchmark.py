"""What a benchmark makes of its figures: the band of noise around them, and a picture."""

from __future__ import annotations

import pathlib

import pytest

from hal9mig.checks import benchmark, benchmark_plot
from hal9mig.ledger.check_results import CheckOutcome, CheckVerdict


def test_the_same_figures_are_the_same_picture(tmp_path: pathlib.Path) -> None:
    figures = {f"{store}_{name}": value for store in ("flat", "hierarchical")
               for name, value in (("p50_ms", 1.5), ("p95_ms", 2.5))}  # fmt: skip
    outcomes = [
        CheckOutcome(category=slug, name=f"benchmark:{name}", verdict=CheckVerdict.PASSED, measured=figures)
        for slug in ("user-sessions", "metadata")
        for name in benchmark.OPERATIONS
    ]
    for suffix in benchmark_plot.FORMATS:
        files = [tmp_path / f"{number}{suffix}" for number in (1, 2)]
        for file in files:
            benchmark_plot.draw(outcomes, file)
        assert files[0].read_bytes() == files[1].read_bytes()


def test_the_band_of_noise_is_what_all_rounds_differ_by() -> None:
    assert benchmark.band([1.0, 1.0, 1.0, 1.0, 1.0]) == pytest.approx(0.10)
    # One bad round widens nothing; all that differ do.
    assert benchmark.band([1.0, 1.0, 1.0, 1.0, 9.0]) == pytest.approx(0.10)
    assert benchmark.band([0.8, 0.9, 1.0, 1.1, 1.2]) == pytest.approx(0.29652)
