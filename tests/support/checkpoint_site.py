"""Stores with a little in them, and the command line of checkpoints as an operator types it."""

from __future__ import annotations

import json
import pathlib
import re
import shlex
import subprocess
import sys
from typing import Any

from tests.support import checkpoint_runs, servers, terminal
from tests.support.checkpoint_runs import CONFIGURATION, NEURONS, SESSIONS
from tests.support.migration_driver import Driver, connected


class Site:
    """One test's stores with a little in them, its workers, and the command line."""

    def __init__(self, cli: servers.Cli, driver: Driver) -> None:
        self.cli = cli
        self.driver = driver
        self.folder = pathlib.Path(cli.env["HAL9_DATA_DIR"]) / "checkpoints"

    def run(self, line: str, code: int = 0, **more: Any) -> servers.CliResult:
        """Run a command and check its exit code."""
        result = self.cli(*shlex.split(line), **more)
        assert result.exit_code == code, f"{result.stdout}\n{result.stderr}"
        assert "Traceback" not in result.stderr
        return result

    def document(self, line: str, code: int = 0) -> Any:
        """Return the one JSON document of a command."""
        found = json.loads(self.run(f"{line} --json", code).stdout)
        assert found["schema"] == 1
        assert ("error" in found) == (code != 0)
        if code:
            assert found["error"]["exit_code"] == code
        return found

    def shell(self, text: str, code: int = 0) -> servers.CliResult:
        """Run lines of the runbook in a shell, which ends at the first that fails."""
        script = f'hal9-migrate() {{ {shlex.quote(sys.executable)} -m hal9mig.cli "$@"; }}\nset -e\n{text}'
        done = subprocess.run(
            ["bash", "-c", script], env=self.cli.env, cwd=self.cli.folder, stdin=subprocess.DEVNULL,
            capture_output=True, encoding="utf-8", timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return servers.CliResult(done.returncode, done.stdout, done.stderr)

    def typed(self, line: str, prompt: str, answer: str, code: int) -> str:
        """Run a command on a terminal and answer its question, or press Ctrl-C; returns what the terminal has shown."""
        command = [sys.executable, "-m", "hal9mig.cli", *shlex.split(line)]
        done = terminal.typed(command, env=self.cli.env, folder=self.cli.folder, answers=[(re.escape(prompt), answer)])
        assert done.code == code, done.shown
        return done.shown

    def names(self) -> list[str]:
        """Return the checkpoints that are listed as usable, the newest first."""
        return [one["name"] for one in self.document("state list-checkpoints")["checkpoints"]]

    def runs(self, kind: str | None = None) -> list[Any]:
        """Return the runs, the newest first."""
        return [one for one in self.document("runs list")["runs"] if kind in (None, one["kind"])]

    def contents(self) -> Any:
        """Return what both stores hold."""
        return checkpoint_runs.both(self.driver)

    def write(self) -> None:
        """Write to the flat store: seven rows changed, three gone."""
        with connected(self.driver.stores.flat_url) as cursor:
            cursor.execute(
                "UPDATE flat.neuron_states SET activation = 1 WHERE neuron_id IN "
                "(SELECT neuron_id FROM flat.neuron_states WHERE activation <> 1 ORDER BY 1 LIMIT 7)"
            )
            cursor.execute(
                "DELETE FROM flat.user_sessions WHERE session_id IN "
                "(SELECT session_id FROM flat.user_sessions ORDER BY 1 LIMIT 3)"
            )

    def chunk(self, name: str, table: str) -> pathlib.Path:
        """Return the first file of a table of a checkpoint."""
        (found, *_) = sorted((self.folder / name).glob(f"*/{table}/*"))
        return found


def opened(cli: servers.Cli, driver: Driver) -> Site:
    """Return a site with sessions, neurons and settings in its flat store."""
    for category, records in ((SESSIONS, 100), (NEURONS, 300), (CONFIGURATION, 5)):
        driver.load(category, records)
    return Site(cli, driver)


def flip(file: pathlib.Path, at: float = 0.5) -> None:
    """Turn one bit of a file over."""
    data = bytearray(file.read_bytes())
    data[int(len(data) * at)] ^= 4
    file.write_bytes(data)
