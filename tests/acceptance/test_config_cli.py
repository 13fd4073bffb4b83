"""The application's configuration as an operator handles it: exported, compared, and seen to change by who listens."""

from __future__ import annotations

import json
import pathlib
import stat
import threading
from typing import Any

import pytest

from hal9mig import client as application
from hal9mig.client import subscription
from tests.support import checkpoint_runs, servers
from tests.support.live_state import World, setting
from tests.support.migration_driver import until

COMPARE = ("config", "compare", "--system1", "flat", "--system2", "hierarchical")
RELOAD = ("config", "test-reload", "--changes", "7", "--verify-application")


def exported(cli: servers.Cli, folder: pathlib.Path, *words: str) -> Any:
    assert cli("config", "export", *words, "--output", "c.json").exit_code == 0
    assert stat.S_IMODE((folder / "c.json").stat().st_mode) == 0o600
    return json.loads((folder / "c.json").read_text())


def test_export_masks_and_compare_finds(cli: servers.Cli, world: World, tmp_path: pathlib.Path) -> None:
    assert exported(cli, tmp_path, "--all")["keys"] == {}
    assert cli.document(*COMPARE)["checks"][0]["verdict"] == "skipped"
    with world.client() as state:
        state.put("configuration", setting("mail.smtp_password", {"is": "hunter2"}))
        state.put("configuration", setting("mail.server", {"host": "here", "api_key": "hunter3", "port": 25}))
        state.put("configuration", setting("other", 1))
    early = cli.document(*COMPARE)["checks"][0]
    assert (early["verdict"], early["detail"]) == ("skipped", "none of 3 keys is migrated yet")

    world.prepare()
    text = json.dumps(exported(cli, tmp_path, "--all"))
    assert "hunter" not in text
    assert exported(cli, tmp_path, "--key", "mail")["keys"].keys() == {"mail.smtp_password", "mail.server"}
    assert "hunter2" in json.dumps(exported(cli, tmp_path, "--all", "--include-secrets", "--system", "hierarchical"))
    assert cli.document(*COMPARE, "--report", "diff.txt")["checks"][0]["verdict"] == "passed"

    world.hier_sql("SELECT set_config('hal9.apply', (SELECT token FROM hal9cap.pass), false); "
                   "DELETE FROM hier.config_values WHERE path = 'other'; "
                   "UPDATE hier.config_values SET value = '\"hunter9\"' WHERE path = 'mail.smtp_password'")  # fmt: skip
    told = cli(*COMPARE, "--report", "diff.txt")
    assert told.exit_code == 3
    assert "2 of 3 keys differ" in told.stdout
    report = (tmp_path / "diff.txt").read_text()
    assert "+ hierarchical: not there" in report
    assert "hunter" not in report + told.stdout
    turned = cli("config", "compare", "--system1", "hierarchical", "--system2", "flat")
    assert turned.stdout.splitlines()[-2:] != told.stdout.splitlines()[-2:]


@pytest.mark.parametrize("over", [False, True], ids=["dual-write", "hierarchical-only"])
def test_the_application_sees_changes(cli: servers.Cli, world: World, over: bool) -> None:
    world.load(0.0002, "configuration")
    world.prepare(over=over)
    before = (
        checkpoint_runs.contents(world.stores.flat_url, "flat"),
        checkpoint_runs.contents(world.stores.hier_url, "hier"),
    )
    more = ("--yes",) if over else ()
    if over:
        assert cli(*RELOAD).exit_code == 4
    with world.followed():
        nobody = cli.document(*RELOAD, "--within", "200ms", *more, code=3)
        assert "no application has answered" in nobody["checks"][0]["detail"]
        seen: list[tuple[str, Any]] = []
        with world.client() as state:
            listener = application.Subscription(
                world.system.settings, lambda key: state.get("configuration", key),
                lambda key, record: seen.append((key, record)), name="a test",
            )  # fmt: skip
            listener.start()
            assert listener.listening.wait(30)
            found = cli.document(*RELOAD, "--within", "30s", *more)
            listener.stop()
    assert "7 changes were seen by a test" in found["checks"][0]["detail"]
    assert len([record for key, record in seen if record and record["value"] != {"number": -1}]) >= 7
    assert {key.rpartition(".")[0] for key, _ in seen} == {subscription.RESERVED}
    # Nothing stays behind, in neither store, not even a node of the tree.
    world.drain()
    assert before == (
        checkpoint_runs.contents(world.stores.flat_url, "flat"), checkpoint_runs.contents(world.stores.hier_url, "hier")
    )  # fmt: skip


def test_a_subscription_survives_a_lost_connection(world: World) -> None:
    told = threading.Event()
    seen: list[str] = []

    def changed(key: str, record: Any) -> None:
        seen.append(key)
        told.set()

    with world.client() as state:
        listener = application.Subscription(world.system.settings, lambda key: None, changed)
        listener.start()
        assert listener.listening.wait(30)
        world.flat_sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                       "WHERE application_name = 'hal9mig application' AND datname = current_database()")  # fmt: skip
        assert told.wait(30)
        assert seen[0] == ""
        state.put("configuration", setting("a.b", 1))
        until(lambda: "a.b" in seen, "the change")
        listener.stop()


def test_a_key_that_is_not_there_cannot_be_exported(cli: servers.Cli) -> None:
    cli.run("config", "export", "--key", "nothing", "--output", "x", code=4)
