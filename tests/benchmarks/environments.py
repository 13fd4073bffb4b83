"""Virtual environments of peers, so that what they require is not ours."""

from __future__ import annotations

import pathlib
import subprocess
import venv
from collections.abc import Callable, Sequence

from tests.benchmarks.world import Failed


def make(folder: pathlib.Path, requirements: Sequence[str], *, say: Callable[[str], None]) -> pathlib.Path:
    """Return the folder of the programs of an environment with these packages; it is made unless it is there.

    Raises:
        Failed: the packages cannot be installed, as without a network.
    """
    programs, mark = folder / "bin", folder / "installed"
    wanted = "\n".join(requirements)
    if mark.is_file() and mark.read_text(encoding="utf-8") == wanted:
        return programs
    say(f"installing {' '.join(requirements)} into an environment of its own")
    # One that was begun and not finished, or is for something else, is made anew.
    mark.unlink(missing_ok=True)
    venv.create(folder, with_pip=True, clear=True)
    done = subprocess.run(
        [str(programs / "pip"), "install", "--quiet", "--disable-pip-version-check", *requirements],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise Failed(f"{' '.join(requirements)} could not be installed: {done.stderr[-1000:]}")
    mark.write_text(wanted, encoding="utf-8")
    return programs


def versions(programs: pathlib.Path, names: Sequence[str]) -> str:
    """Return ``dlt 1.31.0, pyarrow 26.0.1`` of an environment."""
    said = subprocess.run(
        [str(programs / "pip"), "list", "--disable-pip-version-check", "--format", "freeze"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    found = dict(line.split("==", 1) for line in said.splitlines() if "==" in line)
    return ", ".join(f"{name} {found[name]}" for name in names if name in found)
