"""The ledger's database: one pool a process, and the named statements of the ``.sql`` files."""

from __future__ import annotations

import contextlib
import functools
import getpass
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hal9mig import model
from hal9mig.ledger.session import Result, Session
from hal9mig.safe_text import json_text
from hal9mig.stores.pool import Pool

__all__ = ("Ledger", "Session", "actor", "json_text", "key", "key_texts", "run", "statements")

_NAME = re.compile(r"^-- name: (\w+)\n", re.M)


@functools.cache
def statements(file: str) -> Mapping[str, str]:
    """Return the statements of one of the ledger's ``.sql`` files by name."""
    text = (pathlib.Path(__file__).parent / "sql" / f"{file}.sql").read_text(encoding="utf-8")
    parts = _NAME.split(text)
    return {name: body.strip() for name, body in zip(parts[1::2], parts[2::2], strict=True)}


class Ledger:
    """Opens transactions on the ledger; safe to share between threads, not between processes."""

    def __init__(
        self,
        url: str,
        *,
        application_name: str,
        connect_timeout: float = 5.0,
        pool_size: int = 2,
        patience: float | None = None,
        trust: float = 0.0,
    ):
        self.url = url
        self._pool = Pool(
            url, application_name=application_name, connect_timeout=connect_timeout, idle=pool_size, patience=patience,
            trust=trust,
        )  # fmt: skip

    @contextlib.contextmanager
    def begin(self) -> Iterator[Session]:
        """Open a transaction; it commits at the end of the block and rolls back on an error."""
        with self.connection() as session, session.begin():
            yield session

    @contextlib.contextmanager
    def single(self) -> Iterator[Session]:
        """Open a connection on which each statement commits by itself.

        The server then needs nothing more from this process to commit: one that is frozen between the
        two leaves no lock behind.
        """
        with self._set(autocommit=True) as session:
            yield session

    @contextlib.contextmanager
    def connection(self) -> Iterator[Session]:
        """Keep one connection for a block that opens several transactions on it with ``begin()``."""
        with self._pool.taken() as connection:
            yield Session(connection)

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Session]:
        """Open a transaction that reads one snapshot for as long as it lasts, however idle it is in between."""
        with self._set(isolation_level="REPEATABLE READ") as session, session.begin():
            session.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            yield session

    @contextlib.contextmanager
    def _set(self, **how: Any) -> Iterator[Session]:
        with self.connection() as session:
            session.connection.set_session(**how)
            try:
                yield session
            finally:
                session.rollback()
                if not session.connection.closed:
                    session.connection.set_session(isolation_level="DEFAULT", autocommit=False)

    def close(self) -> None:
        """Close the pooled connections."""
        self._pool.clear()


def run(session: Session, file: str, name: str, /, **values: object) -> Result:
    """Run a named statement with named parameters; mappings and lists other than of texts go as JSON."""
    return session.execute(statements(file)[name], {key: _plain(value) for key, value in values.items()})


def _plain(value: object) -> object:
    if isinstance(value, Mapping) or (isinstance(value, tuple) and all(isinstance(part, str) for part in value)):
        return json_text(value)
    return value


def key(value: Any) -> model.Key | None:
    """Return a key as a row has it, None where there is none."""
    return None if value is None else tuple(value)


def key_texts(keys: Iterable[model.Key]) -> list[str]:
    """Return keys as the JSON texts that rows have them in."""
    return [json_text(list(one)) for one in keys]


def actor() -> str:
    """Return who is asking, for the audit: the sudo user or the login, and the host."""
    name = os.environ.get("SUDO_USER")
    if not name:
        try:
            name = getpass.getuser()
        except (KeyError, OSError):
            name = f"uid {os.getuid()}"
    return f"{name}@{os.uname().nodename}"
