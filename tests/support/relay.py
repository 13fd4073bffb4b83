"""Carries what one socket says to another, both ways."""

from __future__ import annotations

import contextlib
import io
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


def renumbered(client: socket.socket, port: int) -> None:
    """Carry both ways to a PostgreSQL, without TLS, and tell a session another number than its own, as poolers do."""
    with socket.create_connection(("127.0.0.1", port)) as server:
        there = threading.Thread(target=_carry, args=(client, server), daemon=True)
        there.start()
        kind = b""
        with contextlib.suppress(OSError), server.makefile("rb", buffering=0) as said:
            while kind not in (b"Z", b"E"):
                kind, length = _exactly(said, 1), _exactly(said, 4)
                body = _exactly(said, int.from_bytes(length) - 4)
                if kind == b"K":
                    body = (int.from_bytes(body[:4]) ^ 1).to_bytes(4) + body[4:]
                client.sendall(kind + length + body)
        _carry(server, client)
        there.join(10)


def _exactly(stream: io.RawIOBase, size: int) -> bytes:
    found = b""
    while len(found) < size:
        more = stream.read(size - len(found))
        if not more:
            raise ConnectionError("the server has gone")
        found += more
    return found


def _served(serve: Served, client: socket.socket) -> None:
    with contextlib.suppress(OSError, ssl.SSLError), client:
        serve(client)


def _carry(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError, ssl.SSLError, ValueError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
