"""The entry point: the tree of commands, and every error as text with an exit code."""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import re
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import click

import hal9mig
from hal9mig import errors, traces
from hal9mig.cli import error_text, invocation, lazy_group
from hal9mig.cli.console import Console
from hal9mig.cli.invocation import PROGRAM, Invocation
from hal9mig.engine import foreign_errors

_HELP = """Move live state from a flat to a hierarchical PostgreSQL store, and prove both equal.

\b
Examples:
  hal9-migrate stack up --detach
  hal9-migrate state migrate --category user-sessions
  hal9-migrate state verify
"""
_COMMANDS = {
    "state": "groups:state",
    "neurons": "groups:neurons",
    "learning": "groups:learning",
    "config": "groups:config",
    "configure": "configure:configure",
    "mode": "mode:mode",
    "reconcile": "reconcile:reconcile",
    "plan": "plan:plan",
    "validate": "validate:validate",
    "ux-test": "ux_test:ux_test",
    "benchmark": "benchmark:benchmark",
    "phase": "phase:phase",
    "monitor": "monitor:monitor",
    "dashboard": "dashboard:dashboard",
    "finish": "finish:finish",
    "report": "report:report",
    "attest": "attest:attest",
    "certificates": "certificates:certificates",
    "audit": "audit:audit",
    "runs": "runs:runs",
    "quarantine": "quarantine:quarantine",
    "stack": "stack:stack",
    "sample-data": "sample_data:sample_data",
    "category": "category:category",
    "db": "db:db",
    "completion": "completion:completion",
    "help": "help:manual",
}


def _version(context: click.Context, _: click.Parameter, value: bool) -> None:
    """Print the version and end; with ``--json``, wherever it stands, as a document."""
    if not value or context.resilient_parsing:
        return
    call = invocation.current(context)
    if call.json:
        call.console.document({"program": PROGRAM, "version": hal9mig.__version__})
    else:
        call.console.line(f"{PROGRAM} {hal9mig.__version__}")
    context.exit()


@click.group(cls=lazy_group.LazyGroup, commands_at=_COMMANDS, help=_HELP, context_settings=lazy_group.CONTEXT)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Print the version."
)
@click.option(
    "--config",
    type=click.Path(path_type=pathlib.Path, dir_okay=False),
    metavar="FILE",
    help="Settings file.  [env: HAL9_CONFIG; default: ./hal9-migrate.toml]",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=pathlib.Path, file_okay=False),
    metavar="DIR",
    help="Folder of the embedded servers.  [env: HAL9_DATA_DIR]",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="When to use colour.  [env: NO_COLOR]",
)
@click.option("--yes", is_flag=True, help="Answer every question with yes.")
@click.option("--debug", is_flag=True, help="Print the traceback of an error too.")
@click.pass_context
def cli(
    context: click.Context,
    config: pathlib.Path | None,
    data_dir: pathlib.Path | None,
    as_json: bool,
    color: str,
    yes: bool,
    debug: bool,
) -> None:
    call = invocation.current(context)
    call.config, call.data_dir, call.color = config, data_dir, color
    call.json, call.yes, call.debug = as_json, yes, debug


def run(args: Sequence[str] | None = None) -> NoReturn:
    """Run a command line and exit with its code.

    Args:
        args: without the program's name; by default those of the process.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    _open_streams()
    for stream in (sys.stdout, sys.stderr):
        # A key or an error message may hold what the terminal's encoding cannot.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    call = invocation.Invocation()
    # Asked of the words themselves: --version ends before what stands behind it is read.
    call.json = "--json" in _options(arguments)
    try:
        with traces.span(_named(arguments)):
            code = cli.main(args=arguments, prog_name=PROGRAM, standalone_mode=False, obj=call)
        sys.stdout.flush()
    except BrokenPipeError:
        _close_quietly()
        sys.exit(errors.EXIT_FAILED)
    except SystemExit:
        raise
    except BaseException as error:
        sys.exit(_report(error, arguments, call))
    sys.exit(code if isinstance(code, int) else errors.EXIT_OK)


def _report(error: BaseException, arguments: Sequence[str], call: Invocation) -> int:
    # Asked of the words themselves: a line that cannot be parsed has no options yet.
    options = _options(arguments)
    found = _fitting(error_text.translated(error), call)
    try:
        if "--debug" in options and not isinstance(error, click.ClickException):
            Console().say("".join(traceback.format_exception(error)).rstrip())
        if isinstance(error, click.exceptions.NoArgsIsHelpError) and "--json" not in options:
            Console().say(error.format_message())
        elif "--json" in options:
            Console().document({"error": invocation.described(found)})
        else:
            for line in error_text.lines(found):
                Console().say(line)
        sys.stdout.flush()
    except BrokenPipeError:
        _close_quietly()
    return found.exit_code


def _options(arguments: Sequence[str]) -> Sequence[str]:
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _named(arguments: Sequence[str]) -> str:
    """Return the name of a command without what it was given."""
    words = itertools.takewhile(lambda word: re.fullmatch(r"[a-z][a-z-]*", word), arguments)
    return " ".join([PROGRAM, *itertools.islice(words, 2)])


def _fitting(found: errors.HAL9Error, call: Invocation) -> errors.HAL9Error:
    # Settings that cannot be read have been reported as such.
    with contextlib.suppress(errors.HAL9Error):
        return foreign_errors.fitting(found, call.settings)
    return found


def _open_streams() -> None:
    """Lead what was closed by the caller nowhere: a connection that got its number would be printed to."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def _close_quietly() -> None:
    """Let the interpreter's last flush go nowhere: whoever read our output has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
