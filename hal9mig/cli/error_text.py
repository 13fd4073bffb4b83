"""What goes wrong, as the error that people and programs are shown."""

from __future__ import annotations

import click

from hal9mig import errors
from hal9mig.cli.invocation import PROGRAM
from hal9mig.engine import foreign_errors


def translated(error: BaseException) -> errors.HAL9Error:
    """Return the error of ours that says what an exception means."""
    if isinstance(error, errors.HAL9Error):
        return error
    if isinstance(error, click.ClickException):
        return _usage(error)
    if isinstance(error, click.Abort):
        return errors.Interrupted("Interrupted.", hint="")
    if isinstance(error, KeyboardInterrupt):
        # It may have come right after something was ordered, and before that was said.
        return errors.Interrupted("Interrupted.", hint="what was ordered goes on: hal9-migrate runs list --active")
    return foreign_errors.translated(error) or errors.HAL9Error(
        f"This ought not to happen: {type(error).__name__}: {' '.join(str(error).split()) or 'no message'}",
        hint="run it again with --debug, and report what it prints",
    )


def lines(error: errors.HAL9Error) -> list[str]:
    """Return an error as lines of talk: what, where, and what to do."""
    found = [f"error: {error.message}"]
    if error.context:
        found.append("  where: " + " ".join(f"{name}={value}" for name, value in error.context.items()))
    if error.hint:
        found.append(f"  hint: {error.hint}")
    return found


def _usage(error: click.ClickException) -> errors.HAL9Error:
    message = " ".join(error.format_message().split())
    if isinstance(error, click.UsageError):
        context = error.ctx
        path = context.command_path if context is not None else PROGRAM
        if isinstance(error, click.exceptions.NoArgsIsHelpError):
            message = f"{path} needs a command."
        return errors.UsageError(_sentence(message), hint=f"{path} --help")
    return errors.UsageError(_sentence(message))


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!", ")")) else f"{text}."
