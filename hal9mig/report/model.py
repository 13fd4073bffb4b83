"""A report as what it says, whatever form it takes: sections of paragraphs, facts, tables, pictures and checklists."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paragraph:
    """A text; ``good`` makes it a verdict."""

    text: str
    good: bool | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """Names and what they are; an empty value is left for a pen."""

    rows: Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """A table; ``numbers`` are the places of columns that are set flush right, ``widths`` their shares of the page."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[int] = ()
    widths: Sequence[float] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture as PNG, its size in points, and in words what it shows."""

    name: str
    png: bytes
    width: float
    height: float
    caption: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checklist:
    """Things that people look at: each with who attests it, or None for a box to tick."""

    items: Sequence[tuple[str, str | None]]


Block = Paragraph | Facts | Grid | Picture | Checklist


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: Sequence[Block]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """A whole report.

    Attributes:
        state: which state of the ledger it shows; the same state gives the same report, byte for byte.
    """

    title: str
    state: str
    sections: Sequence[Section]
