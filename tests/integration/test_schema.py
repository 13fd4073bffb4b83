"""The schemas' histories, what the inspection finds, and the SQL that the rebuild queries need."""

from __future__ import annotations

import contextlib
import logging
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import msgpack
import psycopg2
import pytest

from hal9mig import errors
from hal9mig.categories import registry
from hal9mig.categories.declaration import Category
from hal9mig.embedded.postgres import Cluster
from hal9mig.stores import category_check, connection, schema
from tests.categories import accounts
from tests.support import servers

Urls = tuple[str, str]


@contextlib.contextmanager
def opened(url: str) -> Iterator[connection.Connection]:
    with connection.connected(url, application_name="test") as made:
        yield made


def execute(url: str, statements: str) -> None:
    with opened(url) as made, made.cursor() as cursor:
        cursor.execute(statements)


def ask(url: str, query: str) -> list[tuple[object, ...]]:
    with opened(url) as made, made.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall()


@pytest.fixture
def empty(flat_cluster: Cluster, hier_cluster: Cluster) -> Iterator[Urls]:
    """Two databases with nothing in them."""
    name = f"empty_{secrets.token_hex(4)}"
    yield flat_cluster.create_database(name), hier_cluster.create_database(name)
    for cluster in (flat_cluster, hier_cluster):
        cluster.drop_database(name)


class TestUpgrade:
    def test_from_nothing_to_current(self, empty: Urls) -> None:
        before = schema.status(*empty)
        assert {"flat", "hier", "hal9mig"} <= {state.name for state in before}
        assert all(state.current is None and state.behind for state in before)
        schema.upgrade(*empty)
        for state in schema.status(*empty):
            assert state.current == state.head
            assert not state.behind
            assert not state.ahead
        schema.require_current(*empty)

    def test_again_changes_nothing(self, empty: Urls) -> None:
        schema.upgrade(*empty)
        query = (
            "SELECT oid, xmin::text FROM pg_class WHERE relnamespace::regnamespace::text IN ('flat','hier','hal9mig')"
        )
        before = [sorted(ask(url, query), key=str) for url in empty]
        schema.upgrade(*empty)
        assert [sorted(ask(url, query), key=str) for url in empty] == before

    def test_works_on_the_oldest_version_at_hand_and_on_one_server(self, flat_cluster_16: Cluster) -> None:
        urls = [flat_cluster_16.create_database(f"{one}_{secrets.token_hex(4)}") for one in ("flat", "hier")]
        schema.upgrade(*urls)
        schema.require_current(*urls)
        for category in registry.builtin().ordered():
            with opened(urls[0]) as flat, opened(urls[1]) as hier:
                category_check.check_category(category, flat, hier)

    def test_one_database_is_refused_by_whatever_addresses_and_nothing_is_made(self, empty: Urls) -> None:
        other = empty[0].replace("127.0.0.1", "localhost")
        assert other != empty[0]
        before = ask(empty[0], "SELECT count(*) FROM pg_namespace")
        for urls in ((empty[0], empty[0]), (empty[0], other)):
            for check in (schema.upgrade, schema.require_current):
                with pytest.raises(errors.OneDatabase, match=r"Both stores are one database, empty_"):
                    check(*urls)
        assert ask(empty[0], "SELECT count(*) FROM pg_namespace") == before

    def test_several_at_once_wait_for_each_other(self, empty: Urls) -> None:
        command = "import sys; from hal9mig.stores import schema; schema.upgrade(sys.argv[1], sys.argv[2])"
        environ = {"PYTHONPATH": str(servers.ROOT), "PATH": ""}
        started = [
            subprocess.Popen(
                [sys.executable, "-W", "error", "-c", command, *empty], env=environ, stderr=subprocess.PIPE
            )
            for _ in range(3)
        ]
        for process in started:
            _, stderr = process.communicate(timeout=60)
            assert (process.returncode, stderr) == (0, b"")
        schema.require_current(*empty)

    def test_threads_of_one_process_wait_too(self, empty: Urls) -> None:
        failures: list[BaseException] = []

        def run() -> None:
            try:
                schema.upgrade(*empty)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert failures == []

    def test_prints_nothing_and_leaves_logging_alone(self, empty: Urls, capfd: pytest.CaptureFixture[str]) -> None:
        root = logging.getLogger()
        before = (root.level, list(root.handlers), logging.getLogger("alembic").handlers)
        logging.getLogger("somebody.elses")
        schema.upgrade(*empty)
        assert (root.level, list(root.handlers), logging.getLogger("alembic").handlers) == before
        assert not logging.getLogger("somebody.elses").disabled
        assert capfd.readouterr() == ("", "")

    def test_the_head_read_off_the_file_names_is_alembics(self) -> None:
        from alembic import config, script

        for history in schema.HISTORIES:
            settings = config.Config()
            settings.set_main_option("script_location", str(history.folder))
            assert script.ScriptDirectory.from_config(settings).get_current_head() == history.head

    def test_asking_for_the_status_does_not_load_alembic(self) -> None:
        command = "import sys; from hal9mig.stores import schema; sys.exit('alembic' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", command], env={"PYTHONPATH": str(servers.ROOT)}).returncode == 0


class TestExistingStore:
    def test_tables_as_declared_are_kept_with_their_rows(self, empty: Urls, stores: servers.Stores) -> None:
        flat, _ = empty
        execute(
            flat,
            "CREATE SCHEMA flat; CREATE TABLE flat.configuration"
            " (extra int, version bigint NOT NULL, key text PRIMARY KEY,"
            " value jsonb NOT NULL, updated_by varchar(20), updated_at timestamptz NOT NULL);"
            "INSERT INTO flat.configuration VALUES (7, 1, 'k', '1', 'me', now())",
        )
        with pytest.raises(errors.SchemaMismatch, match="updated_by is character varying"):
            schema.upgrade(*empty)
        assert ask(flat, "SELECT to_regclass('flat.user_sessions') IS NULL") == [(True,)]
        execute(flat, "ALTER TABLE flat.configuration ALTER updated_by TYPE text")
        schema.upgrade(*empty)
        assert ask(flat, "SELECT extra, key FROM flat.configuration") == [(7, "k")]

    def test_a_table_of_another_shape_is_refused_and_nothing_is_changed(self, empty: Urls) -> None:
        flat, hier = empty
        execute(flat, "CREATE SCHEMA flat; CREATE TABLE flat.neuron_states (neuron_id text PRIMARY KEY, layer text)")
        with pytest.raises(errors.SchemaMismatch, match=r"neuron_id is text, not uuid.*neuron_type is missing"):
            schema.upgrade(*empty)
        assert ask(
            flat, "SELECT relname FROM pg_class WHERE relnamespace = 'flat'::regnamespace AND relkind = 'r'"
        ) == [("neuron_states",)]
        assert ask(hier, "SELECT to_regnamespace('hier') IS NULL") == [(True,)]

    def test_another_applications_history_is_not_taken_for_ours(self, empty: Urls) -> None:
        execute(
            empty[0],
            "CREATE SCHEMA flat; CREATE TABLE flat.alembic_version (version_num varchar(32) PRIMARY KEY);"
            "INSERT INTO flat.alembic_version VALUES ('ae1027a6acf')",
        )
        with pytest.raises(errors.SchemaMismatch, match=r"flat\.alembic_version holds a revision"):
            schema.upgrade(*empty)

    def test_an_account_without_the_right_is_told_so(self, empty: Urls, flat_cluster: Cluster) -> None:
        role = f"weak_{secrets.token_hex(4)}"
        database = empty[0].rpartition("/")[2].partition("?")[0]
        with contextlib.closing(psycopg2.connect(flat_cluster.admin_url())) as admin, admin, admin.cursor() as cursor:
            cursor.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'weak'; GRANT CONNECT ON DATABASE {database} TO {role}")
        weak = f"postgresql://{role}:weak@127.0.0.1:{flat_cluster.port}/{database}"
        with pytest.raises(errors.Refused, match="may not upgrade schema flat: permission denied"):
            schema.upgrade(weak, empty[1])


class TestRequireCurrent:
    def test_names_what_is_behind_by_what(self, empty: Urls) -> None:
        head = {history.schema: history.head for history in schema.HISTORIES}
        with pytest.raises(errors.SchemaBehind, match=f"hier is at nothing, not {head['hier']}"):
            schema.require_current(*empty)
        schema.upgrade(*empty)
        execute(empty[1], "UPDATE hal9mig.alembic_version SET version_num = '0000'")
        with pytest.raises(errors.SchemaBehind) as raised:
            schema.require_current(*empty)
        assert f"hal9mig is at 0000, not {head['hal9mig']}" in raised.value.message
        assert "flat" not in raised.value.message

    def test_a_newer_schema_is_not_called_older(self, stores: servers.Stores) -> None:
        execute(stores.hier_url, "UPDATE hier.alembic_version SET version_num = '9999'")
        with pytest.raises(errors.SchemaMismatch, match="hier is at 9999, which this program does not know"):
            schema.require_current(stores.flat_url, stores.hier_url)
        with pytest.raises(errors.SchemaMismatch):
            schema.upgrade(stores.flat_url, stores.hier_url)

    def test_a_server_that_is_not_there_is_unreachable(self, stores: servers.Stores) -> None:
        for call in (schema.status, schema.upgrade, schema.require_current):
            with pytest.raises(errors.StoreUnreachable):
                call(stores.flat_url, "postgresql://nobody@127.0.0.1:1/none")


class TestInspection:
    @pytest.fixture
    def check(self, stores: servers.Stores) -> Callable[[Category], None]:
        def run(category: Category) -> None:
            with opened(stores.flat_url) as flat, opened(stores.hier_url) as hier:
                category_check.check_category(category, flat, hier)

        return run

    def test_the_built_in_categories_fit(self, check: Callable[[Category], None]) -> None:
        for category in registry.builtin().ordered():
            check(category)

    def test_a_users_category_fits_its_own_tables(
        self, check: Callable[[Category], None], stores: servers.Stores
    ) -> None:
        with pytest.raises(errors.SchemaMismatch) as raised:
            check(accounts.ACCOUNTS)
        for table in ("public.pgbench_accounts", "bank.branches", "bank.accounts"):
            assert f"table {table} is missing" in raised.value.message
        execute(stores.flat_url, accounts.SOURCE_DDL)
        execute(stores.hier_url, accounts.TARGET_DDL)
        check(accounts.ACCOUNTS)
        execute(stores.hier_url, "ALTER TABLE bank.accounts ALTER filler TYPE character(83)")
        with pytest.raises(errors.SchemaMismatch, match=r"filler is character\(83\), not character\(84\)"):
            check(accounts.ACCOUNTS)

    @pytest.mark.parametrize(
        ("where", "damage", "sentence"),
        [
            ("flat", "DROP TABLE {}", "flat store: table flat.neuron_states is missing"),
            ("flat", "ALTER TABLE {} DROP layer", "flat.neuron_states.layer is missing"),
            ("flat", "ALTER TABLE {} ALTER activation TYPE float8", "activation is double precision, not real"),
            ("flat", "ALTER TABLE {} DROP CONSTRAINT neuron_states_pkey", r"no primary key or unique .* \(neuron_id\)"),
            ("flat", "ALTER TABLE {} ALTER version TYPE integer", "version is integer, not bigint"),
            ("hier", "DROP TABLE hier.unit_connections", "hierarchical store: table hier.unit_connections is missing"),
            ("hier", "ALTER TABLE hier.units DROP kind", "hier.units.kind is missing"),
            ("hier", "ALTER TABLE hier.unit_learning ALTER weights TYPE numeric[]", r"numeric\[\], not real\[\]"),
            ("hier", "ALTER TABLE hier.units DROP CONSTRAINT units_pkey", "hier.units has no primary key"),
            (
                "hier",
                "ALTER TABLE hier.unit_connections DROP CONSTRAINT unit_connections_pkey;"
                "ALTER TABLE hier.unit_connections ADD PRIMARY KEY (ordinal, unit_id)",
                r"primary key \(ordinal, unit_id\), not \(unit_id, ordinal\)",
            ),
            ("hier", "ALTER TABLE hier.units ADD zone text NOT NULL", "zone is NOT NULL without a default"),
        ],
    )
    def test_every_damage_is_named(
        self, check: Callable[[Category], None], stores: servers.Stores, where: str, damage: str, sentence: str
    ) -> None:
        execute(stores.flat_url if where == "flat" else stores.hier_url, damage.format("flat.neuron_states"))
        with pytest.raises(errors.SchemaMismatch, match=sentence):
            check(registry.builtin().get("neuron-states"))

    def test_a_unique_key_that_is_not_null_serves_for_a_primary_key(
        self, check: Callable[[Category], None], stores: servers.Stores
    ) -> None:
        execute(
            stores.flat_url,
            "ALTER TABLE flat.configuration DROP CONSTRAINT configuration_pkey, ALTER key SET NOT NULL;"
            "CREATE UNIQUE INDEX partial ON flat.configuration (key) WHERE version > 0",
        )
        with pytest.raises(errors.SchemaMismatch, match="no primary key"):
            check(registry.builtin().get("configuration"))
        execute(stores.flat_url, "CREATE UNIQUE INDEX whole ON flat.configuration (key) INCLUDE (version)")
        check(registry.builtin().get("configuration"))

    def test_a_rebuild_query_that_does_not_fit_is_named(self, check: Callable[[Category], None]) -> None:
        import dataclasses

        category = registry.builtin().get("configuration")
        for old, new, sentence in (
            ("v.value", "v.value::text AS value", "returns value as text, not jsonb"),
            ("v.value,", "", "not \\(key, value"),
            ("hier.config_values", "hier.gone", 'relation "hier.gone" does not exist'),
        ):
            with pytest.raises(errors.SchemaMismatch, match=sentence):
                check(dataclasses.replace(category, rebuild=category.rebuild.replace(old, new)))


class TestMessagePack:
    """The SQL functions give what the reference implementation gives, at every edge of a head's size."""

    @pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 65535, 65536, 65537])
    def test_an_array_has_its_head(self, stores: servers.Stores, length: int) -> None:
        expected = msgpack.Packer().pack_array_header(length).hex()
        assert ask(stores.hier_url, f"SELECT encode(hier.msgpack_array({length}), 'hex')") == [(expected,)]

    @pytest.mark.parametrize("length", [0, 1, 31, 32, 255, 256, 65535, 65536])
    @pytest.mark.parametrize("letter", ["a", "é"])
    def test_a_text_has_its_head(self, stores: servers.Stores, length: int, letter: str) -> None:
        text = (letter * length)[: length // len(letter.encode())]
        with opened(stores.hier_url) as made, made.cursor() as cursor:
            cursor.execute("SELECT hier.msgpack_str(%s)", (text,))
            row = cursor.fetchone()
        assert row is not None
        assert bytes(row[0]) == msgpack.packb(text)

    @pytest.mark.parametrize("length", [0, 1, 255, 256, 65535, 65536])
    def test_bytes_have_their_head(self, stores: servers.Stores, length: int) -> None:
        data = bytes(range(256)) * (length // 256) + bytes(length % 256)
        with opened(stores.hier_url) as made, made.cursor() as cursor:
            cursor.execute("SELECT hier.msgpack_bin(%s)", (data,))
            row = cursor.fetchone()
        assert row is not None
        assert bytes(row[0]) == msgpack.packb(data)


class TestHierarchicalTables:
    def test_two_sessions_may_swap_their_tokens_in_one_statement(self, stores: servers.Stores) -> None:
        execute(
            stores.hier_url,
            "INSERT INTO hier.users VALUES ('u');"
            "INSERT INTO hier.sessions"
            " (session_id, user_id, token_hash, active, created_at, last_seen_at, source_version)"
            " SELECT gen_random_uuid(), 'u', token, true, now(), now(), 1 FROM unnest(ARRAY['a', 'b']) AS token;"
            "UPDATE hier.sessions SET token_hash = CASE token_hash WHEN 'a' THEN 'b' ELSE 'a' END",
        )

    def test_nodes_go_in_in_any_order(self, stores: servers.Stores) -> None:
        execute(
            stores.hier_url,
            "INSERT INTO hier.config_nodes VALUES ('a.b.c', 'a.b', 'c', 3), ('a.b', 'a', 'b', 2), ('a', NULL, 'a', 1)",
        )

    def test_odd_payloads_give_null_columns_and_no_error(self, stores: servers.Stores) -> None:
        execute(
            stores.hier_url,
            "INSERT INTO hier.metrics (id, source, payload, recorded_at, source_version) SELECT n, 's', p, now(), 1"
            " FROM unnest(ARRAY['{\"value\": \"x\"}', '[]', 'null', '{\"name\": {}, \"value\": 1e400}']::jsonb[])"
            " WITH ORDINALITY AS t(p, n)",
        )
        rows = ask(stores.hier_url, "SELECT name, value = 1e400 FROM hier.metrics ORDER BY id")
        assert rows == [(None, None), (None, None), (None, None), ("{}", True)]
