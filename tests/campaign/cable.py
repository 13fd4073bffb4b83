"""A cable to a server on this machine, which can be pulled out, or go silent as a lost host does."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import urllib.parse

from tests.support import relay


class Cable:
    """Carries connections to the server of a URL; ``url`` is the one that leads through it.

    Attributes:
        flows: set while bytes go through; cleared, they wait without a word, as when packets are lost.
        delay: seconds that each piece takes.
    """

    def __init__(self, url: str, stack: contextlib.ExitStack):
        parts = urllib.parse.urlsplit(url)
        assert parts.port is not None
        self._port = parts.port
        self._plugged = True
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self.flows = threading.Event()
        self.flows.set()
        self.delay = 0.0
        listening = stack.enter_context(relay.listening("127.0.0.1", self._serve))
        place = parts.netloc.rpartition("@")[0]
        self.url = parts._replace(netloc=f"{place}@127.0.0.1:{listening}").geturl()

    def pull(self) -> None:
        """Break every connection, and take none until it is plugged in."""
        with self._lock:
            self._plugged = False
            broken, self._sockets = self._sockets, set()
        for one in broken:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def plug(self) -> None:
        """Let everything through again."""
        self._plugged = True
        self.delay = 0.0
        self.flows.set()

    def _serve(self, client: socket.socket) -> None:
        with self._lock:
            if not self._plugged:
                return
            self._sockets.add(client)
        # The first of both directions to end ends the other one too, so that neither side waits for a dead one.
        with socket.create_connection(("127.0.0.1", self._port)) as server:
            back = threading.Thread(target=self._carry, args=(server, client), daemon=True)
            back.start()
            self._carry(client, server)
            back.join()
        with self._lock:
            self._sockets.discard(client)

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.flows.wait()
                if self.delay:
                    time.sleep(self.delay)
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
