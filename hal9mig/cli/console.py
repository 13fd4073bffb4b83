"""Printing: data on stdout, talk on stderr; for people on a terminal, for programs in a pipe."""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from hal9mig import safe_text, units

if TYPE_CHECKING:
    import rich.console

#: The form of every JSON document; goes up when a key changes its meaning or goes away.
SCHEMA = 1
#: Columns that a column of words has at least.
_NARROWEST = 8
_MARKS = {True: ("✅", "[ok]"), False: ("❌", "[FAIL]")}


def is_utf8(stream: TextIO) -> bool:
    """Whether a stream can carry any character."""
    return (stream.encoding or "").lower().replace("-", "").replace("_", "") == "utf8"


class Console:
    """Where a command prints.

    Args:
        color: ``auto``, ``always`` or ``never``; words carry the meaning, colour only repeats it.
    """

    def __init__(self, *, color: str = "auto"):
        self._color = color

    @property
    def out_is_terminal(self) -> bool:
        """Whether a person reads stdout."""
        return sys.stdout.isatty()

    @property
    def talk_is_terminal(self) -> bool:
        """Whether stderr can show something that moves."""
        return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"

    def rich(self, stream: TextIO) -> rich.console.Console:
        """Return Rich's console on a stream; it honours NO_COLOR and TERM=dumb by itself."""
        from rich.console import Console as RichConsole

        return RichConsole(
            file=stream,
            no_color=True if self._color == "never" else None,
            force_terminal=True if self._color == "always" else None,
            highlight=False,
            markup=False,
            emoji=False,
        )

    def say(self, text: str) -> None:
        """Talk: a line on stderr."""
        print(safe_text.printable(safe_text.masked(text)), file=sys.stderr, flush=True)  # noqa: T201

    def warn(self, *warnings: str) -> None:
        """Say each of some warnings."""
        for warning in warnings:
            self.say(f"warning: {warning}")

    def suggest(self, *steps: str) -> None:
        """Say which commands may come next."""
        for step in steps:
            self.say(f"next: {step}")

    def line(self, text: str = "", *, style: str = "", end: str = "\n") -> None:
        """Print a line of data."""
        text = safe_text.printable(text)
        if style and (self._color == "always" or (self._color == "auto" and self.out_is_terminal)):
            self.rich(sys.stdout).print(text, style=style, soft_wrap=True)
        else:
            print(text, end=end, flush=True)  # noqa: T201

    def clear(self) -> None:
        """Empty the screen, as `clear` does."""
        print("\x1b[H\x1b[2J", end="", flush=True)  # noqa: T201

    def verdict(self, good: bool, text: str) -> None:
        """Print a line that begins with whether it is good."""
        self.line(f"{self.mark(good)} {text}", style="" if good else "red")

    def mark(self, good: bool) -> str:
        """Return the sign of a verdict that stdout can show."""
        return _MARKS[good][0 if is_utf8(sys.stdout) else 1]

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[object]],
        *,
        numbers: Sequence[str] = (),
        whole: Sequence[str] = (),
    ) -> None:
        """Print a table: aligned on a terminal, separated by tabs in a pipe.

        Args:
            numbers: the columns that are set flush right.
            whole: the columns beside the first whose words are not broken either.
        """
        cells = [[_cell(value) for value in row] for row in rows]
        if not self.out_is_terminal:
            for row in [list(columns), *cells]:
                self.line("\t".join(row))
            return
        from rich import box
        from rich.cells import cell_len
        from rich.table import Table

        shown = self.rich(sys.stdout)
        # Where it is narrow, words give way; a number or a name broken in two is none.
        unbroken = {place for place, name in enumerate(columns) if place == 0 or name in numbers or name in whole}
        needed = sum(
            max(cell_len(row[place]) for row in [columns, *cells]) if place in unbroken else _NARROWEST
            for place in range(len(columns))
        )
        if needed + len(columns) - 1 > shown.width:
            # Side by side, what stands last would be cut, and that is the share that is done.
            for row in cells:
                for place, (name, cell) in enumerate(zip(columns, row, strict=True)):
                    self.line(cell if place == 0 else f"  {name}: {cell}")
            return

        # No header style: bold is an escape code too, which NO_COLOR does not take away.
        table = Table(
            box=box.SIMPLE_HEAD if is_utf8(sys.stdout) else None, show_edge=False, pad_edge=False,
            padding=(0, 1, 0, 0), header_style="",
        )  # fmt: skip
        for place, name in enumerate(columns):
            table.add_column(
                name, justify="right" if name in numbers else "left", overflow="fold", no_wrap=place in unbroken
            )
        for row in cells:
            table.add_row(*row)
        shown.print(table)

    def document(self, document: Mapping[str, object]) -> None:
        """Print one JSON document."""
        print(self._json({"schema": SCHEMA} | dict(document), indent=2), flush=True)  # noqa: T201

    def json_line(self, document: Mapping[str, object]) -> None:
        """Print one JSON document of a stream, on a line of its own."""
        print(self._json(document, indent=None), flush=True)  # noqa: T201

    def _json(self, document: Mapping[str, object], *, indent: int | None) -> str:
        # JSON escapes the old control characters only; DEL, C1 and the turns of writing would reach the terminal.
        return safe_text.printable_json(
            safe_text.json_text(document, indent=indent, ascii_only=not is_utf8(sys.stdout), default=_plain)
        )

    def when(self, moment: datetime.datetime | None) -> str:
        """Return a moment: in UTC, and on a terminal as how long ago it was."""
        if moment is None:
            return "-"
        if self.out_is_terminal:
            seconds = (datetime.datetime.now(datetime.UTC) - moment).total_seconds()
            return f"{units.format_duration(max(1, round(seconds)))} ago"
        return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def both_ways(share: float) -> str:
    """Return a share as ``0.01 = 1%``."""
    return f"{share:g} = {share * 100:g}%"


def counted(count: int, noun: str) -> str:
    """Return ``1 record`` or ``1,234 records``."""
    return f"{units.format_count(count)} {noun}{'' if count == 1 else 's'}"


def _cell(value: object) -> str:
    text = "-" if value is None or value == "" else str(value)
    # A cell is one line of one column, whatever an error message or a key holds.
    return safe_text.printable(" ".join(text.split()) if any(sign in text for sign in "\t\r\n") else text)


def _plain(value: object) -> Any:
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    return str(value)
