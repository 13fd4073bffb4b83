"""``make matrix``: run the acceptance tests on each combination whose parts are at hand, and say which are not.

PostgreSQL 16 and 18 and Redis 6.2 come with what the tests install, other versions from Debian's packages
(``postgresql-15``, ``redis-server``, ``valkey``), other Pythons from PATH. A PostgreSQL that lies elsewhere is named
by the folder of its programs, ``HAL9_TEST_POSTGRES_17=/opt/postgresql-17/bin``; a Redis, Valkey or Python that lies
elsewhere is put into PATH. Ends with 1 where a combination fails.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

import click

from hal9mig.embedded import binaries
from tests.support import servers

ROOT = pathlib.Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Combination:
    """Versions that are run together; an empty ``redis`` is the one that is delivered."""

    python: str
    flat: int
    hier: int
    redis: str = ""


COMBINATIONS = (
    Combination(python="3.11", flat=16, hier=16),
    Combination(python="3.12", flat=14, hier=18),
    Combination(python="3.12", flat=15, hier=18, redis="redis-server"),
    Combination(python="3.13", flat=18, hier=15, redis="redis-server"),
    Combination(python="3.13", flat=17, hier=16, redis="valkey-server"),
    Combination(python="3.14", flat=18, hier=17, redis="redis-server"),
)


def missing(one: Combination) -> list[str]:
    """Return what a combination needs and is not here."""
    found = [] if python(one.python) else [f"Python {one.python}"]
    for version in dict.fromkeys((one.flat, one.hier)):
        if version not in binaries.DELIVERED and not (servers.postgres_bin(version) / "postgres").is_file():
            found.append(f"PostgreSQL {version}")
    if one.redis and not shutil.which(one.redis):
        found.append(one.redis)
    return found


def python(version: str) -> str | None:
    """Return the program of a Python that runs, from PATH or from where pyenv has it."""
    homes = sorted((pathlib.Path.home() / ".pyenv/versions").glob(f"{version}.*/bin/python"))
    for program in (f"python{version}", *map(str, homes)):
        path = shutil.which(program)
        if path and said([path, "--version"]).startswith(f"Python {version}."):
            return path
    return None


def said(command: list[str]) -> str:
    """Return what a command prints."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def run(one: Combination, folder: pathlib.Path, tests: tuple[str, ...]) -> tuple[bool, str]:
    """Install into an environment of its own, run the tests, and return whether they passed, and their last line."""
    there = folder / f"python-{one.python}"
    tree = folder / f"tree-{one.python}"
    if not there.is_dir():
        # A tree of its own: what is compiled for one Python would stand beside what is compiled for another.
        subprocess.run(["git", "clone", "-q", str(ROOT), str(tree)], check=True)
        subprocess.run([python(one.python) or "", "-m", "venv", str(there)], check=True)
        pip = [str(there / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-c", "constraints.txt", "-e", ".[dev]"], cwd=tree, check=True)
    environ = {**os.environ, "HAL9_TEST_FLAT_POSTGRES": str(one.flat), "HAL9_TEST_HIER_POSTGRES": str(one.hier)}
    if one.redis:
        environ["HAL9_TEST_REDIS"] = shutil.which(one.redis) or ""
    log = folder / f"{one.python}-{one.flat}-{one.hier}-{one.redis or 'delivered'}.log"
    with log.open("w") as stream:
        done = subprocess.run(
            [str(there / "bin/python"), "-m", "pytest", "--numprocesses=2", "--dist=loadfile", *tests],
            cwd=tree, env=environ, stdout=stream, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
    last = [line.strip("= ") for line in log.read_text().splitlines() if line.strip()][-1:]
    return done.returncode == 0, f"{' '.join(last)} ({log})"


@click.command()
@click.option("--only", help="Combinations whose line has this word, as it is printed.")
@click.argument("tests", nargs=-1)
def main(only: str | None, tests: tuple[str, ...]) -> None:
    """Run TESTS, the acceptance tests by default, on each combination."""
    # Short, because a socket's path must be, and open, because the servers run as another account under root.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="hal9matrix-", dir="/tmp"))
    folder.chmod(0o755)
    failed = ran = 0
    for one in COMBINATIONS:
        version = (
            re.search(r"v=([\d.]+)", said([one.redis, "--version"])) if one.redis and shutil.which(one.redis) else None
        )
        redis = (
            f"{one.redis.removesuffix('-server')} {version[1] if version else ''}".strip() if one.redis else "redis 6.2"
        )
        line = f"Python {one.python}, PostgreSQL {one.flat} -> {one.hier}, {redis}"
        if only and only not in line:
            continue
        if lacks := missing(one):
            click.echo(f"not here  {line}: {', '.join(lacks)}")
            continue
        began = time.monotonic()
        passed, last = run(one, folder, tests or ("tests/acceptance",))
        failed += not passed
        ran += 1
        click.echo(f"{'passed  ' if passed else 'FAILED  '}  {line}: {last}, {time.monotonic() - began:.0f} s")
    if not ran:
        raise click.ClickException("No combination was run.")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
