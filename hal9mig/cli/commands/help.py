"""``hal9-migrate help``: what is worth looking up."""

from __future__ import annotations

import click

from hal9mig import errors
from hal9mig.cli import lazy_group, options
from hal9mig.cli.invocation import Invocation, pass_call

#: What each exit code means.
EXIT_CODES: dict[int, str] = {
    errors.EXIT_OK: "done",
    errors.EXIT_FAILED: "failed while working",
    errors.EXIT_USAGE: "the command line is wrong; nothing was changed",
    errors.EXIT_PROBLEMS: "checked, and found problems (differences, quarantined records, something that stands still)",
    errors.EXIT_REFUSED: "refused; nothing was changed",
    errors.EXIT_UNREACHABLE: "a server it needs cannot be reached",
    errors.EXIT_TIMEOUT: "the time limit given with --timeout passed",
    errors.EXIT_INTERRUPTED: "interrupted; work on the workers goes on",
}
_HELP = """Print what each exit code means.

\b
Examples:
  hal9-migrate help exit-codes
"""


@click.group("help", cls=lazy_group.Group)
def manual() -> None:
    """Look things up."""


@manual.command("exit-codes", help=_HELP)
@options.output
@pass_call
def exit_codes(call: Invocation) -> None:
    if not call.json:
        call.console.table(["CODE", "MEANING"], list(EXIT_CODES.items()), numbers=("CODE",))
    call.conclude({"exit_codes": {str(code): meaning for code, meaning in EXIT_CODES.items()}})
