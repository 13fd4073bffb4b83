"""Carries what one socket says to another, both ways."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

Served = Callable[[socket.socket], None]


@contextlib.contextmanager
def listening(address: str, serve: Served) -> Iterator[int]:
    """Listen on a free port of an address, serve each who comes in a thread of its own, and yield the port."""
    server = socket.create_server((address, 0))

    def accept() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=_served, args=(serve, client), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield int(server.getsockname()[1])
    finally:
        server.close()


def between(client: socket.socket, port: int) -> None:
    """Carry both ways between a client and a port of loopback, until one of them has ended."""
    with socket.create_connection(("127.0.0.1", port)) as server:
        back = threading.Thread(target=_carry, args=(server, client), daemon=True)
        back.start()
        _carry(client, server)
        back.join(10)


def _served(serve: Served, client: socket.socket) -> None:
    with contextlib.suppress(OSError, ssl.SSLError), client:
        serve(client)


def _carry(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError, ssl.SSLError, ValueError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
