"""``make mutants``: leave one rule out at a time, and see that a test notices; ends with 1 where one does not.

Each mutant is a copy of the working tree with one line replaced, and its own tests are run there, two at a time.
First they have to pass in a copy without a change, or their failures would say nothing.
"""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable

import click

from tests.mutants.mutants import MUTANTS, Mutant

ROOT = pathlib.Path(__file__).parents[2]
_PARTS = ("hal9mig", "workers", "beat", "config", "tests", "docs")
_FILES = ("pyproject.toml", "README.md", "CHANGELOG.md", "Makefile", "docker-compose.yml")


def copied(to: pathlib.Path) -> pathlib.Path:
    """Copy what the tests need of the working tree."""
    for name in _PARTS:
        shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in _FILES:
        shutil.copy2(ROOT / name, to / name)
    return to


def run(tests: Iterable[str], mutant: Mutant | None = None) -> tuple[int, str]:
    """Run tests in a copy, and return how pytest ended, and the first failure or the last line that it printed."""
    with tempfile.TemporaryDirectory(prefix="hal9mutant-") as folder:
        tree = copied(pathlib.Path(folder))
        # The servers run as another account where this is the administrator's.
        tree.chmod(0o755)
        if mutant is not None:
            path = tree / mutant.path
            path.write_text(path.read_text().replace(mutant.old, mutant.new))
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", *tests]
        if mutant is None:
            command += ["--numprocesses=2", "--dist=loadfile"]
        done = subprocess.run(
            command, cwd=tree, env={**os.environ, "PYTHONPATH": folder}, capture_output=True, text=True, timeout=1800,
            check=False,
        )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return done.returncode, (lines or done.stdout.splitlines()[-1:] or [done.stderr[-200:]])[0]


@click.command()
@click.argument("words", nargs=-1)
def main(words: tuple[str, ...]) -> None:
    """Run the mutants whose rule has one of these WORDS, or all of them."""
    chosen = [one for one in MUTANTS if not words or any(word in one.rule for word in words)]
    if not chosen:
        # Without a test's name all of them would be run.
        raise click.UsageError(f"No rule has one of the words {', '.join(words)}.")
    code, said = run(dict.fromkeys(test for one in chosen for test in one.tests))
    click.echo(f"without a change: {said}")
    if code:
        sys.exit(1)
    survived = 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for mutant, (code, said) in zip(chosen, pool.map(lambda one: run(one.tests, one), chosen), strict=True):
            # 1 is a test that failed; anything else, such as an import that did, says nothing of the rule.
            survived += code != 1
            click.echo(f"{'noticed ' if code == 1 else 'SURVIVED'}  {mutant.rule}\n          {said}")
    click.echo(f"{len(chosen) - survived} of {len(chosen)} noticed")
    sys.exit(1 if survived else 0)


if __name__ == "__main__":
    main()
