"""The reconciliation log: one line an event, in a file that is only ever appended to."""

from __future__ import annotations

import pathlib

import pytest

from hal9mig import settings
from hal9mig.engine import reconciliation_log


@pytest.fixture
def resolved(tmp_path: pathlib.Path) -> settings.Settings:
    """Settings with a folder for logs that is not there yet."""
    return settings.load(environ={"HAL9_LOG_DIR": str(tmp_path / "log")})


def test_it_is_opened_with_its_folder(resolved: settings.Settings, tmp_path: pathlib.Path) -> None:
    reconciliation_log.open_log(resolved)
    with (tmp_path / "log" / reconciliation_log.LOG_NAME).open() as followed:
        reconciliation_log.open_log(resolved)
        reconciliation_log.note(resolved, "drift", key="a b/c", category="x", empty="", nothing=None, share=0.5)
        line = followed.read()
    assert line.count("\n") == 1
    assert line.endswith(' event=drift key="a b/c" category=x share=0.5\n')


def test_where_it_cannot_be_opened_its_lines_go_to_the_programs_own_log(
    resolved: settings.Settings, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "log").write_text("a file")
    with pytest.raises(Exception, match=r"reconciliation\.log cannot be written"):
        reconciliation_log.open_log(resolved)
    reconciliation_log.note(resolved, "drift", key="k1")
    assert "k1" in caplog.text
