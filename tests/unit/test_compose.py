"""What docker-compose.yml names exists in what config/Dockerfile puts there."""

from __future__ import annotations

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "config" / "Dockerfile").read_text(encoding="utf-8")
#: Behind the last FROM stands the image that runs.
IMAGE = DOCKERFILE.rpartition("\nFROM ")[2]


def test_files_of_the_image_that_commands_name() -> None:
    named = set(re.findall(r"/srv/hal9-migrate/[\w./-]+", COMPOSE))
    assert named
    for path in named:
        source = path.removeprefix("/srv/hal9-migrate/")
        assert (ROOT / source).is_file()
        assert f"COPY {source} {path}\n" in IMAGE


def test_files_of_the_host_that_volumes_name() -> None:
    named = set(re.findall(r"- \./([\w./-]+):", COMPOSE))
    assert named == {"config/postgresql.conf", "config/redis.conf"}
    assert all((ROOT / path).is_file() for path in named)


def test_what_is_copied_exists() -> None:
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.M):
        assert all((ROOT / one).exists() for one in line.split()[:-1]), line


def test_all_of_them_share_one_place_for_checkpoints() -> None:
    (place,) = re.findall(r"HAL9_CHECKPOINT_URL: (\S+)", COMPOSE)
    assert f"- checkpoints:{place}\n" in COMPOSE
    assert re.search(rf"chown hal9:hal9 .*{place}", COMPOSE)
    assert re.search(rf"install -d -o hal9 -g hal9 .*{place}", IMAGE)
    assert "volumes" not in re.sub(r"(?s)^.*?x-running", "", COMPOSE.split("  flat:\n    <<: *postgres")[0])


def test_the_image_has_the_tested_versions() -> None:
    assert "pip install -c /wheels/constraints.txt" in IMAGE
