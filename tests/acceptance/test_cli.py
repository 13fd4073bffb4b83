"""The real command line as a whole: what it refuses before anything begins, and how every command answers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

from tests.support import servers
from tests.support.live_state import execute

Workers = Callable[..., list[servers.Running]]


class TestRefusals:
    """What goes wrong before it begins: a clear error, its exit code, and nothing changed."""

    MIGRATE = ("state", "migrate", "--category", "user-sessions")

    def refused(
        self,
        cli: servers.Cli,
        stores: servers.Stores,
        code: int,
        *words: str,
        env: dict[str, str] | None = None,
        arguments: tuple[str, ...] = MIGRATE,
    ) -> str:
        """Run a command that is refused and return what it said; no run has begun."""
        told = cli.run(*arguments, code=code, env=env)
        assert told.stdout == ""
        first = told.stderr.splitlines()[0]
        assert first.startswith("error: ")
        for word in words:
            assert word in told.stderr
        written = json.loads(cli.run("--json", *arguments, code=code, env=env).stdout)
        assert f"error: {written['error']['message']}" == first
        assert execute(stores.hier_url, "SELECT count(*) FROM hal9mig.runs")[0][0] == 0
        return told.stderr

    def test_a_filter_that_no_field_fits(self, cli: servers.Cli, stores: servers.Stores) -> None:
        base = self.MIGRATE
        for arguments, words in (
            ((*base, "--filter", "colour=red"), ["'colour'", "fields of user-sessions"]),
            ((*base, "--filter", "active=perhaps"), ["active=perhaps", "perhaps", "active (boolean)"]),
        ):
            self.refused(cli, stores, 2, *words, arguments=arguments)

    def test_a_server_that_is_down_is_named(self, cli: servers.Cli, stores: servers.Stores) -> None:
        gone = "postgresql://hal9:geheim@127.0.0.1:1/flat"
        for name in ("HAL9_FLAT_URL", "HAL9_HIER_URL"):
            said = self.refused(cli, stores, 5, "127.0.0.1:1", "cannot be reached", "hint: ", env={name: gone})
            assert "geheim" not in said
        said = self.refused(cli, stores, 5, "Redis", "hint: ", env={"HAL9_REDIS_URL": "redis://:geheim@127.0.0.1:1/0"})
        assert "geheim" not in said
        # What only reads the ledger does without Redis.
        cli.run("state", "progress", env={"HAL9_REDIS_URL": "redis://127.0.0.1:1/0"})
        told = cli.run("state", "stats", env={"HAL9_REDIS_URL": "redis://127.0.0.1:1/0"})
        assert "Queue: unknown" in told.stdout
        cli.run("state", "status", code=5, env={"HAL9_HIER_URL": gone})

    def test_wrong_credentials(self, cli: servers.Cli, stores: servers.Stores) -> None:
        for name, url in (("HAL9_FLAT_URL", stores.flat_url), ("HAL9_HIER_URL", stores.hier_url)):
            head, _, tail = url.rpartition("@")
            user = head.rpartition(":")[0]
            wrong = f"{user}:geheim%40@{tail}"
            said = self.refused(cli, stores, 5, "refused the login", "configure show", env={name: wrong})
            assert "geheim" not in said
            said = self.refused(cli, stores, 2, "hint: write it as %40", env={name: f"{user}:ge@heim@{tail}"})
            assert "heim" not in said
            assert cli.document(*self.MIGRATE, code=5, env={name: wrong})["error"]["code"] == "LOGIN_REFUSED"
        host = stores.redis_url.rpartition("@")[2]
        said = self.refused(cli, stores, 5, "Redis", env={"HAL9_REDIS_URL": f"redis://:geheim@{host}"})
        assert "geheim" not in said

    def test_a_schema_that_is_behind(self, cli: servers.Cli, stores: servers.Stores) -> None:
        execute(stores.hier_url, "UPDATE hier.alembic_version SET version_num = '0000'")
        self.refused(cli, stores, 4, "hier is at 0000", "hint: hal9-migrate db upgrade")
        assert "hier behind (0000)" in cli.run("state", "status", code=4).stdout
        assert cli.document("db", "check", code=4)["next_steps"] == ["hal9-migrate db upgrade"]
        cli.run("state", "verify", code=4)

    def test_no_schema_at_all(self, cli: servers.Cli, stores: servers.Stores) -> None:
        empty = {"HAL9_HIER_URL": stores.hier_cluster.create_database(f"empty_{stores.name}")}
        for arguments in (self.MIGRATE, ("state", "progress"), ("runs", "list"), ("quarantine", "list"),
                          ("configure", "state-migration")):  # fmt: skip
            told = cli.run(*arguments, code=4, env=empty)
            assert "hint: hal9-migrate db upgrade" in told.stderr
        cli.run("db", "upgrade", "--dry-run", env=empty)
        cli.run("runs", "list", code=4, env=empty)
        told = cli.run("db", "upgrade", env=empty)
        assert "upgraded: hier, hal9mig" in told.stderr
        assert "up to date already" in cli.run("db", "upgrade", env=empty).stderr
        cli.run("db", "check", env=empty)
        cli.run("runs", "list", env=empty)
        stores.hier_cluster.drop_database(f"empty_{stores.name}")

    def test_a_missing_source_column_or_table(self, cli: servers.Cli, stores: servers.Stores) -> None:
        execute(stores.flat_url, "ALTER TABLE flat.user_sessions DROP COLUMN user_agent")
        self.refused(cli, stores, 4, "flat.user_sessions.user_agent is missing", "category=user-sessions", "db check")
        execute(stores.flat_url, "DROP TABLE flat.user_sessions CASCADE")
        self.refused(cli, stores, 4, "table flat.user_sessions is missing")
        told = cli.run("db", "check", code=4)
        assert "❌ user-sessions: " in told.stdout
        assert "✅ neuron-states: both stores have what it declares" in told.stdout
        # Of several, none is begun when one cannot be.
        self.refused(cli, stores, 4, arguments=("state", "migrate", "--category", "all"))

    def test_foreign_rows_in_the_target(self, cli: servers.Cli, workers: Workers, stores: servers.Stores) -> None:
        cli.run("sample-data", "load", "--scale", "0.001", "--category", "configuration")
        workers(1)
        cli.run("state", "migrate", "--category", "configuration")
        # As if another program had written them: the ledger knows of no run.
        execute(stores.hier_url, "TRUNCATE hal9mig.runs CASCADE")
        arguments = ("state", "migrate", "--category", "configuration")
        said = self.refused(cli, stores, 4, "no run has written", "--merge", "state diff", arguments=arguments)
        assert "where: table=hier." in said
        self.refused(cli, stores, 4, "needs a yes", "hint: add --yes", arguments=(*arguments, "--merge"))
        cli.run(*arguments, "--merge", "--dry-run")
        cli.run(*arguments, "--merge", "--yes")
        cli.run("state", "verify", "--category", "configuration", "--checksums")


def test_a_reader_that_leaves_is_no_error(stack_env: dict[str, str]) -> None:
    done = subprocess.run(
        f"{sys.executable} -m hal9mig.cli help exit-codes | true", shell=True, env=stack_env, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == ""


def test_every_command_answers_in_json(cli: servers.Cli) -> None:
    for words in (
        "state progress", "state status", "state stats --resources", "runs list", "quarantine list", "db check",
        "db upgrade --dry-run", "configure show", "configure state-migration", "help exit-codes",
    ):  # fmt: skip
        for arguments in (["--json", *words.split()], [*words.split(), "--json"]):
            told = cli(*arguments)
            assert json.loads(told.stdout)["schema"] == 1
            assert told.exit_code == 0
            assert told.stderr == ""
