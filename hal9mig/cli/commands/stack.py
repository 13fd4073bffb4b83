"""``hal9-migrate stack``: the servers, workers, beat, Flower and dashboard of one machine."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping

import click

from hal9mig import errors, safe_text, settings, units
from hal9mig.cli import lazy_group
from hal9mig.cli.invocation import Invocation, pass_call
from hal9mig.embedded import daemon, programs, record
from hal9mig.embedded import stack as stacks

_UP = """Start PostgreSQL, Redis, workers, beat, Flower and the dashboard on this machine, and keep them running.

Without --detach it stays in the foreground, as a compose does; Ctrl-C stops everything in order. With
HAL9_FLAT_URL, HAL9_HIER_URL and HAL9_REDIS_URL set, those servers are used and none is started.

\b
Examples:
  hal9-migrate stack up --workers 4
  hal9-migrate stack up --detach
  HAL9_FLOWER_PORT=5600 hal9-migrate stack up --detach
"""
_STATUS = """Show every server and process of the stack; exit 3 unless all of them are up.

\b
Examples:
  hal9-migrate stack status
  hal9-migrate stack status --show-login
  hal9-migrate stack status --json
"""
_DOWN = """Stop the stack; its data stays, and the next `stack up` goes on from there.

\b
Examples:
  hal9-migrate stack down
"""


@click.group(cls=lazy_group.Group)
def stack() -> None:
    """Start, show and stop the servers and processes of one machine."""


@stack.command(help=_UP)
@click.option(
    "--workers", type=click.IntRange(1), metavar="N", help="Worker processes.  [env: HAL9_WORKERS; default: 2]"
)
@click.option(
    "--flower-port",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="Flower's port.  [env: HAL9_FLOWER_PORT; default: 5555]",
)
@click.option(
    "--dashboard-port",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="The dashboard's port.  [env: HAL9_DASHBOARD_PORT; default: 5556]",
)
@click.option("--detach", is_flag=True, help="Return once everything is up, and leave it running.")
@pass_call
def up(
    call: Invocation, workers: int | None, flower_port: int | None, dashboard_port: int | None, detach: bool
) -> None:
    flags = {"stack.workers": workers, "stack.flower_port": flower_port, "dashboard.port": dashboard_port}
    resolved = _starting(call, flags)
    status = record.read(resolved.data_dir)
    if status.supervisor:
        _already_up(resolved, status, workers)
        return
    stacks.open_data_dir(resolved.data_dir)
    if detach:
        daemon.detach(
            lambda say, ready: _stack(resolved, say).run(ready),
            say=_talk,
            log=programs.log_of(resolved.data_dir, "supervisor"),
        )
        _show_addresses(resolved)
        return
    _stack(resolved, _talk).run(lambda: _show_addresses(resolved))


@stack.command(help=_STATUS)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.option("--show-login", is_flag=True, help="Print Flower's login and the dashboard's token in full.")
@pass_call
def status(call: Invocation, as_json: bool, show_login: bool) -> None:
    resolved = call.settings
    found = record.read(resolved.data_dir)
    if as_json or call.json:
        click.echo(json.dumps(_document(found, show_login), indent=2))
    else:
        _show_status(resolved, found, show_login)
    if not found.healthy:
        click.get_current_context().exit(errors.EXIT_PROBLEMS)


@stack.command(help=_DOWN)
@click.option("--timeout", default="3m", metavar="TIME", show_default=True, help="How long to wait for the end.")
@pass_call
def down(call: Invocation, timeout: str) -> None:
    resolved = call.settings
    if not record.down(resolved.data_dir, _talk, timeout=units.parse_duration(timeout)):
        _talk(f"not running in {resolved.data_dir}")


def _stack(resolved: settings.Settings, say: stacks.Say) -> stacks.Stack:
    return stacks.Stack(resolved, say=say, prepare=_prepare, environ=os.environ)


def _prepare(flat_url: str, hier_url: str) -> None:
    # Late: Alembic takes its time, and `stack status` does without.
    from hal9mig.stores import schema

    schema.upgrade(flat_url, hier_url)


def _talk(line: str) -> None:
    click.echo(safe_text.masked(line), err=True)


def _starting(call: Invocation, flags: Mapping[str, object]) -> settings.Settings:
    # The flags of `hal9-migrate` itself were read already; these join them.
    known = call.settings
    earlier = {key: known.values[key] for key, origin in known.origins.items() if origin == "flag"}
    # Nothing of what a killed stack wrote down: this one says anew where everything is.
    return settings.load(flags={**earlier, **flags}, config=call.config, environ=os.environ, stack=False)


def _already_up(resolved: settings.Settings, found: record.StackStatus, workers: int | None) -> None:
    pid = found.supervisor.pid if found.supervisor else 0
    if found.state != "up":
        raise errors.StackRefused(f"The stack is {found.state} right now (pid {pid}).")
    _talk(f"already up (pid {pid}), workers: {found.workers}")
    if workers is None or workers == found.workers:
        return
    record.want_workers(resolved.data_dir, workers)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        now = record.read(resolved.data_dir)
        if now.workers == workers and now.healthy:
            _talk(f"workers now: {workers}")
            return
        time.sleep(0.2)
    raise errors.TimedOut(f"The stack did not get to {workers} workers within 120 s.", hint="hal9-migrate stack status")


def _show_addresses(resolved: settings.Settings) -> None:
    found = record.read(resolved.data_dir)
    for key, name in (
        ("stores.flat_url", "flat store"),
        ("stores.hier_url", "hier store"),
        ("queue.redis_url", "redis"),
    ):
        url = found.settings.get(key) or resolved.values.get(key)
        click.echo(f"{name:<11} {safe_text.masked(str(url))}")
    click.echo(f"{'flower':<11} http://127.0.0.1:{found.settings['stack.flower_port']}")
    click.echo(f"{'dashboard':<11} {_dashboard(found)}")
    _talk("Flower's login and the dashboard's token: hal9-migrate stack status --show-login")


def _show_status(resolved: settings.Settings, found: record.StackStatus, show_login: bool) -> None:
    if found.state == "down":
        click.echo("not running")
        _talk("start it with: hal9-migrate stack up --detach")
        return
    count = sum(child.state == "up" and child.process is not None for child in found.children)
    click.echo(f"stack: {found.state}, {count} of {len(found.children)} up")
    rows = [("NAME", "PID", "STATE", "UPTIME", "RESTARTS", "ADDRESS", "LOG")]
    for child in found.children:
        process = child.process
        state = child.state if process or child.state != "up" else "died"
        uptime = units.format_duration(round(process.uptime())) if process else "-"
        pid = str(child.pid) if process else "-"
        rows.append((child.name, pid, state, uptime, str(child.restarts), child.address or "-", child.log))
    if sys.stdout.isatty():
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    else:
        for row in rows:
            click.echo("\t".join(row))
    _show_urls(resolved, found)
    login, token = found.settings.get("stack.flower_auth"), found.settings.get("dashboard.token")
    if login:
        click.echo(f"Flower's login: {login if show_login else str(login).partition(':')[0] + ':***'}")
    if token:
        click.echo(f"the dashboard's token: {token if show_login else '***'}")
    if (login or token) and not show_login:
        _talk("see it in full with: hal9-migrate stack status --show-login")
    if found.state == "left behind":
        _talk("its supervisor is gone; `hal9-migrate stack up` takes the servers over, `stack down` stops them")


def _dashboard(found: record.StackStatus) -> str:
    return next((child.address for child in found.children if child.name == "dashboard"), "-")


def _show_urls(resolved: settings.Settings, found: record.StackStatus) -> None:
    for setting in settings.SETTINGS:
        if setting.key in settings.SERVERS:
            value = found.settings.get(setting.key) or resolved.values.get(setting.key)
            click.echo(f"{setting.key}: {settings.shown(setting, value)}")


def _document(found: record.StackStatus, show_login: bool) -> dict[str, object]:
    login = str(found.settings.get("stack.flower_auth") or "")
    known = {setting.key: setting for setting in settings.SETTINGS}
    shown = {key: settings.shown(known[key], value) for key, value in found.settings.items() if key in known}
    if login:
        shown["stack.flower_auth"] = login if show_login else login.partition(":")[0] + ":***"
    if show_login and "dashboard.token" in shown:
        shown["dashboard.token"] = str(found.settings["dashboard.token"])
    children = []
    for child in found.children:
        process = child.process
        children.append(
            {
                "name": child.name,
                "pid": child.pid if process else None,
                "state": child.state if process or child.state != "up" else "died",
                "uptime_seconds": round(process.uptime(), 1) if process else None,
                "restarts": child.restarts,
                "address": child.address or None,
                "log": child.log,
            }
        )
    return {
        "schema": 1,
        "state": found.state,
        "healthy": found.healthy,
        "pid": found.supervisor.pid if found.supervisor else None,
        "started_at": found.started_at or None,
        "settings": shown,
        "children": children,
        "next_steps": ["hal9-migrate stack up --detach"] if found.state in ("down", "left behind") else [],
    }
