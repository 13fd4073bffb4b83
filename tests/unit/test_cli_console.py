"""Printing, for people and for programs; and errors as text."""

from __future__ import annotations

import datetime
import json
import pathlib
import subprocess
import sys

import click
import psycopg2
import pytest
import redis

from hal9mig import errors
from hal9mig.cli import confirm, console, error_text, invocation, main
from tests.unit.commandline import Stream


def test_a_table_in_a_pipe_is_tabs_and_a_row_stays_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Stream("utf-8")
    monkeypatch.setattr(sys, "stdout", out)
    console.Console().table(["A", "B"], [["x\ty\nz", None], [1, ""]], numbers=("B",))
    assert out.text == "A\tB\nx y z\t-\n1\t-\n"


def test_a_table_on_a_terminal_is_aligned(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream("utf-8", terminal=True)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    console.Console().table(["NAME", "COUNT"], [["one", "1"], ["two", "1,000"]], numbers=("COUNT",))
    lines = [line.rstrip() for line in stream.text.splitlines()]
    assert lines[0].split() == ["NAME", "COUNT"]
    assert lines[2].index("1") == lines[3].index("1,000") + 4
    assert "\x1b" not in stream.text


@pytest.mark.parametrize(("encoding", "good", "bad"), [("utf-8", "✅ a", "❌ b"), ("ascii", "[ok] a", "[FAIL] b")])
def test_verdicts_use_what_the_stream_can_carry(
    encoding: str, good: str, bad: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Stream(encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    console.Console().verdict(True, "a")
    console.Console().verdict(False, "b")
    assert stream.text == f"{good}\n{bad}\n"


@pytest.mark.parametrize(
    ("color", "variables", "terminal", "colored"),
    [
        ("auto", {"TERM": "xterm"}, True, True),
        ("auto", {"TERM": "xterm", "NO_COLOR": "1"}, True, False),
        ("auto", {"TERM": "dumb"}, True, False),
        ("auto", {"TERM": "xterm"}, False, False),
        ("never", {"TERM": "xterm"}, True, False),
        ("always", {"TERM": "xterm"}, False, True),
    ],
)
def test_colour(
    color: str, variables: dict[str, str], terminal: bool, colored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Stream("utf-8", terminal=terminal)
    monkeypatch.setattr(sys, "stdout", stream)
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    console.Console(color=color).verdict(False, "bad")
    assert ("\x1b" in stream.text) == colored
    assert "bad" in stream.text


def test_a_document_has_a_schema_and_plain_values(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Stream("utf-8")
    monkeypatch.setattr(sys, "stdout", out)
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone(datetime.timedelta(hours=1)))
    console.Console().document({"at": moment, "key": ("ä", "b"), "path": pathlib.Path("/x")})
    assert json.loads(out.text) == {"schema": 1, "at": "2026-01-02T02:04:05Z", "key": ["ä", "b"], "path": "/x"}


def test_a_document_survives_a_stream_without_unicode(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream("ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    console.Console().document({"key": "ä✅"})
    assert json.loads(stream.text)["key"] == "ä✅"


def test_talk_is_masked_and_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    console.Console().say("at postgresql://me:secret@host/db")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "at postgresql://me:***@host/db\n"


def test_an_error_as_lines() -> None:
    error = errors.TargetNotEmpty("It holds rows.", hint="add --merge", table="hier.units")
    assert error_text.lines(error) == ["error: It holds rows.", "  where: table=hier.units", "  hint: add --merge"]


class _Diagnosed(psycopg2.ProgrammingError):
    pgcode = "42P01"


class _Denied(psycopg2.ProgrammingError):
    pgcode = "42501"


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (psycopg2.OperationalError("server closed the connection"), errors.StoreUnreachable, "server closed"),
        (_Diagnosed('relation "hal9mig.runs" does not exist'), errors.SchemaBehind, "hal9mig.runs"),
        (_Denied("permission denied"), errors.Refused, "permission denied"),
        (psycopg2.DataError("bad"), errors.HAL9Error, "bad"),
        (redis.ConnectionError("no route"), errors.QueueUnreachable, "no route"),
        (redis.AuthenticationError("wrong"), errors.LoginRefused, "wrong"),
        (PermissionError(13, "Permission denied", "/x/report.json"), errors.HAL9Error, "/x/report.json"),
        (click.Abort(), errors.Interrupted, "Interrupted"),
        (KeyboardInterrupt(), errors.Interrupted, "Interrupted"),
        (ValueError("a\nb postgresql://me:secret@h/d"), errors.HAL9Error, "ValueError: a b postgresql://me:***@h/d"),
    ],
)
def test_every_exception_becomes_a_sentence(error: BaseException, kind: type[errors.HAL9Error], words: str) -> None:
    found = error_text.translated(error)
    assert type(found) is kind
    assert words in found.message
    assert "\n" not in found.message
    assert "secret" not in found.message


@pytest.mark.parametrize(
    ("arguments", "traceback"),
    [
        (["help", "exit-codes"], False),
        (["--debug", "help", "exit-codes"], True),
        (["help", "exit-codes", "--debug"], True),
    ],
)
def test_a_traceback_only_with_debug(
    arguments: list[str], traceback: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr(console.Console, "table", fail)
    with pytest.raises(SystemExit) as ended:
        main.run(arguments)
    captured = capsys.readouterr()
    assert ended.value.code == 1
    assert captured.out == ""
    assert "error: This ought not to happen: ZeroDivisionError: on purpose" in captured.err
    assert ("Traceback" in captured.err) == traceback


def test_an_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(console.Console, "table", interrupt)
    with pytest.raises(SystemExit) as ended:
        main.run(["help", "exit-codes"])
    assert ended.value.code == 130
    assert "error: Interrupted." in capsys.readouterr().err


class TestConfirming:
    """Questions before what cannot be taken back."""

    def test_yes_answers(self) -> None:
        call = invocation.Invocation()
        call.yes = True
        confirm.ask(call, "Drop it?")

    def test_without_a_terminal_it_refuses_and_names_the_flag(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", Stream("utf-8"))
        with pytest.raises(errors.ConfirmationRequired) as refused:
            confirm.ask(invocation.Invocation(), "Drop it?")
        assert refused.value.exit_code == 4
        assert refused.value.hint == "add --yes"
        assert "nothing was changed" in refused.value.message

    @pytest.mark.parametrize(("answer", "refused"), [(True, False), (False, True)])
    def test_on_a_terminal_it_asks(self, answer: bool, refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = []

        def answered(question: str, *, err: bool) -> bool:
            asked.append((question, err))
            return answer

        monkeypatch.setattr(sys, "stdin", Stream("utf-8", terminal=True))
        monkeypatch.setattr(sys, "stderr", Stream("utf-8", terminal=True))
        monkeypatch.setattr(click, "confirm", answered)
        if refused:
            with pytest.raises(errors.Refused):
                confirm.ask(invocation.Invocation(), "Drop it?")
        else:
            confirm.ask(invocation.Invocation(), "Drop it?")
        assert asked == [("Drop it?", True)]


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_leads_nowhere(closed: str) -> None:
    """A connection that got a closed stream's number would be printed to."""
    script = f'"$0" -m hal9mig.cli help exit-codes {closed}'
    done = subprocess.run(["sh", "-c", script, sys.executable], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("130" in done.stdout) is (">&- " not in f"{closed} ".replace("2>&-", ""))
