"""What people and browsers write: words of a command line, settings, quantities, filters, names, addresses."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator

from hal9mig import errors, safe_text, settings, units
from hal9mig.categories import filters, identifiers, registry
from hal9mig.cli import main
from hal9mig.dashboard import access
from hal9mig.engine import alarms
from hal9mig.engine.checkpoint import archive
from hal9mig.ledger import tuning

#: Commands that go on until somebody stops them, or start servers.
_ENDLESS = {"stack", "dashboard", "monitor", "traffic", "load", "upgrade", "--watch", "--live", "--follow"}
_BUG = "This ought not to happen"
_NOWHERE = {
    "HAL9_FLAT_URL": "postgresql://hal9:secret@127.0.0.1:1/hal9",
    "HAL9_HIER_URL": "postgresql://hal9:secret@127.0.0.1:1/other",
    "HAL9_REDIS_URL": "redis://:secret@127.0.0.1:1/0",
}
#: Left behind by commands that were told to, by an option or by what it is called: their work, and not half an effect.
_FINE = {errors.EXIT_OK, errors.EXIT_PROBLEMS}
_READERS: tuple[Callable[[str], object], ...] = (
    units.parse_duration, functools.partial(units.parse_duration, none=True), units.parse_bytes, units.parse_count,
    units.parse_share, units.parse_rate, tuning.parse_validation, tuning.parse_switch, tuning.parse_portion,
    tuning.parse_tolerance, tuning.parse_impact, tuning.parse_query, archive.check_name,
    lambda text: registry.builtin().select([text]),
)  # fmt: skip


@functools.cache
def _folder() -> pathlib.Path:
    return pathlib.Path(tempfile.mkdtemp(prefix="hal9fuzz-"))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def settings_file(data: bytes) -> None:
    """Read a settings file, and show what it says."""
    path = _folder() / "settings.toml"
    path.write_bytes(data)
    with contextlib.suppress(errors.InvalidSettings):
        found = settings.load(config=path, environ={}, stack=False)
        for one in settings.SETTINGS:
            settings.shown(one, found.values[one.key])
        with contextlib.suppress(errors.InvalidSettings, errors.Refused):
            access.decide(found, anyone_may_read=False)
        if found.webhook_url is not None:
            assert alarms.host(found.webhook_url)


def stack_file(data: bytes) -> None:
    """Read what a running stack wrote down, which may have been half of it."""
    folder = _folder() / "data"
    folder.mkdir(exist_ok=True)
    (folder / settings.STACK_FILE).write_bytes(data)
    with contextlib.suppress(errors.InvalidSettings):
        settings.load(flags={"stack.data_dir": str(folder)}, environ={})


def quantities(data: bytes) -> None:
    """Read a word as each kind of quantity and name."""
    text = _text(data)
    for read in _READERS:
        with contextlib.suppress(errors.UsageError):
            read(text)
    with contextlib.suppress(errors.UsageError):
        rate = units.parse_rate(text)
        if rate is not None and rate.unit is not units.RateUnit.BYTES:
            assert units.parse_rate(str(rate)) == rate
    with contextlib.suppress(errors.UsageError):
        seconds = units.parse_duration(text)
        assert 0 < seconds <= units.LONGEST
        assert units.format_duration(seconds)
    with contextlib.suppress(errors.UsageError):
        assert units.format_bytes(units.parse_bytes(text))


def filter_(data: bytes) -> None:
    """Read a filter of each category, and make SQL of it: no word of it gets there but as a parameter."""
    text = _text(data)
    for category in registry.builtin().ordered():
        with contextlib.suppress(errors.UsageError):
            found = filters.parse(category, text)
            sql, values = found.sql("t")
            assert sql.count("%s") == len(values) == len(found.conditions)
            assert ";" not in sql
        with contextlib.suppress(errors.UsageError):
            filters.parse(category, filters.with_types(category, text))


def names(data: bytes) -> None:
    """Quote a name for SQL, and take the quotes off again."""
    schema, _, table = _text(data).partition("\n")
    if identifiers.problem(schema, table=True) or identifiers.problem(table, table=True):
        return
    assert identifiers.parted(identifiers.qualified(schema, table)) == (schema, table)
    folder = identifiers.folder(schema, table)
    assert "/" not in folder
    assert folder not in ("", ".", "..")
    assert len(identifiers.derived("x", schema, table).encode()) <= identifiers.LONGEST


def browser(data: bytes) -> None:
    """Judge what a browser sends: by which name it asks, of which page a form comes, what somebody is called."""
    host, _, origin = _text(data).partition("\n")
    access.Access(token="t" * 16, hosts=frozenset({"localhost"}), reading=True).knows(host)
    if access.same_origin(origin, host):
        assert host.lower() in origin.lower()
    name = access.spoken(origin)
    assert len(name) <= access.MOST_OF_A_NAME
    assert name == safe_text.printable(name)


def shown(data: bytes) -> None:
    """Show a text with a secret in it: whatever stands around it, it is masked, and no terminal is steered."""
    before, _, after = _text(data).partition("\n")
    told = safe_text.masked(f"{before} postgresql://hal9:geheim@db/{after}")
    assert "geheim" not in told
    printed = safe_text.printable(told)
    assert not any(ord(letter) < 32 and letter not in "\t\n" for letter in printed)
    printed.encode()
    errors.HAL9Error(before, hint=after, where=before)


def command_line(data: bytes) -> None:
    """Run a command line, a word a line, where no server answers: a sentence, a code, and nothing left behind."""
    # Nothing outside of the folder may be named, by no path.
    words = [_text(line).replace("/", "").replace("\0", "") for line in data.split(b"\n")]
    if not _ENDLESS.isdisjoint(word.partition("=")[0] for word in words):
        return
    with tempfile.TemporaryDirectory(prefix="hal9fuzz-") as folder, _inside(folder):
        out, err = io.StringIO(), io.StringIO()
        code: object = None
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main.run(words)
            except SystemExit as ended:
                code = ended.code
        left = [name for name in os.listdir(folder) if name != "data"]
    told = out.getvalue() + err.getvalue()
    assert _BUG not in told, told
    assert "Traceback" not in told, told
    assert "hal9:secret" not in told
    assert isinstance(code, int)
    assert code in _FINE or not left, (code, left)


@contextlib.contextmanager
def _inside(folder: str) -> Iterator[None]:
    before, here = dict(os.environ), os.getcwd()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update({**_NOWHERE, "HAL9_DATA_DIR": f"{folder}/data", "PATH": before.get("PATH", "")})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        os.chdir(here)
