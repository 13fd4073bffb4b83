"""Tables of every kind, restored beside the live ones and swapped in, step by step as a restore does it."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
from collections.abc import Iterator, Mapping, Sequence

import psycopg2.extensions
from sqlalchemy.engine import make_url

from hal9mig import model
from hal9mig.categories.declaration import Column
from hal9mig.embedded.postgres import Cluster
from hal9mig.stores import connection, shadow, swap
from hal9mig.stores.connection import Cursor
from hal9mig.stores.relation import Relation

#: Seconds that a swap tries for its locks.
PATIENCE = 5.0


#: What a swap needs of capture's schema, for every account that a test lets restore.
CAPTURE = """
CREATE SCHEMA hal9cap;
CREATE TABLE hal9cap.pass (token text); INSERT INTO hal9cap.pass VALUES ('test');
CREATE TABLE hal9cap.captured (category text, declared text, relation oid);
GRANT USAGE ON SCHEMA hal9cap TO PUBLIC; GRANT ALL ON ALL TABLES IN SCHEMA hal9cap TO PUBLIC;
"""


class World:
    """A database of one test, with roles of its own."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.name = f"shadow_{secrets.token_hex(4)}"
        self.url = cluster.create_database(self.name)
        self.admin_url = cluster.admin_url(self.name)
        self._roles: list[str] = []
        self.execute(CAPTURE)

    def close(self) -> None:
        """Drop the database and the roles."""
        self.cluster.drop_database(self.name)
        if self._roles:
            with opened(self.cluster.admin_url()) as admin:
                admin.execute(f"DROP ROLE {', '.join(self._roles)}")

    def role(self, purpose: str, options: str = "") -> str:
        """Make a role and return its name."""
        name = f"{self.name}_{purpose}"
        self.execute(f"CREATE ROLE {name} {options}", admin=True)
        self._roles.append(name)
        return name

    def login(self, purpose: str) -> tuple[str, str]:
        """Make a role that may log in and nothing else; return its name and its URL."""
        name = self.role(purpose, "LOGIN PASSWORD 'secret'")
        url = make_url(self.url).set(username=name, password="secret")
        return name, url.render_as_string(hide_password=False)

    def execute(self, sql: str, *, admin: bool = False) -> None:
        """Execute statements, as the product's account or the superuser."""
        with opened(self.admin_url if admin else self.url) as cursor:
            cursor.execute(sql)

    def ask(self, sql: str, *, admin: bool = False) -> list[tuple[object, ...]]:
        """Return a query's rows."""
        with opened(self.admin_url if admin else self.url) as cursor:
            cursor.execute(sql)
            return cursor.fetchall()

    def relation(self, table: str, *key: str) -> Relation:
        """Return a table as it stands."""
        schema, name = table.split(".")
        columns = {
            str(column): Column(str(column), str(kind))
            for column, kind in self.ask(
                "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
                f"WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' "
                "ORDER BY attnum"
            )
        }
        return Relation(
            store=model.StoreName.FLAT, category="test", schema=schema, table=name, role="source",
            columns=tuple(columns.values()), key=tuple(columns[one] for one in key),
        )  # fmt: skip

    def restore(self, relations: Sequence[Relation], rows: Mapping[str, str] | None = None, *, url: str = "") -> None:
        """Bring tables to other rows, or to what they hold now: every step in a transaction that commits.

        Args:
            rows: for each table the query that gives its rows; those that are left out keep what they have.
        """
        with connection.connected(url or self.url, application_name="test restore") as made:
            self.load(made, relations, rows or {})
            with made.cursor() as cursor:
                swap.swap(cursor, relations, lock_timeout=PATIENCE)
            made.commit()
            assert shadow.swapped(made)

    def load(self, made: connection.Connection, relations: Sequence[Relation], rows: Mapping[str, str]) -> None:
        """Do everything that comes before the swap."""
        shadow.prepare(made, relations)
        made.commit()
        with made.cursor() as cursor:
            for one in relations:
                names = ", ".join(one.names)
                query = rows.get(one.qualified, f"SELECT {names} FROM {one.qualified}")
                cursor.execute(f"INSERT INTO {shadow.table(one)} ({names}) {query}")
        made.commit()
        for one in relations:
            shadow.index(made, one)
            made.commit()
        shadow.constrain(made, relations)
        made.commit()

    def dump(self) -> str:
        """Return the whole schema as ``pg_dump`` writes it, which knows nothing of this product."""
        done = subprocess.run(
            [self.cluster.bin / "pg_dump", "--schema-only", "-d", self.admin_url],
            capture_output=True, encoding="utf-8", check=True,
        )  # fmt: skip
        return "\n".join(line for line in done.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestr")))


@contextlib.contextmanager
def database(cluster: Cluster) -> Iterator[World]:
    """Make a database for the length of a block."""
    made = World(cluster)
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def opened(url: str) -> Iterator[Cursor]:
    """Open a cursor that commits each statement."""
    made = psycopg2.connect(url)
    made.autocommit = True
    try:
        with made.cursor() as cursor:
            yield cursor
    finally:
        made.close()


@contextlib.contextmanager
def begun(url: str) -> Iterator[Cursor]:
    """Open a cursor in a transaction that is rolled back at the end."""
    made = psycopg2.connect(url)
    try:
        with made.cursor() as cursor:
            yield cursor
    finally:
        made.close()
