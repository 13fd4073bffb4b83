"""What a machine lacks for an installation is said all at once, before anything is begun."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys

import pytest

from tests.support.servers import ROOT

SCRIPT = ROOT / "config" / "needs.sh"


@pytest.fixture
def machine(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder with the few commands of a bare machine; nothing else is found."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("awk", "df", "sh"):
        found = shutil.which(name)
        assert found
        (folder / name).symlink_to(found)
    return folder


def told(machine: pathlib.Path, *words: str) -> tuple[int, str]:
    done = subprocess.run(
        [str(machine / "sh"), str(SCRIPT), *words], env={"PATH": str(machine)}, cwd=machine.parent,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr


def put(machine: pathlib.Path, name: str, text: str) -> None:
    (machine / name).write_text(f"#!{machine / 'sh'}\n{text}\n")
    (machine / name).chmod(0o755)


def test_a_machine_that_has_all_of_it(machine: pathlib.Path) -> None:
    put(machine, "cc", "exit 0")
    assert told(machine, sys.executable) == (0, "")


def test_all_that_is_missing_is_said_at_once(machine: pathlib.Path) -> None:
    code, said = told(machine)
    assert code == 1
    assert "python3 is no command here" in said
    assert "a C compiler (Debian and Ubuntu: apt-get install gcc libc6-dev" in said


def test_an_old_python_is_named(machine: pathlib.Path) -> None:
    put(machine, "cc", "exit 0")
    put(machine, "python3", '[ "$1" = -V ] && { echo Python 3.9.2; exit 0; }\nexit 1')
    assert told(machine) == (
        1, "missing: Python 3.11 or newer; python3 is Python 3.9.2, name another one with: make PYTHON=python3.12\n"
    )  # fmt: skip


def test_a_python_without_venv_and_headers(machine: pathlib.Path) -> None:
    put(machine, "cc", "exit 0")
    # New enough, and nothing more.
    put(machine, "python3", 'case "$2" in *version_info*) exit 0;; *) exit 1;; esac')
    code, said = told(machine)
    assert (code, said.count("missing: ")) == (1, 2)
    assert "apt-get install python3-venv" in said
    assert "apt-get install python3-dev" in said


def test_a_full_disk(machine: pathlib.Path) -> None:
    put(machine, "cc", "exit 0")
    (machine / "df").unlink()
    put(machine, "df", "printf 'Filesystem 1024-blocks Used Available\\n/dev/x 9 9 20480\\n'")
    code, said = told(machine, sys.executable)
    assert (code, "20 MB are free" in said) == (1, True)


def test_make_asks_before_it_installs() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert makefile.index("sh config/needs.sh $(PYTHON)") < makefile.index("-m venv $(VENV)")
