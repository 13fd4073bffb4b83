"""What a command says about the set-up: its own version, a wrong setting, servers of one's own."""

from __future__ import annotations

import json
import pathlib

import pytest

from hal9mig import errors, settings
from hal9mig.cli import report_file
from tests.unit.commandline import CommandLine


@pytest.mark.parametrize("words", [("--version", "--json"), ("--json", "--version")])
def test_the_version_as_json(command: CommandLine, words: tuple[str, ...]) -> None:
    told = command(*words)
    assert told.exit_code == 0
    assert json.loads(told.out)["version"]


@pytest.mark.parametrize("words", [("completion", "bash", "--json"), ("--json", "completion", "bash")])
def test_completion_as_json(command: CommandLine, words: tuple[str, ...]) -> None:
    found = json.loads(command(*words).out)
    assert found["shell"] == "bash"
    assert found["script"].strip() == command("completion", "bash").out.strip()


@pytest.mark.parametrize(
    ("key", "variable", "value"),
    [
        ("lease.duration", "HAL9_LEASE", "soon"),
        ("stack.workers", "HAL9_WORKERS", "many"),
        ("stack.flower_port", "HAL9_FLOWER_PORT", "-1"),
        ("checkpoints.keep", "HAL9_CHECKPOINT_KEEP", "some"),
    ],
)
def test_a_wrong_setting_is_named_with_who_set_it(
    key: str, variable: str, value: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(errors.InvalidSettings) as refused:
        settings.load(environ={variable: value})
    assert refused.value.message.startswith(f"{key} cannot be read (environment {variable}): ")
    assert value in refused.value.message
    file = tmp_path / "settings.toml"
    section, _, name = key.partition(".")
    file.write_text(f'[{section}]\n{name} = "{value}"\n')
    with pytest.raises(errors.InvalidSettings) as refused:
        settings.load(config=file, environ={})
    assert refused.value.message.startswith(f"{key} cannot be read ({file}): ")


def test_hints_on_own_servers_name_no_stack(command: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = "postgresql://nobody@127.0.0.1:1/nothing"
    for name, value in (("FLAT", gone), ("HIER", gone), ("REDIS", "redis://127.0.0.1:1/0")):
        monkeypatch.setenv(f"HAL9_{name}_URL", value)
    for words in (("state", "status"), ("mode",)):
        told = command(*words)
        assert told.exit_code == errors.EXIT_UNREACHABLE
        assert f"hint: {settings.OWN_SERVERS}" in told.err
        assert json.loads(command(*words, "--json").out)["error"]["hint"] == settings.OWN_SERVERS


def test_hints_of_a_stack_that_runs_here(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    none = settings.load(environ={"HAL9_DATA_DIR": str(tmp_path)})
    assert (none.servers_hint, none.workers_hint) == (settings.EMBEDDED_SERVERS, "hal9-migrate stack up --detach")
    found = {"queue.redis_url": "redis://127.0.0.1:1/0", "stores.flat_url": "postgresql://f", "stores.hier_url": "h"}
    (tmp_path / settings.STACK_FILE).write_text(json.dumps({"settings": found}))
    up = settings.load(environ={"HAL9_DATA_DIR": str(tmp_path)})
    assert (up.servers_hint, up.workers_hint, up.beat_hint) == (settings.EMBEDDED_SERVERS,) * 3


@pytest.mark.parametrize("place", ["/proc/report.json", "folder", "{}.json".format("n" * 300), "none/report.json"])
def test_a_report_that_cannot_be_written_is_refused_beforehand(place: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(errors.Refused, match="nothing was compared"):
        report_file.require_folder(tmp_path / place)
    assert [one.name for one in tmp_path.iterdir()] == ["folder"]


def test_a_report_that_can_be_leaves_no_trace_of_the_trial(tmp_path: pathlib.Path) -> None:
    report = tmp_path / "report.json"
    report.write_text("the last one")
    report_file.require_folder(report)
    assert [one.name for one in tmp_path.iterdir()] == ["report.json"]
    assert report.read_text() == "the last one"
