"""Switches the write mode, step by step, each of which can be killed and taken up again.

    flat-only -> dual-write -> hierarchical-only -> flat-only, and dual-write -> flat-only

The side that is left is closed before the side that is entered is opened: after a kill in between
nobody can write, which is safe, and the next call finishes the switch. What decides is each store's
own state (``stores.capture``), which its triggers enforce; the ledger's line says where it is going.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import psycopg2
import psycopg2.errors

from hal9mig import errors, model, safe_text
from hal9mig.categories.declaration import Category
from hal9mig.engine.switch import drain, gate, lock_patience
from hal9mig.engine.system import System
from hal9mig.engine.transfer import fence
from hal9mig.ledger import audit, database, mode
from hal9mig.stores import barrier, capture, capture_triggers, lock_holders, sequences, write_mode
from hal9mig.stores.connection import Connection
from hal9mig.stores.write_mode import Mode, WriteState

#: Seconds that a barrier, or anything behind it, waits for a lock before it gives up and lets writers go on.
PATIENCE = lock_patience.PATIENCE
#: How often a barrier or a table lock is tried, and the seconds in between.
_TRIES, _BETWEEN = 5, 1.0
#: Under which name the ledger's line keeps what a killed switch has left to its successor.
_CARRIED = "switch"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Switched:
    """What a switch did.

    Attributes:
        changed: False when it was in this mode already.
        barrier: seconds that writers were kept out, None where there was no barrier.
        discarded: writes of the side that was left and that the other does not have; only by force.
    """

    mode: Mode
    epoch: int
    changed: bool = True
    barrier: float | None = None
    discarded: int = 0


class Switch:
    """One operator's switch.

    Args:
        pause: a hook that tests use to stop between steps; called with each step's name before it is taken.
    """

    def __init__(self, system: System, *, actor: str | None = None, pause: Callable[[str], None] = lambda step: None):
        self._system = system
        self._actor = actor or database.actor()
        self._pause = pause

    def line(self) -> mode.ModeLine:
        """Return the ledger's line on the mode."""
        with self._system.ledger.begin() as session:
            return mode.read(session)

    def opened(self) -> bool:
        """Whether the hierarchical store takes the writes, also where the switch to it is not over yet."""
        with contextlib.closing(self._system.hier()) as hier:
            return _state(hier).mode is Mode.HIERARCHICAL_ONLY

    def enable(self, attested: Mapping[str, Any] | None = None) -> Switched:
        """Go from flat-only to dual-write: capture every write of the flat store from here on.

        Raises:
            errors.Refused: the mode is hierarchical-only, or another switch is under way.
            errors.WritersInFlight: a table stays locked by a transaction; its pid is named.
        """
        with self._guarded(Mode.DUAL_WRITE) as (line, flat, hier):
            if line.mode == Mode.DUAL_WRITE and line.target is None and self._all_captured(flat):
                return self._same(line)
            if line.mode == Mode.HIERARCHICAL_ONLY:
                raise errors.Refused(
                    "The hierarchical store takes the writes already.", hint="hal9-migrate mode flat-only goes back"
                )
            epoch = _next_epoch(line, flat, hier)
            self._note(line, Mode.DUAL_WRITE, "triggers", attested)
            for category in self._system.registry.ordered():
                self._install(flat, category, model.StoreName.FLAT)
            for store in (hier, flat):
                self._set(store, "state", WriteState(mode=Mode.DUAL_WRITE, epoch=epoch))
            self._arrive(Mode.DUAL_WRITE, epoch)
        return Switched(mode=Mode.DUAL_WRITE, epoch=epoch)

    def leave_flat(self, evidence: Callable[[], Mapping[str, Any]]) -> Switched:
        """Go from dual-write to hierarchical-only. The gate has to have been passed.

        Args:
            evidence: called behind the barrier, with the journal drained; what it returns goes into the
                certificate, and what it raises lifts the barrier and leaves the mode as it was.

        Raises:
            errors.Refused: the mode is flat-only, or another switch is under way.
            errors.WritersInFlight: a transaction that has written stays open; its pid is named.
            errors.GateClosed: the journal did not run empty behind the barrier, since somebody held a lock (who
                is named) or for another reason, or capture does not work.
        """
        with self._guarded(Mode.HIERARCHICAL_ONLY) as (line, flat, hier):
            if line.mode == Mode.HIERARCHICAL_ONLY and line.target is None:
                return self._same(line)
            if line.mode == Mode.FLAT_ONLY:
                raise errors.Refused("The write mode is flat-only.", hint="hal9-migrate mode migration --enable")
            opened = _state(hier)
            if opened.mode is Mode.HIERARCHICAL_ONLY:
                # Killed after it had opened: what was proven behind the barrier was noted before, and cannot
                # be proven again now that there are writes.
                self._set(flat, "left", opened)
                self._arrive(Mode.HIERARCHICAL_ONLY, opened.epoch, document=_carried(line))
                return Switched(mode=Mode.HIERARCHICAL_ONLY, epoch=opened.epoch)
            epoch = _next_epoch(line, flat, hier)
            new = WriteState(mode=Mode.HIERARCHICAL_ONLY, epoch=epoch)
            self._note(line, Mode.HIERARCHICAL_ONLY, "reverse capture")
            for category in self._system.registry.ordered():
                self._install(hier, category, model.StoreName.HIERARCHICAL)
            with self._barrier(flat) as began:
                self._drain(model.StoreName.FLAT)
                document = dict(evidence())
                moved = [
                    one
                    for category in self._system.registry.ordered()
                    for one in sequences.advance(hier, category, model.StoreName.HIERARCHICAL)
                ]
                document |= {
                    "epoch": epoch,
                    "sequences": [{"sequence": name, "last_value": last} for name, last in moved],
                }
                # Closed first: were the other opened first, a kill here would leave both open.
                with fence.closed(hier, patience=PATIENCE):
                    self._set(flat, "closed", WriteState(mode=Mode.CLOSED, epoch=epoch))
                    self._note(line, Mode.HIERARCHICAL_ONLY, "closed", carried=document)
                    self._set(hier, "open", new)
                self._set(flat, "left", new)
                kept_out = time.monotonic() - began
            self._arrive(Mode.HIERARCHICAL_ONLY, epoch, document=document | {"barrier_seconds": round(kept_out, 3)})
        return Switched(mode=Mode.HIERARCHICAL_ONLY, epoch=epoch, barrier=kept_out)

    def return_to_flat(self, *, force: bool = False) -> Switched:
        """Go to flat-only from wherever it is.

        Args:
            force: discard what the flat store does not have yet, where it cannot be brought there.

        Raises:
            errors.Refused: another switch is under way.
            errors.WritersInFlight: a transaction that has written stays open; its pid is named.
            errors.GateClosed: writes are left that the flat store does not have, or somebody holds a lock (who is
                named); ``force`` discards them.
        """
        with self._guarded(Mode.FLAT_ONLY) as (line, flat, hier):
            if line.mode == Mode.FLAT_ONLY and line.target is None:
                return self._same(line)
            epoch = _next_epoch(line, flat, hier)
            new = WriteState(mode=Mode.FLAT_ONLY, epoch=epoch)
            # A switch that was killed after it had closed the flat store may not have been noted as
            # arrived: the stores know who rules.
            rules = _state(hier).mode is Mode.HIERARCHICAL_ONLY
            if not rules:
                return self._finish_return(line, flat, hier, new)
            self._note(line, Mode.FLAT_ONLY, "barrier")
            with self._barrier(hier) as began:
                try:
                    self._drain(model.StoreName.HIERARCHICAL)
                    discarded = 0
                except errors.GateClosed:
                    if not force:
                        raise
                    discarded = capture.records(hier)
                for category in self._system.registry.ordered():
                    sequences.advance(flat, category, model.StoreName.FLAT)
                with fence.closed(flat, patience=PATIENCE):
                    self._set(hier, "closed", WriteState(mode=Mode.CLOSED, epoch=epoch))
                    # Noted before it is so: were it killed later, nobody could count them again.
                    self._note(line, Mode.FLAT_ONLY, "closed", carried={"discarded": discarded})
                    self._set(flat, "open", new)
                self._set(hier, "left", new)
                kept_out = time.monotonic() - began
            if discarded:
                self._pause("discard")
                capture.discard(hier)
            self._arrive(Mode.FLAT_ONLY, epoch, discarded=discarded)
        return Switched(mode=Mode.FLAT_ONLY, epoch=epoch, barrier=kept_out, discarded=discarded)

    def _finish_return(self, line: mode.ModeLine, flat: Connection, hier: Connection, new: WriteState) -> Switched:
        """Go to flat-only where the hierarchical store takes no writes: it never did, or it is closed already."""
        under_way = line.target == Mode.FLAT_ONLY
        # Closed with writes in its journal: an operator's force, which was killed before it was done.
        discarded = capture.records(hier) if under_way else 0
        discarded = max(discarded, int(_carried(line).get("discarded", 0)) if under_way else 0)
        self._note(line, Mode.FLAT_ONLY, "barrier", carried={"discarded": discarded})
        # One that is bringing a record back may have read it when the flat store was closed.
        with fence.closed(flat, patience=PATIENCE):
            for store in (hier, flat):
                self._set(store, "state", new)
        if discarded:
            self._pause("discard")
            capture.discard(hier)
        self._arrive(Mode.FLAT_ONLY, new.epoch, discarded=discarded)
        return Switched(mode=Mode.FLAT_ONLY, epoch=new.epoch, discarded=discarded)

    @contextlib.contextmanager
    def _guarded(self, target: Mode) -> Iterator[tuple[mode.ModeLine, Connection, Connection]]:
        # Writers and appliers are kept out by locks of sessions: they have to be the server's own.
        self._system = self._system.direct()
        # The lock's transaction stays open over the whole switch; the steps commit on others.
        with (
            contextlib.closing(self._system.flat()) as flat,
            contextlib.closing(self._system.hier()) as hier,
            self._system.ledger.begin() as guard,
        ):
            mode.lock_switch(guard)
            line = self.line()
            # Going back is always allowed: it is the way out of a switch that does not get through.
            if line.target not in (None, target) and target is not Mode.FLAT_ONLY:
                raise errors.Refused(
                    f"A switch to {line.target} is under way (step {line.step}).",
                    hint="repeat the command that began it, or go back with hal9-migrate mode flat-only",
                )
            before = (_state(flat), _state(hier))
            try:
                yield line, flat, hier
            except (errors.HAL9Error, psycopg2.Error) as error:
                with contextlib.suppress(errors.HAL9Error, psycopg2.Error):
                    if line.target is None and (_state(flat), _state(hier)) == before:
                        self._withdraw(line, target, error)
                raise

    def _withdraw(self, line: mode.ModeLine, target: Mode, error: Exception) -> None:
        """Take back that a switch is under way, which was refused before it had changed anything."""
        with self._system.ledger.begin() as session:
            if mode.read(session).target is None:
                return
            mode.write(session, mode=line.mode, epoch=line.epoch, actor=line.actor, attested=line.attested)
            detail = {"epoch": line.epoch, "reason": safe_text.masked(" ".join(str(error).split()))}
            audit.log(session, f"switch to {target} given up", actor=self._actor, detail=detail)

    def _same(self, line: mode.ModeLine) -> Switched:
        return Switched(mode=Mode(line.mode), epoch=line.epoch, changed=False)

    def _all_captured(self, flat: Connection) -> bool:
        return all(
            not capture_triggers.findings(flat, category, model.StoreName.FLAT)
            for category in self._system.registry.ordered()
        )

    def _install(self, connection: Connection, category: Category, side: model.StoreName) -> None:
        """Have a category captured, which needs its tables' locks; gives way to the application between the tries."""
        for attempt in range(_TRIES):
            try:
                capture_triggers.install(connection, category, side, patience=PATIENCE)
                break
            except psycopg2.errors.LockNotAvailable:
                if attempt == _TRIES - 1:
                    held = "; ".join(
                        map(str, lock_holders.of_writing(connection, capture_triggers.tables(category, side)))
                    )
                    raise errors.WritersInFlight(
                        "A table to be captured stays locked by an open transaction: "
                        f"{held or 'it has ended just now; try again'}."
                    ) from None
                time.sleep(_BETWEEN)

    @contextlib.contextmanager
    def _barrier(self, connection: Connection) -> Iterator[float]:
        """Keep writers out; tries a few times, and lets them through in between. Yields when it began."""
        for attempt in range(_TRIES):
            with contextlib.ExitStack() as stack:
                began = time.monotonic()
                try:
                    stack.enter_context(barrier.hold_back(connection, patience=PATIENCE))
                except errors.WritersInFlight:
                    if attempt == _TRIES - 1:
                        raise
                    time.sleep(_BETWEEN)
                    continue
                yield began
                return

    def _drain(self, side: model.StoreName) -> None:
        self._pause("drain")
        drain.drain(self._system, side, patience=PATIENCE)

    def _set(self, store: Connection, step: str, new: WriteState) -> None:
        self._pause(step)
        write_mode.set_state(store, new)

    def _note(
        self,
        line: mode.ModeLine,
        target: Mode,
        step: str,
        attested: Mapping[str, Any] | None = None,
        *,
        carried: Mapping[str, Any] | None = None,
    ) -> None:
        """Note a step, and what the last one will need, whoever comes to take it."""
        self._pause(f"note {step}")
        kept = {**line.attested, **(attested or {})}
        if carried is not None:
            kept[_CARRIED] = dict(carried)
        with self._system.ledger.begin() as session:
            mode.write(
                session, mode=line.mode, epoch=line.epoch, actor=self._actor, target=target, step=step, attested=kept
            )
            detail: dict[str, object] = {"epoch": line.epoch}
            if carried and carried.get("discarded"):
                detail["discarded"] = carried["discarded"]
            audit.log(session, f"switch to {target}: {step}", actor=self._actor, detail=detail)

    def _arrive(self, new: Mode, epoch: int, *, document: Mapping[str, Any] | None = None, discarded: int = 0) -> None:
        self._pause("arrive")
        with self._system.ledger.begin() as session:
            attested = {name: value for name, value in mode.read(session).attested.items() if name != _CARRIED}
            mode.write(session, mode=new, epoch=epoch, actor=self._actor, attested=attested)
            detail: dict[str, object] = {"epoch": epoch}
            if discarded:
                detail["discarded"] = discarded
            audit.log(session, f"mode {new}", actor=self._actor, detail=detail)
            if document:
                mode.certify(session, gate.sealed(document), actor=self._actor)


def _state(store: Connection) -> WriteState:
    found = write_mode.state(store)
    store.rollback()
    return found


def _next_epoch(line: mode.ModeLine, flat: Connection, hier: Connection) -> int:
    """Return an epoch that no store has had, also where a switch was killed before it was noted."""
    return max(line.epoch, _state(flat).epoch, _state(hier).epoch) + 1


def _carried(line: mode.ModeLine) -> Mapping[str, Any]:
    found = line.attested.get(_CARRIED, {})
    return found if isinstance(found, Mapping) else {}
