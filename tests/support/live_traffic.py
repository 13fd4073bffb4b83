"""Traffic of ``sample-data traffic`` in a process of its own, and the check of what it was told is written."""

from __future__ import annotations

import contextlib
import json
import pathlib
import signal
from typing import Any

from hal9mig.model import StoreName
from hal9mig.stores import capture, write_mode
from tests.support.migration_driver import Driver, until
from tests.support.servers import Cli


class Live:
    """One run of ``sample-data traffic`` in a process of its own."""

    def __init__(self, cli: Cli, folder: pathlib.Path, name: str, *args: str):
        self.file = folder / name
        self._had = self.acknowledged()
        self._process = cli.start(
            "sample-data", "traffic", "--file", name, "--duration", "10m", "--rate", "80/s", "--json", *args
        )  # fmt: skip

    def acknowledged(self) -> int:
        """Return how many writes the file holds."""
        return self.file.read_text().count('"state": "done"') if self.file.exists() else 0

    def go_on(self, writes: int = 60) -> None:
        """Wait until that many more writes are acknowledged."""
        wanted = self.acknowledged() + writes
        until(lambda: self.acknowledged() >= wanted or self._process.poll() is not None, "more writes")
        assert self._process.poll() is None, self._process.communicate()

    def stop(self) -> dict[str, Any]:
        """Interrupt it and return its summary."""
        self._process.send_signal(signal.SIGINT)
        out, err = self._process.communicate(timeout=60)
        assert self._process.returncode == 0, err
        summary: dict[str, Any] = json.loads(out)
        assert summary["writes"] == self.acknowledged() - self._had
        return summary

    def kill(self) -> None:
        """End it in the middle of whatever it does."""
        self._process.kill()
        self._process.communicate()


def check(cli: Cli, name: str, *args: str) -> dict[str, Any]:
    """Check a file that has to be fine."""
    code, out, err = cli("sample-data", "check-traffic", name, "--json", *args)
    document: dict[str, Any] = json.loads(out)
    assert (code, document.get("findings")) == (0, []), (document, err)
    return document


def drained(driver: Driver) -> None:
    """Wait until the workers have applied the journal of the store that rules."""
    flat, hier = driver.system.flat(), driver.system.hier()
    with contextlib.closing(flat), contextlib.closing(hier):

        def empty() -> bool:
            ruling = write_mode.state(hier).mode.ruling
            hier.rollback()
            return not capture.lag(flat if ruling is StoreName.FLAT else hier)

        until(empty, "an empty journal")
