"""The schemas' histories: bringing both databases up to this program, and telling how far they are.

Each has its version table inside the schema it is about: ``flat`` in the flat store, ``hier`` and
``hal9mig`` (the ledger) in the hierarchical one, ``hal9cap`` (capture) in both.
"""

from __future__ import annotations

import dataclasses
import pathlib
import threading
from typing import TYPE_CHECKING

import psycopg2.errors

from hal9mig import errors, model
from hal9mig.categories import registry
from hal9mig.stores import category_check, connection

if TYPE_CHECKING:
    import sqlalchemy

_PACKAGE = pathlib.Path(__file__).parent.parent
_APPLICATION = "hal9-migrate schema"
# Any constant of ours will do: it is taken in the database that is upgraded. ASCII "hal9mig".
_LOCK = int.from_bytes(b"hal9mig")
# Alembic keeps the migration that runs in module globals.
_ALEMBIC = threading.Lock()


@dataclasses.dataclass(frozen=True, kw_only=True)
class History:
    """One history of migrations: the schema it builds, the store that holds it, and its folder."""

    schema: str
    store: model.StoreName
    folder: pathlib.Path

    @property
    def name(self) -> str:
        """The schema, with the store where both have one of this name."""
        return f"{self.schema} ({self.store})" if self.schema == "hal9cap" else self.schema

    @property
    def head(self) -> str | None:
        """The newest revision, read off the file names: alembic takes too long to load just to ask."""
        revisions = [path.name.partition("_")[0] for path in (self.folder / "versions").glob("[0-9]*_*.py")]
        return max(revisions, default=None)


_CAPTURE = _PACKAGE / "stores" / "migrations" / "capture"
HISTORIES = (
    History(schema="flat", store=model.StoreName.FLAT, folder=_PACKAGE / "stores" / "migrations" / "flat"),
    History(schema="hier", store=model.StoreName.HIERARCHICAL, folder=_PACKAGE / "stores" / "migrations" / "hier"),
    History(schema="hal9mig", store=model.StoreName.HIERARCHICAL, folder=_PACKAGE / "ledger" / "migrations"),
    History(schema="hal9cap", store=model.StoreName.FLAT, folder=_CAPTURE),
    History(schema="hal9cap", store=model.StoreName.HIERARCHICAL, folder=_CAPTURE),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SchemaState:
    """How far a schema is: the revision it has, None before the first, and the newest this program has."""

    name: str
    current: str | None
    head: str | None

    @property
    def behind(self) -> bool:
        """Whether it lacks a migration of this program."""
        return self.head is not None and (self.current is None or self.current < self.head)

    @property
    def ahead(self) -> bool:
        """Whether it has a revision that this program does not know."""
        return self.current is not None and (self.head is None or self.current > self.head)

    @property
    def word(self) -> str:
        """How far it is, in a word: missing, behind, ahead or current."""
        if self.behind:
            return "behind" if self.current else "missing"
        return "ahead" if self.ahead else "current"


def upgrade(flat_url: str, hier_url: str) -> None:
    """Bring all three schemas to their newest revision; each in one transaction, and safe to run twice at once.

    Tables of the flat store that exist already are left as they are when they have the declared columns.

    Raises:
        errors.SchemaMismatch: a table is there but not as declared, or a revision is not this program's.
        errors.OneDatabase: both stores are one.
        errors.Refused: the account may not create what is missing.
        errors.StoreUnreachable: a database cannot be reached.
    """
    # Before anything is made: the hierarchical schema must not come into the application's own database.
    connection.require_two(flat_url, hier_url, application_name=_APPLICATION)
    urls = {model.StoreName.FLAT: flat_url, model.StoreName.HIERARCHICAL: hier_url}
    for history in HISTORIES:
        _upgrade_one(history, urls[history.store])


def status(flat_url: str, hier_url: str) -> list[SchemaState]:
    """Return how far each schema is.

    Raises:
        errors.StoreUnreachable: a database cannot be reached.
    """
    urls = {model.StoreName.FLAT: flat_url, model.StoreName.HIERARCHICAL: hier_url}
    states = []
    for store, url in urls.items():
        with connection.connected(url, application_name=_APPLICATION) as opened, opened.cursor() as cursor:
            for history in HISTORIES:
                if history.store is not store:
                    continue
                cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (f"{history.schema}.alembic_version",))
                current = None
                if cursor.fetchone() == (True,):
                    cursor.execute(f"SELECT max(version_num) FROM {history.schema}.alembic_version")
                    row = cursor.fetchone()
                    current = None if row is None else row[0]
                states.append(SchemaState(name=history.name, current=current, head=history.head))
    return states


def require_current(flat_url: str, hier_url: str) -> None:
    """Raise where a schema is not at this program's newest revision.

    Raises:
        errors.OneDatabase: both stores are one.
        errors.SchemaBehind: one or more are older; the message names them.
        errors.SchemaMismatch: one is newer than this program.
        errors.StoreUnreachable: a database cannot be reached.
    """
    connection.require_two(flat_url, hier_url, application_name=_APPLICATION)
    states = status(flat_url, hier_url)
    behind = [f"{state.name} is at {state.current or 'nothing'}, not {state.head}" for state in states if state.behind]
    if behind:
        raise errors.SchemaBehind(f"A database schema is older than this program: {'; '.join(behind)}.")
    for state in states:
        if state.ahead:
            raise errors.SchemaMismatch(
                f"Schema {state.name} is at {state.current}, which this program does not know.",
                hint="use the program that upgraded it, or a newer one",
            )


def _upgrade_one(history: History, url: str) -> None:
    # Alembic and what it stands on take a third of the time that a command needs to start, and few need them.
    import sqlalchemy
    from sqlalchemy import exc

    engine = sqlalchemy.create_engine(
        "postgresql+psycopg2://",
        creator=lambda: connection.connect(url, application_name=_APPLICATION),
        poolclass=sqlalchemy.NullPool,
    )
    try:
        with engine.begin() as opened:
            _taken_up(history, opened)
    except exc.DBAPIError as error:
        raise _failure(history, error) from error


def _taken_up(history: History, opened: sqlalchemy.Connection) -> None:
    import sqlalchemy
    from alembic import command, config, util

    # Whoever comes second waits here, and then finds everything done.
    opened.execute(sqlalchemy.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    # Asked first, as CREATE SCHEMA IF NOT EXISTS wants the right to create even where nothing is to be done.
    if opened.scalar(sqlalchemy.text("SELECT to_regnamespace(:name) IS NULL"), {"name": history.schema}):
        opened.execute(sqlalchemy.text(f"CREATE SCHEMA {history.schema}"))
    settings = config.Config(attributes={"connection": opened})
    settings.set_main_option("script_location", str(history.folder).replace("%", "%%"))
    with _ALEMBIC:
        try:
            command.upgrade(settings, "head")
        except util.CommandError as error:
            raise _unknown(history) from error
    if history.schema == "flat":
        for category in registry.builtin().ordered():
            category_check.check_source(category, _driver(opened))


def _driver(opened: sqlalchemy.Connection) -> connection.Connection:
    raw = opened.connection.driver_connection
    assert isinstance(raw, connection.Connection)
    return raw


def _unknown(history: History) -> errors.HAL9Error:
    return errors.SchemaMismatch(
        f"{history.schema}.alembic_version holds a revision that this program does not know.",
        hint="a newer hal9-migrate or another application wrote it; use the newer program",
    )


def _failure(history: History, error: sqlalchemy.exc.DBAPIError) -> errors.HAL9Error:
    detail = " ".join(str(error.orig).split())
    if error.connection_invalidated:
        return errors.StoreUnreachable(f"The connection to the {history.store} store was lost: {detail}")
    if isinstance(error.orig, psycopg2.errors.InsufficientPrivilege):
        return errors.Refused(
            f"The account may not upgrade schema {history.schema}: {detail}",
            hint="grant CREATE on the database, or let its owner run hal9-migrate db upgrade",
        )
    return errors.HAL9Error(f"Upgrading schema {history.schema} failed: {detail}", schema=history.schema)
