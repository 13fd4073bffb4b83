"""Quantities as people write them: durations, sizes, shares, rates and counts."""

from __future__ import annotations

import dataclasses
import enum
import re
from fractions import Fraction

from hal9mig import errors

_DURATION = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {
    "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_PER = {"s": 1, "m": 60, "h": 3600}
#: Digits of a number that anything is counted by: one more, and it might be larger than the servers' largest.
_DIGITS = 18
_NUMBER = rf"(?P<number>\d{{1,{_DIGITS}}}(?:\.\d{{1,{_DIGITS}}})?)"
#: Seconds of the longest time that may be asked for.
LONGEST = 3650 * _DURATION["d"]


class RateUnit(enum.Enum):
    """What a rate counts."""

    RECORDS = "records"
    BATCHES = "batches"
    BYTES = "bytes"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rate:
    """A cluster-wide budget: ``amount`` of ``unit`` in every ``per`` seconds."""

    amount: int
    unit: RateUnit
    per: int

    @property
    def per_second(self) -> float:
        """The budget of one second."""
        return self.amount / self.per

    def __str__(self) -> str:
        per = {1: "s", 60: "m", 3600: "h"}[self.per]
        if self.unit is RateUnit.BYTES:
            return f"{format_bytes(self.amount).replace(' ', '')}/{per}"
        return f"{self.amount}{'batches' if self.unit is RateUnit.BATCHES else ''}/{per}"


def _invalid(what: str, text: str, examples: str) -> errors.InvalidUnit:
    return errors.InvalidUnit(f"{text!r} is not {what}", hint=f"write it like {examples}")


def parse_duration(text: str, *, none: bool = False) -> float:
    """Return the seconds of ``500ms``, ``30s``, ``5m``, ``24h``, ``2d`` or of a bare number.

    Args:
        none: whether it may be zero.

    Raises:
        errors.InvalidUnit: it has another form, is zero, or longer than any clock goes on counting.
    """
    found = re.fullmatch(rf"{_NUMBER}\s*(?P<unit>ms|s|m|h|d)?", text.strip(), re.I)
    seconds = float(found["number"]) * _DURATION[(found["unit"] or "s").lower()] if found else 0.0
    if not found or (seconds == 0 and not none):
        raise _invalid("a duration" if none else "a duration above zero", text, "30s, 5m or 24h")
    if seconds > LONGEST:
        raise _invalid(f"a duration of at most {format_duration(LONGEST)}", text, "30s, 5m or 24h")
    return seconds


def parse_bytes(text: str) -> int:
    """Return the bytes of ``20MB``, ``64KiB`` or of a bare number.

    Raises:
        errors.InvalidUnit: it has another form, or is below one byte.
    """
    found = re.fullmatch(rf"{_NUMBER}\s*(?P<unit>[kmgt]?i?b)?", text.strip(), re.I)
    scale = _BYTES.get((found["unit"] or "b").lower()) if found else None
    if not found or scale is None or int(Fraction(found["number"]) * scale) < 1:
        raise _invalid("a size above zero", text, "64KiB, 20MB or 1GB")
    return int(Fraction(found["number"]) * scale)


def parse_count(text: str) -> int:
    """Return a whole number of at least one; ``1_000`` and ``1,000`` are fine.

    Raises:
        errors.InvalidUnit: it is not a whole number, zero or negative.
    """
    plain = text.strip().replace(",", "").replace("_", "")
    if len(plain) > _DIGITS or not plain.isdecimal() or int(plain) < 1:
        raise _invalid(f"a whole number above zero of at most {_DIGITS} digits", text, "1000")
    return int(plain)


def parse_share(text: str) -> float:
    """Return a share between 0 and 1 of ``0.01`` or ``1%``.

    Raises:
        errors.InvalidUnit: it has another form or is outside 0 to 1.
    """
    found = re.fullmatch(rf"{_NUMBER}\s*(?P<percent>%)?", text.strip())
    share = float(found["number"]) / (100 if found["percent"] else 1) if found else -1.0
    if not 0 <= share <= 1:
        raise _invalid("a share between 0 and 1", text, "0.01 or 1%")
    return share


def parse_rate(text: str) -> Rate | None:
    """Return the budget of ``100/s``, ``6000/m``, ``100batches/s`` or ``20MB/s``; None for ``off``.

    A bare number counts records. The budget holds for the whole cluster.

    Raises:
        errors.InvalidUnit: it has another form, or is below one.
    """
    if text.strip().lower() == "off":
        return None
    found = re.fullmatch(rf"{_NUMBER}\s*(?P<unit>records|batches|[kmgt]?i?b)?\s*/\s*(?P<per>[smh])", text.strip(), re.I)
    if not found:
        raise _invalid("a rate", text, "100/s, 6000/m, 100batches/s, 20MB/s or off")
    unit = (found["unit"] or "records").lower()
    scale = _BYTES.get(unit, 1)
    amount = Fraction(found["number"]) * scale
    if amount < 1 or amount.denominator != 1:
        raise _invalid("a rate of at least one", text, "100/s, or 30/m for less than one a second")
    kind = RateUnit.BYTES if unit in _BYTES else RateUnit(unit)
    return Rate(amount=int(amount), unit=kind, per=_PER[found["per"].lower()])


def format_count(count: int) -> str:
    """Return ``1,234,567``."""
    return f"{count:,}"


def format_bytes(size: float) -> str:
    """Return a size in decimal units with at most one decimal place, as ``20 MB``."""
    for unit, scale in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= scale:
            return f"{size / scale:.1f}".removesuffix(".0") + f" {unit}"
    return f"{int(size)} B"


def format_duration(seconds: float) -> str:
    """Return ``0.25s``, ``42s``, ``3m05s``, ``1h31m`` or ``2d04h``."""
    if seconds < 10:
        return f"{seconds:.2f}".rstrip("0").rstrip(".") + "s"
    whole = round(seconds)
    for big, small, names in ((86400, 3600, "dh"), (3600, 60, "hm"), (60, 1, "ms")):
        if whole >= big:
            return f"{whole // big}{names[0]}{whole % big // small:02d}{names[1]}"
    return f"{whole}s"


def format_percent(part: int, whole: int) -> str:
    """Return ``46.1%``; never ``100%`` while a part is missing, nor ``0%`` once there is one."""
    if part >= whole:
        return "100%"
    share = 100 * part / whole
    if part and share < 0.1:
        return "<0.1%"
    return f"{min(share, 99.9):.1f}%"
