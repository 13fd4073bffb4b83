"""Listens, and answers until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence

from tornado import httpserver, netutil

from hal9mig import errors
from hal9mig.categories import registry
from hal9mig.dashboard import handlers
from hal9mig.dashboard.access import Access
from hal9mig.dashboard.reader import Reader
from hal9mig.settings import Settings

#: Bytes of a request's body: a form of two fields, and never a file.
_LARGEST = 16 * 1024
#: Seconds after which an idle connection is closed.
_IDLE = 65


def listen(address: str, port: int) -> list[socket.socket]:
    """Take a port; 0 takes any.

    Raises:
        errors.Refused: the address is not this machine's, or the port is taken.
    """
    try:
        return netutil.bind_sockets(port, address)
    except OSError as error:
        why = os.strerror(error.errno) if isinstance(error.errno, int) and error.errno > 0 else str(error)
        raise errors.Refused(
            f"The dashboard cannot listen at {url(address, port)}: {why}.",
            hint="choose another port with --port or HAL9_DASHBOARD_PORT",
        ) from error


def url(address: str, port: int) -> str:
    """Return where a browser finds an address: for one that means every address of this machine, on itself."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(address, f"[{address}]" if ":" in address else address)
    return f"http://{shown}:{port}"


def run(resolved: Settings, access: Access, sockets: Sequence[socket.socket], *, ready: Callable[[int], None]) -> None:
    """Answer until SIGTERM or SIGINT.

    Args:
        ready: told the port once it answers.

    Raises:
        errors.UsageError: a declaration of a category cannot be read.
    """
    # What failed is told by us, in one line.
    logging.getLogger("tornado.access").setLevel(logging.ERROR)
    logging.getLogger("tornado.general").setLevel(logging.ERROR)
    asyncio.run(_until_told(resolved, access, sockets, ready))


async def _until_told(
    resolved: Settings, access: Access, sockets: Sequence[socket.socket], ready: Callable[[int], None]
) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    await answer(resolved, access, sockets, ready=ready, told=told)


async def answer(
    resolved: Settings,
    access: Access,
    sockets: Sequence[socket.socket],
    *,
    ready: Callable[[int], None],
    told: asyncio.Event,
) -> None:
    """Answer until ``told`` is set; the rest as ``run``."""
    reader = Reader(resolved, registry.load(resolved.category_files).ordered())
    port = int(sockets[0].getsockname()[1])
    site = handlers.Site(reader, access, port=port)
    server = httpserver.HTTPServer(
        handlers.application(site), max_body_size=_LARGEST, max_header_size=_LARGEST, idle_connection_timeout=_IDLE
    )
    server.add_sockets(sockets)
    try:
        ready(port)
        await told.wait()
    finally:
        server.stop()
        await server.close_all_connections()
        site.threads.shutdown(wait=False, cancel_futures=True)
        reader.close()
