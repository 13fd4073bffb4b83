"""Connections to the stores, with the driver's errors turned into ours."""

from __future__ import annotations

import contextlib
import re
import secrets
import threading
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote

import psycopg2
import psycopg2.extensions

from hal9mig import errors

Connection = psycopg2.extensions.connection
Cursor = psycopg2.extensions.cursor

#: A dead peer is noticed after about this many seconds, instead of the system's two hours.
_KEEPALIVES: dict[str, Any] = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
_LOGIN = re.compile(r"(?P<user>[^:/@?]*)(?::(?P<password>[^@]*))?@(?P<place>.*)", re.S)
# Invalid authorization, invalid password, and a role or database that does not exist.
_LOGIN_WORDS = ("password authentication failed", "no password supplied", "does not exist", "no pg_hba.conf entry")


def connect(
    url: str, *, application_name: str, connect_timeout: float = 5.0, patience: float | None = None, own: bool = False
) -> Connection:
    """Open one psycopg2 connection in UTC and UTF-8.

    A connection pooler may be between, which lends another session of the server's to each transaction. Nothing may
    then be left in a session: it would be missing here, and be found by whoever is lent that session next.

    Args:
        url: ``postgresql://user:password@host:port/database``.
        application_name: shown in ``pg_stat_activity``.
        connect_timeout: seconds to try.
        patience: seconds that a statement waits for a lock; None is as long as it takes. It needs ``own``.
        own: whether it has to be one session of the server's for as long as it is open.

    Raises:
        errors.PoolerBetween: a pooler is between, and it has to be one session, or its sessions begin with settings
            under which the stores' values would not be written alike.
        errors.StoreUnreachable: nothing answers there.
        errors.LoginRefused: the server refuses user, password or database.
    """
    parsed = _parsed(url)
    try:
        connection: Connection = psycopg2.connect(
            **{
                **parsed, **_KEEPALIVES, "application_name": application_name, "client_encoding": "UTF8",
                "connect_timeout": max(1, round(connect_timeout)),
            }
        )  # fmt: skip
    except psycopg2.OperationalError as error:
        raise _refusal(parsed, error) from None
    try:
        # SET by statement and not by `options`: connection poolers refuse the latter.
        with connection.cursor() as cursor:
            cursor.execute("SET TIME ZONE 'UTC'; SET extra_float_digits = 1; SET bytea_output = 'hex'")
            if patience is not None:
                cursor.execute("SET lock_timeout = %s", (round(patience * 1000),))
            if own or patience is not None:
                require_own(cursor)
            elif lent(cursor):
                connection.rollback()
                _require_settings(cursor, _where(parsed))
        connection.commit()
    except psycopg2.OperationalError as error:
        # A pooler lets everybody in, and looks for a server with the first statement.
        connection.close()
        raise _refusal(parsed, error) from None
    except BaseException:
        connection.close()
        raise
    return connection


def lent(cursor: Cursor) -> bool:
    """Whether a pooler lends the sessions: the one that answers is not the one that the connection began with.

    A pooler tells its clients numbers of its own, by which they may cancel a statement, in whatever way it lends.
    """
    cursor.execute("SELECT pg_backend_pid()")
    (pid,) = cursor.fetchone() or (None,)
    return bool(pid != cursor.connection.info.backend_pid)


def require_own(cursor: Cursor) -> None:
    """Raise where a session is not the connection's own for as long as that is open.

    Raises:
        errors.PoolerBetween: it is lent.
    """
    if lent(cursor):
        # With whatever was set in the session that is lent just now.
        cursor.connection.rollback()
        where = _where(psycopg2.extensions.parse_dsn(cursor.connection.dsn))
        raise errors.PoolerBetween(
            f"A connection pooler is between this program and the database at {where}, and what has to outlast a "
            "transaction cannot be kept through it.",
            hint="name the server itself in HAL9_FLAT_DIRECT_URL or HAL9_HIER_DIRECT_URL",
        )


def _require_settings(cursor: Cursor, where: str) -> None:
    cursor.execute(
        "SELECT format('%s = %s', name, setting) FROM pg_settings WHERE CASE name "
        "WHEN 'TimeZone' THEN setting NOT IN ('UTC', 'Etc/UTC', 'GMT', 'Etc/GMT', 'Zulu', 'Universal') "
        "WHEN 'bytea_output' THEN setting <> 'hex' WHEN 'extra_float_digits' THEN setting::int < 1 END ORDER BY 1"
    )
    if found := [name for (name,) in cursor.fetchall()]:
        raise errors.PoolerBetween(
            f"A connection pooler lends sessions of the database at {where} that begin with {', '.join(found)}.",
            hint="ALTER ROLE ... SET timezone = 'UTC'; SET bytea_output = 'hex'; SET extra_float_digits = 1: the ones "
            "named, for the account; then RECONNECT in the pooler",
        )


def require_same(url: str, direct_url: str, *, application_name: str) -> None:
    """Raise where two addresses, a pooler's and the server's own, do not lead to the same database.

    Raises:
        errors.Refused: they do not.
        errors.PoolerBetween: the second is a pooler's too.
        errors.StoreUnreachable: one cannot be reached.
    """
    key = secrets.randbits(62)
    with contextlib.closing(connect(direct_url, application_name=application_name, own=True)) as held:
        with held.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (key,))
        with connected(url, application_name=application_name) as opened, opened.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", (key,))
            (free,) = cursor.fetchone() or (True,)
    if free:
        places = f"{_where(_parsed(url))} and {_where(_parsed(direct_url))}"
        raise errors.Refused(
            f"The two addresses of one store, {places}, lead to two databases.",
            hint="hal9-migrate configure show --origin",
        )


def addressed(url: str, database: str) -> str:
    """Return the address of another database of the same server, for the same account."""
    _parsed(url)
    head, mark, query = url.partition("?")
    return f"{head[: head.rindex('/')] if head.count('/') > 2 else head}/{quote(database, safe='')}{mark}{query}"


@contextlib.contextmanager
def connected(url: str, *, application_name: str, connect_timeout: float = 5.0) -> Iterator[Connection]:
    """Open a connection for the length of a block; commits at its end, rolls back on an error."""
    connection = connect(url, application_name=application_name, connect_timeout=connect_timeout)
    try:
        with connection:
            yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def speaking(connection: Connection, *, every: float) -> Iterator[None]:
    """Say something on a connection every few seconds for the length of a block, whatever else its process does.

    So the server, told to end a session that is idle for longer, ends only that of a process which is stopped.
    """
    over = threading.Event()

    def speak() -> None:
        while not over.wait(every) and not connection.closed:
            with contextlib.suppress(psycopg2.Error), connection.cursor() as cursor:
                cursor.execute("SELECT 1")

    thread = threading.Thread(target=speak, name="speaking", daemon=True)
    thread.start()
    try:
        yield
    finally:
        # Before a transaction ends: a word after that would begin another.
        over.set()
        thread.join()


def lost(connection: Connection, error: BaseException, *, name: str | None = None) -> errors.StoreUnreachable:
    """Return our error for a connection that broke; the driver's own does not name the server.

    Args:
        name: what the database is called; None is its address.
    """
    where = _where(psycopg2.extensions.parse_dsn(connection.dsn))
    detail = " ".join(str(error).split())
    called = f"the {name} store" if name else f"the database at {where}"
    return errors.StoreUnreachable(f"The connection to {called} was lost: {detail}", server=where)


def _where(parsed: Mapping[str, str]) -> str:
    return f"{parsed.get('host') or 'local socket'}:{parsed.get('port', 5432)}/{parsed.get('dbname')}"


def _parsed(url: str) -> dict[str, str]:
    """Return an address as the driver's parameters.

    Raises:
        errors.InvalidSettings: it is no address of a PostgreSQL database.
    """
    scheme, found, rest = url.partition("://")
    if not found:
        raise errors.InvalidSettings("A store's address is not a URL.", hint="postgresql://user@host/db")
    if not scheme.startswith("postgres"):
        raise errors.InvalidSettings(
            f"A store's address names {scheme}, not PostgreSQL.", hint="postgresql://user@host/db"
        )
    # Taken out first: a password may have what divides the rest, and nothing of it may stand in an error.
    login, place = _LOGIN.fullmatch(rest), rest
    given: dict[str, str] = {}
    if login is not None:
        place = login["place"]
        given = {name: unquote(login[name]) for name in ("user", "password") if login[name]}
    if "@" in place.partition("?")[0]:
        # The rest of the password would pass for the host, and be printed as such.
        raise errors.InvalidSettings("A store's address has an @ in its user or password.", hint="write it as %40")
    try:
        return {**psycopg2.extensions.parse_dsn(f"postgresql://{place}"), **given}
    except psycopg2.ProgrammingError as error:
        raise errors.InvalidSettings(
            f"A store's address cannot be read: {' '.join(str(error).split())}", hint="postgresql://user@host/db"
        ) from None


def _refusal(parsed: Mapping[str, str], error: psycopg2.OperationalError) -> errors.HAL9Error:
    where = _where(parsed)
    detail = " ".join(str(error).split())
    if any(word in detail for word in _LOGIN_WORDS) and "No such file" not in detail:
        return errors.LoginRefused(f"The database at {where} refused the login: {detail}", server=where)
    return errors.StoreUnreachable(f"The database at {where} cannot be reached: {detail}", server=where)


def require_two(flat_url: str, hier_url: str, *, application_name: str) -> None:
    """Raise where both stores are one database, by whatever addresses.

    An advisory lock is a database's: one that is held by a session of the one and free in the other is proof of two,
    and needs no right, where comparing addresses or what a server says of itself needs one or the other.

    Raises:
        errors.OneDatabase: they are one.
        errors.StoreUnreachable: a database cannot be reached.
    """
    key = secrets.randbits(62)
    with (
        connected(flat_url, application_name=application_name) as flat,
        connected(hier_url, application_name=application_name) as hier,
        flat.cursor() as held,
        hier.cursor() as tried,
    ):
        held.execute("SELECT pg_advisory_xact_lock(%s)", (key,))
        tried.execute("SELECT pg_try_advisory_xact_lock(%s), current_database()", (key,))
        free, name = tried.fetchone() or (False, "")
        if not free:
            raise errors.OneDatabase(
                f"Both stores are one database, {name}: the two URLs lead to the same place.",
                hint="make a database of its own for the hierarchical store, and name it in HAL9_HIER_URL",
            )
