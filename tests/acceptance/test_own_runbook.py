"""The documented runbook and the tutorial: every command in them is typed again under traffic, and says what
the document shows.

``HAL9_RECORD=1 pytest tests/acceptance/test_own_runbook.py`` writes the outputs anew.
"""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.acceptance import test_runbook
from tests.acceptance.test_runbook import Operator
from tests.runbook import shell_lines
from tests.support import terminal
from tests.support.servers import ROOT, Programs

operator, traffic = test_runbook.operator, test_runbook.traffic
#: The tutorial goes a part of the same way.
PAGES = ["runbook.md", pytest.param("tutorial.md", marks=pytest.mark.long)]
_RECORDS = "HAL9_RECORD" in os.environ
#: Lines of an output that a document shows.
_MOST = 14
#: What is said while something goes on, or only sometimes: no promise.
_PASSING = re.compile(r"; state: |^warning|^hal9-migrate|^comparing |\d of \d+ batches|^run \d+: |eta |^\s*$")
_FIGURES = (
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| UTC)?"), "<time>"),
    (re.compile(r"\b[0-9a-f]{16,}\b"), "<hash>"),
    (re.compile(r"\d[\d,]*(\.\d+)?( ?(ms|kB|MB|GB|B|s|m|h|%|d)\b)*(\d*(ms|s|m|h))*( ago)?"), "#"),
)


def promise(line: str) -> str | None:
    """Return what a line promises of any run: a verdict or a fact, its figures, times and names left open."""
    if not re.match(r"[✅❌] |[A-Z][A-Za-z ]+: ", line):
        return None
    # What stands behind a semicolon is said of this run only.
    text = line.split(";")[0]
    for pattern, word in _FIGURES:
        text = pattern.sub(word, text)
    text = re.sub(r"\b(write|record|row|unit|key|event|check|round|worker|range)s\b", r"\1", text)
    return re.sub(r"[\w.#-]+@[\w.-]+", "<who>", " ".join(text.split()))


def said(shown: str, folder: pathlib.Path) -> list[str]:
    """Return the lines of an output that are worth showing."""
    lines = shown.replace(f"{folder}/", "./").splitlines()
    return [line.rstrip() for line in lines if not _PASSING.search(line)]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", PAGES)
def test_the_document_says_what_happens(
    name: str, operator: Operator, programs: Programs, traffic: Callable[[], Any]
) -> None:
    page = ROOT / "docs" / name
    document = page.read_text(encoding="utf-8")
    programs.workers(2)
    programs.beat()
    outputs: list[list[str]] = []
    for shown in shell_lines.console(document):
        done = terminal.typed(
            ["bash", "-c", shown.text], env=operator.env, folder=operator.folder, columns=110, patience=240,
            answers=[(r"\[y/N\]: ?$", "y\n")],
        )  # fmt: skip
        assert done.code == 0, f"{shown.text}\nended with {done.code}:\n{done.shown}"
        lines = said(done.shown, operator.folder)
        outputs.append(lines if len(lines) <= _MOST else [*lines[:_MOST], "..."])
        kept = {promise(line) for line in lines}
        for line in () if _RECORDS else shown.output:
            wanted = promise(line)
            assert wanted is None or wanted in kept, f"{shown.text}\nthe document shows: {line}\n{done.shown}"
        if shown.text.startswith("hal9-migrate mode flat-only"):
            # Whatever was acknowledged is there, after a switch and the way back.
            checked = traffic()
            assert checked.exit_code == 0, checked.stdout + checked.stderr
    if _RECORDS:
        page.write_text(shell_lines.recorded(document, outputs), encoding="utf-8")
