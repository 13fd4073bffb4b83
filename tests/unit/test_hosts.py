"""Units for systemd, the example for Kubernetes: what they name is there, and nothing may do more than it needs."""

from __future__ import annotations

import configparser
import pathlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from hal9mig import settings
from tests.support.servers import ROOT

UNITS = sorted((ROOT / "config" / "systemd").glob("*.service"))
ITEMS = yaml.safe_load((ROOT / "config" / "kubernetes" / "hal9-migrate.yaml").read_text(encoding="utf-8"))["items"]
PODS = [one for one in ITEMS if one["kind"] in ("Deployment", "Job")]
KNOWN = {one.env for one in settings.SETTINGS} | {f"{one.env}_FILE" for one in settings.SETTINGS if one.secret}


def read(unit: pathlib.Path) -> configparser.ConfigParser:
    made = configparser.ConfigParser(interpolation=None, strict=True)
    made.optionxform = str  # type: ignore[assignment]
    made.read_string(unit.read_text(encoding="utf-8"))
    return made


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_runs_what_is_there_and_no_more(unit: pathlib.Path) -> None:
    service = read(unit)["Service"]
    command = service["ExecStart"].split()
    assert pathlib.Path(command[0]).name in ("celery", "hal9-migrate")
    if "-A" in command:
        assert (ROOT / f"{command[command.index('-A') + 1].replace('.', '/')}.py").is_file()
    assert (service["User"], service["NoNewPrivileges"], service["ProtectSystem"]) == ("hal9", "yes", "strict")
    assert service["Restart"] == "always"
    assert service["CapabilityBoundingSet"] == ""
    assert {part.partition("=")[0] for part in service["Environment"].split()} <= KNOWN


def test_the_example_of_the_settings_names_settings() -> None:
    text = (ROOT / "config" / "systemd" / "migrate.env.example").read_text(encoding="utf-8")
    assert set(re.findall(r"^#?(HAL9_\w+)=", text, re.MULTILINE)) <= KNOWN


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_takes_a_unit(unit: pathlib.Path, tmp_path: pathlib.Path) -> None:
    # The program is not installed here where a unit looks for it.
    text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(encoding="utf-8"), flags=re.MULTILINE)
    copied = tmp_path / unit.name.replace("@.", "@1.")
    copied.write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copied)], capture_output=True, text=True, timeout=60, check=False
    )
    assert [line for line in done.stderr.splitlines() if unit.stem.rstrip("@") in line] == []


def containers() -> Iterator[dict[str, Any]]:
    for pod in PODS:
        yield from pod["spec"]["template"]["spec"]["containers"]


@pytest.mark.parametrize("container", [*containers()], ids=lambda one: one["name"])
def test_a_container_has_what_it_names_and_no_more(container: dict[str, Any]) -> None:
    assert {one["name"] for one in container["env"]} <= KNOWN
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    mounted = {one["mountPath"] for one in container["volumeMounts"]}
    for one in container["env"]:
        assert any(str(one["value"]).startswith(place) for place in mounted), one
    if container["name"] != "upgrade":
        assert container["livenessProbe"]
        assert container["resources"]["limits"]["memory"]


def test_pods_are_nobody_and_find_their_volumes() -> None:
    claims = {one["metadata"]["name"] for one in ITEMS if one["kind"] == "PersistentVolumeClaim"}
    for pod in PODS:
        spec = pod["spec"]["template"]["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        volumes = {one["name"]: one for one in spec["volumes"]}
        assert {one["name"] for each in spec["containers"] for one in each["volumeMounts"]} == set(volumes)
        assert volumes["checkpoints"]["persistentVolumeClaim"]["claimName"] in claims
        if pod["kind"] == "Deployment":
            assert pod["spec"]["selector"]["matchLabels"] == pod["spec"]["template"]["metadata"]["labels"]
