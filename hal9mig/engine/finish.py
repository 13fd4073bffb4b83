"""The end: capture comes out of both stores, and they are as if this system had never been there.

The ledger says first that it is being finished, so that workers rest; then triggers go, a table at a time, each with
its lock for a moment only; then what stands beside the application's tables. Killed at any step, the same order goes
on with what is left.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Mapping, Sequence

import psycopg2.errors

from hal9mig import errors, model
from hal9mig.engine.system import System
from hal9mig.ledger import audit, mode, monitors, phases, runs
from hal9mig.ledger.phases import Finish
from hal9mig.stores import capture_triggers, shadow, write_mode
from hal9mig.stores.connection import Connection
from hal9mig.stores.write_mode import Mode

#: Seconds that one try waits for a table's lock, and that all tries for one statement take.
_PATIENCE, _LONGEST = 1.0, 60.0
#: Seconds between two tries.
_PAUSE = 0.5
_FLAT, _HIER = model.StoreName.FLAT, model.StoreName.HIERARCHICAL
_LEDGER = "DROP SCHEMA IF EXISTS hal9mig CASCADE"
_KEPT = {Mode.FLAT_ONLY: _FLAT, Mode.HIERARCHICAL_ONLY: _HIER}


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinishPlan:
    """What finishing would do.

    Attributes:
        keep: the store that goes on; the other one is left as it is, and takes writes that go nowhere.
        statements: the SQL, by store, in its order.
        done: when it was finished already, and by whom.
        warnings: what an operator has to know first.
    """

    keep: model.StoreName
    statements: Mapping[model.StoreName, Sequence[str]]
    done: Finish | None
    warnings: Sequence[str]


def plan(
    system: System, *, keep: model.StoreName | None = None, way_back: bool = True, ledger: bool = False
) -> FinishPlan:
    """Return what finishing would do; nothing is changed.

    Args:
        keep: the store that goes on; by default the one that rules.
        way_back: whether the way back to the flat store is still wanted.
        ledger: take the ledger and the records of our schemas' versions out too.

    Raises:
        errors.Refused: both stores are kept in step, something is under way, or the way back would be lost.
    """
    with system.ledger.begin() as session:
        line, done = mode.read(session), phases.finished(session)
        active = runs.find(session, active=True)
        watching = monitors.find(session, open=True)
    if done is not None:
        kept = model.StoreName(done.keep)
        if keep not in (None, kept):
            raise errors.Refused(f"It was finished with the {kept} store kept.", hint=f"--keep {kept}")
    else:
        kept = _kept(line, keep, way_back=way_back)
    if active:
        raise errors.Refused(
            f"{active[0].name} ({active[0].kind} of {active[0].category}) is under way.",
            hint=f"hal9-migrate runs cancel {active[0].id}",
        )
    if watching:
        raise errors.Refused(
            f"{watching[0].name} is being monitored.", hint=f"hal9-migrate monitor --phase {watching[0].name} --stop"
        )
    other = _HIER if kept is _FLAT else _FLAT
    return FinishPlan(
        keep=kept,
        statements={store: _statements(system, store, ledger=ledger) for store in (_FLAT, _HIER)},
        done=done,
        warnings=[
            f"the {other} store stays as it is; from then on it takes writes again, and nothing brings them anywhere",
            "an application that uses this system's client has to use the store by itself by then",
        ],
    )


def _kept(line: mode.ModeLine, keep: model.StoreName | None, *, way_back: bool) -> model.StoreName:
    if line.target is not None or line.mode not in _KEPT:
        raise errors.Refused(
            f"The write mode is {line.mode}{', and a switch is under way' if line.target else ''}: both stores are "
            "kept in step.",
            hint="hal9-migrate mode flat-only, or: hal9-migrate mode migration --disable-dual-write",
        )
    ruling = _KEPT[Mode(line.mode)]
    if keep not in (None, ruling):
        raise errors.Refused(
            f"The {ruling} store rules, and what was written there since would be lost.",
            hint="hal9-migrate mode flat-only" if ruling is _HIER else "hal9-migrate mode migration --enable",
        )
    if ruling is _HIER and way_back:
        raise errors.Refused(
            "This ends the way back to the flat store.", hint="add --give-up-way-back, where nobody wants it any more"
        )
    return ruling


def _statements(system: System, store: model.StoreName, *, ledger: bool) -> list[str]:
    found: list[str] = []
    with contextlib.closing(system.store(store)) as connection:
        for category in system.registry.ordered():
            found += capture_triggers.removal(connection, category, store)
        found += [f"DROP SCHEMA {name} CASCADE" for name in shadow.standing(connection)]
        connection.rollback()
    found.append("DROP SCHEMA IF EXISTS hal9cap CASCADE")
    if ledger:
        found.append(f"DROP TABLE IF EXISTS {'flat' if store is _FLAT else 'hier'}.alembic_version")
        found += [_LEDGER] if store is _HIER else []
    return found


def carry_out(system: System, made: FinishPlan, *, actor: str) -> None:
    """Do what was planned; may be called again after it was interrupted.

    Raises:
        errors.GateClosed: a table stays locked; what was done by then is done, and the same order goes on from there.
        errors.Refused: the account is not the owner of something that has to go.
    """
    with system.ledger.begin() as session:
        # First of all, so that workers rest before there is nothing to look at.
        phases.finish(session, keep=made.keep, over=False, actor=actor)
        audit.log(session, "finishing", actor=actor, detail={"keep": made.keep})
    for store, statements in made.statements.items():
        with contextlib.closing(system.store(store)) as connection:
            for statement in statements:
                if statement != _LEDGER:
                    _execute(connection, statement)
    with system.ledger.begin() as session:
        phases.forget_work(session)
        mode.write(session, mode=Mode.FLAT_ONLY, epoch=write_mode.INITIAL.epoch, actor=actor)
        phases.finish(session, keep=made.keep, over=True, actor=actor)
        audit.log(session, "finished", actor=actor, detail={"keep": made.keep})
        audit.seal(session)
    if _LEDGER in made.statements[_HIER]:
        # Last: until then it says how far this has come.
        system.ledger.close()
        with contextlib.closing(system.hier()) as hier:
            _execute(hier, _LEDGER)


def _execute(connection: Connection, statement: str) -> None:
    """Execute a statement in a transaction of its own that waits for locks only for moments, again and again."""
    ends = time.monotonic() + _LONGEST
    while True:
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(
                    f"SET LOCAL client_min_messages = warning; SET LOCAL lock_timeout = {round(_PATIENCE * 1000)}"
                )
                cursor.execute(statement)
            return
        except psycopg2.errors.LockNotAvailable as error:
            # Whoever waits behind us is let through before the next try.
            if time.monotonic() > ends:
                raise errors.GateClosed(
                    f"Not done, as something stays in use: {statement}.", hint="hal9-migrate finish goes on from here"
                ) from error
            time.sleep(_PAUSE)
        except psycopg2.errors.InsufficientPrivilege as error:
            raise errors.Refused(
                f"This account may not: {statement}: {str(error).strip().splitlines()[0]}.",
                hint="run it as the owner of the tables and of this system's schemas; docs/rights.md",
            ) from error
