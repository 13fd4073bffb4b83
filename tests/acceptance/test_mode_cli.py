"""``hal9-migrate mode`` as an operator sees it: outputs, exit codes, what is asked, refused and kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hal9mig.engine.switch import gate
from tests.support import live_state, migration_driver, servers
from tests.support.live_state import CONFIGURATION, World, setting

Workers = Callable[..., list[servers.Running]]
ENABLE = ("mode", "migration", "--enable")
LEAVE = ("mode", "migration", "--disable-dual-write")
BACK = ("mode", "flat-only")


@pytest.fixture
def world(world: World) -> World:
    world.load()
    return world


def test_what_comes_too_early_is_refused(cli: servers.Cli, world: World) -> None:
    """Without workers nothing would be applied; without dual-write there is nothing to leave."""
    assert "No worker is alive" in cli.run(*ENABLE, code=4).stderr
    told = cli.document(*LEAVE, code=4)
    assert told["error"]["code"] == "GATE_CLOSED"
    assert "hal9-migrate mode migration --enable" in told["next_steps"]
    assert "it was so already" in cli.run(*BACK).stderr
    assert (world.line.mode, world.line.epoch) == ("flat-only", 1)


class TestWholeWay:
    def test_there_and_back(self, cli: servers.Cli, world: World, workers: Workers) -> None:
        """With a real worker, each command twice: the second time it was so already."""
        workers(1)
        assert cli.run("mode").stdout.splitlines()[0] == "Write Mode: flat-only"

        dry = cli.run(*ENABLE, "--dry-run")
        assert dry.stdout.startswith("Nothing is changed. This would be done:\n- dual-write: every write of the flat")
        assert world.line.mode == "flat-only"
        refused = cli.document(*ENABLE, code=4)["error"]
        assert "No verified full checkpoint" in refused["message"]
        assert "state checkpoint --full-backup --verify" in refused["hint"]
        assert world.line.mode == "flat-only"
        first = cli.document(*ENABLE, "--attest")
        assert (first["mode"], first["epoch"], first["changed"]) == ("dual-write", 2, True)
        assert [first["attested"][name] for name in ("canary", "backup", "team")] == [True] * 3
        second = cli.run(*ENABLE)
        assert "it was so already; nothing was changed" in second.stderr
        assert "nobody attests that a database backup" in second.stderr
        assert world.line.attested["backup"] is True

        closed = cli.run(*LEAVE, "--dry-run", code=4)
        assert "coverage of metadata: 0 of 80 migrated  -> hal9-migrate state migrate" in closed.stdout
        assert "The gate is closed by" in closed.stderr
        cli.run("state", "migrate", "--category", "all", timeout=200)
        cli.run("reconcile", "--full", timeout=200)
        listed = cli.document(*LEAVE, "--dry-run")
        assert listed["dry_run"]
        assert all(one["holds"] for one in listed["gate"])
        assert {one["name"] for one in listed["gate"]} == {one.name for one in world.look()}
        assert world.line.mode == "dual-write"

        over = cli.run(*LEAVE).stdout.splitlines()
        assert over[-2] == "Write Mode: hierarchical-only"
        assert over[-1].startswith("Writers were kept out for ")
        assert over[-1].endswith("; epoch 3")
        assert "it was so already" in cli.run(*LEAVE).stderr
        assert "it was so already" not in cli.run(*ENABLE, code=4).stderr
        (certificate,) = world.certificates()
        assert gate.sealed(certificate.document) == certificate.document

        with world.client() as state:
            state.put(CONFIGURATION, setting("written.there", 1))
        standing = cli.document("mode")
        assert (standing["mode"], standing["epoch"], standing["switch"]) == ("hierarchical-only", 3, None)
        there = {"mode": "hierarchical-only", "epoch": 3}
        assert standing["stores"] == {"flat": there, "hierarchical": there}
        assert cli.run("state", "status").stdout.splitlines()[0] == "Write Mode: hierarchical-only"

        back = cli.document(*BACK)
        assert (back["mode"], back["epoch"], back["changed"], back["discarded"]) == ("flat-only", 4, True, 0)
        assert back["barrier_seconds"] > 0
        assert cli.document(*BACK)["changed"] is False
        assert world.notes(CONFIGURATION) == {"written.there": 1}
        world.assert_equal()
        actions = [event.action for event in world.events() if event.action.startswith("mode ")]
        assert actions == ["mode flat-only", "mode hierarchical-only", "mode dual-write"]


class TestForced:
    def test_what_cannot_be_brought_back(self, cli: servers.Cli, world: World) -> None:
        """Refused, then refused for want of a reason, then done: with the number, in the output and in the audit."""
        world.prepare(over=True)
        world.flat_sql("ALTER TABLE flat.configuration ADD CHECK (key <> 'refused')")
        with world.client() as state:
            for number in range(3):
                state.put(CONFIGURATION, setting("refused", number))
            state.put(CONFIGURATION, setting("fine", 1))
        told = cli.run(*BACK, code=4)
        assert "The last writes of 1 record of the hierarchical store are not in the other one" in told.stderr
        assert "--force" in told.stderr
        told = cli.run(*BACK, "--force", code=4)
        assert 'add --reason "..."' in told.stderr
        assert world.line.mode == "hierarchical-only"
        done = cli.run(*BACK, "--force", "--reason", "it is only a test")
        assert done.stdout.splitlines()[-1] == "Writes discarded: 1"
        assert world.line.mode == "flat-only"
        newest = world.events()[0]
        assert newest.action == "forced flat-only"
        assert (newest.detail["reason"], newest.detail["discarded"]) == ("it is only a test", 1)
        assert world.notes(CONFIGURATION) == {"fine": 1}


class TestShown:
    def test_a_switch_under_way_and_the_lag(self, cli: servers.Cli, world: World) -> None:
        """Where it was killed, how to go on, and how many writes wait for how long."""
        world.prepare()
        world.keep_worker()
        world.flat_sql("UPDATE flat.configuration SET version = version + 1")
        for words in (("mode",), ("state", "status")):
            assert cli.document(*words)["journal" if words == ("mode",) else "lag"]
        assert "journal: 1 write to apply, oldest" in cli.run("mode").stdout
        assert "Lag: 1 write to apply, the oldest for" in cli.run("state", "status").stdout
        assert cli.document("state", "status")["lag"]["records"] == 1
        world.drain()

        def pause(step: str) -> None:
            if step == "open":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            world.leave(live_state.switch.Switch(world.system, actor="gone", pause=pause))
        shown = cli.run("mode")
        assert "A switch to hierarchical-only is under way; its last step is: closed" in shown.stdout
        assert "next: hal9-migrate mode migration --disable-dual-write" in shown.stderr
        assert cli.document("mode")["switch"] == {"target": "hierarchical-only", "step": "closed"}
        assert "A switch to hierarchical-only is under way" in cli.run("state", "status").stdout
        world.pretend_worker()
        cli.run(*BACK)
        assert world.line.target is None

    def test_a_server_that_is_down(self, cli: servers.Cli, world: World, stores: servers.Stores) -> None:
        stores.flat_cluster.stop()
        for words in (("mode",), (*ENABLE,), (*BACK,)):
            cli.run(*words, code=5)
        stores.flat_cluster.start()
        migration_driver.until(lambda: world.states(), "the server")
        assert world.line.mode == "flat-only"
