"""What was measured: figures against goals, printed as one table and written as JSON."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any, TextIO

import psutil


@dataclasses.dataclass(kw_only=True)
class Figure:
    """One line of the table.

    Attributes:
        what: what was measured.
        ours, peer: both sides, with their unit; an empty ``peer`` where there is none.
        ratio: what the goal is about, as text.
        goal: the goal, empty where the figure only informs.
        met: whether it was reached, None without a goal.
        detail: everything behind it, for the JSON.
    """

    what: str
    ours: str
    peer: str = ""
    ratio: str = ""
    goal: str = ""
    met: bool | None = None
    detail: dict[str, Any] = dataclasses.field(default_factory=dict)


class Talk:
    """Progress on stderr: a line for each step, with the seconds since the start."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self, text: str) -> None:
        """Say a line."""
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        print(f"[{minutes:2d}:{seconds:02d}] {text}", file=sys.stderr, flush=True)


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": [round(value, 2) for value in os.getloadavg()],
    }


def _processor() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def show(figures: Sequence[Figure], about: dict[str, Any], stream: TextIO = sys.stdout) -> None:
    """Print the table and the line about the machine."""
    columns = ("WHAT", "OURS", "PEER", "RATIO", "GOAL", "MET")
    rows = [
        (
            one.what,
            one.ours,
            one.peer or "-",
            one.ratio or "-",
            one.goal or "-",
            "-" if one.met is None else "yes" if one.met else "NO",
        )
        for one in figures
    ]
    table(columns, rows, about, stream)


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], about: dict[str, Any], stream: TextIO = sys.stdout
) -> None:
    """Print rows of text under their headings, and the line about the machine."""
    widths = [max(len(row[at]) for row in [columns, *rows]) for at in range(len(columns))]
    for row in [columns, *rows]:
        stream.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n")
    host = about["machine"]
    stream.write(
        f"\n{about['rows']:,} neuron states; {host['processor']}, {host['cores']} cores, {host['memory_gb']} GB, "
        f"{host['system']}, Python {host['python']}, PostgreSQL {about['postgres']}; load at the start "
        f"{host['load'][0]}, {about['seconds']:.0f} s in all\n"
    )
    stream.flush()


def write(path: pathlib.Path, figures: Sequence[Figure | dict[str, Any]], about: dict[str, Any]) -> None:
    """Write everything as JSON, at once or not at all."""
    found = [dataclasses.asdict(one) if isinstance(one, Figure) else one for one in figures]
    document = {"schema": 1, **about, "figures": found}
    descriptor, name = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(document, stream, indent=2, default=str)
            stream.write("\n")
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def rate(rows: float, seconds: float) -> str:
    """Return ``45.2 K rows/s``."""
    return f"{rows / seconds / 1000:.1f} K rows/s"


def times(ratio: float) -> str:
    """Return ``1.07x``."""
    return f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.1f}x"


def percent(share: float) -> str:
    """Return ``3.1 %``."""
    return f"{100 * share:.1f} %"
