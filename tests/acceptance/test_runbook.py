"""The operators' runbook pasted into a terminal, line by line, under live traffic, with the rates that it sets."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hal9mig.sample import loading
from tests.runbook import shell_lines
from tests.runbook.shell_lines import ShellLine
from tests.support import terminal
from tests.support.migration_driver import until
from tests.support.servers import Cli, Programs, Stores
from tests.support.terminal import CTRL_C

#: Small enough for a budget of 50 and 100 records a second.
SCALE = 0.0001
_WATCH = re.compile(r"watch -n 5 '(.+)'")
#: What goes on until it is interrupted, and what it has shown by then.
_ENDLESS = {"tail -f": r"event=", "hal9-migrate monitor": r"monitor post-state-migration: "}
#: Interrupted, or detached from what goes on without a terminal.
_CUT = {0, 130, -2}


@dataclasses.dataclass
class Operator:
    """Somebody at a terminal, in a folder with the commands on the path."""

    env: dict[str, str]
    folder: pathlib.Path
    backup: str = ""

    def types(self, line: ShellLine) -> None:
        """Type a line, answer what it asks, and look at what it promised."""
        text = line.text.replace("/var/log/hal9", self.env["HAL9_LOG_DIR"])
        looks = 1
        if watched := _WATCH.fullmatch(text):
            text, looks = watched[1], 2
        if "TIMESTAMP" in text:
            text = text.replace("pre-state-migration-TIMESTAMP", self.backup)
        for _ in range(looks):
            done = self._typed(text)
            for promise in line.promised:
                assert kept(promise, done.shown), f"{text}\npromised: {promise}\n{done.shown}"
            if made := re.search(r"pre-state-migration-\d{8}-\d{6}", done.shown):
                self.backup = self.backup or made[0]

    def _typed(self, text: str) -> terminal.Typed:
        cut = next((shown for start, shown in _ENDLESS.items() if text.startswith(start)), None)
        answers = [(r"\[y/N\]: ?$", "y\n"), (r"Type the checkpoint's name: ?$", f"{self.backup}\n")]
        if cut is not None:
            answers = [(cut, CTRL_C)]
        done = terminal.typed(
            ["bash", "-c", text], env=self.env, folder=self.folder, answers=answers, columns=160, patience=240
        )
        assert done.code in (_CUT if cut else {0}), f"{text}\nended with {done.code}:\n{done.shown}"
        return done


def kept(promise: str, shown: str) -> bool:
    """Whether what a line promised has been shown; a figure of the runbook stands for any."""
    if promise.startswith("✅"):
        return promise.split(" (")[0] in shown
    if figure := re.fullmatch(r"(Total Records|Verified|Mismatches|Missing|Extra): [\d,]+( \(100%\))?", promise):
        return re.search(rf"^{figure[1]}: +[\d,]+{re.escape(figure[2] or '')}", shown, re.M) is not None
    if said := re.search(r'"(Write Mode: .+)"', promise):
        return said[1] in shown
    return True


@pytest.fixture
def operator(stores: Stores, cli: Cli, tmp_path: pathlib.Path) -> Operator:
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name, module in (("hal9-migrate", "hal9mig.cli"), ("hal9-cli", "hal9mig.cli.hal9_cli")):
        script = bin_ / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m {module} "$@"\n')
        script.chmod(0o755)
    return Operator(env={**cli.env, "PATH": f"{bin_}:{cli.env['PATH']}"}, folder=tmp_path)


@pytest.fixture
def traffic(stores: Stores, cli: Cli, tmp_path: pathlib.Path) -> Iterator[Callable[[], Any]]:
    loading.load(stores.flat_url, scale=SCALE, seed=3)
    started = cli.start("sample-data", "traffic", "--file", "writes.jsonl", "--duration", "1h", "--rate", "5/s")
    writes = tmp_path / "writes.jsonl"
    until(lambda: writes.exists() and '"done"' in writes.read_text(), "the first write")

    def checked() -> Any:
        started.terminate()
        started.wait(30)
        return cli("sample-data", "check-traffic", "writes.jsonl")

    yield checked
    started.kill()


@pytest.mark.timeout(900)
def test_every_line_ends_well(operator: Operator, programs: Programs, traffic: Callable[[], Any]) -> None:
    programs.workers(2)
    programs.beat()
    back = False
    lines = shell_lines.read()
    # It is the time after the migration that is monitored, and not that after its rollback.
    after = [line for line in lines if line.heading == "Post-Migration Monitoring"]
    first = next(number for number, line in enumerate(lines) if line.heading == "Quick State Rollback")
    for line in [*lines[:first], *after, *(line for line in lines[first:] if line not in after)]:
        if line.heading == "Quick State Rollback" and not back:
            # Whatever was acknowledged is there; what the rollback takes back on purpose comes after.
            result, back = traffic(), True
            assert result.exit_code == 0, result.stdout + result.stderr
        operator.types(line)
