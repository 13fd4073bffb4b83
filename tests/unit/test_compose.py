"""docker-compose.yml against the Dockerfile: what the one names, the other puts there."""

from __future__ import annotations

import importlib.util
import json
import pathlib
import re
import shutil
import subprocess
import tomllib
from typing import Any

import fastjsonschema
import pytest
import yaml

from hal9mig import settings
from tests.support.servers import ROOT

STAGES = re.split(r"^FROM ", (ROOT / "config/Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
OURS = {name: service for name, service in COMPOSE["services"].items() if service["image"] == "hal9-migrate"}
CHECKPOINTS = "/var/lib/hal9-checkpoints"


def canonical(name: str) -> str:
    """Return a package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def compose() -> list[str] | None:
    """Return what Docker Compose is called here: the plugin of today, or Debian's program; None without either."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) is not None:
            tried = subprocess.run([*command, "version"], capture_output=True, timeout=60, check=False)
            if tried.returncode == 0:
                return command
    return None


def image() -> set[str]:
    """Return every file and folder that the image's last stage makes."""
    stage = STAGES[-1].replace("\\\n", " ")
    made = {path for line in re.findall(r"install -d (.*)", stage) for path in re.findall(r"(?<!\S)/\S+", line)}
    return made | {target for _, target in re.findall(r"^COPY (?!--from)(\S+) (\S+)$", stage, re.MULTILINE)}


def words(service: dict[str, Any]) -> list[str]:
    """Return the words of a service's command, also those of a shell's line."""
    return " ".join(service.get("command", ())).split()


def paths(service: dict[str, Any]) -> set[str]:
    """Return every absolute path of the container that a service names outside its mounts."""
    found = set(re.findall(r"(?:^|[\s=])(/[^\s:]+)", " ".join(words(service)), re.MULTILINE))
    return found | {value for value in service.get("environment", {}).values() if re.fullmatch(r"/[^\s:]+", value)}


def mounts(service: dict[str, Any]) -> dict[str, str]:
    """Return what is mounted in a service, by where."""
    # A default value in a source holds a colon too: the target is the last absolute path.
    split = [re.fullmatch(r"(.+?):(/[^:}]+)(?::ro)?", volume) for volume in service.get("volumes", ())]
    return {match[2]: match[1] for match in split if match}


def test_the_compose_file_has_the_services_of_the_stack() -> None:
    assert set(OURS) == {"prepare", "worker", "beat", "flower", "dashboard", "cli"}
    assert set(COMPOSE["services"]) - set(OURS) == {"flat", "hier", "redis"}


@pytest.mark.parametrize("name", OURS)
def test_every_path_is_in_the_image_or_mounted(name: str) -> None:
    service = OURS[name]
    there = image() | set(mounts(service)) | {f"/run/secrets/{secret}" for secret in service["secrets"]}
    # The beat's file is made by it; its folder has to be there.
    missing = {path for path in paths(service) if path not in there and not path.endswith("/beat-schedule")}
    assert missing == set()
    assert "/var/lib/hal9-migrate" in there


def test_the_check_of_paths_sees_paths() -> None:
    assert "/srv/hal9-migrate/config/flowerconfig.py" in paths(OURS["flower"])
    assert {CHECKPOINTS, "/var/log/hal9"} <= paths(OURS["prepare"])
    assert CHECKPOINTS in paths(OURS["cli"])
    assert set(mounts(OURS["worker"])) == {"/var/log/hal9", CHECKPOINTS}


@pytest.mark.parametrize("stage", STAGES)
def test_everything_the_image_copies_is_there(stage: str) -> None:
    copied = [name for names in re.findall(r"^COPY (?!--from)(.+) \S+$", stage, re.MULTILINE) for name in names.split()]
    assert copied
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_what_is_mounted_of_the_checkout_is_there_and_volumes_are_declared() -> None:
    for service in COMPOSE["services"].values():
        for source in mounts(service).values():
            if source.startswith("./"):
                assert (ROOT / source).is_file(), source
            else:
                assert source in COMPOSE["volumes"] or source.startswith("${"), source


@pytest.mark.parametrize("name", OURS)
def test_programs_and_applications_come_with_the_wheel(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    line = words(OURS[name])
    if not line:
        return
    assert line[0] in {"celery", "sh", *project["project"]["scripts"]}
    if line[0] == "celery":
        module = line[line.index("-A") + 1]
        assert importlib.util.find_spec(module)
        assert module.partition(".")[0] in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


def test_the_file_is_what_compose_reads() -> None:
    schema = json.loads((ROOT / "tests" / "schemas" / "compose-spec.json").read_text(encoding="utf-8"))
    # A name of ours is no reference to be fetched from anywhere.
    schema.pop("$id", None)
    fastjsonschema.compile(schema)(COMPOSE)


def test_compose_itself_takes_the_file() -> None:
    command = compose()
    if command is None:
        pytest.skip("there is no Docker Compose here (Debian: apt-get install docker-compose)")
    done = subprocess.run(
        [*command, "config", "--quiet"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_every_service_is_looked_after_and_bounded(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["mem_limit"]
    assert "no-new-privileges:true" in service["security_opt"]
    if name not in ("prepare", "cli"):
        assert service["healthcheck"]["test"]
        assert service["restart"] == "unless-stopped"
    if name in OURS:
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])


def test_no_secret_is_in_a_variable_or_on_a_command_line(tmp_path: pathlib.Path) -> None:
    for service in COMPOSE["services"].values():
        for variable, value in service.get("environment", {}).items():
            assert not re.search(r"PASSWORD|TOKEN|AUTH|URL", variable.removesuffix("_FILE")) or (
                value == CHECKPOINTS or str(value).startswith("/run/secrets/")
            ), variable
        for secret in service.get("secrets", ()):
            assert secret in COMPOSE["secrets"]
    # The script makes every file that is named, each once, for its owner alone.
    shutil.copytree(ROOT / "config", tmp_path / "config")
    script = ["sh", str(tmp_path / "config" / "secrets.sh")]
    subprocess.run(script, check=True, capture_output=True)
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert {pathlib.Path(one["file"]).name for one in COMPOSE["secrets"].values()} == set(made)
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0
    assert made["db_password"].strip() in made["flat_url"]
    subprocess.run(script, check=True, capture_output=True)
    assert made == {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_a_setting(name: str) -> None:
    known = {setting.env for setting in settings.SETTINGS}
    known |= {f"{setting.env}_FILE" for setting in settings.SETTINGS if setting.secret}
    assert set(OURS[name]["environment"]) <= known


@pytest.mark.parametrize("name", ["prepare", "worker", "beat", "dashboard", "cli"])
def test_whoever_works_with_checkpoints_shares_their_volume(name: str) -> None:
    assert OURS[name]["environment"]["HAL9_CHECKPOINT_URL"] == CHECKPOINTS
    assert mounts(OURS[name])[CHECKPOINTS] == "checkpoints"


def test_the_shared_folders_belong_to_the_workers_user() -> None:
    opened = re.search(r"chown hal9:hal9 (.*?) &&", " ".join(words(OURS["prepare"])))
    assert opened
    assert set(opened[1].split()) == set(mounts(OURS["worker"]))


def test_the_image_takes_the_versions_that_were_tested() -> None:
    assert "pip install --require-hashes -r /wheels/requirements.lock && pip install --no-deps " in STAGES[-1]
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    pinned = {canonical(name): version for name, version in pinned.items()}
    text = (ROOT / "config" / "requirements.lock").read_text(encoding="utf-8")
    locked = {canonical(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+) ", text, re.MULTILINE)}
    # What an environment comes with is nobody's to pin.
    assert {name: pinned.get(name, version) for name, version in locked.items() if name != "setuptools"} == {
        name: version for name, version in locked.items() if name != "setuptools"
    }, "make lock"
    assert {name for name in locked if name not in pinned} <= {"setuptools"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {canonical(re.split(r"[<>=\[]", one)[0]) for one in project["dependencies"]}
    assert wanted <= set(locked), "make lock"
    # Each with hashes, and from the public index, whatever that of this machine is.
    assert len(re.findall(r"^\S+==\S+ \\\n    --hash=sha256:[0-9a-f]{64}", text, re.MULTILINE)) == len(locked)
    assert "://" not in text
