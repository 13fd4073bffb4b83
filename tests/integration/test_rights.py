"""Rights: what is printed suffices, and each that is taken away is named."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Callable, Iterator

import psycopg2
import pytest
from psycopg2 import sql
from sqlalchemy.engine import make_url

from hal9mig import errors, model, settings
from hal9mig.categories import registry
from hal9mig.engine.system import System
from hal9mig.stores import capture_triggers, connection, rights, write_mode
from tests.support import servers

FLAT, HIER = model.StoreName.FLAT, model.StoreName.HIERARCHICAL
CATEGORIES = registry.builtin().ordered()


class World:
    """Stores on which accounts have been granted exactly what is printed."""

    def __init__(self, stores: servers.Stores):
        self.stores = stores
        self.clusters = {FLAT: stores.flat_cluster, HIER: stores.hier_cluster}
        self.urls = {FLAT: stores.flat_url, HIER: stores.hier_url}
        # A quote and a capital, so that what is printed is tried with both.
        self.names = {role: f'{role}"{stores.name}T' for role in rights.ROLES}
        for store in self.urls:
            for name in self.names.values():
                self.run(store, sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'x'").format(sql.Identifier(name)))
            # Twice: it may be run again.
            for _ in range(2):
                for statement in self.printed(store):
                    self.run(store, sql.SQL(statement))  # type: ignore[arg-type]

    def admin(self, store: model.StoreName) -> str:
        """Return the superuser's URL of a store."""
        return self.clusters[store].admin_url(str(make_url(self.urls[store]).database))

    def run(self, store: model.StoreName, statement: sql.Composable) -> None:
        """Run a statement as the superuser."""
        with connection.connected(self.admin(store), application_name="test") as opened, opened.cursor() as cursor:
            cursor.execute(statement)

    def printed(self, store: model.StoreName) -> list[str]:
        """Return what is printed for a store."""
        with connection.connected(self.urls[store], application_name="test") as opened:
            return [text for _, text in rights.grants(opened, store, CATEGORIES, self.names)]

    def url(self, role: str, store: model.StoreName) -> str:
        """Return a role's URL of a store."""
        made = make_url(self.urls[store]).set(username=self.names[role], password="x")
        return made.render_as_string(hide_password=False)

    @contextlib.contextmanager
    def connected(self, role: str, store: model.StoreName) -> Iterator[connection.Connection]:
        """Open a connection as a role."""
        with connection.connected(self.url(role, store), application_name="test") as opened:
            yield opened

    def missing(self, role: str, store: model.StoreName) -> list[rights.Missing]:
        """Return what a role lacks."""
        with self.connected(role, store) as opened:
            return rights.missing(opened, store, CATEGORIES, role)

    def env(self, role: str, env: dict[str, str]) -> dict[str, str]:
        """Return an environment in which a role is who connects."""
        return env | {"HAL9_FLAT_URL": self.url(role, FLAT), "HAL9_HIER_URL": self.url(role, HIER)}

    def close(self) -> None:
        """Drop the accounts with what they have."""
        for store in self.urls:
            for name in self.names.values():
                quoted = sql.Identifier(name)
                self.run(store, sql.SQL("REASSIGN OWNED BY {} TO hal9; DROP OWNED BY {}").format(quoted, quoted))
                self.run(store, sql.SQL("DROP ROLE {}").format(quoted))


@pytest.fixture
def world(stores: servers.Stores) -> Iterator[World]:
    """Stores with an account for each role."""
    made = World(stores)
    yield made
    made.close()


@pytest.mark.parametrize("role", rights.ROLES)
def test_what_is_printed_is_all_that_is_asked_for(world: World, role: str) -> None:
    assert [world.missing(role, store) for store in (FLAT, HIER)] == [[], []]


def test_the_application_writes_under_capture_and_reads_no_more_than_it_must(world: World) -> None:
    category = next(one for one in CATEGORIES if one.slug == "configuration")
    with contextlib.closing(connection.connect(world.url("operator", FLAT), application_name="test")) as opened:
        capture_triggers.install(opened, category, FLAT)
        write_mode.set_state(opened, write_mode.WriteState(mode=write_mode.Mode.DUAL_WRITE, epoch=2))
    table = f"{category.source.schema}.{category.source.table}"
    with world.connected("application", FLAT) as opened, opened.cursor() as cursor:
        cursor.execute(f"DELETE FROM {table}")
        cursor.execute("SELECT hal9cap.admit('flat')")
        assert write_mode.state(opened).mode is write_mode.Mode.DUAL_WRITE
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute("DELETE FROM hal9cap.journal")


@pytest.mark.parametrize(
    ("store", "statement", "mended"),
    [
        (FLAT, "REVOKE CREATE ON DATABASE {database} FROM {role}", "GRANT CREATE ON DATABASE"),
        (HIER, "REVOKE USAGE ON SCHEMA hal9mig FROM {role}", 'GRANT USAGE ON SCHEMA "hal9mig"'),
        (FLAT, "REVOKE DELETE ON hal9cap.journal FROM {role}", 'GRANT DELETE ON TABLE "hal9cap"."journal"'),
        (FLAT, "REVOKE UPDATE ON SEQUENCE hal9cap.state FROM {role}", 'GRANT UPDATE ON SEQUENCE "hal9cap"."state"'),
        (HIER, "REVOKE INSERT ON hal9mig.runs FROM {role}", 'GRANT INSERT ON TABLE "hal9mig"."runs"'),
    ],
)
def test_each_right_that_is_taken_away_is_named_and_mended(
    world: World, store: model.StoreName, statement: str, mended: str
) -> None:
    # A member of who owns everything has all of it; what is tried is an account that is not.
    member = sql.Identifier(world.names["worker"])
    database = sql.Identifier(str(make_url(world.urls[store]).database))
    world.run(store, sql.SQL("REVOKE hal9 FROM {}").format(member))
    world.run(store, sql.SQL(statement).format(role=member, database=database))  # type: ignore[arg-type]
    found = world.missing("worker", store)
    assert [one for one in found if "ownership" not in one.what and not one.grant.startswith(mended)] == []
    assert sum(one.grant.startswith(mended) for one in found) == 1
    assert any(one.grant.startswith('GRANT "hal9" TO') for one in found)
    for one in found:
        world.run(store, sql.SQL(one.grant))  # type: ignore[arg-type]
    assert world.missing("worker", store) == []


def test_all_that_is_missing_is_refused_at_once(world: World, stack_env: dict[str, str]) -> None:
    resolved = settings.load(environ=world.env("reader", stack_env))
    with pytest.raises(errors.RightsMissing) as caught:
        System(resolved, role="test").require_rights("operator")
    assert caught.value.exit_code == errors.EXIT_REFUSED
    for part in ("which belongs to hal9 (flat)", "CREATE on database", "hal9mig.runs"):
        assert part in caught.value.message


def test_the_commands_check_before_they_begin(
    world: World, cli: Callable[..., tuple[int, str, str]], stack_env: dict[str, str], tmp_path: pathlib.Path
) -> None:
    reader = {name: value for name, value in world.env("reader", stack_env).items() if name.endswith("_URL")}
    assert cli("db", "check", "--as", "reader", env=reader)[0] == 0
    code, out, _ = cli("db", "check", env=reader)
    assert code == errors.EXIT_PROBLEMS
    assert "which belongs to hal9" in out
    assert "GRANT" in out
    for words in (
        ("mode", "migration", "--enable", "--attest"),
        ("state", "rollback", "--to-checkpoint", "latest", "--yes"),
    ):
        code, _, err = cli(*words, env=reader)
        assert code == errors.EXIT_REFUSED, err
        assert "Rights are missing" in err
