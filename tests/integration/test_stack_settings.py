"""What a running stack writes down is what this machine's commands use."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from hal9mig import settings
from hal9mig.embedded import files, process
from hal9mig.embedded.supervisor import Program, Supervisor
from tests.support import fake_stack, servers, watchdog


class Command:
    """The stack's commands, run in one folder with a stand-in for the workers."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("HAL9_")}
        self.env |= {
            watchdog.VARIABLE: os.environ[watchdog.VARIABLE],
            "PYTHONPATH": str(servers.ROOT),
            "HAL9_DATA_DIR": str(folder / "data"),
            "HAL9_FLOWER_PORT": str(process.free_port()),
            "HAL9_DASHBOARD_PORT": str(process.free_port()),
        }

    def __call__(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, fake_stack.__file__, *args],
            cwd=self.folder,
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def environment(self, name: str) -> dict[str, str]:
        """Return the environment of one of the stack's processes."""
        document = json.loads((self.folder / "data" / settings.STACK_FILE).read_text(encoding="utf-8"))
        (pid,) = [child["pid"] for child in document["children"] if child["name"] == name]
        return psutil.Process(pid).environ()


@pytest.fixture
def command(server_session: servers.Session, request: pytest.FixtureRequest) -> Iterator[Command]:
    # A blank in the name: none of the servers may stumble over it.
    folder = server_session.folder / f"a stack {abs(hash(request.node.name)) % 10**6}"
    folder.mkdir(mode=0o711)
    made = Command(folder)
    yield made
    made("down")


def write(command: Command, text: str) -> None:
    (command.folder / "hal9-migrate.toml").write_text(text, encoding="utf-8")


def test_a_detached_stack_finds_the_settings_file_of_its_folder(command: Command) -> None:
    write(command, "[checkpoints]\nurl = 'kept'\nkeep = 3\n[log]\ndir = 'told'\n[lease]\nduration = '7s'\n")
    result = command("up", "--detach")
    assert result.returncode == 0, result.stderr
    found = command.environment("worker1")
    assert found["HAL9_CONFIG"] == str(command.folder / "hal9-migrate.toml")
    assert found["HAL9_CHECKPOINT_URL"] == str(command.folder / "kept")
    assert found["HAL9_LOG_DIR"] == str(command.folder / "told")
    assert (found["HAL9_CHECKPOINT_KEEP"], found["HAL9_LEASE"]) == ("3", "7s")
    assert settings.load(environ=found).checkpoint_url == str(command.folder / "kept")


def test_a_command_uses_the_folders_of_the_running_stack(command: Command, tmp_path: pathlib.Path) -> None:
    places = {"HAL9_LOG_DIR": str(tmp_path / "told"), "HAL9_CHECKPOINT_URL": str(tmp_path / "kept")}
    more = {"HAL9_QUEUE_PREFIX": "other:", "HAL9_NONCRITICAL": "reports", "HAL9_CHECKPOINT_KEEP": "2"}
    assert command("up", "--detach", **places, **more).returncode == 0

    bare = {"HAL9_DATA_DIR": str(command.folder / "data")}
    found = settings.load(environ=bare)
    assert (found.log_dir, found.checkpoint_url) == (tmp_path / "told", str(tmp_path / "kept"))
    assert (found.queue_prefix, found.noncritical, found.checkpoint_keep) == ("other:", ("reports",), 2)
    assert found.origins["log.dir"] == "stack"
    chosen = settings.load(environ=bare | {"HAL9_LOG_DIR": str(tmp_path / "mine")})
    assert chosen.log_dir == tmp_path / "mine"
    # Who names the same server means the same system, who names another does not.
    same = bare | {"HAL9_REDIS_URL": found.require_redis()}
    assert settings.load(environ=same).log_dir == tmp_path / "told"
    other = settings.load(environ=bare | {"HAL9_REDIS_URL": "redis://other"})
    assert other.log_dir == pathlib.Path("/var/log/hal9")
    assert json.loads(command("status", "--json").stdout)["settings"]["client.noncritical"] == "reports"


def test_a_stack_that_starts_takes_nothing_of_what_an_earlier_one_wrote_down(command: Command) -> None:
    record = command.folder / "data" / settings.STACK_FILE
    record.parent.mkdir()
    left = {"pid": 1, "created": 0.0, "started_at": "", "state": "up", "children": []}
    left["settings"] = {"queue.prefix": "old:", "stores.flat_url": "postgresql://gone"}
    record.write_text(json.dumps(left), encoding="utf-8")
    result = command("up", "--detach")
    assert result.returncode == 0, result.stderr
    assert command.environment("worker1")["HAL9_QUEUE_PREFIX"] == "hal9:"


def test_a_log_is_rotated_while_its_process_writes(tmp_path: pathlib.Path) -> None:
    log = tmp_path / "chatter.log"
    code = "import sys\nprint('ready', flush=True)\nfor line in sys.stdin: print(line, end='', flush=True)"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    program = Program(
        name="chatter",
        command=["sh", "-c", 'exec "$0" -c "$1" <>"$2"', sys.executable, code, str(pipe)],
        env=dict(os.environ),
        log=log,
        cwd=tmp_path,
        is_ready=lambda text: "ready" in text,
    )
    supervisor = Supervisor(say=lambda line: None)
    child = supervisor.add(program)
    try:
        supervisor.wait_ready([child])
        with pipe.open("w") as stream:
            stream.write("x" * files.LOG_CAP + "\n")
        while log.stat().st_size <= files.LOG_CAP:
            assert child.alive()
        supervisor.watch()
        assert log.stat().st_size < files.LOG_CAP
        assert log.with_name("chatter.log.1").stat().st_size > files.LOG_CAP
        with pipe.open("w") as stream:
            stream.write("after\n")
        while "after" not in log.read_text(encoding="utf-8"):
            assert child.alive()
        # Not behind a hole of the size it had.
        assert log.stat().st_size < 1000
    finally:
        supervisor.stop([child])
