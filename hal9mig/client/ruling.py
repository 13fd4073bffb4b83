"""Which store rules, as the stores themselves say.

A store takes writes when its own state says so, so that the client needs no third place to ask, and a
store that is down is only missed when it is the one that rules.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import psycopg2.errors

from hal9mig import errors
from hal9mig.model import StoreName
from hal9mig.stores import write_mode
from hal9mig.stores.pool import Pool
from hal9mig.stores.write_mode import Mode, WriteState

_OTHER = {StoreName.FLAT: StoreName.HIERARCHICAL, StoreName.HIERARCHICAL: StoreName.FLAT}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """The store whose state counts, and that store's own mode and epoch.

    ``open`` is false while a switch is under way: then nobody writes, and what is there is the truth.
    """

    side: StoreName
    state: WriteState
    open: bool


class Ruling:
    """Knows who rules, and looks again when told that this is over."""

    def __init__(self, pools: Mapping[StoreName, Pool]):
        self._pools = pools
        self._known: Place | None = None

    @property
    def known(self) -> Place:
        """What was found at the last look.

        Raises:
            errors.Unreachable: there was no look yet, and the store that would have to be asked is down.
        """
        return self._known or self.look()

    def look(self) -> Place:
        """Ask the stores.

        Raises:
            errors.Unreachable: a store that would have to be asked cannot be reached.
            errors.WritesClosed: a switch is under way and it cannot be said which of the two counts.
            errors.SchemaBehind: a store has nothing that says.
        """
        first = self._known.side if self._known else StoreName.FLAT
        found: dict[StoreName, WriteState] = {}
        down: errors.Unreachable | None = None
        for side in (first, _OTHER[first]):
            try:
                now = found[side] = self._state(side)
            except errors.Unreachable as error:
                down = down or error
                continue
            if now.mode is not Mode.CLOSED and now.mode.ruling is side:
                self._known = Place(side=side, state=now, open=True)
                return self._known
        if down is not None:
            raise down
        for side, now in found.items():
            if now.mode is Mode.CLOSED:
                self._known = Place(side=side, state=now, open=False)
                return self._known
        # The two were asked one after the other, and a switch ended in between.
        raise errors.WritesClosed

    def _state(self, side: StoreName) -> WriteState:
        try:
            with self._pools[side].taken() as connection:
                return write_mode.state(connection)
        except (psycopg2.errors.UndefinedTable, psycopg2.errors.InvalidSchemaName):
            raise errors.SchemaBehind(f"The {side} store has no write mode.") from None
