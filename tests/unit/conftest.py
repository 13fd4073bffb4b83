"""The command line, called in the test's own process."""

from __future__ import annotations

import pathlib

import pytest

from tests.unit.commandline import CommandLine


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> CommandLine:
    """``command(*words)`` runs a command line to its end, where there are no settings."""
    return CommandLine(monkeypatch, capsys, tmp_path)
