"""A report as Markdown, as one page of HTML, and as JSON."""

from __future__ import annotations

import base64
import dataclasses
import html
from collections.abc import Iterator, Sequence
from typing import Any

from hal9mig import safe_text
from hal9mig.report.model import Block, Checklist, Facts, Grid, Paragraph, Picture, Report

_MARKS = {True: "✅ ", False: "❌ ", None: ""}
_BLANK = "_" * 20
_STYLE = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin: 2.2rem 0 .6rem; font-size: 1.2rem; border-bottom: 1px solid #8886; }
table { border-collapse: collapse; width: 100%; font-size: .84rem; display: block; overflow-x: auto; }
th, td { text-align: left; padding: .22rem .5rem; border-bottom: 1px solid #8883; vertical-align: top; }
th { font-weight: 600; } .number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
dl { display: grid; grid-template-columns: minmax(9rem, 16rem) 1fr; gap: .2rem 1rem; } dd { margin: 0; }
dd, td { overflow-wrap: anywhere; } img { max-width: 100%; background: #fff; } figure { margin: 1rem 0; }
p { margin: .25rem 0; white-space: pre-wrap; } figcaption, small { color: #888; } ul { list-style: none; padding: 0; }
"""


def as_json(report: Report) -> bytes:
    """Return a report as one JSON document; pictures are PNG in base64."""

    def plain(value: object) -> Any:
        return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)

    sections = [
        {
            "title": section.title,
            "blocks": [{"kind": type(block).__name__.lower()} | dataclasses.asdict(block) for block in section.blocks],
        }
        for section in report.sections
    ]
    document = {
        "schema": 1, "kind": "hal9-migrate phase report", "title": report.title, "state": report.state,
        "sections": sections,
    }  # fmt: skip
    text = safe_text.json_text(document, indent=2, default=plain)
    return (safe_text.printable_json(text) + "\n").encode()


def as_markdown(report: Report) -> bytes:
    """Return a report as Markdown; pictures are only named."""
    lines = [f"# {report.title}", "", f"As of {report.state}.", ""]
    for section in report.sections:
        lines += [f"## {section.title}", ""]
        for block in section.blocks:
            lines += [*_markdown(block), ""]
    return (safe_text.printable("\n".join(lines).rstrip("\n")) + "\n").encode()


def _markdown(block: Block) -> Iterator[str]:
    if isinstance(block, Paragraph):
        yield _MARKS[block.good] + block.text.strip()
    elif isinstance(block, Facts):
        for name, value in block.rows:
            yield f"- {name}: {value or _BLANK}"
    elif isinstance(block, Grid):
        yield "| " + " | ".join(block.columns) + " |"
        yield (
            "|" + "|".join(" ---: " if place in block.numbers else " --- " for place in range(len(block.columns))) + "|"
        )
        for row in block.rows:
            yield "| " + " | ".join(_cell(cell) for cell in row) + " |"
    elif isinstance(block, Picture):
        yield f"({block.caption} The picture is in the PDF and the HTML.)"
    else:
        for item, attested in block.items:
            yield f"- [{'x' if attested else ' '}] {item}" + (f" ({attested})" if attested else "")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def as_html(report: Report) -> bytes:
    """Return a report as one page that needs nothing from elsewhere."""
    body = [f"<h1>{html.escape(report.title)}</h1><p><small>As of {html.escape(report.state)}.</small></p>"]
    for section in report.sections:
        body.append(f"<section><h2>{html.escape(section.title)}</h2>")
        body += [_html(block) for block in section.blocks]
        body.append("</section>")
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(report.title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n<body>'
        + "\n".join(body)
        + "</body></html>\n"
    )
    return safe_text.printable(page).encode()


def _html(block: Block) -> str:
    if isinstance(block, Paragraph):
        return f"<p>{_MARKS[block.good]}{html.escape(block.text)}</p>"
    if isinstance(block, Facts):
        rows = "".join(
            f"<dt>{html.escape(name)}</dt><dd>{html.escape(value or _BLANK)}</dd>" for name, value in block.rows
        )
        return f"<dl>{rows}</dl>"
    if isinstance(block, Grid):
        return _html_table(block)
    if isinstance(block, Picture):
        data = base64.b64encode(block.png).decode()
        caption = html.escape(block.caption)
        return (
            f'<figure><img src="data:image/png;base64,{data}" alt="{caption}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    return _html_checklist(block)


def _html_table(block: Grid) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        marked = (
            f"<{tag}{' class=number' if place in block.numbers else ''}>{html.escape(cell)}</{tag}>"
            for place, cell in enumerate(cells)
        )
        return f"<tr>{''.join(marked)}</tr>"

    rows = "".join(row(cells, "td") for cells in block.rows)
    return f"<table><thead>{row(block.columns, 'th')}</thead><tbody>{rows}</tbody></table>"


def _html_checklist(block: Checklist) -> str:
    items = "".join(
        f"<li>{'☑' if attested else '☐'} {html.escape(item)}"
        + (f" <small>{html.escape(attested)}</small>" if attested else "")
        + "</li>"
        for item, attested in block.items
    )
    return f"<ul>{items}</ul>"
