"""A server behind TLS: a door that speaks it, in front of one that does not; the embedded builds cannot themselves."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Iterator

#: What PostgreSQL's clients send before all else to ask for TLS, and for the encryption of GSSAPI.
_SSL_REQUEST, _GSS_REQUEST = struct.pack("!ii", 8, 80877103), struct.pack("!ii", 8, 80877104)


@contextlib.contextmanager
def door(port: int, context: ssl.SSLContext, *, postgres: bool) -> Iterator[int]:
    """Open a door to a port of loopback, and yield the port that it has; who does not speak TLS is not let in.

    Args:
        postgres: the client asks for TLS in PostgreSQL's way.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def accept() -> None:
        while not over.is_set():
            try:
                client, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=_let_in, args=(client, port, context, postgres), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listening.getsockname()[1]
    finally:
        over.set()
        listening.close()


def _let_in(client: socket.socket, port: int, context: ssl.SSLContext, postgres: bool) -> None:
    with contextlib.suppress(OSError, ssl.SSLError), client:
        if postgres:
            asked = client.recv(8)
            if asked == _GSS_REQUEST:
                client.sendall(b"N")
                asked = client.recv(8)
            if asked != _SSL_REQUEST:
                return
            client.sendall(b"S")
        with (
            context.wrap_socket(client, server_side=True) as inside,
            socket.create_connection(("127.0.0.1", port)) as server,
        ):
            back = threading.Thread(target=_carry, args=(server, inside), daemon=True)
            back.start()
            _carry(inside, server)
            back.join(10)


def _carry(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError, ssl.SSLError, ValueError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
