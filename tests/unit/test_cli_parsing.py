"""What the parser takes, and what it refuses with a reason before anything is touched."""

from __future__ import annotations

import shlex
import subprocess
import sys

import click
import pytest

from tests.unit.commandline import CommandLine, commands, parse

GOOD = [
    # As the runbook writes them.
    "state verify --deep --compare flat,hierarchical --report consistency-report.json",
    "configure state-migration --batch-size 1000 --rate-limit 100/s --parallel-workers 4 --validation-mode strict",
    'state migrate --category user-sessions --filter "active=true" --priority high',
    "state progress --category user-sessions",
    'state migrate --category user-sessions --filter "active=false" --batch-mode --low-priority',
    'state migrate --category neuron-states --filter "layer=substrate" --validate-each --checkpoint-interval 1000',
    "state migrate --category configuration --atomic --verify-each",
    "state migrate --category metadata --type metrics,logs,traces",
    "state migrate --category metadata --type audit --preserve-order",
    "state verify --all-categories --checksums --cross-reference",
    "state status",
    "state diff --systems flat,hierarchical --verbose",
    "configure state-migration --rate-limit 50/s --parallel-workers 2",
    "state stats --resources",
    # And the other spellings of a selection.
    "state migrate --categories all --dry-run",
    "state migrate --category user-sessions,neuron-states --category metadata --detach",
    "state migrate --all-categories --timeout 30m",
    "state progress --watch",
    "state progress --watch=2s",
    "state verify --systems hierarchical,flat",
    "state diff --jsonl --limit 10",
    "--json state status",
    "--color never --yes --debug runs list",
    "runs show 7 --watch --timeout 1h",
    "runs pause 7",
    "quarantine retry --all --category neuron-states",
    "quarantine drop 1 2 3 --yes",
    "configure show --origin",
    "db upgrade --dry-run",
    "completion zsh",
    "help exit-codes",
    "stack up --detach",
    "sample-data load --scale 0.01",
    "benchmark --sla 0ms",
    "learning verify-gradients --relative 0 --absolute 1e30 --seed 0",
]


@pytest.mark.parametrize("line", GOOD)
def test_a_line_is_understood(line: str) -> None:
    parse(line)


def test_aliases_mean_the_same() -> None:
    one = parse("state migrate --category user-sessions --validate-each").params
    other = parse("state migrate --categories user-sessions --verify-each").params
    assert one == other


BAD = [
    # The line, words the message has, words the hint has.
    ("state migrate --category user-sesions", ["'user-sesions'", "Did you mean user-sessions?"], ["neuron-states"]),
    ("state progress --category nothing", ["'nothing'"], ["metadata"]),
    ("state migrate", ["Which category"], ["--category all"]),
    ("state migrate --category ,", ["empty name"], []),
    ("state migrate --category user-sessions --filter colour=red", ["'colour'"], ["active", "user_id"]),
    ("state migrate --category user-sessions --filter active", ["'active'"], ["field op value"]),
    ("state migrate --category user-sessions,metadata --filter active=true", ["metadata", "'active'"], ["type"]),
    ("state migrate --category user-sessions --priority high --low-priority", ["--low-priority", "one priority"], []),
    ("state migrate --category user-sessions --batch-mode --validate-each", ["--batch-mode", "each record"], []),
    ("state migrate --category user-sessions --batch-mode --atomic", ["--batch-mode", "single"], []),
    ("state migrate --category configuration --batch-mode", ["configuration", "one transaction"], []),
    ("state migrate --category user-sessions --validate-each --validation-mode off", ["--validation-mode off"], []),
    ("state migrate --category user-sessions --type audit", ["--type", "user-sessions"], []),
    ("state migrate --category metadata --dry-run --detach", ["--dry-run", "--detach"], []),
    ("state migrate --category metadata --dry-run --timeout 1m", ["--dry-run", "--timeout"], []),
    ("state migrate --category metadata --detach --timeout 1m", ["--detach", "--timeout"], []),
    ("state migrate --category metadata --batch-size 0", ["--batch-size", "'0'"], ["1000"]),
    ("state migrate --category metadata --batch-size -5", ["--batch-size", "'-5'"], ["1000"]),
    ("state migrate --category metadata --checkpoint-interval 1.5", ["--checkpoint-interval", "'1.5'"], []),
    ("state migrate --category metadata --rate-limit 0/s", ["--rate-limit", "'0/s'"], ["100/s"]),
    ("state migrate --category metadata --rate-limit 100/d", ["--rate-limit", "'100/d'"], ["100batches/s"]),
    ("state migrate --category metadata --timeout 0s", ["--timeout", "'0s'"], ["30s"]),
    ("state migrate --category metadata --validation-mode most", ["--validation-mode", "'most'"], ["sample:0.1"]),
    ("state migrate --category metadata --priority urgent", ["--priority", "'urgent'"], ["--help"]),
    ("configure state-migration --batch-size 0", ["--batch-size"], []),
    ("configure state-migration --parallel-workers -1", ["--parallel-workers"], []),
    ("configure state-migration --batch-bytes 1parsec", ["--batch-bytes"], ["64KiB"]),
    ("state verify --compare flat", ["--compare", "two different stores"], ["flat,hierarchical"]),
    ("state verify --compare flat,flat", ["two different stores"], []),
    ("state diff --systems flat,cloud", ["'cloud'"], ["hierarchical"]),
    ("state migrate --catgory metadata", ["--catgory", "--category"], ["--help"]),
    ("state migrate --rat 5/s", ["--rat"], ["--help"]),
    ("state migrat", ["'migrat'", "Did you mean migrate?"], ["hal9-migrate state --help"]),
    ("stat status", ["'stat'", "state"], ["hal9-migrate --help"]),
    ("runs show", ["RUN"], ["--help"]),
    ("runs show seven", ["'seven'"], ["runs list"]),
    ("runs show 1 2", ["unexpected extra argument"], []),
    ("quarantine retry", ["--all"], ["quarantine retry ID"]),
    ("quarantine retry 1 --all", ["--all"], []),
    ("quarantine retry 1 --category metadata", ["--category"], []),
    ("quarantine drop 0", ["0"], []),
    ("quarantine show 9223372036854775808", ["9223372036854775808"], []),
    ("completion tcsh", ["'tcsh'"], []),
    ("state progress --watch=never", ["--watch", "'never'"], []),
    ("state progress --watch=999999999999d", ["--watch", "at most 3650d"], ["30s"]),
    ("learning test --noise nan", ["'--noise'", "no number"], ["--help"]),
    ("learning verify-gradients --absolute inf", ["'--absolute'", "no number"], ["--help"]),
    ("state validate --seed 99999999999999999999999", ["'--seed'", "2147483647"], ["--help"]),
    ("plan", ["--rehearse"], []),
    ("plan --rehearse --sample 0", ["--sample"], []),
    ("configure state-migration --rate-limit 5/week", ["--rate-limit", "'5/week'"], ["100/s"]),
    ("configure state-migration --validation-mode sample:0", ["--validation-mode", "'sample:0'"], ["sample:0.1"]),
    ("neurons verify", ["--layer"], ["--help"]),
    ("neurons validate-connections --dry-run", ["--dry-run is for --fix-orphaned"], []),
    ("neurons test-signals --samples 0", ["--samples"], []),
    ("ux-test --sample-users 0", ["--sample-users"], ["1000"]),
    ("benchmark --operations fly", ["'fly'"], ["read, write, update"]),
    ("benchmark --operations ,", ["','"], ["read, write, update"]),
    ("benchmark --rounds 2", ["--rounds", "5<=x<=1000"], ["--help"]),
    ("benchmark --plot x.jpg", [".jpg"], [".svg"]),
    ("benchmark --categories none", ["'none'"], ["metadata"]),
    ("benchmark --sla soon", ["--sla", "'soon'"], ["30s"]),
    ("config export --output x", ["--all", "--key"], ["config export --all"]),
    ("config export --all --key a --output x", ["--all", "--key"], []),
    ("config compare --system1 flat --system2 flat", ["same store"], ["--system2 hierarchical"]),
    ("config test-reload --changes 0", ["--changes"], ["--help"]),
    ("config test-reload --within 0s", ["--within", "'0s'"], ["30s"]),
    ("monitor", ["--phase"], ["post-state-migration"]),
    ("monitor --phase canary", ["'canary'"], ["post-state-migration"]),
    ("monitor --phase post-state-migration --duration 0s", ["--duration", "'0s'"], ["30s"]),
    ("monitor --phase post-state-migration --detach --stop", ["--detach", "--stop", "exclude each other"], []),
    ("attest nonsense", ["'nonsense'"], ["backup"]),
    ("validate", ["--phase"], ["--help"]),
    ("phase complete state-migration --force", ["--force and --reason"], ["--reason"]),
    ("report --phase state-migration", ["--output"], ["--help"]),
    ("report --phase state-migration --output x.docx", ["'.docx'"], [".pdf, .html, .md, .json"]),
    ("state validate --category metadata --tests speed", ["'speed'"], ["continuity,integrity,performance"]),
    ("state validate --category metadata --sample 0", ["--sample", "'0'"], ["1000"]),
    ("state validate --category metadata --failed-only --fix-and-retry", ["--failed-only", "--fix-and-retry"], []),
    ("reconcile --fix-mode auto", ["pass over everything"], ["reconcile --full"]),
    ("configure reconciliation --auto-fix perhaps", ["--auto-fix", "'perhaps'"], ["true or false"]),
    ("configure reconciliation --share 0", ["--share", "'0'"], ["10%"]),
    ("state fix", ["--auto or --interactive"], ["--safe-only"]),
    ("state fix --auto --interactive", ["--auto or --interactive"], []),
    ("state fix --safe-only --interactive", ["--safe-only is for --auto"], []),
    ("state fix --auto --guidance", ["--guidance is for --interactive"], []),
    ("mode migration", ["--enable or --disable-dual-write"], ["--help"]),
    ("mode migration --enable --disable-dual-write", ["--enable or --disable-dual-write"], ["--help"]),
    ("mode nonsense", ["'nonsense'"], ["mode --help"]),
    ("learning export", ["--output"], ["--help"]),
    ("learning export --output a --system hierarchical", ["exported from the flat store"], ["--system flat"]),
    ("learning export --output a --format parquet", ["'parquet'"], ["--help"]),
    ("learning transform --input a --output b --dry-run --detach", ["--dry-run and --detach exclude each other"], []),
    ("learning import --input a --system flat", ["into the hierarchical store"], ["--system hierarchical"]),
    ("learning import --input a --batch-size none", ["--batch-size", "'none'"], ["1000"]),
    ("--config nowhere.toml state status", ["nowhere.toml"], []),
]


def test_an_option_without_its_value_leads_to_the_help_of_its_command(command: CommandLine) -> None:
    tried = 0
    for path, one in commands().items():
        for option in one.params:
            if (
                path
                and isinstance(option, click.Option)
                and not option.is_flag
                and not isinstance(option.flag_value, str)
            ):
                told = command(*path.split(), option.opts[0])
                assert told.exit_code == 2
                assert told.err.splitlines()[-1] == f"  hint: hal9-migrate {path} --help", told.err
                tried += 1
    assert tried > 100


@pytest.mark.parametrize(("line", "message", "hint"), BAD)
def test_a_bad_line_is_refused_with_its_reason(
    line: str, message: list[str], hint: list[str], command: CommandLine
) -> None:
    words = shlex.split(line)
    told = command(*words)
    assert told.exit_code == 2, told.err
    assert told.out == ""
    first, *rest = told.err.splitlines()
    assert first.startswith("error: ")
    for word in message:
        assert word in first
    for word in hint:
        assert any(word in other for other in rest if other.startswith("  hint: ")), told.err

    written = command("--json", *words)
    assert (written.exit_code, written.err) == (2, "")
    assert written.document["schema"] == 1
    error = written.document["error"]
    assert f"error: {error['message']}" == first
    assert error["exit_code"] == 2
    assert error["code"]
    assert set(error) == {"code", "message", "hint", "context", "exit_code"}


#: What is understood and cannot be done, whatever there is in the stores: the line, and words of the message.
REFUSED = [
    ("phase complete canary", "no phase 'canary'"),
    ("phase show nonsense", "no phase 'nonsense'"),
    ("validate --phase nonsense", "no phase 'nonsense'"),
    ("neurons group --output nowhere/groups.json", "nowhere"),
    ("config export --all --output nowhere/x", "nothing was exported"),
    ("report --phase state-migration --output nowhere/x.pdf", "nothing was written"),
    ("state verify --report nowhere/report.json", "nothing was compared"),
    ("reconcile --full --report nowhere/report.json", "nothing was compared"),
    ("reconcile --full --fix-mode ask", "no terminal to ask on"),
    ("state fix --interactive --guidance", "no terminal to ask on"),
]


@pytest.mark.parametrize(("line", "words"), REFUSED)
def test_what_cannot_be_is_refused_before_a_server_is_looked_for(line: str, words: str, command: CommandLine) -> None:
    told = command(*shlex.split(line))
    assert (told.exit_code, told.out) == (4, ""), told.err
    assert words in told.err.splitlines()[0]
    assert "\n  hint: " in told.err


@pytest.mark.parametrize("line", ["state diff --jsonl", "mode migration --enable --disable-dual-write"])
def test_flags_that_exclude_each_other_have_a_code_for_programs(line: str, command: CommandLine) -> None:
    assert command(*line.split(), "--json").document["error"]["code"] == "CONFLICTING_FLAGS"


def test_a_group_without_a_command_shows_its_help(command: CommandLine) -> None:
    told = command("runs")
    assert told.exit_code == 2
    assert "Usage: hal9-migrate runs" in told.err
    assert command("--json", "runs").document["error"]["message"] == "hal9-migrate runs needs a command."


def test_without_servers_it_says_how_to_get_them(command: CommandLine) -> None:
    told = command("state", "status")
    assert told.exit_code == 5
    assert "hint: hal9-migrate stack up --detach" in told.err


def test_version_and_exit_codes(command: CommandLine) -> None:
    told = command("--version")
    assert told.exit_code == 0
    assert told.out.startswith("hal9-migrate ")
    lines = command("help", "exit-codes").out.splitlines()
    assert lines[0] == "CODE\tMEANING"
    assert [line.partition("\t")[0] for line in lines[1:]] == ["0", "1", "2", "3", "4", "5", "124", "130"]
    assert command("--json", "help", "exit-codes").document["exit_codes"]["4"] == "refused; nothing was changed"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str, command: CommandLine) -> None:
    told = command("completion", shell)
    assert told.exit_code == 0
    assert f"_HAL9_MIGRATE_COMPLETE={shell}_complete" in told.out


@pytest.mark.parametrize(
    ("line", "candidates"),
    [
        ("state mig", ["migrate"]),
        ("state migrate --category neuron", ["neuron-states"]),
        ("state migrate --category user-sessions,met", ["user-sessions,metadata"]),
        # No ledger can be asked here, and a completion is no place to say so.
        ("runs show ", []),
    ],
)
def test_completion(line: str, candidates: list[str], command: CommandLine) -> None:
    assert command.completions(line) == candidates


def test_commands_that_ask_how_it_is_load_no_client_of_the_queue() -> None:
    script = """
import sys
from hal9mig.cli.commands import mode, state_stats
from hal9mig.engine import standstill, system
from hal9mig.engine.switch import switch
from hal9mig.queue import broker
loaded = {name.partition('.')[0] for name in sys.modules}
sys.exit(str(loaded & {'asyncio', 'celery', 'kombu', 'redis', 'throttled'} or ''))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr.strip()) == ("", "")


def test_plain_commands_load_neither_celery_nor_alembic_nor_tornado() -> None:
    script = """
import sys
from hal9mig.cli import invocation
from hal9mig.cli.commands import dashboard, runs, state_progress, state_status
from hal9mig.ledger import quarantine, tuning
from hal9mig.stores import connection, schema, store_size
assert invocation.Invocation().registry.ordered()
loaded = {name.partition('.')[0] for name in sys.modules}
sys.exit(str(loaded & {'celery', 'kombu', 'alembic', 'rich', 'throttled', 'tornado'} or ''))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr.strip()) == ("", "")
