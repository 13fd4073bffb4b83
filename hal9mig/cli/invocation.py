"""What the commands of one call share: the global options, the settings, and what is opened for them."""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Concatenate, ParamSpec

import click

from hal9mig import errors, settings
from hal9mig.cli.console import Console

if TYPE_CHECKING:
    # Late: each of these takes its time to load, and no command needs all of them.
    from hal9mig.categories.declaration import Category
    from hal9mig.categories.registry import Registry
    from hal9mig.engine.coordinator import Coordinator
    from hal9mig.engine.system import System
    from hal9mig.ledger.database import Ledger
    from hal9mig.stores.connection import Connection

PROGRAM = "hal9-migrate"
P = ParamSpec("P")


class Invocation:
    """One call of the command line; ``ctx.obj`` everywhere.

    Attributes:
        config, data_dir: ``--config`` and ``--data-dir``, None where not given.
        json, yes, debug, color: the options of these names, wherever on the line they stood.
    """

    def __init__(self) -> None:
        self.config: pathlib.Path | None = None
        self.data_dir: pathlib.Path | None = None
        self.json = False
        self.yes = False
        self.debug = False
        self.color = "auto"

    @functools.cached_property
    def settings(self) -> settings.Settings:
        """The connection plane."""
        flags = {"stack.data_dir": None if self.data_dir is None else str(self.data_dir)}
        return settings.load(flags=flags, config=self.config, environ=os.environ)

    @functools.cached_property
    def console(self) -> Console:
        """Where to print."""
        return Console(color=self.color)

    @functools.cached_property
    def registry(self) -> Registry:
        """Every declared category."""
        from hal9mig.categories import registry

        return registry.load(self.settings.category_files)

    def categories(self, names: Sequence[str]) -> tuple[Category, ...]:
        """Return the categories that an option names; none is all.

        Raises:
            errors.UnknownCategory: a name is no category's.
        """
        return self.registry.select(names)

    @functools.cached_property
    def ledger(self) -> Ledger:
        """The ledger, for commands that only read it."""
        from hal9mig.ledger.database import Ledger

        return Ledger(
            self.settings.require_hier(),
            application_name=f"{PROGRAM} cli",
            connect_timeout=self.settings.connect_timeout,
        )

    def connected(self, url: str) -> contextlib.AbstractContextManager[Connection]:
        """Open a connection to a store for the length of a block."""
        from hal9mig.stores import connection

        return connection.connected(
            url, application_name=f"{PROGRAM} cli", connect_timeout=self.settings.connect_timeout
        )

    @functools.cached_property
    def system(self) -> System:
        """Everything, for commands that give orders."""
        from hal9mig.engine.system import System

        return System(self.settings, role="cli")

    @functools.cached_property
    def coordinator(self) -> Coordinator:
        """The one who takes orders."""
        from hal9mig.engine.coordinator import Coordinator

        return Coordinator(self.system)

    def audit(self, action: str, detail: Mapping[str, object]) -> None:
        """Note what was done in the audit."""
        from hal9mig.ledger import audit, database

        with self.ledger.begin() as session:
            audit.log(session, action, actor=database.actor(), detail=detail)

    def conclude(self, document: dict[str, object], problem: errors.HAL9Error | None = None) -> None:
        """End a command: with ``--json`` print its one document, and raise what is to be reported.

        Raises:
            errors.HAL9Error: the problem, where it is not in the document.
        """
        if not self.json:
            if problem is not None:
                raise problem
            return
        if problem is not None:
            document = document | {"error": described(problem)}
        self.console.document(document)
        if problem is not None:
            click.get_current_context().exit(problem.exit_code)


def described(error: errors.HAL9Error) -> dict[str, object]:
    """Return an error as it stands in a JSON document."""
    return {
        "code": error.code,
        "message": error.message,
        "hint": error.hint or None,
        "context": error.context,
        "exit_code": error.exit_code,
    }


def current(context: click.Context) -> Invocation:
    """Return the invocation of a context, a new one where there is none yet, as while a shell completes."""
    found = context.find_object(Invocation)
    if found is None:
        context.obj = found = Invocation()
        options = context.find_root().params
        found.config, found.data_dir = options.get("config"), options.get("data_dir")
    return found


def pass_call(command: Callable[Concatenate[Invocation, P], None]) -> Callable[P, None]:
    """Give a command its invocation as the first argument."""

    def called(*args: P.args, **given: P.kwargs) -> None:
        command(current(click.get_current_context()), *args, **given)

    return functools.update_wrapper(called, command)
