"""What drivers and the system raise, as the error of ours that it means."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from hal9mig import errors
from hal9mig.settings import EMBEDDED_SERVERS, Settings

if TYPE_CHECKING:
    import psycopg2

# What a query meets where the ledger's or a store's schema is not there, or older.
_SCHEMA_STATES = ("42P01", "42703", "3F000", "42883")
# What the triggers say to a writer: another epoch, and a store that does not rule.
_WRITE_MODE = ("HL001", "HL002")
_FORBIDDEN, _LOCKED = "42501", "55P03"
# What a trigger or a function says in words of its own.
_RAISED = "P0001"
#: SQLSTATE classes that blame the record: data exception, integrity, program limit.
_RECORD_FAULTS = ("22", "23", "54")


def translated(error: BaseException) -> errors.HAL9Error | None:
    """Return the error of ours that says what an exception means, None where nobody knows."""
    if isinstance(error, errors.HAL9Error):
        return error
    return _database(error) or _system(error)


def blames_record(error: psycopg2.Error) -> bool:
    """Whether an error is a record's own, and not the server's or the connection's."""
    return (error.pgcode or "")[:2] in _RECORD_FAULTS


def sentence(error: BaseException) -> str:
    """Return an error as one line, without the statement it came from."""
    if isinstance(error, errors.HAL9Error):
        return error.message
    text = str(error)
    if "psycopg2" in sys.modules:
        import psycopg2

        if isinstance(error, psycopg2.Error):
            text = _said(error)
    return f"{type(error).__name__}: {text}"


def fitting(found: errors.HAL9Error, resolved: Settings) -> errors.HAL9Error:
    """Return an error whose hint fits the set-up: on one's own servers there is no stack to ask."""
    if isinstance(found, errors.Unreachable) and found.hint == EMBEDDED_SERVERS:
        found.hint = resolved.servers_hint
    return found


def _database(error: BaseException) -> errors.HAL9Error | None:
    # Only what has been loaded can have been raised, and loading it takes time.
    if "psycopg2" in sys.modules:
        import psycopg2

        if isinstance(error, psycopg2.Error):
            return _postgres(error)
    if "redis" in sys.modules:
        import redis

        if isinstance(error, redis.AuthenticationError):
            return errors.LoginRefused(f"Redis refused the login: {error}")
        if isinstance(error, redis.RedisError):
            return errors.QueueUnreachable(f"Redis cannot be reached: {error}")
    if "kombu" in sys.modules:
        from kombu import exceptions

        if isinstance(error, exceptions.OperationalError):
            return errors.QueueUnreachable(f"Redis cannot be reached: {error}")
    return None


def _postgres(error: BaseException) -> errors.HAL9Error:
    import psycopg2

    assert isinstance(error, psycopg2.Error)
    text = _said(error)
    state = error.pgcode or ""
    if state in _WRITE_MODE:
        return errors.Refused(f"{text[0].upper()}{text[1:]}.", hint="hal9-migrate mode")
    if state in _SCHEMA_STATES:
        return errors.SchemaBehind(f"A database lacks something that this program needs: {text}.")
    if state == _RAISED and error.diag.message_hint:
        return errors.Refused(f"{text[0].upper()}{text[1:]}.", hint=error.diag.message_hint)
    if state == _FORBIDDEN:
        return errors.Refused(f"The database account may not do this: {text}.", hint="let its owner grant the right")
    if state == _LOCKED:
        return errors.TimedOut(f"Another session holds what this waits for: {text}", hint="try it again")
    if isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError) or state.startswith("57"):
        return errors.StoreUnreachable(f"The connection to the database was lost: {text}")
    return errors.HAL9Error(f"The database reported an error: {text}", hint="run it again with --debug to see where")


def _said(error: psycopg2.Error) -> str:
    parts = (error.diag.message_primary, error.diag.message_detail)
    return " ".join(("; ".join(part for part in parts if part) or str(error)).split())


def _system(error: BaseException) -> errors.HAL9Error | None:
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return errors.HAL9Error(f"{where}{error.strerror}.")
    return None
