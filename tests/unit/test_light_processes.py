"""What a worker and a beat load, and what a worker's two processes go on sharing."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

_URLS = {
    "HAL9_FLAT_URL": "postgresql://nobody@127.0.0.1:1/flat",
    "HAL9_HIER_URL": "postgresql://nobody@127.0.0.1:1/hier",
    "HAL9_REDIS_URL": "redis://127.0.0.1:1/0",
}


def _run(script: str) -> tuple[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("HAL9_")}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False, env=env | _URLS
    )
    return done.stdout, done.stderr.strip()


def test_a_worker_and_a_beat_load_no_page_and_no_shell() -> None:
    script = """
import sys
import beat.__main__, beat.app, beat.scheduler, workers.__main__, workers.app, celery.apps.beat, celery.apps.worker
workers.app.app.loader.import_default_modules()
loaded = {name.partition('.')[0] for name in sys.modules}
sys.exit(str(loaded & {'alembic', 'flower', 'matplotlib', 'prompt_toolkit', 'pyarrow', 'rich', 'sqlalchemy', 'tornado'}
             or ''))
"""
    assert _run(script) == ("", "")


@pytest.mark.parametrize("module", ["workers", "beat"])
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 5, "error: No address is known for the queue"),
        (["--help"], 0, ""),
        (["--unheard-of"], 2, "unrecognized arguments: --unheard-of"),
    ],
)
def test_one_that_cannot_start_says_why(
    module: str, words: list[str], code: int, said: str, tmp_path: pathlib.Path
) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("HAL9_")}
    done = subprocess.run(
        [sys.executable, "-m", module, *words], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
        env=env | {"HAL9_DATA_DIR": str(tmp_path)},
    )  # fmt: skip
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert said in done.stderr
    assert bool(done.stdout) == (words == ["--help"])


def test_what_is_there_before_the_fork_is_collected_no_more() -> None:
    script = """
import gc, sys
from celery import signals
from workers import bootstrap
signals.worker_before_create_process.send(sender=None)
sys.exit('' if gc.get_freeze_count() > 10_000 else str(gc.get_freeze_count()))
"""
    assert _run(script) == ("", "")
