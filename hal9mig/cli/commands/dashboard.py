"""``hal9-migrate dashboard``: where everything stands, in a browser."""

from __future__ import annotations

import dataclasses
import logging
import pathlib
import sys

import click

from hal9mig import errors, logs
from hal9mig.cli import options
from hal9mig.cli.invocation import Invocation, pass_call

_HELP = """Show where everything stands in a browser: progress, drift, quarantine, workers, checkpoints, and buttons.

A stack has one already: `stack status` shows its address. The page renews itself. Anybody on this machine may read it;
its buttons ask for a token, and without one it is read-only. Another address than loopback needs a token, and then
reading does, too.

\b
Examples:
  hal9-migrate dashboard
  hal9-migrate dashboard --port 8080 --token-file /run/secrets/hal9-dashboard
  hal9-migrate dashboard --host ops.example --token-file token
"""


@click.command(help=_HELP)
@click.option("--address", help="Address to listen on.  [env: HAL9_DASHBOARD_ADDRESS; default: 127.0.0.1]")
@click.option(
    "--port", type=click.IntRange(1, 65535), metavar="PORT", help="Its port.  [env: HAL9_DASHBOARD_PORT; default: 5556]"
)
@click.option(
    "--token-file",
    type=options.FILE,
    metavar="FILE",
    help="File that holds what the buttons ask for.  [env: HAL9_DASHBOARD_TOKEN_FILE, or HAL9_DASHBOARD_TOKEN]",
)
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="Name under which a reverse proxy shows it; may be repeated.  [env: HAL9_DASHBOARD_HOSTS]",
)
@click.option("--anyone-may-read", is_flag=True, help="Show the page to whoever reaches it; buttons ask for the token.")
@options.output
@pass_call
def dashboard(
    call: Invocation,
    address: str | None,
    port: int | None,
    token_file: pathlib.Path | None,
    hosts: tuple[str, ...],
    anyone_may_read: bool,
) -> None:
    from hal9mig.dashboard import access as accesses
    from hal9mig.dashboard import server

    known = call.settings
    resolved = dataclasses.replace(
        known,
        dashboard_address=address or known.dashboard_address,
        dashboard_port=port or known.dashboard_port,
        dashboard_token_file=token_file or known.dashboard_token_file,
        dashboard_hosts=hosts or known.dashboard_hosts,
    )
    for required in (resolved.require_flat, resolved.require_hier, resolved.require_redis):
        required()  # a page that could never show anything is not served
    access = accesses.decide(resolved, anyone_may_read=anyone_may_read)
    path = resolved.dashboard_token_file
    if path is not None and accesses.readable_by_others(path):
        call.console.warn(f"other accounts of this machine can read {path}")
    try:
        sockets = server.listen(resolved.dashboard_address, resolved.dashboard_port)
    except errors.Refused as refused:
        if port is None and known.origins["dashboard.port"] == "stack":
            refused.hint = "the stack's own is there: hal9-migrate stack status; or choose another with --port"
        raise
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logs.shape(logging.getLogger(), resolved.log_format)

    def ready(port: int) -> None:
        where = server.url(resolved.dashboard_address, port)
        if call.json:
            call.console.document({"url": where, "read_only": access.token is None, "next_steps": []})
            return
        call.console.line(f"dashboard   {where}")
        call.console.say(
            "read-only: no token is set (--token-file)" if access.token is None else "its buttons ask for the token"
        )
        call.console.say("Ctrl-C stops it")

    server.run(resolved, access, sockets, ready=ready)
