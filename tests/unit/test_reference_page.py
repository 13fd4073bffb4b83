"""The reference says what the code says: commands, settings, tuned values, errors.

After a change on purpose: ``python -m tests.unit.test_reference_page`` writes docs/reference.md anew.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

from hal9mig import errors, settings
from hal9mig.cli import main
from hal9mig.ledger import tuning
from tests.support.servers import ROOT
from tests.unit import commandline

PAGE = ROOT / "docs" / "reference.md"


def page() -> str:
    """Return the page."""
    return "\n".join([*_head(), *_commands(), *_settings(), *_tuning(), *_errors()]) + "\n"


def _head() -> Iterator[str]:
    yield "# Reference"
    yield ""
    yield "Every command, setting, tuned value and error. Written by the code itself, and held to it by a test."
    yield ""
    for name in ("Commands", "Settings", "Tuned values", "Errors"):
        yield f"- [{name}](#{name.lower().replace(' ', '-')})"


def _commands() -> Iterator[str]:
    yield from ("", "## Commands", "", "On each command: `--json` gives one document on stdout, `--debug` a traceback.")
    known = commandline.commands()
    for path, command in known.items():
        if isinstance(command, click.Group):
            if not path:
                yield from ("", "Before the command, for all of them:")
                yield from _options(path, command)
            continue
        name = f"{main.PROGRAM} {path}"
        yield from ("", f"### {name}", "")
        pieces = [piece for piece in command.collect_usage_pieces(commandline.context_of(path)) if piece != "[OPTIONS]"]
        told, _, examples = inspect.cleandoc(command.help or "").partition("\b\nExamples:")
        yield from (re.sub(r"\s*\n(?!\n)", "\n", told.replace("\b\n", "")).strip(), "", "```sh")
        if pieces:
            yield f"# {name} {' '.join(pieces)}"
        yield from (line.strip() for line in examples.splitlines() if line.strip())
        yield "```"
        yield from _options(path, command)


def _options(path: str, command: click.Command) -> Iterator[str]:
    context = commandline.context_of(path)
    rows = [
        record for one in command.params
        if isinstance(one, click.Option) and not {"--json", "--debug", "--help"}.intersection(one.opts)
        and (record := one.get_help_record(context)) is not None
    ]  # fmt: skip
    if rows:
        yield from ("", "| option | |", "|---|---|")
        yield from (f"| `{_cell(flags)}` | {_cell(text)} |" for flags, text in rows)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _settings() -> Iterator[str]:
    yield from (
        "", "## Settings", "",
        "Where servers and folders are. A flag wins over the variable, that over `--config` or `./hal9-migrate.toml`,",
        "that over `/etc/hal9/migrate.toml`, that over what a running stack wrote down, that over the default.",
        "`hal9-migrate configure show --origin` says who won. A key's part before the dot is its table in the file.",
        "", "| key | variable | default | |", "|---|---|---|---|",
    )  # fmt: skip
    for one in settings.SETTINGS:
        default = "" if one.default in (None, ()) else one.default
        shown = ",".join(default) if isinstance(default, tuple) else str(default)
        variable = f"`{one.env}`" if one.env else ""
        told = _cell(one.help) + (" (a secret: never shown)" if one.secret else "")
        yield f"| `{one.key}` | {variable} | {f'`{shown}`' if shown else ''} | {told} |"


def _tuning() -> Iterator[str]:
    yield from (
        "", "## Tuned values", "",
        "How work is done; kept in the ledger, in force for all workers at the next batch.", "",
        "| value | default | set by | |", "|---|---|---|---|",
    )  # fmt: skip
    for one in tuning.KNOBS:
        yield f"| `{one.name}` | `{one.default}` | `configure {one.group} --{one.name}` | {_cell(one.help)} |"


def _errors() -> Iterator[str]:
    yield from (
        "", "## Errors", "",
        "With `--json` an error is a document with `error.code`, `error.message`, `error.hint` and `error.exit_code`.",
        "Exit codes: `hal9-migrate help exit-codes`.", "", "| code | exit code | |", "|---|---|---|",
    )  # fmt: skip
    for one in sorted(_tree(errors.HAL9Error), key=lambda found: found.code):
        yield f"| `{one.code}` | {one.exit_code} | {_cell((one.__doc__ or '').partition(chr(10) * 2)[0])} |"


def _tree(kind: type[errors.HAL9Error]) -> Iterator[type[errors.HAL9Error]]:
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from _tree(below)


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write it anew: python -m tests.unit.test_reference_page"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
