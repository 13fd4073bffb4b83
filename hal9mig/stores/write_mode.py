"""The write mode as each store knows it: where writes go, since which epoch, and so which side rules."""

from __future__ import annotations

import dataclasses
import enum

from hal9mig import model
from hal9mig.stores.connection import Connection


class Mode(enum.StrEnum):
    """Where writes go. ``CLOSED`` only during a switch, on the side that is being left or entered."""

    FLAT_ONLY = "flat-only"
    DUAL_WRITE = "dual-write"
    HIERARCHICAL_ONLY = "hierarchical-only"
    CLOSED = "closed"

    @property
    def ruling(self) -> model.StoreName:
        """The store whose state counts."""
        return model.StoreName.HIERARCHICAL if self is Mode.HIERARCHICAL_ONLY else model.StoreName.FLAT


_MODES = tuple(Mode)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WriteState:
    """A store's write mode and its epoch."""

    mode: Mode
    epoch: int


#: What a store begins with.
INITIAL = WriteState(mode=Mode.FLAT_ONLY, epoch=1)


def state(connection: Connection) -> WriteState:
    """Return the store's write state as it is at this instant, whatever the transaction's snapshot."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT last_value FROM hal9cap.state")
        row = cursor.fetchone()
    number = int(row[0]) if row else 4
    return WriteState(mode=_MODES[number % 4], epoch=number // 4)


def set_state(connection: Connection, new: WriteState) -> None:
    """Set the store's write state; it acts at once and is not undone by a rollback."""
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT setval('hal9cap.state', %s)", (new.epoch * 4 + _MODES.index(new.mode),))
