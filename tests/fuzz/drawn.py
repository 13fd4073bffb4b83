"""Choices that are made by the bytes of an input, so that a fuzzer steers them; what is lacking counts as zeros."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")
#: Values that are seldom what a document has in their place.
_ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**63, 2**64, -(2**63), 1e308, "", "x", "..", "../x", "/x", "a\0b", "\ud800", "é" * 99,
    [], [[]], {}, {"": None}, [0, -1, 2, 7], ["k", None], "0" * 64, "2026-03-01T12:00:00", "9999-12-31T23:59:59-23:59",
)  # fmt: skip


class Drawn:
    """An input that is used up from its beginning."""

    def __init__(self, data: bytes):
        self._data = data
        self._at = 0

    @property
    def left(self) -> bool:
        """Whether anything is left of it."""
        return self._at < len(self._data)

    def taken(self, count: int) -> bytes:
        """Return the next bytes; fewer where there are no more."""
        part = self._data[self._at : self._at + count]
        self._at += count
        return part

    def number(self, below: int) -> int:
        """Return a number from zero on."""
        return int.from_bytes(self.taken(1 if below <= 256 else 4)) % below

    def one_of(self, values: Sequence[T]) -> T:
        """Return one of several."""
        return values[self.number(len(values))]

    def text(self, most: int = 40) -> str:
        """Return a text, lone surrogates among it."""
        return self.taken(self.number(most)).decode("utf-8", "surrogateescape")

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.taken(max(0, len(self._data) - self._at))

    def value(self) -> Any:
        """Return a value that a JSON document may hold."""
        match self.number(4):
            case 0:
                return self.number(1 << 32)
            case 1:
                return self.text()
            case _:
                return self.one_of(_ODD)


def edited(document: Any, drawn: Drawn) -> Any:
    """Return a JSON document with a few members exchanged, gone, doubled or added."""
    for _ in range(1 + drawn.number(3)):
        document = _edited(document, drawn, depth=0)
    return document


def _edited(here: Any, drawn: Drawn, depth: int) -> Any:
    if not isinstance(here, dict | list) or not here or (depth and drawn.number(4) == 0):
        return drawn.value()
    if isinstance(here, list):
        at = drawn.number(len(here))
        match drawn.number(8):
            case 0:
                return here[:at] + here[at + 1 :]
            case 1:
                return [*here, here[at]]
            case _:
                return [*here[:at], _edited(here[at], drawn, depth + 1), *here[at + 1 :]]
    name = drawn.one_of(sorted(here))
    match drawn.number(8):
        case 0:
            return {other: value for other, value in here.items() if other != name}
        case 1:
            return {**here, drawn.text(): drawn.value()}
        case _:
            return {**here, name: _edited(here[name], drawn, depth + 1)}
