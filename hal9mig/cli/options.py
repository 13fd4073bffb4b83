"""Options that several commands share, and the types that read quantities."""

from __future__ import annotations

import contextlib
import functools
import math
import pathlib
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click
from click.shell_completion import CompletionItem

from hal9mig import errors, model, units
from hal9mig.cli import invocation

F = TypeVar("F", bound=Callable[..., Any])
if TYPE_CHECKING:
    _ToAny = click.ParamType[Any]
    _ToText = click.ParamType[str]
    _ToNumber = click.ParamType[int]
else:
    # Older versions of click have no such parameter.
    _ToAny = _ToText = _ToNumber = click.ParamType

_COMPLETION_PATIENCE = 1.0  # seconds to try the ledger while somebody waits for a completion
_MOST_RUNS = 20


class Quantity(_ToAny):
    """A quantity, given as what its text says.

    Args:
        name: what the help calls it.
        read: raises where the text cannot be read.
    """

    def __init__(self, name: str, read: Callable[[str], object]):
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read a value."""
        try:
            return self._read(str(value))
        except errors.InvalidUnit as error:
            option = param.opts[0] if param is not None and param.opts else "the value"
            raise errors.InvalidUnit(f"{option}: {error.message}", hint=error.hint) from None


class Text(Quantity):
    """A quantity that stays the text it is, as the ledger keeps it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check a value."""
        super().convert(value, param, ctx)
        return str(value)


class FiniteRange(click.FloatRange):
    """A number between bounds; click's own lets NaN and infinities through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Check a value."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no number.", param, ctx)
        return number


def tuned(name: str) -> Callable[[str], object]:
    """Return the function of this name that reads what the ledger keeps."""

    def read(text: str) -> object:
        # Late: it lives beside the ledger, whose driver takes time to load.
        from hal9mig.ledger import tuning

        parse: Callable[[str], object] = getattr(tuning, name)
        return parse(text)

    return read


COUNT = Quantity("N", units.parse_count)
DURATION = Quantity("TIME", units.parse_duration)
#: A duration that may be none at all.
ANY_DURATION = Quantity("TIME", functools.partial(units.parse_duration, none=True))
#: What the databases and Python's own generator both draw by.
SEED = click.IntRange(0, 2**31 - 1)
#: The number of something that the ledger keeps.
ID = click.IntRange(1, 2**63 - 1)
PATH = click.Path(path_type=pathlib.Path)
FILE = click.Path(path_type=pathlib.Path, dir_okay=False)
STORE = click.Choice([str(store) for store in model.StoreName])
COUNT_TEXT = Text("N", units.parse_count)
DURATION_TEXT = Text("TIME", units.parse_duration)
RATE = Text("RATE", units.parse_rate)
BYTES = Text("SIZE", units.parse_bytes)
VALIDATION = Text("MODE", tuned("parse_validation"))
TOLERANCE = Text("N", tuned("parse_tolerance"))
IMPACT = Text("SHARE", tuned("parse_impact"))


class _CategoryType(_ToText):
    name = "NAME"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete the last of several names."""
        done, comma, part = incomplete.rpartition(",")
        try:
            names = [(category.slug, category.title) for category in invocation.current(ctx).registry.ordered()]
        except errors.HAL9Error:
            return []
        names.append(("all", "every category"))
        return [CompletionItem(f"{done}{comma}{name}", help=title) for name, title in names if name.startswith(part)]


class _RunType(_ToNumber):
    name = "RUN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read a run's number; ``run 7`` and ``7`` are the same."""
        text = str(value).removeprefix("run").strip()
        if not text.isdecimal() or len(text) > 18:
            raise errors.UsageError(f"{value!r} is not a run's number.", hint="hal9-migrate runs list")
        return int(text)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete the number of one of the newest runs."""
        try:
            found = _newest_runs(invocation.current(ctx))
        except Exception:
            # Whatever it is, the middle of a command line is no place to say so.
            return []
        return [
            CompletionItem(str(run.id), help=f"{run.kind} {run.category} ({run.status})")
            for run in found
            if str(run.id).startswith(incomplete)
        ]


class _CheckpointType(_ToText):
    name = "NAME"

    def __init__(self, *, latest: bool):
        self._latest = ["latest"] if latest else []

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse an empty name: it is one that a script has lost, and begins every checkpoint's."""
        if not str(value).strip():
            option = param.opts[0] if param is not None and param.opts else "the value"
            raise errors.UsageError(f"{option} has an empty name.", hint="hal9-migrate state list-checkpoints")
        return str(value).strip()

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete a checkpoint's name."""
        found: list[str] = list(self._latest)
        looking = threading.Thread(target=_look, args=(invocation.current(ctx), found), daemon=True)
        looking.start()
        # A storage far away may not answer at all, and nothing waits for a thread like this one at the end.
        looking.join(_COMPLETION_PATIENCE)
        return [CompletionItem(name) for name in found if name.startswith(incomplete)]


def _look(call: invocation.Invocation, found: list[str]) -> None:
    # Whatever goes wrong: not here, as with runs.
    with contextlib.suppress(Exception):
        from hal9mig.engine.checkpoint import archive

        found += archive.opened(call.settings).names()


def _newest_runs(call: invocation.Invocation) -> Sequence[model.Run]:
    from hal9mig.ledger import runs
    from hal9mig.ledger.database import Ledger

    url = call.settings.require_hier()
    ledger = Ledger(url, application_name="hal9-migrate completion", connect_timeout=_COMPLETION_PATIENCE)
    with ledger.begin() as session:
        return runs.find(session, limit=_MOST_RUNS)


CATEGORY = _CategoryType()
RUN = _RunType()
CHECKPOINT = _CheckpointType(latest=True)
DELETED = _CheckpointType(latest=False)


def _note(name: str) -> Callable[[click.Context, click.Parameter, bool], None]:
    def noted(context: click.Context, _: click.Parameter, value: bool) -> None:
        # Only upwards: `hal9-migrate --json runs list` has said it already.
        if value:
            setattr(invocation.current(context), name, True)

    return noted


def output(command: F) -> F:
    """Add ``--json`` and ``--debug``."""
    command = click.option(
        "--debug", is_flag=True, expose_value=False, callback=_note("debug"),
        help="Print the traceback of an error too.",
    )(command)  # fmt: skip
    return click.option(
        "--json", is_flag=True, expose_value=False, callback=_note("json"), help="One JSON document on stdout."
    )(command)


yes = click.option(
    "--yes", is_flag=True, expose_value=False, callback=_note("yes"), help="Answer every question with yes."
)
timeout = click.option("--timeout", type=DURATION, help="Stop waiting after this time, with exit code 124.")
run_timeout = click.option(
    "--timeout", type=DURATION, help="Stop waiting after this time, with exit code 124; the run goes on."
)
detach = click.option("--detach", is_flag=True, help="Print the run's number and return at once.")
watch = click.option(
    "--watch", type=DURATION, is_flag=False, flag_value="5s", metavar="[=TIME]",
    help="Show it again and again, each 5 s or TIME, until Ctrl-C.",
)  # fmt: skip
filter_ = click.option(
    "--filter", "filter_", default="", metavar="EXPR",
    help="Only records of which this holds: field op value, joined by commas that mean and.",
)  # fmt: skip
report = click.option(
    "--report", type=FILE, metavar="FILE",
    help="Write everything found as JSON; at once or not at all.",
)  # fmt: skip


def categories(command: F) -> F:
    """Add ``--category``, given as ``names``, and ``--all-categories``, given as ``everything``."""
    command = click.option("--all-categories", "everything", is_flag=True, help="The same as --category all.")(command)
    return click.option(
        "--category", "--categories", "names", type=CATEGORY, multiple=True, metavar="NAME",
        help="A category; repeat it, use commas, or say all.",
    )(command)  # fmt: skip


def chosen(names: Sequence[str], everything: bool) -> Sequence[str]:
    """Return the names that ``--category`` and ``--all-categories`` stand for together; none is all.

    Raises:
        errors.UsageError: an option has an empty value.
    """
    if any(not part.strip() for value in names for part in value.split(",")):
        raise errors.UsageError("--category has an empty name.", hint="leave it out for all, or name one")
    return [*names, "all"] if everything else names


def check_waiting(*, dry_run: bool, detach: bool, timeout: float | None) -> None:
    """Raise where options about waiting exclude each other.

    Raises:
        errors.ConflictingFlags: they do.
    """
    for given, flag in ((detach, "--detach"), (timeout is not None, "--timeout")):
        if dry_run and given:
            refuse("--dry-run", flag, "a dry run starts nothing that could be waited for")
    if detach and timeout is not None:
        refuse("--detach", "--timeout", "nothing is waited for")


def refuse(one: str, other: str, reason: str) -> NoReturn:
    """Refuse two options together.

    Raises:
        errors.ConflictingFlags: always.
    """
    raise errors.ConflictingFlags(f"{one} and {other} exclude each other: {reason}.", hint="leave one of them out")
