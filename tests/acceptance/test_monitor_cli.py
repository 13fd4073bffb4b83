"""A monitored window as an operator sees it: it ends without a terminal, tells of drift, and of nobody looking."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from hal9mig.engine.reconcile import monitor
from hal9mig.ledger import monitors, raised_alarms
from tests.support import servers
from tests.support.live_state import World
from tests.support.migration_driver import until

MONITOR = ("monitor", "--phase", "post-state-migration")
Beat = Callable[..., servers.Running]


def test_a_window_with_workers_and_beat(
    cli: servers.Cli, world: World, workers: Callable[..., Any], beat: Beat
) -> None:
    assert cli(*MONITOR, "--duration", "1h").exit_code == 4  # nothing is kept in step yet
    world.configure(reconcile_interval="1s")
    world.load(0.0002, "configuration")
    world.prepare()
    workers(1)
    beat()
    began = cli.document(*MONITOR, "--duration", "3s", "--detach")
    assert cli.document(*MONITOR, "--detach")["new"] is False

    def ended() -> bool:
        with world.system.ledger.begin() as session:
            return not monitors.find(session, open=True)

    until(ended, "the window to end without a terminal")
    (window,) = cli.document("monitor", "--list")["windows"]
    assert (window["window"], window["clean"], window["problems"]) == (began["window"], True, [])
    assert window["rounds"] > 0

    # One that is attended is left with Ctrl-C, attached to again, and stopped.
    attended = cli.start(*MONITOR, "--duration", "1h", "--alert-on-drift")
    assert attended.stderr is not None
    assert "monitor post-state-migration: " in attended.stderr.readline()
    attended.send_signal(signal.SIGINT)
    _, told = attended.communicate(timeout=30)
    assert (attended.returncode, "attach to it again" in told) == (130, True)
    world.hier_sql("SELECT set_config('hal9.apply', (SELECT token FROM hal9cap.pass), false); "
                   "UPDATE hier.config_values SET value = '\"drifted\"'")  # fmt: skip

    def raised() -> bool:
        with world.system.ledger.begin() as session:
            return monitor.DRIFTED in [one.name for one in raised_alarms.find(session, open=True)]

    until(raised, "the alarm at the first drift")
    stopped = cli(*MONITOR, "--stop")
    assert stopped.exit_code == 3
    assert "records drifted" in stopped.stdout
    assert cli(*MONITOR, "--stop").exit_code == 4


def test_nobody_looking_is_not_clean(world: World) -> None:
    world.prepare()
    id, new = monitor.begin(world.system, "post-state-migration", seconds=3600, alert_on_drift=False, actor="test")
    assert new
    world.hier_sql("UPDATE hal9mig.monitors SET began_at = began_at - interval '2 hours', "
                   "until_at = until_at - interval '2 hours'")  # fmt: skip
    assert monitor.look(world.system) == 1
    with world.system.ledger.begin() as session:
        state = monitor.state(session, id)
    assert state.window.ended_at is not None
    assert not state.clean
    assert "nobody looked for" in state.problems[0]
    with world.system.ledger.begin() as session:
        assert [one.name for one in raised_alarms.find(session, open=True)] == [monitor.UNWATCHED]
