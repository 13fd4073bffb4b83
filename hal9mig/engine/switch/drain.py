"""Brings the last writes over behind the barrier, while every writer waits for it."""

from __future__ import annotations

import contextlib
import time

import psycopg2.extensions

from hal9mig import errors, model, units
from hal9mig.engine.switch import lock_patience
from hal9mig.engine.system import System
from hal9mig.engine.transfer import follower
from hal9mig.engine.transfer.follower import Followed
from hal9mig.stores import capture


def drain(system: System, side: model.StoreName, *, patience: float) -> None:
    """Apply a side's journal until it is empty.

    Args:
        patience: seconds to wait for a lock of a key or a row.

    Raises:
        errors.GateClosed: something is left; who held it up is named.
    """
    hint = "hal9-migrate reconcile --full"
    ends = time.monotonic() + lock_patience.LONGEST
    try:
        if lock_patience.hurried(system, lambda hurried: _follow(hurried, side, ends), patience=patience).emptied:
            # In the way back nothing goes to quarantine: what is refused stays in the journal.
            reason = "it refuses them"
        else:
            reason = f"{units.format_duration(lock_patience.LONGEST)} were not enough"
    except errors.GateClosed as held:
        reason, hint = held.message[0].lower() + held.message[1:], held.hint or hint
    with contextlib.closing(system.store(side)) as source:
        left = capture.records(source)
    if left:
        raise errors.GateClosed(
            f"The last writes of {units.format_count(left)} record{'s' if left != 1 else ''} of the {side} store "
            f"are not in the other one: {reason.removesuffix('.')}.",
            hint=f"{hint}, and try again",
        )


def _follow(system: System, side: model.StoreName, ends: float) -> Followed:
    # Its own sessions: the barrier's must not commit or roll back under it.
    with contextlib.closing(system.flat()) as flat, contextlib.closing(system.hier()) as hier:
        while True:
            try:
                return follower.follow(system, flat, hier, side, seconds=max(0.0, ends - time.monotonic()))
            except psycopg2.extensions.TransactionRollbackError:
                # A worker applies the same keys at this moment: the server undoes one of the two.
                if time.monotonic() > ends:
                    raise
                for connection in (flat, hier):
                    connection.rollback()
