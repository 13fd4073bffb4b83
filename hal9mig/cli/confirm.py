"""Asking before something that cannot be taken back."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from hal9mig import errors, safe_text

if TYPE_CHECKING:
    from hal9mig.cli.invocation import Invocation


def ask(call: Invocation, question: str, *, flag: str = "--yes") -> None:
    """Ask before something that cannot be taken back.

    Raises:
        errors.ConfirmationRequired: there is no terminal to ask on, and ``--yes`` was not given.
        errors.Refused: the answer was no.
    """
    if call.yes:
        return
    if not can_ask():
        raise errors.ConfirmationRequired(
            f"This needs a yes, and there is no terminal to ask on; nothing was changed. {question}",
            hint=f"add {flag}",
        )
    if not click.confirm(safe_text.printable(question), err=True):
        raise errors.Refused("Not confirmed; nothing was changed.", hint="")


def can_ask() -> bool:
    """Whether there is somebody at a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()
