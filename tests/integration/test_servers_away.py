"""Each command with a server that does not answer: an error that names it, exit code 5, and nothing half done."""

from __future__ import annotations

import itertools
import pathlib
import shlex
from collections.abc import Iterator

import click
import pytest

from hal9mig import errors
from tests.support import servers
from tests.support.servers import ROOT, Stores
from tests.unit.commandline import CommandLine, commands

#: A line of each command, and the servers that it cannot do without: flat, hierarchical, Redis.
NEEDS = {
    "state migrate --category metadata --detach": "fhr",
    "state progress": "h",
    "state status": "fh",
    "state stats": "h",
    "state verify --category metadata": "fhr",
    "state validate --category metadata": "fh",
    "state diff --category metadata": "fhr",
    "--yes state fix --category metadata --auto": "fhr",
    "state checkpoint --name one --full-backup": "fhr",
    "state list-checkpoints": "",
    "state export-manifest --checkpoint one --output out.json": "",
    "state rollback --to-checkpoint one --force --reason test": "fh",
    "state recover --from-backup one --force --reason test": "fh",
    "neurons snapshot": "fhr",
    "neurons group --by layer --output groups.json": "fh",
    "neurons verify --layer cortex": "fh",
    "neurons validate-connections": "fh",
    "neurons test-signals --samples 10": "fh",
    "learning export --output out": "fhr",
    "learning transform --input out --output out2": "",
    "learning import --input out2": "",
    "learning test": "fh",
    "learning verify-gradients": "fh",
    "config export --all --output out.json": "fh",
    "config compare": "fh",
    "config test-reload --changes 1": "fh",
    "configure reconciliation --interval 30s": "h",
    "configure show": "",
    "configure state-migration --rate-limit 100/s": "h",
    "category list": "",
    "category new bills --source a.b --target c.d --output bills.py": "fh",
    f"category check {shlex.quote(str(ROOT / 'docs' / 'example' / 'orders.py'))}": "fh",
    "mode": "fh",
    "mode flat-only": "fh",
    "mode migration --enable": "fh",
    "mode migration --disable-dual-write": "fh",
    "reconcile": "fh",
    "reconcile --full": "fhr",
    "plan --rehearse": "fhr",
    "validate --phase state-migration --comprehensive": "fhr",
    "ux-test --sample-users 2": "fh",
    "benchmark --operations read --sla 50ms": "fh",
    "phase complete state-migration": "fh",
    "phase list": "fh",
    "phase show state-migration": "fh",
    "monitor --phase post-state-migration --duration 1s": "fh",
    "finish": "fh",
    "report --phase state-migration --output out.md": "h",
    "certificates list": "h",
    "certificates show 1": "h",
    "audit": "h",
    "audit --verify": "h",
    "runs list": "h",
    "runs show 1": "h",
    "runs cancel 1": "h",
    "runs pause 1": "h",
    "runs resume 1": "h",
    "runs retry 1": "h",
    "quarantine list": "h",
    "quarantine show 1": "h",
    "quarantine drop 1": "h",
    "quarantine retry --all": "h",
    "sample-data load --scale 0.0001": "f",
    "sample-data traffic --duration 1s": "f",
    "db check": "fh",
    "db upgrade": "fh",
    "db grants": "fh",
}
_NAMES = {"f": "HAL9_FLAT_URL", "h": "HAL9_HIER_URL", "r": "HAL9_REDIS_URL"}
_NOBODY = {
    "f": "postgresql://hal9:geheim@127.0.0.1:1/flat",
    "h": "postgresql://hal9:geheim@127.0.0.1:1/hier",
    "r": "redis://:geheim@127.0.0.1:1/0",
}


@pytest.fixture(scope="module")
def opened(databases: servers.Databases) -> Iterator[Stores]:
    """Stores that the lines of this module share."""
    stores = databases.open()
    yield stores
    databases.close(stores)


@pytest.fixture
def command_line(
    opened: Stores, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> CommandLine:
    made = CommandLine(monkeypatch, capsys, tmp_path)
    given = {"HAL9_FLAT_URL": opened.flat_url, "HAL9_HIER_URL": opened.hier_url, "HAL9_REDIS_URL": opened.redis_url}
    for name, value in (given | {"HAL9_CHECKPOINT_URL": str(tmp_path / "checkpoints")}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HAL9_QUEUE_PREFIX", opened.queue_prefix)
    return made


@pytest.mark.parametrize("away", _NAMES)
@pytest.mark.parametrize(("line", "needed"), NEEDS.items())
def test_it_says_what_it_cannot_reach(
    line: str, needed: str, away: str, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(_NAMES[away], _NOBODY[away])
    done = command_line("--json", *shlex.split(line))
    assert "geheim" not in done.out + done.err
    if away in needed:
        assert done.exit_code == errors.EXIT_UNREACHABLE
        assert "cannot be reached" in done.document["error"]["message"]
        assert done.document["error"]["hint"]
    else:
        # Done, or refused for another reason: nothing is stored, not even that layer, and no worker is alive.
        assert done.exit_code in (errors.EXIT_OK, errors.EXIT_PROBLEMS, errors.EXIT_REFUSED, errors.EXIT_USAGE)


def test_no_command_is_left_out() -> None:
    named = {
        " ".join(itertools.takewhile(lambda word: word[0] != "-", line.removeprefix("--yes ").split()))
        for line in NEEDS
    }
    apart = {"attest", "completion", "help exit-codes", "plan", "stack up", "stack down", "stack status", "dashboard"}
    apart |= {"sample-data check-traffic"}
    leaves = {path for path, command in commands().items() if not isinstance(command, click.Group)}
    assert {path for path in leaves if not any(name.startswith(path) for name in named)} <= apart
