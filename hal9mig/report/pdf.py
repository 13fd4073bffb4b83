"""A report as PDF, by ReportLab, with a font that has every letter a name may need."""

from __future__ import annotations

import io
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any
from xml.sax.saxutils import escape

from hal9mig.report.model import Block, Checklist, Facts, Grid, Paragraph, Picture, Report

_FONT, _BOLD = "DejaVuSans", "DejaVuSans-Bold"
_GOOD, _BAD = "#1b7837", "#b2182b"
#: Marks that every font has.
_MARKS = {True: f'<font color="{_GOOD}">[ok]</font> ', False: f'<font color="{_BAD}">[FAIL]</font> ', None: ""}
#: Points of a page of A4 between its margins.
_WIDTH = 500.0
#: What a line for a pen looks like.
_BLANK = "_" * 40


def render(report: Report) -> bytes:
    """Return a report's PDF; the same report gives the same bytes."""
    from reportlab.lib.pagesizes import A4
    from reportlab.platypus import KeepTogether, SimpleDocTemplate, Spacer

    styles = _styles()
    kept = io.BytesIO()
    page = SimpleDocTemplate(
        kept, pagesize=A4, leftMargin=47, rightMargin=47, topMargin=50, bottomMargin=50, title=report.title,
        author="hal9-migrate", subject=report.state, invariant=1,
    )  # fmt: skip
    story: list[Any] = [_text(report.title, styles["title"]), _text(f"As of {report.state}.", styles["small"])]
    for section in report.sections:
        blocks = [part for block in section.blocks for part in _flowables(block, styles)]
        # A heading is not left alone at the foot of a page.
        story += [Spacer(1, 8), KeepTogether([_text(section.title, styles["heading"]), *blocks[:1]]), *blocks[1:]]
    footer = f"hal9-migrate: {report.title}; {report.state}"
    page.build(story, onFirstPage=_footer(footer), onLaterPages=_footer(footer))
    return kept.getvalue()


def _footer(text: str) -> Any:
    def drawn(canvas: Any, page: Any) -> None:
        canvas.saveState()
        canvas.setFont(_FONT, 6.5)
        canvas.drawString(47, 30, text)
        canvas.drawRightString(548, 30, f"page {page.page}")
        canvas.restoreState()

    return drawn


def _styles() -> dict[str, Any]:
    import matplotlib
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    folder = pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    for name in (_FONT, _BOLD):
        if name not in pdfmetrics.getRegisteredFontNames():
            pdfmetrics.registerFont(TTFont(name, str(folder / f"{name}.ttf")))
    pdfmetrics.registerFontFamily(_FONT, normal=_FONT, bold=_BOLD, italic=_FONT, boldItalic=_BOLD)
    body = ParagraphStyle("body", fontName=_FONT, fontSize=8.5, leading=11.5, spaceAfter=2)
    return {
        "body": body,
        "small": ParagraphStyle("small", parent=body, fontSize=7.5, leading=10, textColor="#555555"),
        "cell": ParagraphStyle("cell", parent=body, fontSize=6.8, leading=8.6, spaceAfter=0, splitLongWords=1),
        "number": ParagraphStyle("number", parent=body, fontSize=6.8, leading=8.6, spaceAfter=0, alignment=2),
        "column": ParagraphStyle("column", parent=body, fontName=_BOLD, fontSize=6.2, leading=8, spaceAfter=0),
        "count": ParagraphStyle(
            "count", parent=body, fontName=_BOLD, fontSize=6.2, leading=8, spaceAfter=0, alignment=2
        ),
        "title": ParagraphStyle("title", parent=body, fontName=_BOLD, fontSize=18, leading=24),
        "heading": ParagraphStyle(
            "heading", parent=body, fontName=_BOLD, fontSize=11.5, leading=15, spaceBefore=6, spaceAfter=4
        ),
    }


def _text(text: str, style: Any, *, mark: bool | None = None) -> Any:
    from reportlab.platypus import Paragraph as Flowing

    indent = len(text) - len(text.lstrip(" "))
    return Flowing(_MARKS[mark] + "&nbsp;" * indent + escape(text.lstrip(" ")), style)


def _flowables(block: Block, styles: dict[str, Any]) -> Iterator[Any]:
    from reportlab.platypus import Image, Spacer

    if isinstance(block, Paragraph):
        yield _text(block.text, styles["body"], mark=block.good)
    elif isinstance(block, Facts):
        cells = [[_text(name, styles["body"]), _text(value or _BLANK, styles["body"])] for name, value in block.rows]
        yield _table(cells, [0.3, 0.7], lines=False)
    elif isinstance(block, Grid):
        yield _grid(block, styles)
    elif isinstance(block, Picture):
        yield Image(io.BytesIO(block.png), width=block.width, height=block.height)
        yield _text(block.caption, styles["small"])
    else:
        yield _checklist(block, styles)
    yield Spacer(1, 3)


def _grid(block: Grid, styles: dict[str, Any]) -> Any:
    head = [
        _text(name, styles["count" if place in block.numbers else "column"]) for place, name in enumerate(block.columns)
    ]
    rows = [
        [_text(cell, styles["number" if place in block.numbers else "cell"]) for place, cell in enumerate(row)]
        for row in block.rows
    ]
    widths = block.widths or [1 / len(block.columns)] * len(block.columns)
    return _table([head, *rows], widths, lines=True)


def _table(cells: list[list[Any]], widths: Sequence[float], *, lines: bool) -> Any:
    from reportlab.platypus import Table, TableStyle

    style: list[Any] = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), 2),
        ("RIGHTPADDING", (0, 0), (-1, -1), 3), ("TOPPADDING", (0, 0), (-1, -1), 1.5),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5),
    ]  # fmt: skip
    if lines:
        style += [("LINEBELOW", (0, 0), (-1, 0), 0.6, "#333333"), ("LINEBELOW", (0, 1), (-1, -1), 0.2, "#cccccc")]
    return Table(
        cells, colWidths=[share * _WIDTH for share in widths], style=TableStyle(style), repeatRows=1 if lines else 0,
        hAlign="LEFT",
    )  # fmt: skip


def _checklist(block: Checklist, styles: dict[str, Any]) -> Any:
    cells = [
        [_text("[ ]" if attested is None else "[x]", styles["body"]), _text(item, styles["body"]),
         _text("" if attested is None else attested, styles["small"])]
        for item, attested in block.items
    ]  # fmt: skip
    return _table(cells, [0.06, 0.54, 0.4], lines=False)
