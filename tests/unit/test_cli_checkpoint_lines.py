"""Lines about checkpoints: which are understood, which are refused and why, and what completes them."""

from __future__ import annotations

import pathlib
import shlex

import pytest

from tests.unit.commandline import CommandLine, parse


class TestParser:
    """The runbook's lines, and what contradicts itself."""

    @pytest.mark.parametrize(
        "line",
        [
            'state checkpoint --name "pre-state-migration-20250114-080000" --full-backup --verify',
            'state checkpoint --name "post-state-migration-1" --description "State migration completed"',
            "state export-manifest --checkpoint latest --output state-manifest.json",
            "neurons snapshot --pre-migration",
            'state rollback --to-checkpoint "pre-state-migration-TIMESTAMP" --force',
            "state rollback --category neuron-states --to-checkpoint latest --preserve-others",
            "state recover --from-backup --validate-each --quarantine-corrupted",
            "state recover --from-backup=before --category neuron-states --dry-run",
            "state list-checkpoints --json",
            "state checkpoint --delete before --yes",
        ],
    )
    def test_a_line_is_understood(self, line: str) -> None:
        parse(line)

    @pytest.mark.parametrize(
        ("line", "text"),
        [
            ("state recover --from-backup --validate-each", "latest"),
            ("state recover --validate-each --from-backup", "latest"),
            ("state recover --from-backup before --validate-each", "before"),
        ],
    )
    def test_a_backup_may_be_named_or_not(self, line: str, text: str) -> None:
        params = parse(line).params
        assert (params["text"], params["validate_each"]) == (text, True)

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            *(
                (f"state checkpoint --delete before {flag}", ["--delete", flag.split()[0], "exclude each other"])
                for flag in (
                    "--name x", "--name ''", "--description ''", "--full-backup", "--verify", "--category metadata",
                    "--rate-limit off", "--dry-run", "--detach", "--timeout 1m",
                )
            ),
            ("state checkpoint --detach --timeout 1m", ["--detach", "--timeout"]),
            ("state checkpoint --dry-run --detach", ["--dry-run", "--detach"]),
            ("state checkpoint --dry-run --timeout 1m", ["--dry-run", "--timeout"]),
            ("state checkpoint --name ''", ["''", "name"]),
            ("state checkpoint --name ../elsewhere", ["'../elsewhere'", "name"]),
            ("state checkpoint --name two/parts", ["'two/parts'"]),
            ("state checkpoint --name latest", ["'latest'", "newest"]),
            ("state checkpoint --name before --category nothing", ["'nothing'"]),
            ("state checkpoint --rate-limit fast", ["--rate-limit", "'fast'"]),
            ("state checkpoint --delete ''", ["--delete", "empty name"]),
            ("neurons snapshot --dry-run --detach", ["--dry-run", "--detach"]),
            ("neurons snapshot --name ''", ["''"]),
            ("state rollback", ["--to-checkpoint"]),
            ("state rollback --force", ["--to-checkpoint"]),
            # What a script sends whose variable is not set.
            ("state rollback --to-checkpoint '' --force", ["--to-checkpoint", "empty name"]),
            ("state rollback --to-checkpoint ' ' --force", ["--to-checkpoint", "empty name"]),
            ("state rollback --to-checkpoint before --preserve-others", ["--preserve-others", "no others"]),
            ("state rollback --to-checkpoint before --preserve-others --category all", ["no others"]),
            ("state rollback --to-checkpoint before --category nothing", ["'nothing'"]),
            ("state rollback --to-checkpoint before --detach --timeout 1m", ["--detach", "--timeout"]),
            ("state rollback --to-checkpoint before --detach --dry-run", ["--detach", "--dry-run"]),
            ("state recover", ["--from-backup"]),
            ("state recover --from-backup ''", ["--from-backup", "empty name"]),
            ("state export-manifest --checkpoint latest", ["--output"]),
            ("state export-manifest --output x.json", ["--checkpoint"]),
            ("state export-manifest --checkpoint latest --output .", ["--output", "directory"]),
        ],
    )  # fmt: skip
    def test_a_bad_line_is_refused_with_its_reason(self, line: str, words: list[str], command: CommandLine) -> None:
        told = command(*shlex.split(line))
        assert (told.exit_code, told.out) == (2, ""), told.err
        for word in words:
            assert word in told.err.splitlines()[0]

    @pytest.mark.parametrize(
        "line",
        [
            "state checkpoint --name before", "state checkpoint --dry-run", "state list-checkpoints",
            "neurons snapshot", "state rollback --to-checkpoint before --force", "state recover --from-backup --yes",
        ],
    )  # fmt: skip
    def test_without_servers_it_says_how_to_get_them(self, line: str, command: CommandLine) -> None:
        told = command(*shlex.split(line))
        assert (told.exit_code, told.out) == (5, "")
        assert "hint: hal9-migrate stack up --detach" in told.err

    @pytest.mark.parametrize(
        ("line", "candidates"),
        [
            ("state rollback --to-checkpoint ", ["latest", "neurons-1", "pre-1", "pre-2"]),
            ("state rollback --to-checkpoint pre", ["pre-1", "pre-2"]),
            ("state recover --from-backup n", ["neurons-1"]),
            # The newest of all is nothing to delete by mistake.
            ("state checkpoint --delete ", ["neurons-1", "pre-1", "pre-2"]),
        ],
    )
    def test_completion_of_names(
        self, line: str, candidates: list[str], command: CommandLine, tmp_path: pathlib.Path
    ) -> None:
        for name in ("pre-1", "pre-2", "neurons-1"):
            (tmp_path / "data" / "checkpoints" / name).mkdir(parents=True)
        assert command.completions(line) == candidates

    def test_a_storage_without_a_driver_completes_to_nothing(
        self, command: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HAL9_CHECKPOINT_URL", "nosuch://bucket/place")
        assert command.completions("state checkpoint --delete ") == []
