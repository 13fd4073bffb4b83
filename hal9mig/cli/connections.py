"""How units are connected, as an operator looks at it: the look itself, its verdict, figures and document."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from hal9mig import errors, units
from hal9mig.cli.console import counted
from hal9mig.cli.invocation import Invocation

if TYPE_CHECKING:
    from hal9mig.checks.connection_findings import ConnectionFindings
    from hal9mig.engine.compare.judge import Sides

_SLUG = "neuron-states"
_MOST_SHOWN = 20
#: Seconds between two lines that say how far a look is.
_LINE_EVERY = 10.0


@contextlib.contextmanager
def stores(call: Invocation) -> Iterator[Sides]:
    """Open both stores for the length of a block, as the write mode has them.

    Raises:
        errors.SchemaBehind, errors.Unreachable: a store is not ready.
        errors.UnknownCategory: neuron states are not declared here.
        errors.GateClosed: the write mode is being switched, or a restore is under way.
    """
    from hal9mig.engine.desk import Desk
    from hal9mig.engine.reconcile import full_pass

    call.system.require_ready()
    desk = Desk(call.system)
    try:
        with desk.trusted():
            yield full_pass.sides(call.system, desk, call.system.category(_SLUG))
    finally:
        desk.clear()


def look(
    call: Invocation, both: Sides, *, command: str, layer: str | None = None, deep: bool = False
) -> ConnectionFindings:
    """Look at connections, keep what was found, and return it.

    Args:
        command: the command that asks, for the ledger.
    """
    from hal9mig.checks import connection_findings, connections
    from hal9mig.ledger import check_results, database

    found = connections.ConnectionCheck(both, layer=layer, deep=deep).run(told(call, "unit"))
    with call.system.ledger.begin() as session:
        kept = connection_findings.outcome(found)
        check_results.add(session, kept, command=command, actor=database.actor())
    return found


def told(call: Invocation, noun: str) -> Callable[[int], None]:
    """Return what says on stderr every ten seconds how many have been looked at."""
    last = time.monotonic()

    def tell(count: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _LINE_EVERY:
            last = time.monotonic()
            call.console.say(f"{_SLUG}: {counted(count, noun)} looked at")

    return tell


def show(call: Invocation, found: ConnectionFindings) -> None:
    """Print the verdict, the figures of both stores, and what differs."""
    from hal9mig.checks import connection_findings

    call.console.verdict(found.alike, connection_findings.sentence(found))
    rows = [
        [name, units.format_count(getattr(found.flat, field)), units.format_count(getattr(found.hier, field))]
        for field, name in (
            ("units", "units"), ("connections", "connections"), ("selves", "to the same unit"),
            ("parallel", "parallel to another"), ("duplicate", "of them equal to it"),
            ("dangling", "to a unit that is not there"), ("unreadable", "without a target"),
            ("rootless", "from a unit that is not there"),
        )
    ]  # fmt: skip
    call.console.table(["FIGURE", "FLAT", "HIERARCHICAL"], rows, numbers=("FLAT", "HIERARCHICAL"))
    if found.differences:
        listed = [[one.unit, one.ordinal, one.flat, one.hier] for one in found.differences[:_MOST_SHOWN]]
        call.console.table(["UNIT", "PLACE", "FLAT", "HIERARCHICAL"], listed)
        if len(found.differences) > _MOST_SHOWN:
            call.console.say(f"only the first {_MOST_SHOWN} differences are shown; more: --json")
    for text in notes(found):
        call.console.say(text)


def notes(found: ConnectionFindings) -> list[str]:
    """Return what a reader might take for a fault and is none, as sentences."""
    told = []
    if found.ruled.dangling:
        told.append(
            f"{counted(found.ruled.dangling, 'connection')} lead to units that the {found.ruling} store, which rules, "
            "does not have: the application's own, in both stores alike, and left as they are"
        )
    if found.ruled.selves or found.ruled.parallel:
        told.append("connections to the same unit and parallel ones are legal; they are counted and left as they are")
    if found.unreachable_units:
        told.append(f"no signal from {found.entrance} reaches {counted(found.unreachable_units, 'unit')}")
    return told


def problem(found: ConnectionFindings) -> errors.HAL9Error | None:
    """Return the error that differences amount to, None without one."""
    from hal9mig.checks import connection_findings

    if found.alike:
        return None
    if not (found.differing_units or found.orphaned or found.rootless_units):
        return errors.RecordsQuarantined("Connections are held back by units that are in quarantine.")
    wrong = [
        (found.differing_units, "unit", "connected otherwise"),
        (found.orphaned, "connection", "orphaned"),
        (found.rootless_units, "unit", "left with connections alone"),
    ]
    texts = [f"{counted(count, noun)} {how}" for count, noun, how in wrong if count]
    return errors.DifferencesFound(
        f"The two stores differ: {', '.join(texts)}.", hint=connection_findings.next_steps(found)[0]
    )


def document(found: ConnectionFindings) -> dict[str, object]:
    """Return what was found as it stands in a JSON document."""
    from hal9mig.checks import connection_findings

    values = dataclasses.asdict(found)
    values["hierarchical"] = values.pop("hier")
    values["lost"] = [{"unit": key[0], "connections": count} for key, count in list(found.lost.items())[:1000]]
    values["rootless"] = [{"unit": key[0], "connections": count} for key, count in list(found.rootless.items())[:1000]]
    return {
        **values,
        "alike": found.alike,
        "migrated_units": found.migrated_units,
        "notes": notes(found),
        "next_steps": connection_findings.next_steps(found),
    }
