"""A server behind TLS: a door that speaks it, in front of one that does not; the embedded builds cannot themselves."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct

from tests.support import relay

#: What PostgreSQL's clients send before all else to ask for TLS, and for the encryption of GSSAPI.
_SSL_REQUEST, _GSS_REQUEST = struct.pack("!ii", 8, 80877103), struct.pack("!ii", 8, 80877104)


def door(port: int, context: ssl.SSLContext, *, postgres: bool) -> contextlib.AbstractContextManager[int]:
    """Open a door to a port of loopback, and give the port that it has; who does not speak TLS is not let in.

    Args:
        postgres: the client asks for TLS in PostgreSQL's way.
    """

    def let_in(client: socket.socket) -> None:
        if postgres:
            asked = client.recv(8)
            if asked == _GSS_REQUEST:
                client.sendall(b"N")
                asked = client.recv(8)
            if asked != _SSL_REQUEST:
                return
            client.sendall(b"S")
        with context.wrap_socket(client, server_side=True) as inside:
            relay.between(inside, port)

    return relay.listening("127.0.0.1", let_in)
