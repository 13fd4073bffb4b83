"""``make fuzz SECONDS=n``: fuzz each target for so long, two at a time; ends with 1 where one found something.

What is found is kept in ``tests/fuzz/found``, where ``test_found.py`` tries it from then on.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import itertools
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence

import click

from tests.fuzz.table import FOUND, TARGETS, Target

#: Bytes of an input that is kept as it is; a larger one is to be made small by hand first.
_MOST = 8192
_FIGURES = re.compile(r"stat::number_of_executed_units:\s+(\d+)")
_COVERED = re.compile(r"cov: (\d+)")


@click.command()
@click.option("--seconds", type=click.IntRange(1), default=60, show_default=True, help="For each target.")
@click.argument("names", nargs=-1)
def main(seconds: int, names: tuple[str, ...]) -> None:
    """Fuzz the targets of these NAMES, or all of them."""
    chosen = [one for one in TARGETS if not names or one.name in names]
    unknown = sorted(set(names) - {one.name for one in chosen})
    if unknown:
        raise click.UsageError(f"There is no target {', '.join(unknown)}.")
    broken = 0
    with tempfile.TemporaryDirectory(prefix="hal9fuzz-") as folder, concurrent.futures.ThreadPoolExecutor(2) as pool:
        for one, (said, sound) in zip(
            chosen, pool.map(lambda one: _fuzzed(one, seconds, pathlib.Path(folder)), chosen), strict=True
        ):
            broken += not sound
            click.echo(f"{'sound' if sound else 'FOUND'}  {one.name}: {said}")
    click.echo(f"{len(chosen) - broken} of {len(chosen)} sound")
    sys.exit(1 if broken else 0)


def _fuzzed(target: Target, seconds: int, folder: pathlib.Path) -> tuple[str, bool]:
    inputs, finds = folder / target.name / "inputs", folder / target.name / "finds"
    inputs.mkdir(parents=True)
    finds.mkdir()
    words = [sys.executable, "-m", "tests.fuzz.one", target.name, str(seconds), str(inputs), str(finds)]
    done = subprocess.run(
        words, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, timeout=seconds + 300,
        check=False,
    )  # fmt: skip
    executed, covered = _FIGURES.search(done.stderr), _COVERED.findall(done.stderr)
    figures = f"{int(executed[1]):,} inputs" if executed else "no figures"
    figures += f", {covered[-1]} branches" if covered else ""
    if done.returncode == 0:
        return figures, True
    return f"{figures}; {_told(done.stderr + done.stdout)}; {', '.join(_kept(target, finds))}", False


def _told(output: str) -> str:
    """Return what was raised, or what the fuzzer itself says."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    raised = [after for line, after in itertools.pairwise(lines) if "Uncaught Python exception" in line]
    return (raised or [line for line in lines if "ERROR" in line] or lines or ["nothing was said"])[0][:300]


def _kept(target: Target, finds: pathlib.Path) -> Sequence[str]:
    kept = []
    for path in sorted(finds.iterdir()):
        data = path.read_bytes()
        if len(data) <= _MOST:
            place = FOUND / target.name / hashlib.sha256(data).hexdigest()[:12]
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
            kept.append(str(place.relative_to(FOUND.parents[2])))
        else:
            kept.append(f"an input of {len(data):,} bytes, which is not kept")
    return kept


if __name__ == "__main__":
    main()
