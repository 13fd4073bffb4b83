"""A record's content steers no terminal: through the real commands, reports and the reconciliation log."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pathlib
import pty
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.support import servers
from tests.support.live_state import CONFIGURATION, World

Workers = Callable[..., list[servers.Running]]
#: Sets a terminal's title, turns all red, moves the cursor in C1, and turns the direction of writing.
WICKED = "\x1b]0;title\x07\x1b[31m\x7f\x9b2J\u202e[bold]"
SHOWN = r"\x1b]0;title\x07\x1b[31m\x7f\x9b2J\u202e[bold]"
RAW = ("\x1b", "\x07", "\x7f", "\x9b", "\u202e")


@pytest.fixture
def world(world: World) -> World:
    world.flat_sql(
        "INSERT INTO flat.configuration (key, value, version, updated_by, updated_at) "
        "VALUES (%s, '{}', 1, 'plain', now())",
        f"key {WICKED}",
    )
    return world


def harmless(result: servers.CliResult, code: int) -> servers.CliResult:
    """Check a command's exit code, and that nothing of it steers a terminal."""
    assert result.exit_code == code, f"{result.stdout}\n{result.stderr}"
    for sign in RAW:
        assert sign not in result.stdout + result.stderr
    return result


def on_terminal(cli: servers.Cli, *words: str) -> str:
    """Return what a command writes to a terminal that is wide and has no colours."""
    ours, its = pty.openpty()
    # It writes less than a terminal holds, so nobody has to read while it runs.
    command = [sys.executable, "-m", "hal9mig.cli", *words]
    env = {**cli.env, "TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "240"}
    with open(ours, "rb", buffering=0) as stream:
        try:
            subprocess.run(
                command, stdout=its, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env=env, cwd=cli.folder,
                timeout=120, check=False,
            )  # fmt: skip
        finally:
            os.close(its)
        return _rest(stream)


def _rest(stream: io.RawIOBase) -> str:
    found = b""
    # Linux says with an error that the other end is closed.
    with contextlib.suppress(OSError):
        while part := stream.read(65536):
            found += part
    return found.decode()


def test_differences(cli: servers.Cli, world: World, workers: Workers, tmp_path: pathlib.Path) -> None:
    """Of a key and of both values: in the list, in JSON, in the report, and in the log of the repair."""
    world.switch.enable()
    workers(1)
    harmless(cli("state", "migrate", "--category", CONFIGURATION), 0)
    world.hier_sql("UPDATE hier.config_values SET updated_by = %s WHERE path = %s", f"value {WICKED}", f"key {WICKED}")
    told = harmless(cli("state", "diff", "--category", CONFIGURATION, "--verbose"), 3)
    assert told.stdout.splitlines()[1].split("\t") == [
        CONFIGURATION, "mismatch", f"key {SHOWN}", "updated_by", "plain", f"value {SHOWN}",
    ]  # fmt: skip
    # On a terminal too, where tables are drawn by a library that knows codes and markup.
    drawn = on_terminal(cli, "state", "diff", "--category", CONFIGURATION, "--verbose")
    assert f"value {SHOWN}" in drawn
    assert not any(sign in drawn for sign in RAW)

    for words in (("--json",), ("--jsonl",)):
        listed = harmless(cli("state", "diff", "--category", CONFIGURATION, *words), 3).stdout
        found = json.loads(listed)
        one = found if words == ("--jsonl",) else found["differences"][0]
        assert one["key"] == [f"key {WICKED}"]
        assert one["fields"][0]["hier"] == f"value {WICKED}"

    harmless(cli("state", "verify", "--category", CONFIGURATION, "--report", "report.json"), 3)
    report = (tmp_path / "report.json").read_text(encoding="utf-8")
    assert not any(sign in report for sign in RAW)
    assert json.dumps(f"key {WICKED}") in json.dumps(json.loads(report))

    told = harmless(cli("reconcile", "--full", "--fix-mode", "off", "--category", CONFIGURATION), 3)
    assert f"key {SHOWN}" in told.stdout
    harmless(cli("reconcile", "--full", "--fix-mode", "auto", "--category", CONFIGURATION), 0)
    log = (tmp_path / "log" / "reconciliation.log").read_text(encoding="utf-8")
    assert not any(sign in log for sign in RAW)
    assert r"key \\x1b]0;title" in log


def test_quarantine_and_errors(cli: servers.Cli, world: World, workers: Workers) -> None:
    """Of a record that the other store refuses: its key, its content and the server's own words about it."""
    world.hier_sql("ALTER TABLE hier.config_values ADD CHECK (updated_by NOT LIKE 'value%%')")
    world.flat_sql("UPDATE flat.configuration SET updated_by = %s WHERE updated_by = 'plain'", f"value {WICKED}")
    workers(1)
    harmless(cli("state", "migrate", "--category", CONFIGURATION), 3)
    told = harmless(cli("quarantine", "list"), 0)
    assert f"key {SHOWN}" in told.stdout
    number = json.loads(harmless(cli("quarantine", "list", "--json"), 0).stdout)["records"][0]["id"]
    shown = harmless(cli("quarantine", "show", str(number)), 0).stdout
    assert f"key: key {SHOWN}" in shown
    record = json.loads(harmless(cli("quarantine", "show", str(number), "--json"), 0).stdout)["record"]
    assert record["key"] == [f"key {WICKED}"]
    assert record["payload"]["updated_by"] == f"value {WICKED}"
    for words in ((f"no{WICKED}",), ("state", "verify", "--filter", f"{WICKED}=1"), ("runs", "show", WICKED)):
        assert SHOWN in harmless(cli(*words), 2).stderr
        harmless(cli(*words, "--json"), 2)
