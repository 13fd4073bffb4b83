"""The wheel by itself, as the README says it is used: by an ordinary user, in a folder with a blank in its name."""

from __future__ import annotations

import base64
import dataclasses
import http.client
import os
import pathlib
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence

import pytest

from hal9mig.embedded import process
from tests.support import servers, watchdog

#: The only thing of the README's lines that is not taken as it stands: a smaller amount of data.
SCALE = ("--scale 0.05", "--scale 0.0005")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """A folder that holds ``.venv`` with the wheel in it, and the user who works there."""

    folder: pathlib.Path
    account: process.Account | None
    env: dict[str, str]

    def run(self, line: str, *, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run one line as a shell of that user does."""
        account = self.account
        return subprocess.run(
            ["bash", "-ec", line],
            cwd=self.folder,
            env=self.env,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def done(self, line: str) -> str:
        """Run one line that has to end well, and return what it printed."""
        result = self.run(line)
        assert result.returncode == 0, f"{line}\n{result.stdout}\n{result.stderr}"
        assert "Traceback" not in result.stderr, result.stderr
        return result.stdout


def by_hand() -> list[str]:
    """Return the commands of the README's section."""
    text = (servers.ROOT / "README.md").read_text(encoding="utf-8")
    section = re.search(r"^## By hand\n+```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert section
    return [line for line in section[1].splitlines() if line.strip()]


def built(folder: pathlib.Path) -> pathlib.Path:
    """Build the wheel from what the Dockerfile's first stage copies, and from nothing else."""
    source = folder / "source"
    recipe = (servers.ROOT / "config/Dockerfile").read_text(encoding="utf-8").partition("\nFROM python:3.11-slim")[0]
    for names in re.findall(r"^COPY (.+) \S+$", recipe, re.MULTILINE):
        for name in names.split():
            if (servers.ROOT / name).is_dir():
                # Not what was compiled in the checkout: the wheel brings its own.
                shutil.copytree(
                    servers.ROOT / name, source / name, ignore=shutil.ignore_patterns("*.so", "__pycache__")
                )
            else:
                source.mkdir(exist_ok=True)
                shutil.copy(servers.ROOT / name, source / name)
    _pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", str(folder), str(source))
    (wheel,) = folder.glob("*.whl")
    shutil.rmtree(source)
    return wheel


def interpreter(account: process.Account | None) -> str:
    """Return a Python of our version that the user can run; root's own may lie in a home closed to all others."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    found = [shutil.which(name, path=folder) for folder in os.environ["PATH"].split(os.pathsep)]
    for candidate in [os.path.realpath(sys.executable), *filter(None, found)]:
        try:
            subprocess.run(
                [candidate, "-c", "import venv, ensurepip"],
                cwd="/",
                env=_clean(),
                user=account.uid if account else None,
                capture_output=True,
                check=True,
                timeout=30,
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        return candidate
    pytest.skip(f"no {name} on this machine can be run by another user than root")


def _pip(python: str | pathlib.Path, *args: str) -> None:
    command: Sequence[str] = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", *args]
    done = subprocess.run(command, cwd="/", env=_clean(), capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr


def _clean() -> dict[str, str]:
    """Return an environment with nothing of the checkout, nor of the product."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HAL9_", "PYTHON", "VIRTUAL"))}
    return kept | {watchdog.VARIABLE: os.environ[watchdog.VARIABLE]}


@pytest.fixture(scope="module")
def place(server_session: servers.Session) -> Iterator[Place]:
    account = process.server_account()
    folder = server_session.folder / "by hand"
    home = folder / "a home"
    home.mkdir(parents=True)
    command = [interpreter(account), "-m", "venv", str(folder / ".venv")]
    subprocess.run(command, check=True, timeout=120, env=_clean())
    constraints = servers.ROOT / "constraints.txt"
    _pip(folder / ".venv/bin/python", "install", "-c", str(constraints), str(built(folder)))
    for owned in (folder, home):
        os.chmod(owned, 0o755)
        if account:
            os.chown(owned, account.uid, account.gid)
    env = _clean() | {"HOME": str(home), "TMPDIR": "/tmp"}
    env.pop("XDG_DATA_HOME", None)
    made = Place(folder=folder, account=account, env=env)
    yield made
    made.run(". .venv/bin/activate; hal9-migrate stack down")


def test_the_wheel_holds_every_program(place: Place) -> None:
    code = "import hal9mig, pathlib; print(pathlib.Path(hal9mig.__file__).is_relative_to(pathlib.Path.cwd()))"
    assert place.done(f'.venv/bin/python -c "{code}"') == "True\n"
    for missing in ("pytest", "mypy", "Cython"):
        assert "No module named" in place.run(f".venv/bin/python -c 'import {missing}'").stderr
    place.done(".venv/bin/python -m pip check")


def test_the_processes_of_another_host_start_by_themselves(place: Place) -> None:
    urls = {f"HAL9_{name}_URL": f"postgresql://nobody@127.0.0.1:1/{name}" for name in ("FLAT", "HIER")}
    urls |= {"HAL9_REDIS_URL": "redis://127.0.0.1:1/0", "HAL9_FLOWER_AUTH": "a:b"}
    other = dataclasses.replace(place, env=place.env | urls)
    for words in ("-A workers.app worker --help", "-A beat.app beat --help", "-A workers.app flower --help"):
        other.done(f". .venv/bin/activate\ncelery {words}")
    # The transport is imported when a broker is named, and not before.
    other.done(". .venv/bin/activate\npython -c 'import kombu.transport.redis, workers.tasks, beat.app'")


def test_every_line_by_hand_works_as_an_ordinary_user(place: Place) -> None:
    port = process.free_port()
    # Found by its relative name, by the command and by the daemon that has left this folder.
    config = place.folder / "hal9-migrate.toml"
    other = process.free_port()
    config.write_text(f"[stack]\nworkers = 1\nflower_port = {port}\n[dashboard]\nport = {other}\n", encoding="utf-8")
    activate, *lines = by_hand()
    assert lines[0].startswith("hal9-migrate stack up --detach")
    assert lines[-1].startswith("hal9-migrate stack down")
    assert sum(SCALE[0] in line for line in lines) == 1
    for line in lines[:-1]:
        place.done(f"{activate}\n{line.replace(*SCALE)}")

    # What the commands use is the stack's: its folders, though nothing names them.
    shown = place.done(f"{activate}\nhal9-migrate configure show --origin")
    assert re.search(r"^log\.dir\s.*/a home/.*\sstack\s", shown, re.MULTILINE), shown
    assert list((place.folder / "a home").rglob("reconciliation.log"))
    assert (place.folder / "consistency.json").stat().st_size > 100

    login = re.search(
        r"^Flower's login: (\S+)$", place.done(f"{activate}\nhal9-migrate stack status --show-login"), re.M
    )
    assert login
    assert "worker1@" in flower(port, login[1])
    # Its templates and its style came with the wheel.
    with urllib.request.urlopen(f"http://{process.LOOPBACK}:{other}/", timeout=30) as answer:
        assert "neuron-states" in answer.read().decode()
    url = 'HAL9_REDIS_URL=$(python -c "from hal9mig import settings; print(settings.load(environ={}).redis_url)")'
    answer = place.done(f"{activate}\nexport {url}\ncelery -A workers.app inspect ping --timeout 10")
    assert "1 node online" in answer

    place.done(f"{activate}\n{lines[-1]}")
    assert "not running" in place.run(f"{activate}\nhal9-migrate stack status").stdout


def flower(port: int, login: str) -> str:
    """Return what Flower says of its workers."""
    connection = http.client.HTTPConnection(process.LOOPBACK, port, timeout=30)
    try:
        token = base64.b64encode(login.encode()).decode()
        connection.request("GET", "/workers?json=1", headers={"Authorization": f"Basic {token}"})
        answer = connection.getresponse()
        text = answer.read().decode()
        assert answer.status == 200, text
        return text
    finally:
        connection.close()
