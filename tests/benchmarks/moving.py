"""The ways to move the flat table: ours, a plain Celery script, and programs that copy without a transform."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from hal9mig import safe_text
from tests.benchmarks import aside, environments, peers
from tests.benchmarks.copying import MODES
from tests.benchmarks.ways import Way, program, version
from tests.benchmarks.world import Failed, Pair, World, migrate, query, working
from tests.support import servers

STRICT = "ours, strict validation"
DLT = ("dlt[postgres,sql-database]", "pyarrow")
#: Run by an environment's Python, and not imported: we have no dlt.
_DLT_COPY = str(pathlib.Path(__file__).with_name("dlt_copy.py"))
#: The time limit of one program.
_PATIENCE = 3600
_BARE = ("no transform", "no live capture", "not idempotent")
_STRAIGHT = "straight.neuron_states"


def ways(world: World, pair: Pair, build: pathlib.Path) -> list[Way]:
    """Return the ways; ours first.

    Args:
        build: a folder that stays, for environments.
    """
    truth = _truth(world, pair)
    found = [*_ours(pair, truth), _celery(world, pair, truth)]
    found += [_dlt(world, pair, build / "dlt"), _pgloader(world, pair), _pgcopydb(world, pair), _dump(world, pair)]
    return found + [_straight(world, pair, streams) for streams in (1, 2)]


def _truth(world: World, pair: Pair) -> dict[str, tuple[int, str]]:
    """Return what a transforming way has to bring about, by statements inside one server."""
    peers.prepare(world, pair)
    pair.empty()
    peers.insert_select(pair)
    return pair.contents()


def _ours(pair: Pair, truth: dict[str, tuple[int, str]]) -> list[Way]:
    def copy(mode: str) -> float:
        with working(pair):
            return float(migrate(pair, *MODES[mode])["seconds"])

    return [
        Way(name=STRICT, reference=STRICT, ready=pair.empty, run=lambda _: copy("strict"),
            check=lambda: _alike(pair, truth)),
        Way(name="ours, validation off", reference=STRICT, ready=pair.empty, run=lambda _: copy("off"),
            check=lambda: _alike(pair, truth), lacks=("does not read back what it wrote",)),
    ]  # fmt: skip


def _alike(pair: Pair, truth: dict[str, tuple[int, str]]) -> Sequence[str]:
    if (found := pair.contents()) != truth:
        raise Failed(f"the target holds {found}, not {truth}")
    return ()


def _celery(world: World, pair: Pair, truth: dict[str, tuple[int, str]]) -> Way:
    module = "tests.benchmarks.plain_celery"
    env = {**pair.env, "BENCH_SOURCE": pair.flat_url, "BENCH_TARGET": pair.hier_url,
           "BENCH_REDIS": world.redis.database_url(15)}  # fmt: skip

    def run(_: str) -> float:
        folder = pair.folder / f"plain{time.monotonic_ns()}"
        folder.mkdir()
        command = [sys.executable, "-m", "celery", "-A", module, "worker", "--concurrency", str(peers.SESSIONS)]
        worker = servers.Running("plain", [*command, "--loglevel", "INFO"], env=env, folder=folder)
        try:
            worker.wait_for(" ready.")
            done = json.loads(_program([sys.executable, "-m", module], folder, env=env))
        finally:
            worker.stop()
        if done["rows"] != pair.rows:
            raise Failed(f"{done['rows']} of {pair.rows} rows were copied")
        return float(done["seconds"])

    return Way(
        name=f"Celery and SQLAlchemy Core, {peers.SESSIONS} processes", reference=STRICT, ready=pair.empty, run=run,
        check=lambda: _alike(pair, truth), lacks=("no live capture", "no validation", "no ledger"),
        version=lambda _: ", ".join(f"{name} {metadata.version(name)}" for name in ("celery", "sqlalchemy")),
    )  # fmt: skip


def _dlt(world: World, pair: Pair, folder: pathlib.Path) -> Way:
    def run(python: str) -> float:
        kept = pair.folder / f"dlt{time.monotonic_ns()}"
        kept.mkdir()
        env = _environ(world) | {
            "BENCH_SOURCE": pair.flat_url, "BENCH_TARGET": world.hier.url(aside.DATABASE), "BENCH_FOLDER": str(kept),
            "RUNTIME__DLTHUB_TELEMETRY": "false",
        }  # fmt: skip
        said: dict[str, Any] = json.loads(_program([python, _DLT_COPY], kept, env=env).splitlines()[-1])
        shutil.rmtree(kept)
        return float(said["seconds"])

    return Way(
        name="dlt, Arrow and CSV", reference=STRICT,
        install=lambda: str(environments.make(folder, DLT, say=world.say) / "python"),
        ready=lambda: aside.renew(world, pair, schema=False), run=run,
        check=lambda: _kept(world, pair), lacks=("no transform", "no live capture"),
        version=lambda _: environments.versions(folder / "bin", ("dlt", "pyarrow")),
    )  # fmt: skip


def _pgloader(world: World, pair: Pair) -> Way:
    def run(path: str) -> float:
        order = pair.folder / "pgloader.load"
        order.write_text(
            f"LOAD DATABASE FROM {pair.flat_url} INTO {world.hier.url(aside.DATABASE)}\n"
            "INCLUDING ONLY TABLE NAMES MATCHING 'neuron_states' IN SCHEMA 'flat';\n",
            encoding="utf-8",
        )
        started = time.monotonic()
        _program([path, "--root-dir", str(pair.folder / "pgloader"), str(order)], pair.folder, env=_environ(world))
        return time.monotonic() - started

    return Way(
        name="pgloader", reference=STRICT, install=lambda: program("pgloader"),
        ready=lambda: aside.renew(world, pair, schema=False), run=run, check=lambda: _kept(world, pair), lacks=_BARE,
        version=version,
    )  # fmt: skip


def _pgcopydb(world: World, pair: Pair) -> Way:
    def install() -> str:
        path = program("pgcopydb")
        # It clones databases, and what it filters out of one may still be needed by what it takes; so the table alone.
        source = world.flat.create_database(aside.DATABASE)
        with query(source) as cursor:
            cursor.execute("CREATE SCHEMA flat")
        _dump_and_restore(world, pair, source)
        with query(world.flat.admin_url(aside.DATABASE)) as cursor:
            cursor.execute("VACUUM ANALYZE flat.neuron_states")
        return path

    def run(path: str) -> float:
        kept = pair.folder / f"pgcopydb{time.monotonic_ns()}"
        jobs = str(peers.SESSIONS)
        started = time.monotonic()
        _program(
            [path, "clone", "--source", world.flat.url(aside.DATABASE), "--target", world.hier.url(aside.DATABASE),
             "--dir", str(kept), "--table-jobs", jobs, "--index-jobs", jobs, "--no-owner", "--no-acl",
             "--skip-large-objects", "--skip-extensions"],
            pair.folder, env=_environ(world),
        )  # fmt: skip
        return time.monotonic() - started

    return Way(
        name=f"pgcopydb clone, {peers.SESSIONS} jobs", reference=STRICT, install=install,
        ready=lambda: aside.renew(world, pair, schema=False), run=run, check=lambda: _kept(world, pair),
        lacks=("no transform", "live capture of a whole database only", "not idempotent"), version=version,
    )  # fmt: skip


def _dump(world: World, pair: Pair) -> Way:
    def run(_: str) -> float:
        started = time.monotonic()
        _dump_and_restore(world, pair, world.hier.url(aside.DATABASE))
        return time.monotonic() - started

    return Way(
        name="pg_dump piped into pg_restore", reference=STRICT, ready=lambda: aside.renew(world, pair), run=run,
        check=lambda: _kept(world, pair), lacks=_BARE,
    )  # fmt: skip


def _dump_and_restore(world: World, pair: Pair, target_url: str) -> None:
    read = [str(world.hier.bin / "pg_dump"), "-Fc", "-Z0", f"--table={aside.TABLE}", pair.flat_url]
    write = [str(world.hier.bin / "pg_restore"), "--no-owner", "--no-privileges", "--exit-on-error", "-d", target_url]
    with subprocess.Popen(read, stdout=subprocess.PIPE) as reading:
        _program(write, pair.folder, stdin=reading.stdout)
    if reading.returncode:
        raise Failed(f"pg_dump ended with {reading.returncode}")


def _straight(world: World, pair: Pair, streams: int) -> Way:
    return Way(
        name=f"binary COPY piped into COPY, {streams} stream{'s' * (streams > 1)}", reference=STRICT,
        ready=lambda: pair.empty(_STRAIGHT), run=lambda _: peers.straight_copy(world, pair, streams=streams),
        check=lambda: aside.losses(pair, pair.hier_url, _STRAIGHT), lacks=_BARE,
    )  # fmt: skip


def _kept(world: World, pair: Pair) -> list[str]:
    return aside.losses(pair, world.hier.url(aside.DATABASE))


def _environ(world: World) -> dict[str, str]:
    """Return an environment in which the programs of the server's own version come first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"PATH": os.pathsep.join([str(world.hier.bin), kept.get("PATH", "")])}


def _program(
    command: Sequence[str], folder: pathlib.Path, *, env: Mapping[str, str] | None = None, stdin: Any = None
) -> str:
    """Run a program to its end and return what it wrote."""
    # In a session of its own, because pgcopydb ends its whole process group when something fails.
    done = subprocess.run(
        command, stdin=stdin or subprocess.DEVNULL, capture_output=True, text=True, cwd=folder, env=env,
        timeout=_PATIENCE, check=False, start_new_session=True,
    )  # fmt: skip
    if done.returncode:
        name = pathlib.Path(command[0]).name
        said = safe_text.masked(done.stderr or done.stdout).strip()[-4000:]
        # What is wrong comes first: only this line has room in the table.
        said_first = next((line for line in said.splitlines() if "ERROR" in line), said.rpartition("\n")[2])
        raise Failed(f"{name} ended with {done.returncode}: {said_first}\n{said}")
    return done.stdout
