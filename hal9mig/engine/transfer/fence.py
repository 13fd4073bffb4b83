"""Whoever applies to a store keeps its fence until it commits; a switch or a restore closes it for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg2.errors

from hal9mig import errors, model
from hal9mig.stores import capture, lock_holders, restore_notes, write_mode
from hal9mig.stores.connection import Connection, Cursor, require_own
from hal9mig.stores.write_mode import Mode

#: Seconds without a word from whoever applies, in the middle of a transaction, after which it is given up.
FROZEN = 60.0
_FENCE = "hashtextextended('hal9mig applying', 0)"
#: The modes of a store in which it is not the one that is applied to.
_RULES_ITSELF = {
    model.StoreName.FLAT: (Mode.FLAT_ONLY, Mode.DUAL_WRITE),
    model.StoreName.HIERARCHICAL: (Mode.HIERARCHICAL_ONLY, Mode.CLOSED),
}


def hold(cursor: Cursor, target: model.StoreName, *, restores: int | None = None) -> None:
    """Make sure that a store is the one to apply to, and stays it until the transaction ends.

    To be called first: whoever waits here must not hold a key that one in front of it needs.

    Args:
        restores: how many the store had been through when it was looked up which keys to apply.

    Raises:
        errors.StaleEpoch: the store rules itself, or was restored meanwhile.
    """
    # One that is frozen from here on keeps others from its keys, and a switch from ending, until the server
    # ends its session. The client's own sessions have a shorter time.
    cursor.execute(
        "SELECT set_config('idle_in_transaction_session_timeout', %s, true) "
        "WHERE current_setting('idle_in_transaction_session_timeout') = '0'; "
        f"SELECT pg_advisory_xact_lock_shared({_FENCE})",
        (f"{round(FROZEN * 1000)}ms",),
    )
    now = write_mode.state(cursor.connection)
    if now.mode in _RULES_ITSELF[target]:
        raise errors.StaleEpoch(f"Nothing is applied to the {target} store, which rules: its write mode is {now.mode}.")
    # Between the two swaps of a restore: what was applied now would go with the tables that are about to
    # be replaced, and its key be pruned from the journal of the store that is restored already.
    reason = capture.held(cursor.connection)
    if reason is not None:
        raise errors.StaleEpoch(f"Nothing is applied to the {target} store now: {reason}.")
    # A restore has put both stores to another time. Where the other store ruled then, this one's record may be the
    # newer one of the two, and nothing waits any more that says to replace it.
    if restores is not None and restore_notes.count(cursor.connection) != restores:
        raise errors.StaleEpoch(f"The {target} store was restored since it was looked up what to apply.")


def keep_out(connection: Connection, *, patience: float) -> None:
    """Keep appliers off a store until the open transaction ends, after those in flight have ended.

    Raises:
        errors.GateClosed: one in flight does not end within ``patience`` seconds; it is named.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", (f"{int(patience * 1000)}ms",))
        try:
            cursor.execute(f"SELECT pg_advisory_xact_lock({_FENCE})")
        except psycopg2.errors.LockNotAvailable:
            connection.rollback()
            raise _still_applying(connection) from None


@contextlib.contextmanager
def closed(connection: Connection, *, patience: float) -> Iterator[None]:
    """Keep appliers off a store for the length of a block, after those in flight have ended.

    Raises:
        errors.GateClosed: one in flight does not end within ``patience`` seconds; it is named. Or a restore has been
            through the other store and not through this one.
        errors.PoolerBetween: the lock would be another session's with the next transaction.
    """
    with connection.cursor() as cursor:
        require_own(cursor)
        cursor.execute("SELECT set_config('lock_timeout', %s, false)", (f"{int(patience * 1000)}ms",))
        connection.commit()
        try:
            cursor.execute(f"SELECT pg_advisory_lock({_FENCE})")
            connection.commit()
        except psycopg2.errors.LockNotAvailable:
            connection.rollback()
            raise _still_applying(connection) from None
        finally:
            cursor.execute("SELECT set_config('lock_timeout', '0', false)")
            connection.commit()
        try:
            # Whoever opened this store, or kept it, would have its state of before the restore, which is yet to come.
            reason = capture.held(connection)
            connection.commit()
            if reason is not None:
                raise errors.GateClosed(
                    f"The two stores are not of one time now: {reason}.", hint="hal9-migrate runs list --active"
                )
            yield
        finally:
            connection.rollback()
            cursor.execute(f"SELECT pg_advisory_unlock({_FENCE})")
            connection.commit()


def _still_applying(connection: Connection) -> errors.GateClosed:
    held = "; ".join(map(str, lock_holders.of_advisory(connection, _FENCE)))
    return errors.GateClosed(
        "A worker or a client is still applying a write to the store that is to be opened or replaced: "
        f"{held or 'it has ended just now'}.",
        hint="let it end, or end it with SELECT pg_terminate_backend(pid), and try again",
    )
