"""The second half of a dual write: what was written to the flat store, brought to the other at once.

It is a courtesy: the journal carries every key anyway, and the workers bring over what this did not.
So it never waits long, and nothing that goes wrong here is the application's.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

import psycopg2

from hal9mig import errors, model
from hal9mig.categories.transform import Transform
from hal9mig.engine.transfer.applier import Applier
from hal9mig.ledger.session import Session
from hal9mig.stores.connection import Connection
from hal9mig.stores.pool import Pool

log = logging.getLogger(__name__)

#: Seconds that one statement on the target may take, and that a lock may be waited for.
PATIENCE = 1.0
#: Seconds after a failure in which the target is left to the workers, so that it does not slow each write.
_REST = 2.0
#: Seconds that a write waits for its turn, before it is left to the workers.
_QUEUE = 0.1
#: Threads that bring writes over at a time; those of the others are left to the workers.
_SLOTS = 8


class Mirror:
    """Applies written keys to the hierarchical store."""

    def __init__(
        self, url: str, flat: Pool, transform: Callable[[str], Transform], *,
        application_name: str, connect_timeout: float,
    ):  # fmt: skip
        self._flat = flat
        self._transform = transform
        self._slots = threading.BoundedSemaphore(_SLOTS)
        self._hier = Pool(
            url, application_name=application_name, connect_timeout=min(connect_timeout, PATIENCE), idle=_SLOTS,
            prepare=_bound, own=True,
        )  # fmt: skip
        self._rests_until = 0.0
        # Whether this account may write past capture, on a session of its own; None before it was asked.
        self._own: bool | None = None

    def bring(self, written: Sequence[tuple[str, model.Key]]) -> bool:
        """Bring records over by category and key, and return whether all of them are there now."""
        if self._own is False or time.monotonic() < self._rests_until or not self._slots.acquire(timeout=_QUEUE):
            return False
        try:
            for category in sorted({slug for slug, _ in written}):
                keys = [key for slug, key in written if slug == category]
                with self._flat.taken() as flat, self._hier.taken() as hier:
                    session = Session(hier)
                    if not self._may(session):
                        return False
                    # A worker may have been quicker; and a restore may have come, and both stores be of another time.
                    applier = Applier(self._transform(category), session=session, flat=flat, waiting=True)
                    if applier.apply(keys).rejected:
                        return False
        except errors.PoolerBetween:
            # The bounds of a session would be everybody's, and this is not to wait without them.
            self._own = False
            log.info("dual writes are left to the workers: a connection pooler is between")
            return False
        except (errors.HAL9Error, psycopg2.Error) as error:
            self._rests_until = time.monotonic() + _REST
            log.warning("a dual write is left to the workers: %s", " ".join(str(error).split()))
            return False
        finally:
            self._slots.release()
        return True

    def _may(self, session: Session) -> bool:
        """Whether the account is one of this system's own; an application's own leaves dual writes to the workers."""
        if self._own is None:
            with session.begin():
                self._own = bool(
                    session.execute("SELECT has_table_privilege(to_regclass('hal9cap.pass')::oid, 'SELECT')").scalar()
                )
        return self._own

    def close(self) -> None:
        """Close the connections."""
        self._hier.clear()


def _bound(connection: Connection) -> None:
    # The last one: a process that is stopped in the middle must not hold its locks for ever.
    milliseconds = round(PATIENCE * 1000)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SET statement_timeout = {milliseconds}; SET lock_timeout = {milliseconds}; "
            f"SET idle_in_transaction_session_timeout = {5 * milliseconds}"
        )
    connection.commit()
