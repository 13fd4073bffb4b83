"""``hal9-migrate monitor``: the time after, watched by the workers, whether or not anybody is at a terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from hal9mig import errors, units
from hal9mig.cli import options
from hal9mig.cli.console import counted
from hal9mig.cli.invocation import Invocation, pass_call

if TYPE_CHECKING:
    from hal9mig.engine.reconcile.monitor import WindowState

_HELP = """Monitor both stores for a time: what drifts, what goes to quarantine, and whether somebody looks at all.

The beat and the workers do it, so it survives the terminal: Ctrl-C leaves it running, and the same command attaches to
it again. At the end, exit 3 where records drifted, even where they were repaired, or where nobody looked for more than
a hundredth of the time. With --alert-on-drift the first drift raises an alarm at once. `state status` tells how it is.

\b
Examples:
  hal9-migrate monitor --phase post-state-migration --duration 24h --alert-on-drift
  hal9-migrate monitor --phase post-state-migration --stop
  hal9-migrate monitor --list
"""
_EVERY, _POLL = 10.0, 0.5


@click.command(help=_HELP)
@click.option("--phase", metavar="WINDOW", help="The window: post-state-migration.")
@click.option("--duration", type=options.DURATION, default="24h", show_default=True, help="How long.")
@click.option("--alert-on-drift", is_flag=True, help="Raise an alarm at the first drift.")
@click.option("--detach", is_flag=True, help="Begin it, and return at once.")
@click.option("--stop", is_flag=True, help="End the window that is open, and say what it came to.")
@click.option("--list", "listed", is_flag=True, help="List windows, the newest first.")
@options.output
@pass_call
def monitor(
    call: Invocation,
    phase: str | None,
    duration: float,
    alert_on_drift: bool,
    detach: bool,
    stop: bool,
    listed: bool,
) -> None:
    from hal9mig.engine.reconcile import monitor as engine
    from hal9mig.ledger import database, monitors

    if sum((detach, stop, listed)) > 1:
        raise errors.ConflictingFlags("--detach, --stop and --list exclude each other.", hint="give one of them")
    if phase is None and not listed:
        raise errors.UsageError("Name the window with --phase.", hint="--phase post-state-migration")
    name = None if phase is None else engine.named(phase)
    if not 1 <= duration <= 400 * 86400:
        raise errors.UsageError("--duration is from 1s to 400d.", hint="--duration 24h")
    call.system.require_ready()
    if listed:
        _list(call, name)
        return
    assert name is not None
    actor = database.actor()
    if stop:
        with call.ledger.begin() as session:
            opened = monitors.find(session, name=name, open=True, limit=1)
        if not opened:
            raise errors.NotFound(f"No window {name} is open.", hint="hal9-migrate monitor --list")
        _conclude(call, engine.end(call.system, opened[0].id, actor=actor))
        return
    id, new = engine.begin(call.system, name, seconds=duration, alert_on_drift=alert_on_drift, actor=actor)
    if not new:
        call.console.say("it is being monitored already; this attaches to it")
    if detach:
        if not call.json:
            call.console.line(f"{name}: monitored until it ends (window {id})")
        call.conclude({"window": id, "name": name, "new": new, "next_steps": [_again(name)]})
        return
    _conclude(call, _attended(call, id, name))


def _attended(call: Invocation, id: int, name: str) -> WindowState:
    """Show a window until it has ended."""
    from hal9mig.engine.reconcile import monitor as engine

    told = 0.0
    try:
        while True:
            try:
                with call.ledger.begin() as session:
                    now = engine.state(session, id)
            except errors.Unreachable as error:
                # It goes on without us, and so do we once it is back.
                call.console.say(f"not seen for the moment: {error.message}")
                time.sleep(_EVERY)
                continue
            if now.window.ended_at is not None:
                return now
            if time.monotonic() - told >= _EVERY or not told:
                call.console.say(_line(now))
                told = time.monotonic()
            if now.window.due and (now.window.now - now.window.until_at).total_seconds() > _EVERY:
                # The workers would have ended it by now; that nobody did is a part of what it came to.
                return engine.end(call.system, id, actor="the command that attended")
            time.sleep(_POLL)
    except KeyboardInterrupt:
        raise errors.Interrupted(
            f"Interrupted; the workers go on monitoring {name}.",
            hint=f"attach to it again: {_again(name)}; end it: hal9-migrate monitor --phase {name} --stop",
        ) from None


def _again(name: str) -> str:
    return f"hal9-migrate monitor --phase {name}"


def _line(now: WindowState) -> str:
    watched = now.watched
    left = units.format_duration(max(0.0, now.length - now.elapsed))
    return (
        f"monitor {now.window.name}: {units.format_duration(max(1.0, now.elapsed))} of "
        f"{units.format_duration(now.length)}, {left} left; {counted(watched.rounds, 'round')}, "
        f"{units.format_count(watched.compared)} compared, {units.format_count(watched.drifted)} drifted; "
        f"lag at most {units.format_duration(watched.most_lag)}"
    )


def _conclude(call: Invocation, now: WindowState) -> None:
    if not call.json:
        call.console.verdict(now.clean, f"{now.window.name}: {'nothing drifted' if now.clean else now.problems[0]}")
        for problem in now.problems[1:]:
            call.console.line(f"   {problem}")
        call.console.line(f"   {_line(now)}")
    failed = None
    if not now.clean:
        failed = errors.ChecksFailed(f"{now.window.name}: {'; '.join(now.problems)}.", hint="hal9-migrate reconcile")
    call.conclude(_document(now) | {"next_steps": [] if now.clean else ["hal9-migrate reconcile"]}, failed)


def _document(now: WindowState) -> dict[str, object]:
    return {
        "window": now.window.id,
        "name": now.window.name,
        "began_at": now.window.began_at,
        "until_at": now.window.until_at,
        "ended_at": now.window.ended_at,
        **now.summary(),
    }


def _list(call: Invocation, name: str | None) -> None:
    from hal9mig.engine.reconcile import monitor as engine
    from hal9mig.ledger import monitors

    with call.ledger.begin() as session:
        found = [engine.state(session, one.id) for one in monitors.find(session, name=name)]
    if not call.json and found:
        rows = [
            [now.window.id, now.window.name, call.console.when(now.window.began_at),
             "open" if now.window.ended_at is None else "clean" if now.clean else "not clean",
             units.format_count(now.watched.rounds), units.format_count(now.watched.drifted)]
            for now in found
        ]  # fmt: skip
        columns = ["WINDOW", "NAME", "BEGAN", "STATE", "ROUNDS", "DRIFTED"]
        call.console.table(columns, rows, numbers=("ROUNDS", "DRIFTED"))
    if not found:
        call.console.say("nothing was monitored yet")
    call.conclude({"windows": [_document(now) for now in found], "next_steps": []})
