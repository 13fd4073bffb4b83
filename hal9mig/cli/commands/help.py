"""``hal9-migrate help``: what is worth looking up."""

from __future__ import annotations

import click

from hal9mig import errors
from hal9mig.cli import invocation, options

_EXIT_CODES = """Print what each exit code means.

\b
Examples:
  hal9-migrate help exit-codes
"""


@click.group("help")
def manual() -> None:
    """Look things up."""


@manual.command("exit-codes", help=_EXIT_CODES)
@options.output
@click.pass_context
def exit_codes(context: click.Context) -> None:
    call = invocation.current(context)
    if not call.json:
        call.console.table(["CODE", "MEANING"], list(errors.EXIT_CODES.items()), numbers=("CODE",))
    call.conclude({"exit_codes": {str(code): meaning for code, meaning in errors.EXIT_CODES.items()}})
