"""A PgBouncer in transaction mode before a test's stores, and how many sessions of the servers' it took."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

import psycopg2

from hal9mig.embedded import process
from hal9mig.embedded.process import Process
from tests.support.migration_driver import connected, until
from tests.support.servers import Stores

#: Debian has it where an account that is not root does not look.
PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
#: Seconds between two looks at the pools.
_EVERY = 0.2


@dataclasses.dataclass(kw_only=True)
class Most:
    """The most that was seen of one database at any look: clients, sessions of the server, clients that waited."""

    clients: int = 0
    servers: int = 0
    waiting: int = 0


class PgBouncer:
    """A running PgBouncer; ``most`` has for each store's database the most that was seen."""

    def __init__(self, stores: Stores, folder: pathlib.Path, *, size: int):
        self._folder = folder / "pgbouncer"
        self._stores = stores
        self._size = size
        self._port = process.free_port()
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self.most: dict[str, Most] = {}

    def __enter__(self) -> PgBouncer:
        assert PROGRAM, "there is no pgbouncer here (Debian: apt-get install pgbouncer)"
        account = process.server_account()
        self._folder.mkdir()
        settings = self._folder / "pgbouncer.ini"
        settings.write_text(self._settings(), encoding="utf-8")
        log = self._folder / "pgbouncer.log"
        self._process = Process.spawn([PROGRAM, str(settings)], log=log, cwd=pathlib.Path("/"), account=account)
        until(self._answers, "PgBouncer's answer")
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watch.join()
        self._process.stop([(signal.SIGINT, 5), (signal.SIGKILL, 5)])

    @property
    def _urls(self) -> tuple[str, str]:
        return self._stores.flat_url, self._stores.hier_url

    def url(self, url: str) -> str:
        """Return a store's address by way of the pooler."""
        found = urlsplit(url)
        return f"postgresql://{found.username}:{found.password}@127.0.0.1:{self._port}{found.path}"

    def environ(self) -> Mapping[str, str]:
        """Return the settings that lead by way of the pooler, and to the servers for what needs them."""
        flat, hier = self._urls
        return {
            "HAL9_FLAT_URL": self.url(flat), "HAL9_HIER_URL": self.url(hier),
            "HAL9_FLAT_DIRECT_URL": flat, "HAL9_HIER_DIRECT_URL": hier,
        }  # fmt: skip

    def _settings(self) -> str:
        places = (urlsplit(url) for url in self._urls)
        databases = "".join(
            f"{one.path[1:]} = host=127.0.0.1 port={one.port} user={one.username} password={one.password}\n"
            for one in places
        )
        return (
            f"[databases]\n{databases}[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self._port}\n"
            "unix_socket_dir =\nauth_type = any\n"
            f"pool_mode = transaction\ndefault_pool_size = {self._size}\nmax_client_conn = 2000\n"
            "log_connections = 0\nlog_disconnections = 0\n"
        )

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg2.OperationalError), connected(self.url(self._stores.flat_url)) as cursor:
            cursor.execute("SELECT 1")
            return True
        return False

    def _look(self) -> None:
        found = urlsplit(self._stores.flat_url)
        admin = f"postgresql://{found.username}:{found.password}@127.0.0.1:{self._port}/pgbouncer"
        with connected(admin) as cursor:
            while not self._over.wait(_EVERY):
                cursor.execute("SHOW POOLS")
                names = [column.name for column in cursor.description or ()]
                for row in (dict(zip(names, values, strict=True)) for values in cursor.fetchall()):
                    if row["database"] != "pgbouncer":
                        _raise(self.most.setdefault(row["database"], Most()), row)


def _raise(most: Most, row: Mapping[str, int]) -> None:
    servers = sum(value for name, value in row.items() if name.startswith("sv_"))
    most.clients = max(most.clients, row["cl_active"] + row["cl_waiting"])
    most.servers = max(most.servers, servers)
    most.waiting = max(most.waiting, row["cl_waiting"])


@contextlib.contextmanager
def before(stores: Stores, folder: pathlib.Path, *, size: int) -> Iterator[PgBouncer]:
    """Put a PgBouncer before both stores, with so many sessions of each server's for all clients together."""
    with PgBouncer(stores, folder, size=size) as started:
        yield started
