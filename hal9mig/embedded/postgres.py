"""One private PostgreSQL cluster: made whole or not at all, found again, healed where that is safe."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping

import psutil
import psycopg2
from psycopg2 import extensions, sql

from hal9mig import errors, safe_text
from hal9mig.embedded import binaries, files, process

ROLE = "hal9"
_SUPERUSER = "postgres"
_RECORD = "cluster.json"
_READY = "ready"
# A longer path does not fit into a socket's address.
_LONGEST_SOCKET = 100
_INCLUDE = "\ninclude 'hal9.conf'\n"
_HBA = """# Written by hal9-migrate: everybody gives a password, and only this machine may ask.
local all all scram-sha-256
host  all all 127.0.0.1/32 scram-sha-256
host  all all ::1/128 scram-sha-256
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Record:
    """What a cluster has to remember: written before initdb, so a half-made cluster is known for one."""

    version: int
    port: int
    password: str
    admin_password: str


class Cluster:
    """A PostgreSQL cluster in a folder of its own, on a loopback port that it keeps.

    Args:
        directory: its folder; made by ``create``.
        version: 18 or 16.
        log: where its output goes; ``<directory>/postgres.log`` by default.
        settings: settings over those of ``config/postgresql.conf``.
        say: told of everything that was healed.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        version: int = 18,
        *,
        log: pathlib.Path | None = None,
        settings: Mapping[str, str] | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.directory = directory.absolute()
        self.version = version
        self.data = self.directory / "data"
        self.log = log or self.directory / "postgres.log"
        self.process: process.Process | None = None
        self._settings = dict(settings or {})
        self._say = say
        self._account = process.server_account()
        self._tree: pathlib.Path | None = None

    @property
    def bin(self) -> pathlib.Path:
        """The folder of ``psql``, ``pg_dump`` and ``pgbench``."""
        if self._tree is None:
            tree = binaries.postgres_tree(self.version)
            self._tree = binaries.reachable_tree(tree, self._account, self.directory.parent)
        return self._tree / "bin"

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._record().port

    def url(self, database: str = ROLE) -> str:
        """Return the URL of one database for the application's role, password included."""
        record = self._record()
        return f"postgresql://{ROLE}:{record.password}@{process.LOOPBACK}:{record.port}/{database}"

    def admin_url(self, database: str = _SUPERUSER) -> str:
        """Return the URL of one database for the superuser, password included."""
        record = self._record()
        return f"postgresql://{_SUPERUSER}:{record.admin_password}@{process.LOOPBACK}:{record.port}/{database}"

    def create(self) -> Cluster:
        """Make the cluster, unless it is there; one whose making was cut short is made again.

        Raises:
            errors.StackRefused: the folder holds something else, or a cluster of another version.
            errors.StackFailed: initdb failed.
        """
        files.make_directory(self.directory, 0o711)
        self._require_entry()
        record = files.read_document(self.directory / _RECORD)
        foreign = record is None and any(path.name != self.log.name for path in self.directory.iterdir())
        if foreign or (self.data.exists() and not (self.data / "PG_VERSION").is_file()):
            raise errors.StackRefused(
                f"{self.directory} holds files that hal9-migrate did not make.",
                hint=f"move it away (mv {self.directory} {self.directory}.old), or set HAL9_DATA_DIR",
            )
        if record is None:
            fresh = _Record(
                version=self.version,
                port=process.free_port(),
                password=secrets.token_urlsafe(24),
                admin_password=secrets.token_urlsafe(24),
            )
            files.write_document(self.directory / _RECORD, dataclasses.asdict(fresh))
        if self.data.exists():
            self._require_version()
        else:
            self._initdb()
        return self

    def start(self, *, timeout: float = 120) -> Cluster:
        """Start it, or take over the running one; returns when it answers.

        Raises:
            errors.StackRefused: the folder is not a cluster that can be started as things stand.
            errors.StackFailed: it did not come up.
        """
        self.create()
        self.process = self._running()
        if self.process is None:
            self._clear_stale_pid()
            self._settle_port()
            self.launch()
        deadline = time.monotonic() + timeout
        while not self.ready():
            if self.process is None or not self.process.alive():
                raise self._failure("stopped at once")
            if time.monotonic() > deadline:
                self.stop(timeout=10)
                raise self._failure(f"did not answer within {timeout:.0f} s")
            time.sleep(0.02)
        try:
            self._ensure_role()
        except psycopg2.Error as error:
            self.stop()
            raise self._failure(f"refuses its own superuser: {error}") from error
        return self

    def launch(self) -> process.Process:
        """Start the server process on its port without waiting for it; ``ready`` says when it answers.

        Raises:
            errors.StackFailed: the program cannot be started.
        """
        self._clear_stale_pid()
        self._write_settings()
        files.rotate(self.log)
        try:
            self.process = process.Process.spawn(
                [str(self.bin / "postgres"), "-D", str(self.data)],
                log=self.log,
                cwd=self.directory,
                account=self._account,
            )
        except OSError as error:
            raise self._failure(f"cannot be started: {error}") from error
        return self.process

    def ready(self) -> bool:
        """Whether it accepts connections."""
        lines = self._pid_lines()
        return (
            self.process is not None
            and len(lines) > 7
            and lines[0] == str(self.process.pid)
            and lines[7].strip() == _READY
        )

    def stop(self, *, immediate: bool = False, timeout: float = 60) -> bool:
        """Stop it and return whether it ran; ``immediate`` skips the clean shutdown, as a crash would."""
        running = self.process or self._running()
        if running is not None:
            # SIGINT is the fast shutdown: it waits for no client and leaves the cluster clean.
            running.stop([(signal.SIGQUIT if immediate else signal.SIGINT, timeout), (signal.SIGQUIT, 10)])
        self.process = None
        return running is not None

    def restart(self, immediate: bool = False) -> None:
        """Stop and start it on the same port; ``immediate`` makes it recover from its log, as after a crash."""
        self.stop(immediate=immediate)
        self.start()

    def create_database(self, name: str, *, template: str | None = None) -> str:
        """Create a database that the application's role owns, if it is not there, and return its URL.

        Args:
            template: copied file by file, in half the time that it takes to log its pages; since PostgreSQL 15.
        """
        with _connected(self.admin_url()) as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if cursor.fetchone() is None:
                cursor.execute(
                    sql.SQL(
                        "CREATE DATABASE {} OWNER {} TEMPLATE {}"
                        + " STRATEGY file_copy" * bool(template and self.version >= 15)
                    ).format(sql.Identifier(name), sql.Identifier(ROLE), sql.Identifier(template or "template1"))
                )
        return self.url(name)

    def disconnect(self, name: str) -> None:
        """End every client's connection to a database; it cannot be a template while there is one."""
        with _connected(self.admin_url()) as cursor:
            cursor.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", (name,))

    def drop_database(self, name: str) -> None:
        """Drop a database and throw its clients out."""
        with _connected(self.admin_url()) as cursor:
            cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _record(self) -> _Record:
        document = files.read_document(self.directory / _RECORD)
        if document is None:
            raise errors.StackRefused(f"There is no cluster in {self.directory}.", hint="hal9-migrate stack up")
        return _Record(**document)  # type: ignore[arg-type]

    def _failure(self, what: str) -> errors.StackFailed:
        said = files.tail(self.log)
        return errors.StackFailed(
            f"PostgreSQL in {self.directory} {what}." + (f" It said:\n{said}" if said else ""),
            hint=f"read {self.log}",
        )

    def _require_entry(self) -> None:
        if not binaries.can_enter(self.directory, self._account):
            who = self._account.name if self._account else "this user"
            raise errors.StackRefused(
                f"PostgreSQL runs as {who!r}, who cannot enter {self.directory}.",
                hint="set HAL9_DATA_DIR to a folder that every user may enter, as /var/lib/hal9-migrate",
            )

    def _require_version(self) -> None:
        found = (self.data / "PG_VERSION").read_text(encoding="utf-8").strip()
        if found != str(self.version):
            raise errors.StackRefused(
                f"{self.data} was made by PostgreSQL {found}, and this program brings {self.version}.",
                hint=f"dump it with PostgreSQL {found} and restore it here, or set HAL9_DATA_DIR to a new folder",
            )

    def _initdb(self) -> None:
        fresh = self.directory / "data.new"
        if fresh.exists():
            self._say(f"{self.directory.name}: a half-made cluster was found and is made again")
            shutil.rmtree(fresh)
        fresh.mkdir(mode=0o700)
        self._give(fresh)
        locale = ["--locale=C.UTF-8"]
        if self.version >= 17:
            # The built-in provider sorts alike on every system; the C library's may differ or lack C.UTF-8.
            locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        with tempfile.NamedTemporaryFile("w", dir=self.directory, prefix=".pw-", encoding="utf-8") as password:
            password.write(self._record().admin_password)
            password.flush()
            self._give(pathlib.Path(password.name))
            done = subprocess.run(
                [
                    str(self.bin / "initdb"),
                    f"--pgdata={fresh}",
                    f"--username={_SUPERUSER}",
                    f"--pwfile={password.name}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--data-checksums",
                    *locale,
                    *(["--no-sync"] if self._settings.get("fsync") == "off" else []),
                ],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                **process.as_account(self._account),
            )
        if done.returncode != 0:
            said = "\n".join(safe_text.masked(done.stderr).strip().splitlines()[-3:])
            raise errors.StackFailed(f"initdb failed in {self.directory}. It said:\n{said}")
        with (fresh / "postgresql.conf").open("a", encoding="utf-8") as stream:
            stream.write(_INCLUDE)
        (fresh / "pg_hba.conf").write_text(_HBA, encoding="utf-8")
        fresh.replace(self.data)

    def _give(self, path: pathlib.Path) -> None:
        if self._account:
            os.chown(path, self._account.uid, self._account.gid)

    def _write_settings(self) -> None:
        settings = {"listen_addresses": process.LOOPBACK, "port": str(self.port), "unix_socket_directories": ""}
        sockets = self.directory / "run"
        if len(str(sockets)) + len("/.s.PGSQL.65535.lock") < _LONGEST_SOCKET:
            sockets.mkdir(mode=0o711, exist_ok=True)
            self._give(sockets)
            settings["unix_socket_directories"] = str(sockets)
        settings.update(self._settings)
        quoted = (f"{name} = '{value.replace(chr(39), chr(39) * 2)}'" for name, value in settings.items())
        target = self.data / "hal9.conf"
        text = files.config_file("postgresql.conf").read_text(encoding="utf-8") + "\n" + "\n".join(quoted) + "\n"
        target.write_text("# Written anew at every start; put settings of your own into postgresql.conf.\n" + text)
        self._give(target)

    def _settle_port(self) -> None:
        record = self._record()
        if process.port_free(record.port):
            return
        # Nobody but `stack.json` hands the port on, so another one is as good; it is remembered as well.
        port = process.free_port()
        owner = process.port_owner(record.port)
        self._say(f"{self.directory.name}: port {record.port} is taken by {owner}, so it is {port} now")
        files.write_document(self.directory / _RECORD, dataclasses.asdict(dataclasses.replace(record, port=port)))

    def _pid_lines(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except OSError:
            return []

    def _running(self) -> process.Process | None:
        """Return the server of this very folder, if one runs."""
        lines = self._pid_lines()
        if not lines or not lines[0].strip().isdecimal():
            return None
        found = process.Process.find(int(lines[0]))
        # A server works in its data folder; a stranger who got the pid does not.
        return found if found and found.runs_in(self.data) else None

    def _clear_stale_pid(self) -> None:
        """Remove the pid file of a dead server whose pid a stranger has now; PostgreSQL would refuse to start."""
        lines = self._pid_lines()
        if not lines:
            return
        # Backends notice their dead server within moments. Until then the file must stay: it guards the data.
        deadline = time.monotonic() + 10
        while any(process.Process(pid, 0).runs_in(self.data) for pid in psutil.pids()):
            if time.monotonic() > deadline:
                raise self._failure("left processes behind that still use its data")
            time.sleep(0.1)
        if lines[0].strip().isdecimal() and process.Process.find(int(lines[0])):
            self._say(f"{self.directory.name}: the pid file of an earlier server was stale and is removed")
            (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _ensure_role(self) -> None:
        record = self._record()
        with _connected(self.admin_url()) as cursor:
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (ROLE,))
            if cursor.fetchone() is None:
                # The server gets the verifier only, so that the password reaches neither its log nor its memory.
                verifier = extensions.encrypt_password(
                    record.password, ROLE, scope=cursor.connection, algorithm="scram-sha-256"
                )
                cursor.execute(
                    sql.SQL(
                        "BEGIN; CREATE ROLE {role} LOGIN CREATEDB PASSWORD {password};"
                        "GRANT pg_monitor, pg_signal_backend TO {role}; COMMIT"
                    ).format(role=sql.Identifier(ROLE), password=sql.Literal(verifier))
                )


@contextlib.contextmanager
def _connected(url: str) -> Iterator[extensions.cursor]:
    """Give a cursor of a short connection that commits each statement."""
    with contextlib.closing(psycopg2.connect(url, connect_timeout=10)) as connection:
        connection.autocommit = True
        yield connection.cursor()
