"""The wheel by itself, in an environment of its own: the README's section By hand, line by line."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from tests.support import watchdog

ROOT = pathlib.Path(__file__).resolve().parents[2]
#: Lines that set up a checkout, which a wheel needs not.
_CHECKOUT = (". .venv/bin/activate",)


def lines() -> list[str]:
    """Return the commands of the section, on data small enough for a test."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## By hand\n")[1]
    block = re.findall(r"```sh\n(.*?)```", section, re.S)[0]
    found = [line.partition("  #")[0].strip() for line in block.splitlines()]
    return [line.replace("--scale 0.05", "--scale 0.0005") for line in found if line and line not in _CHECKOUT]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A new virtual environment with the wheel and what it declares, nothing else."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    # The checkout as git has it: building in place would leave files there, and find those that are.
    subprocess.run(["git", "clone", "--quiet", "--shared", ROOT, source], check=True, timeout=60)
    for name in subprocess.run(
        ["git", "ls-files", "--modified", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split("\0"):  # fmt: skip
        if name and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", place, source], check=True, timeout=300)
    made = place / "environment"
    subprocess.run([sys.executable, "-m", "venv", made], check=True, timeout=120)
    (wheel,) = place.glob("*.whl")
    subprocess.run(
        [made / "bin" / "python", *pip[1:], "install", "-c", ROOT / "constraints.txt", wheel], check=True, timeout=600
    )
    return made


@pytest.fixture
def shell(environment: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder with a blank in its name, which is this user's home; whatever runs there ends with the test."""
    # Under root, PostgreSQL runs as another user, who has to enter it.
    with tempfile.TemporaryDirectory(prefix="hal9t-", dir="/tmp", ignore_cleanup_errors=True) as place:
        pathlib.Path(place).chmod(0o711)
        home = pathlib.Path(place) / "a folder"
        home.mkdir(mode=0o711)
        yield home
        run(environment, home, "hal9-migrate stack down")


def run(environment: pathlib.Path, home: pathlib.Path, line: str, **more: str) -> subprocess.CompletedProcess[str]:
    environ = {
        "PATH": f"{environment / 'bin'}:/usr/bin:/bin",
        "HOME": str(home),
        "HAL9_DATA_DIR": str(home / "state"),
        "LANG": "C.UTF-8",
        **{name: value for name, value in os.environ.items() if name == watchdog.VARIABLE},
        **more,
    }
    return subprocess.run(
        ["bash", "-c", line],
        cwd=home,
        env=environ,
        capture_output=True,
        text=True,
        timeout=240,
        stdin=subprocess.DEVNULL,
    )


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


@pytest.mark.timeout(900)
def test_the_section_by_hand_line_by_line(environment: pathlib.Path, shell: pathlib.Path) -> None:
    port = free_port()
    # Found by its relative name, by the command and by the daemon that has left this folder.
    (shell / "hal9-migrate.toml").write_text(f"[stack]\nworkers = 1\nflower_port = {port}\n")
    commands = lines()
    assert commands[0].startswith("hal9-migrate stack up --detach")
    assert commands[-1] == "hal9-migrate stack down"
    for line in commands:
        if line == "hal9-migrate stack down":
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://127.0.0.1:{port}/workers")
            log = shell / "state" / "log" / "reconciliation.log"
            assert log.is_file() or pathlib.Path("/var/log/hal9/reconciliation.log").is_file()
        done = run(environment, shell, line)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr


def test_the_processes_of_another_host_start_by_themselves(environment: pathlib.Path, tmp_path: pathlib.Path) -> None:
    urls = {f"HAL9_{name}_URL": f"postgresql://nobody@127.0.0.1:1/{name}" for name in ("FLAT", "HIER")}
    urls |= {"HAL9_REDIS_URL": "redis://127.0.0.1:1/0", "HAL9_FLOWER_AUTH": "a:b"}
    for words in ("-A workers.app worker --help", "-A beat.app beat --help", "-A workers.app flower --help"):
        done = run(environment, tmp_path, f"celery {words}", **urls)
        assert done.returncode == 0, done.stderr
    # The transport is imported when a broker is named, and not before.
    done = run(environment, tmp_path, "python -c 'import kombu.transport.redis, workers.tasks, beat.app'", **urls)
    assert done.returncode == 0, done.stderr
