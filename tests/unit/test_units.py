"""Quantities as people write them, read and written again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal9mig import errors, units
from hal9mig.units import Rate, RateUnit


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("5m", 300),
        ("24h", 86400),
        ("2d", 172800),
        ("7", 7),
        ("1.5h", 5400),
        (" 5 M ", 300),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "0", "0s", "-5s", "5w", "s", "1h30m", "5 minutes", "1e3", "nan", "٣s x", "9" * 5000]
)
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(errors.InvalidUnit) as refused:
        units.parse_duration(text)
    assert "24h" in str(refused.value.hint)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("20MB", 20 * 10**6),
        ("64KiB", 65536),
        ("1GB", 10**9),
        ("100", 100),
        ("1.5kb", 1500),
        ("2 TiB", 2 * 2**40),
        ("7b", 7),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert units.parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "0", "0MB", "0.1b", "-1MB", "5PB", "MB", "5iB", "9" * 5000])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(errors.InvalidUnit):
        units.parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "count"), [("1", 1), ("1000", 1000), ("1_000", 1000), ("1,000,000", 10**6), (" 5 ", 5)]
)
def test_counts_are_read(text: str, count: int) -> None:
    assert units.parse_count(text) == count


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "1k", "one", "9" * 19, "9" * 5000])
def test_other_counts_are_refused(text: str) -> None:
    with pytest.raises(errors.InvalidUnit):
        units.parse_count(text)


@pytest.mark.parametrize(
    ("text", "share"), [("0.01", 0.01), ("1%", 0.01), ("0", 0.0), ("1", 1.0), ("100%", 1.0), ("0.5 %", 0.005)]
)
def test_shares_are_read(text: str, share: float) -> None:
    assert units.parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "2", "101%", "-0.1", "half"])
def test_other_shares_are_refused(text: str) -> None:
    with pytest.raises(errors.InvalidUnit):
        units.parse_share(text)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/s", Rate(amount=100, unit=RateUnit.RECORDS, per=1)),
        ("6000/m", Rate(amount=6000, unit=RateUnit.RECORDS, per=60)),
        ("100records/s", Rate(amount=100, unit=RateUnit.RECORDS, per=1)),
        ("10batches/s", Rate(amount=10, unit=RateUnit.BATCHES, per=1)),
        ("20MB/s", Rate(amount=20 * 10**6, unit=RateUnit.BYTES, per=1)),
        ("0.5kB/h", Rate(amount=500, unit=RateUnit.BYTES, per=3600)),
        (" 100 / S ", Rate(amount=100, unit=RateUnit.RECORDS, per=1)),
        ("off", None),
        ("OFF", None),
    ],
)
def test_rates_are_read(text: str, rate: Rate | None) -> None:
    assert units.parse_rate(text) == rate


@pytest.mark.parametrize(
    "text", ["", "100", "0/s", "0.5/s", "100/d", "-1/s", "100/", "/s", "100 widgets/s", "on", f"{'9' * 5000}/s"]
)
def test_other_rates_are_refused(text: str) -> None:
    with pytest.raises(errors.InvalidUnit):
        units.parse_rate(text)


def test_a_rate_knows_its_second() -> None:
    assert Rate(amount=6000, unit=RateUnit.RECORDS, per=60).per_second == 100


@given(st.integers(1, 10**9), st.sampled_from([RateUnit.RECORDS, RateUnit.BATCHES]), st.sampled_from([1, 60, 3600]))
def test_a_written_rate_is_read_as_the_same(amount: int, unit: RateUnit, per: int) -> None:
    rate = Rate(amount=amount, unit=unit, per=per)
    assert units.parse_rate(str(rate)) == rate


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (0.25, "0.25s"), (1.0, "1s"), (9.994, "9.99s"), (10, "10s"), (42.4, "42s"), (59.6, "1m00s"),
        (185, "3m05s"), (3599.7, "1h00m"), (5460, "1h31m"), (187200, "2d04h"),
    ],
)  # fmt: skip
def test_durations_are_written(seconds: float, text: str) -> None:
    assert units.format_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1536, "1.5 kB"),
        (20 * 10**6, "20 MB"),
        (10**9, "1 GB"),
        (25 * 10**11, "2.5 TB"),
    ],
)
def test_sizes_are_written(size: int, text: str) -> None:
    assert units.format_bytes(size) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 100, "0.0%"),
        (461, 1000, "46.1%"),
        (99_999, 100_000, "99.9%"),
        (1, 10**6, "<0.1%"),
        (5, 5, "100%"),
        (0, 0, "100%"),
    ],
)
def test_percents_never_round_to_done(part: int, whole: int, text: str) -> None:
    assert units.format_percent(part, whole) == text


@given(st.integers(0, 10**9), st.integers(1, 10**9))
def test_only_the_whole_is_100_percent(part: int, whole: int) -> None:
    assert (units.format_percent(part, whole) == "100%") == (part >= whole)


def test_counts_are_written() -> None:
    assert units.format_count(1234567) == "1,234,567"
