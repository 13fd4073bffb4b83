"""Learning of changed configuration as it changes: the client says so with the write, and who listens reads it anew.

The notice is sent by the transaction that writes, so that it arrives when the write has committed and not without it.
It names the key and nothing else; whoever hears it reads the value from the store that rules. A subscription listens
to both stores, as a switch moves the writes from one to the other.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
from collections.abc import Callable, Iterator, Sequence

import psycopg2

from hal9mig import errors, settings
from hal9mig.categories import configuration
from hal9mig.client.transaction import Write
from hal9mig.client.values import Record
from hal9mig.stores import connection as stores
from hal9mig.stores.connection import Connection, Cursor

log = logging.getLogger(__name__)

CHANNEL, SEEN = "hal9_configuration", "hal9_configuration_seen"
#: Keys under which nobody keeps anything: changes of them are answered, so that a test can see who listens.
RESERVED = "hal9.reload-test"
_SLUG = configuration.CATEGORY.slug
#: Bytes that a notice may have; a longer key is told as an empty one, which means: look at them all.
_MOST_BYTES = 7000
#: Seconds between two looks at whether to stop, and before a lost connection is tried again.
_PAUSE, _REST = 0.5, 1.0


def announce(cursor: Cursor, writes: Sequence[Write]) -> None:
    """Tell who listens which keys are changed, once this transaction has committed."""
    keys = [write.key[0] for write in writes if write.category.slug == _SLUG]
    if keys:
        told = [key if len(key.encode()) <= _MOST_BYTES else "" for key in keys]
        cursor.execute("SELECT pg_notify(%s, k) FROM unnest(%s::text[]) k", (CHANNEL, told))


class Subscription(threading.Thread):
    """Calls back with the key and the present record of each configuration key that is changed through the client.

    After a lost connection it is told with the key ``""`` that anything may have changed meanwhile.

    Args:
        get: reads a record by its key, as ``Client.get`` does with the category left out.
        changed: called in this thread; the record is None where the key is gone, or for the key ``""``.
    """

    def __init__(
        self,
        resolved: settings.Settings | None,
        get: Callable[[str], Record | None],
        changed: Callable[[str, Record | None], object],
        *,
        name: str = "application",
    ):
        super().__init__(name="configuration", daemon=True)
        found = resolved or settings.load(environ=os.environ)
        self._urls = found.direct_urls()
        self._timeout = found.connect_timeout
        self._get, self._changed, self._who = get, changed, name
        self._over = threading.Event()
        self.listening = threading.Event()

    def stop(self) -> None:
        """Listen no more; returns once it has ended."""
        self._over.set()
        self.join()

    def run(self) -> None:
        """Listen until stopped."""
        first = True
        while not self._over.is_set():
            try:
                with listening(self._urls, CHANNEL, name=self._who, timeout=self._timeout) as connections:
                    self.listening.set()
                    if not first:
                        self._changed("", None)
                    first = False
                    while not self._over.is_set():
                        for connection, key in heard(connections, _PAUSE):
                            self._tell(connection, key)
            except (errors.HAL9Error, psycopg2.Error) as error:
                log.warning("configuration is not listened to for the moment: %s", str(error).strip())
                self.listening.clear()
                self._over.wait(_REST)

    def _tell(self, connection: Connection, key: str) -> None:
        record = self._get(key) if key else None
        self._changed(key, record)
        if key.startswith(RESERVED):
            version = 0 if record is None else record["version"]
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_notify(%s, %s)", (SEEN, f"{key} {version} {self._who}"))


@contextlib.contextmanager
def listening(urls: Sequence[str], channel: str, *, name: str, timeout: float) -> Iterator[list[Connection]]:
    """Listen to a channel of each of these databases for the length of a block."""
    opened: list[Connection] = []
    try:
        for url in urls:
            connection = stores.connect(url, application_name=f"hal9mig {name}", connect_timeout=timeout, own=True)
            opened.append(connection)
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f"LISTEN {channel}")
        yield opened
    finally:
        for connection in opened:
            connection.close()


def heard(connections: Sequence[Connection], seconds: float) -> list[tuple[Connection, str]]:
    """Wait for notices, for so long at most, and return what came, with the connection it came on."""
    by_file = {connection.fileno(): connection for connection in connections}
    # Not select(), which knows the first 1,024 files of a process only.
    said = select.poll()
    for file in by_file:
        said.register(file, select.POLLIN)
    # What came together with the answer to a statement is there already, and nothing is left to read.
    patience = 0.0 if any(connection.notifies for connection in connections) else max(0.0, seconds)
    for file, _ in said.poll(patience * 1000):
        by_file[file].poll()
    found = []
    for connection in connections:
        while connection.notifies:
            found.append((connection, str(connection.notifies.pop(0).payload)))
    return found
