"""The connection plane: who wins, what is refused, and what is shown."""

from __future__ import annotations

import json
import pathlib
import tomllib

import pytest

from hal9mig import errors, settings

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings file of this machine takes part."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(settings, "SYSTEM_CONFIG", tmp_path / "etc" / "migrate.toml")


def load(environ: dict[str, str] | None = None, **more: object) -> settings.Settings:
    environ = {"HAL9_DATA_DIR": str(pathlib.Path.cwd() / "data"), **(environ or {})}
    return settings.load(environ=environ, **more)  # type: ignore[arg-type]


def write(path: pathlib.Path, text: str) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def running_stack(**values: object) -> None:
    write(pathlib.Path("data/stack.json"), json.dumps({"pid": 1, "settings": values}))


def test_defaults() -> None:
    found = load()
    assert (found.flat_url, found.hier_url, found.redis_url) == (None, None, None)
    assert (found.workers, found.flower_port, found.lease_duration) == (2, 5555, 15.0)
    assert found.log_dir == pathlib.Path("/var/log/hal9")
    assert found.external is False
    assert found.origins["stack.workers"] == "default"


def test_a_secret_may_be_in_a_file(tmp_path: pathlib.Path) -> None:
    file = write(tmp_path / "secrets" / "flat", "postgresql://hal9:geheim@db/hal9_flat\n")
    found = load({"HAL9_FLAT_URL_FILE": str(file)})
    assert found.flat_url == "postgresql://hal9:geheim@db/hal9_flat"
    assert found.origins["stores.flat_url"] == f"file {file}"
    assert "geheim" not in settings.shown(settings.SETTINGS[0], found.flat_url)
    with pytest.raises(errors.InvalidSettings, match="are both set"):
        load({"HAL9_FLAT_URL_FILE": str(file), "HAL9_FLAT_URL": "postgresql://other/one"})
    with pytest.raises(errors.InvalidSettings, match="cannot be read: No such file"):
        load({"HAL9_REDIS_URL_FILE": str(tmp_path / "nothing")})
    with pytest.raises(errors.InvalidSettings, match="longer"):
        load({"HAL9_REDIS_URL_FILE": "/dev/zero"})
    # What is no secret has no such file, and the dashboard's token has a setting of its own.
    assert load({"HAL9_WORKERS_FILE": str(file), "HAL9_DASHBOARD_TOKEN_FILE": str(file)}).workers == 2


def test_a_flag_wins_over_the_environment_over_the_file_over_the_system(tmp_path: pathlib.Path) -> None:
    write(
        settings.SYSTEM_CONFIG,
        "[stack]\nworkers = 3\nflower_port = 1003\n[queue]\nprefix = 'sys:'\n[lease]\nduration = '9s'",
    )
    write(tmp_path / "hal9-migrate.toml", "[stack]\nworkers = 4\nflower_port = 1004\n[queue]\nprefix = 'local:'")
    found = load({"HAL9_WORKERS": "5", "HAL9_FLOWER_PORT": "1005"}, flags={"stack.workers": 6})
    assert (found.workers, found.flower_port, found.queue_prefix, found.lease_duration) == (6, 1005, "local:", 9.0)
    assert found.origins["stack.workers"] == "flag"
    assert found.origins["stack.flower_port"] == "environment HAL9_FLOWER_PORT"
    assert found.origins["queue.prefix"] == "hal9-migrate.toml"
    assert found.origins["lease.duration"] == str(settings.SYSTEM_CONFIG)


def test_a_flag_that_was_not_given_is_nothing() -> None:
    assert load({"HAL9_WORKERS": "5"}, flags={"stack.workers": None}).workers == 5


def test_a_named_file_replaces_the_local_one(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "hal9-migrate.toml", "[stack]\nworkers = 4")
    other = write(tmp_path / "other.toml", "[stack]\nflower_port = 1234")
    for found in (load(config=other), load({"HAL9_CONFIG": str(other)})):
        assert (found.workers, found.flower_port, found.config_file) == (2, 1234, other)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[stack]\nworker = 4", "unknown key, stack.worker"),
        ("workers = 4", "unknown key, workers"),
        ("[stack", "cannot be read"),
        ("[stack]\nworkers = 0", "not a whole number"),
        ("[lease]\nduration = 'soon'", "not a duration"),
        ("[lease]\nduration = [1]", "lease.duration .* is neither a text nor a number"),
        ("dashboard.hosts = {a = 1}", "dashboard.hosts .* is neither a text nor a number"),
        ("[alerts]\nwebhook_url = 'http://['", "alerts.webhook_url cannot be read .* no address"),
        ("[queue]\nredis_url = 'rediss://['", "queue.redis_url cannot be read .* no address"),
        (f"[stack]\nworkers = {'9' * 5000}", "cannot be read"),
        (f"stack.workers = {'[' * 5000}", "cannot be read"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(tmp_path: pathlib.Path, text: str, message: str) -> None:
    write(tmp_path / "hal9-migrate.toml", text)
    with pytest.raises(errors.UsageError, match=message):
        load()


def test_a_near_key_is_offered(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "hal9-migrate.toml", "[stack]\nworker = 4")
    with pytest.raises(errors.InvalidSettings) as refused:
        load()
    assert refused.value.hint == "did you mean stack.workers?"


def test_a_missing_named_file_is_an_error(tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.InvalidSettings, match="does not exist"):
        load(config=tmp_path / "none.toml")


def test_other_variables_are_not_read() -> None:
    assert load({"HAL9_FORCE": "1", "HAL9_STACK_WORKERS": "9"}) == load()


def test_an_empty_variable_is_unset() -> None:
    assert load({"HAL9_FLAT_URL": "", "HAL9_WORKERS": ""}) == load()


def test_a_running_stack_fills_what_nobody_set() -> None:
    urls = {"stores.flat_url": "postgresql://f", "stores.hier_url": "postgresql://h", "queue.redis_url": "redis://r"}
    running_stack(**urls, **{"stack.flower_auth": "hal9:x", "unknown": 1})
    found = load()
    assert (found.require_flat(), found.require_hier(), found.require_redis()) == tuple(urls.values())
    assert found.origins["stores.flat_url"] == "stack"
    assert found.external is False


def test_a_running_stacks_folders_are_a_commands_too_unless_somebody_chose_others() -> None:
    running_stack(**{"log.dir": "/stack/log", "checkpoints.url": "/stack/checkpoints"})
    found = settings.load(environ={"HAL9_DATA_DIR": "data"})
    assert (str(found.log_dir), found.checkpoint_url) == ("/stack/log", "/stack/checkpoints")
    chosen = settings.load(environ={"HAL9_DATA_DIR": "data", "HAL9_LOG_DIR": "/mine"})
    assert str(chosen.log_dir) == "/mine"


def test_the_settings_file_is_found_from_every_folder() -> None:
    write(pathlib.Path("hal9-migrate.toml"), "[stack]\nworkers = 1\n")
    found = settings.load(environ={"HAL9_DATA_DIR": "data"}).config_file
    assert found == pathlib.Path("hal9-migrate.toml").absolute()


def test_who_names_one_server_gets_none_of_a_running_stack() -> None:
    running_stack(**{"stores.flat_url": "postgresql://f", "stores.hier_url": "postgresql://h"})
    found = load({"HAL9_FLAT_URL": "postgresql://mine"})
    assert found.external is True
    assert found.flat_url == "postgresql://mine"
    with pytest.raises(errors.NotConfigured, match="a stack that runs here is not used, and HAL9_HIER_URL is not set"):
        found.require_hier()


def test_where_nothing_is_set_a_stack_is_the_way_out() -> None:
    with pytest.raises(errors.NotConfigured, match="no stack is running here") as refused:
        load().require_hier()
    assert refused.value.hint == "hal9-migrate stack up --detach, or set HAL9_HIER_URL"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 5000])
def test_a_broken_stack_file_is_no_stack(text: str) -> None:
    write(pathlib.Path("data/stack.json"), text)
    assert load().flat_url is None


def test_category_files_are_a_list_of_absolute_paths(tmp_path: pathlib.Path) -> None:
    expected = (tmp_path / "a.py", tmp_path / "b.py")
    assert load({"HAL9_CATEGORIES": "a.py, b.py,"}).category_files == expected
    write(tmp_path / "hal9-migrate.toml", "[categories]\nfiles = ['a.py', 'b.py']")
    assert load().category_files == expected


def test_shown_values_hide_their_secrets() -> None:
    by_key = {setting.key: setting for setting in settings.SETTINGS}
    assert settings.shown(by_key["stores.flat_url"], "postgresql://u:secret@h/x") == "postgresql://u:***@h/x"
    assert settings.shown(by_key["stack.flower_auth"], "hal9:secret") == "***"
    assert settings.shown(by_key["stores.flat_url"], None) == "(unset)"
    assert settings.shown(by_key["categories.files"], ()) == "(none)"
    assert settings.shown(by_key["stack.workers"], 2) == "2"


def test_the_example_file_names_every_key_with_its_default() -> None:
    text = (ROOT / "config" / "hal9-migrate.toml").read_text(encoding="utf-8")
    # Settings are commented out as `#key = value`; sentences have a space after the mark.
    active = "\n".join(line[1:] if line.startswith("#") and line[1:2].isalpha() else line for line in text.splitlines())
    found = {f"{part}.{key}": value for part, keys in tomllib.loads(active).items() for key, value in keys.items()}
    assert set(found) == {setting.key for setting in settings.SETTINGS}
    for setting in settings.SETTINGS:
        if setting.default is not None:
            default = list(setting.default) if isinstance(setting.default, tuple) else setting.default
            assert found[setting.key] == default, setting.key
        assert setting.env is None or setting.env in text, setting.env


def test_the_example_file_as_it_is_changes_nothing(tmp_path: pathlib.Path) -> None:
    example = ROOT / "config" / "hal9-migrate.toml"
    assert load(config=example).values == load().values
