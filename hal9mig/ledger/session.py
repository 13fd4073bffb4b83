"""A session with the ledger's database: its statements, their rows, and transactions that end with a block."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg2
import psycopg2.extensions
import psycopg2.extras

from hal9mig.stores import connection as stores_connection
from hal9mig.stores.connection import Connection

_IDLE = psycopg2.extensions.TRANSACTION_STATUS_IDLE


class Result:
    """The rows that a statement gave, each with its columns as attributes.

    Attributes:
        rowcount: rows that it gave or changed.
    """

    def __init__(self, rows: Sequence[Any], rowcount: int):
        self._rows = rows
        self.rowcount = rowcount

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)

    def all(self) -> Sequence[Any]:
        """Return all rows."""
        return self._rows

    def first(self) -> Any | None:
        """Return the first row, None where there is none."""
        return self._rows[0] if self._rows else None

    def one(self) -> Any:
        """Return the only row.

        Raises:
            ValueError: there is none, or more than one.
        """
        (row,) = self._rows
        return row

    def scalar(self) -> Any:
        """Return the first row's first column, None where there is no row."""
        return self._rows[0][0] if self._rows else None

    def scalar_one(self) -> Any:
        """Return the only row's first column.

        Raises:
            ValueError: there is no row, or more than one.
        """
        return self.one()[0]


class Session:
    """One connection, as the ledger speaks on it.

    Attributes:
        connection: the driver's.
    """

    def __init__(self, connection: Connection):
        self.connection = connection

    def execute(self, statement: str, values: Mapping[str, object] | Sequence[object] | None = None) -> Result:
        """Run a statement.

        Raises:
            errors.StoreUnreachable: the connection is lost.
            psycopg2.Error: the server refused it.
        """
        with self._speaking(), self.connection.cursor(cursor_factory=psycopg2.extras.NamedTupleCursor) as cursor:
            cursor.execute(statement, values)  # type: ignore[no-untyped-call]
            rows = () if cursor.description is None else cursor.fetchall()
            return Result(rows, cursor.rowcount)

    def begin(self) -> Transaction:
        """Begin a transaction; as a context manager it commits at the end of the block, and rolls back on an error.

        Raises:
            RuntimeError: one is open already.
        """
        if self.connection.info.transaction_status != _IDLE and not self.connection.closed:
            raise RuntimeError("A transaction of this session is open already.")
        return Transaction(self)

    def commit(self) -> None:
        """Commit.

        Raises:
            errors.StoreUnreachable: the connection is lost; whether it is committed is not known.
            psycopg2.Error: the server refused it.
        """
        with self._speaking():
            self.connection.commit()

    def rollback(self) -> None:
        """Roll back; nothing is left to do where the connection is lost."""
        with contextlib.suppress(psycopg2.Error):
            self.connection.rollback()

    @contextlib.contextmanager
    def _speaking(self) -> Iterator[None]:
        try:
            yield
        except psycopg2.Error as error:
            # What the server says has a code; without one it is the connection that is meant.
            if self.connection.closed or (isinstance(error, psycopg2.OperationalError) and error.pgcode is None):
                self.connection.close()
                raise stores_connection.lost(self.connection, error) from None
            raise
        except BaseException as error:
            # An interruption in the middle of a statement leaves nobody knows what on the line; it is no outage, and
            # stays what it is: whoever retries an outage must not swallow it.
            if not isinstance(error, Exception):
                self.connection.close()
            raise


class Transaction:
    """A transaction of a session.

    Attributes:
        is_active: whether it is neither committed nor rolled back.
    """

    def __init__(self, session: Session):
        self._session = session
        self.is_active = True

    def __enter__(self) -> Session:
        return self._session

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        if not self.is_active:
            return
        if error is None:
            self.commit()
        else:
            self.rollback()

    def commit(self) -> None:
        """Commit; see ``Session.commit``."""
        try:
            self._session.commit()
        except BaseException:
            self.rollback()
            raise
        self.is_active = False

    def rollback(self) -> None:
        """Roll back."""
        self.is_active = False
        self._session.rollback()
