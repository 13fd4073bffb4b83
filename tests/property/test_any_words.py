"""Whatever words a command is given, and whatever its files hold: a sentence, an exit code, never half an effect."""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import tempfile
from collections.abc import Mapping

import click
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hal9mig import errors
from hal9mig import settings as program_settings
from hal9mig.categories import registry
from hal9mig.cli import main
from tests.support.migration_driver import Driver, connected
from tests.unit import commandline

#: What a bug is told as.
BUG = "This ought not to happen"
CODES = {
    errors.EXIT_OK, errors.EXIT_FAILED, errors.EXIT_USAGE, errors.EXIT_PROBLEMS, errors.EXIT_REFUSED,
    errors.EXIT_UNREACHABLE, errors.EXIT_TIMEOUT,
}  # fmt: skip
#: Commands that are there to go on, or that start servers of their own.
_ENDLESS = ("stack", "dashboard", "monitor", "sample-data traffic", "sample-data load", "db upgrade")
#: Commands that wait for nobody, so that they can be tried on real stores where no worker is.
_AT_ONCE = (
    "runs show", "runs list", "runs pause", "runs resume", "runs cancel", "runs retry", "quarantine list",
    "quarantine show", "quarantine drop", "certificates show", "audit", "configure state-migration",
    "configure reconciliation", "state list-checkpoints", "state export-manifest", "state stats", "state progress",
    "phase show", "phase complete", "attest", "category new", "category check", "db grants", "db check",
    "config compare", "config export",
)  # fmt: skip
COMMANDS = {
    path: command for path, command in commandline.commands().items()
    if path and not isinstance(command, click.Group) and not path.startswith(_ENDLESS)
}  # fmt: skip
_WORDS = st.one_of(
    st.sampled_from([
        "all", "neuron-states", "user-sessions,configuration", "latest", "0", "1", "-1", "1.5", "1e309", "9" * 30,
        "off", "100/s", "0/s", "20MB/s", "5s", "0s", "5 parsecs", "100%", "-3%", "strict", "sample:0.5", "sample:2", "",
        " ", ",", "a=b", "a>1,b<2", "active=true", "/", ".", "..", "/dev/null", "/dev/full", "nowhere/file.json",
        "flat", "hierarchical", "flat,flat", "état", "\udcff", "\x1b[31m", "a\nb", "%s", "{}", "'; DROP TABLE x", "--",
    ]),
    st.integers().map(str), st.floats().map(str), st.text(max_size=12),
)  # fmt: skip
#: The same draws each time, so that what a commit is judged by does not depend on chance; to find more, draw more.
_QUICK = settings(max_examples=100, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def lines(draw: st.DrawFn, paths: tuple[str, ...]) -> list[str]:
    """Draw a command with some of its options, some of its arguments, and words that may or may not fit."""
    path = draw(st.sampled_from(paths))
    words = path.split()
    for one in COMMANDS[path].params:
        # An argument is there mostly, or nothing behind the parser would ever be tried.
        if draw(st.integers(0, 9)) >= (8 if isinstance(one, click.Argument) else 3):
            continue
        value = draw(st.sampled_from(list(one.type.choices)) if isinstance(one.type, click.Choice) else _WORDS)
        if isinstance(one, click.Argument):
            words.append(str(value))
        elif one.name in ("help", "json", "debug", "watch", "live", "follow"):
            continue
        else:
            words.append(draw(st.sampled_from(one.opts)))
            if not (isinstance(one, click.Option) and one.is_flag):
                words.append(str(value))
    if draw(st.booleans()):
        words.append("--json")
    return words


def said(words: list[str], env: Mapping[str, str]) -> tuple[int, str]:
    """Run a command line in a folder of its own, which has to be as empty afterwards if it failed."""
    before = dict(os.environ), pathlib.Path.cwd()
    out, err = io.StringIO(), io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update({**env, "HAL9_DATA_DIR": f"{folder}/data"})
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
                main.run(words)
            code = ended.value.code
            left = sorted(os.listdir(folder))
        finally:
            os.environ.clear()
            os.environ.update(before[0])
            os.chdir(before[1])
    told = out.getvalue() + err.getvalue()
    assert isinstance(code, int)
    assert code in CODES, told
    assert BUG not in told
    assert "Traceback" not in told
    if code not in (errors.EXIT_OK, errors.EXIT_PROBLEMS):
        assert "error" in told
        assert not [name for name in left if name != "data"], (code, left)
    return code, told


@_QUICK
@example(words=["sample-data", "check-traffic", "/dev/zero"])
@given(words=lines(tuple(sorted(COMMANDS))))
def test_any_words_where_no_server_answers(words: list[str]) -> None:
    nowhere = "postgresql://hal9:secret@127.0.0.1:1/hal9"
    _, told = said(words, {
        "HAL9_FLAT_URL": nowhere, "HAL9_HIER_URL": nowhere, "HAL9_REDIS_URL": "redis://:secret@127.0.0.1:1/0",
    })  # fmt: skip
    assert "hal9:secret" not in told


@_QUICK
@given(words=lines(_AT_ONCE))
def test_any_words_on_stores(shared: Driver, words: list[str]) -> None:
    def known() -> list[int]:
        with connected(shared.stores.hier_url) as cursor:
            cursor.execute(
                "SELECT count(*) FROM hal9mig.events UNION ALL SELECT count(*) FROM hal9mig.runs "
                "UNION ALL SELECT count(*) FROM hal9mig.tuning"
            )
            return [count for (count,) in cursor.fetchall()]

    stores, before = shared.stores, known()
    code, _ = said(words, {
        "HAL9_FLAT_URL": stores.flat_url, "HAL9_HIER_URL": stores.hier_url, "HAL9_REDIS_URL": stores.redis_url,
        "HAL9_QUEUE_PREFIX": stores.queue_prefix,
    })  # fmt: skip
    if code == errors.EXIT_USAGE:
        assert known() == before


@_QUICK
@given(text=st.one_of(
    st.binary(max_size=60),
    st.lists(
        st.tuples(st.sampled_from(["flat", "stores.flat", "[stores]", "lease", "[x", "'"]), st.text(max_size=9)),
        max_size=4,
    ).map(lambda found: "\n".join(f"{name} = {value}" for name, value in found).encode("utf-8", "surrogatepass")),
))  # fmt: skip
def test_any_settings_file(text: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "settings.toml"
        path.write_bytes(text)
        with contextlib.suppress(errors.InvalidSettings):
            program_settings.load(config=path, environ={})


DECLARATION = (pathlib.Path(__file__).parent.parent / "categories" / "accounts.py").read_text(encoding="utf-8")


@st.composite
def declarations(draw: st.DrawFn) -> str:
    """Draw a declaration of a category with a few of its lines gone, doubled, exchanged, or with a word of another."""
    found = DECLARATION.splitlines()
    for _ in range(draw(st.integers(1, 3))):
        here, there = draw(st.integers(0, len(found) - 1)), draw(st.integers(0, len(found) - 1))
        kind = draw(st.sampled_from(["gone", "doubled", "exchanged", "word", "cut"]))
        if kind == "gone" and len(found) > 1:
            del found[here]
        elif kind == "doubled":
            found.insert(here, found[there % len(found)])
        elif kind == "exchanged":
            found[here], found[there] = found[there], found[here]
        elif kind == "cut":
            found[here] = found[here][: draw(st.integers(0, 40))]
        else:
            found[here] = found[here].replace('"', draw(st.sampled_from(["'", '""', '"x', "1", "None"])), 1)
    return "\n".join(found)


@_QUICK
@given(text=declarations())
def test_any_category_file(tmp_path: pathlib.Path, text: str) -> None:
    path = tmp_path / "drawn.py"
    path.write_text(text, encoding="utf-8")
    with contextlib.suppress(errors.InvalidCategory):
        assert registry.load([path]).categories
