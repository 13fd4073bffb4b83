"""The real ``stack`` commands with stand-ins for workers, beat, Flower and dashboard: ``fake_stack.py up --detach``."""

from __future__ import annotations

import os
import sys

from hal9mig import errors, settings
from hal9mig.cli.commands import stack as command
from hal9mig.embedded import stack
from hal9mig.embedded.programs import Programs
from hal9mig.embedded.supervisor import Program

_CHILD = "import os, time; print(os.environ['NAME'], 'ready.', flush=True); time.sleep(600)"


class FakePrograms(Programs):
    """Programs that are ready at once and do nothing; the one named in ``BROKEN`` ends with some last words."""

    def worker(self, number: int) -> Program:
        """Return a stand-in."""
        return self._fake(f"worker{number}")

    def beat(self) -> Program:
        """Return a stand-in."""
        return self._fake("beat")

    def flower(self) -> Program:
        """Return a stand-in."""
        return self._fake("flower")

    def dashboard(self) -> Program:
        """Return a stand-in."""
        return self._fake("dashboard")

    def _fake(self, name: str) -> Program:
        program = self._program(name, [], [], ready=" ready.")
        program.env = {**self.env, "NAME": name}
        program.command = [sys.executable, "-c", _CHILD]
        if os.environ.get("BROKEN") == name:
            program.command = [sys.executable, "-c", "raise SystemExit('last words')"]
        return program


def _stack(resolved: settings.Settings, say: stack.Say) -> stack.Stack:
    return stack.Stack(
        resolved, say=say, prepare=lambda flat, hier: None, environ=os.environ, make_programs=FakePrograms
    )


if __name__ == "__main__":
    command._stack = _stack
    try:
        command.stack()
    except errors.HAL9Error as error:
        sys.stderr.write(f"error: {error.message}\n  hint: {error.hint}\n")
        sys.exit(error.exit_code)
