"""The connection plane: where the stores, the queue and the folders are, and who said so.

Precedence: flag > environment (the named variables only) > ``--config`` or
``./hal9-migrate.toml`` > ``/etc/hal9/migrate.toml`` > a running stack > default.
Tuning (rates, batch sizes) is another plane: it lives in the ledger, see ``hal9mig.ledger.tuning``.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import pathlib
import tomllib
import urllib.parse
from collections.abc import Callable, Mapping
from typing import TypeVar

from hal9mig import errors, safe_text, setting_texts, units

T = TypeVar("T")

SYSTEM_CONFIG = pathlib.Path("/etc/hal9/migrate.toml")
LOCAL_CONFIG = pathlib.Path("hal9-migrate.toml")
STACK_FILE = "stack.json"

#: What to do about servers, workers and the beat: of a stack that runs here, and of one's own.
EMBEDDED_SERVERS = "hal9-migrate stack status"
OWN_SERVERS = "hal9-migrate configure show --origin"
WORKER_LINE = "celery -A workers.app worker --concurrency 1 --loglevel INFO --without-gossip --without-mingle"
BEAT_LINE = "celery -A beat.app beat"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """One key of the connection plane: its TOML name, its variable, its default and its meaning."""

    key: str
    env: str | None
    default: object
    help: str
    secret: bool = False


SETTINGS: tuple[Setting, ...] = (
    Setting(key="stores.flat_url", env="HAL9_FLAT_URL", default=None, secret=True,
            help="flat store, postgresql://user:password@host:port/database"),
    Setting(key="stores.hier_url", env="HAL9_HIER_URL", default=None, secret=True,
            help="hierarchical store, which also holds the ledger"),
    Setting(key="stores.flat_direct_url", env="HAL9_FLAT_DIRECT_URL", default=None, secret=True,
            help="the flat store's server itself, where flat_url is a connection pooler's"),
    Setting(key="stores.hier_direct_url", env="HAL9_HIER_DIRECT_URL", default=None, secret=True,
            help="the same of the hierarchical store"),
    Setting(key="stores.connect_timeout", env=None, default="5s",
            help="how long to try to reach a database"),
    Setting(key="queue.redis_url", env="HAL9_REDIS_URL", default=None, secret=True,
            help="Redis, redis://, rediss:// or redis+socket:///path"),
    Setting(key="queue.prefix", env="HAL9_QUEUE_PREFIX", default="hal9:",
            help="prefix of every key this system writes to Redis"),
    Setting(key="stack.data_dir", env="HAL9_DATA_DIR", default=None,
            help="folder of the embedded servers"),
    Setting(key="stack.workers", env="HAL9_WORKERS", default=2, help="worker processes of `stack up`"),
    Setting(key="stack.flower_port", env="HAL9_FLOWER_PORT", default=5555, help="port of Flower, on loopback"),
    Setting(key="stack.flower_auth", env="HAL9_FLOWER_AUTH", default=None, secret=True,
            help="user:password for Flower; made up when unset, see `stack status --show-login`"),
    Setting(key="dashboard.address", env="HAL9_DASHBOARD_ADDRESS", default="127.0.0.1",
            help="address that the dashboard listens on; another than loopback needs a token"),
    Setting(key="dashboard.port", env="HAL9_DASHBOARD_PORT", default=5556, help="port of the dashboard"),
    Setting(key="dashboard.token", env="HAL9_DASHBOARD_TOKEN", default=None, secret=True,
            help="what its buttons ask for; a stack makes one up, see `stack status --show-login`"),
    Setting(key="dashboard.token_file", env="HAL9_DASHBOARD_TOKEN_FILE", default=None,
            help="file that holds the token instead"),
    Setting(key="dashboard.hosts", env="HAL9_DASHBOARD_HOSTS", default=(),
            help="names under which a reverse proxy shows the dashboard, separated by commas"),
    Setting(key="log.dir", env="HAL9_LOG_DIR", default="/var/log/hal9",
            help="folder of reconciliation.log; each host has its own"),
    Setting(key="log.format", env="HAL9_LOG_FORMAT", default="text",
            help="how workers, beat and dashboard log: text or json, a document a line"),
    Setting(key="alerts.webhook_url", env="HAL9_WEBHOOK_URL", default=None, secret=True,
            help="where alarms are sent by POST as JSON, http:// or https://"),
    Setting(key="alerts.webhook_secret", env="HAL9_WEBHOOK_SECRET", default=None, secret=True,
            help="key of the signature in X-Hal9-Signature (HMAC-SHA256 of the body)"),
    Setting(key="checkpoints.url", env="HAL9_CHECKPOINT_URL", default=None,
            help="where checkpoints lie: a folder or any fsspec URL, the same for all workers; "
                 "default checkpoints in stack.data_dir"),
    Setting(key="checkpoints.keep", env="HAL9_CHECKPOINT_KEEP", default=0,
            help="full checkpoints that are kept when a new one is taken; 0 keeps all"),
    Setting(key="categories.files", env="HAL9_CATEGORIES", default=(),
            help="Python files that declare categories of your own, separated by commas"),
    Setting(key="client.noncritical", env="HAL9_NONCRITICAL", default=("reports", "analytics", "compaction"),
            help="operations that hal9mig.client refuses during dual-write, separated by commas"),
    Setting(key="lease.duration", env="HAL9_LEASE", default="15s",
            help="how long a worker may be silent before its batch goes to another"),
)  # fmt: skip
#: The keys of the servers; a stack's are all of them or none.
SERVERS = ("stores.flat_url", "stores.hier_url", "queue.redis_url")
_BY_KEY = {setting.key: setting for setting in SETTINGS}
_VARIABLES = frozenset(setting.env for setting in SETTINGS)
#: Characters of a file that holds a secret, at most.
_LONGEST_SECRET = 1 << 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """The resolved connection plane; ``origins`` says for each key where its value came from."""

    flat_url: str | None
    hier_url: str | None
    flat_direct_url: str | None
    hier_direct_url: str | None
    connect_timeout: float
    redis_url: str | None
    queue_prefix: str
    data_dir: pathlib.Path
    workers: int
    flower_port: int
    flower_auth: str | None
    dashboard_address: str
    dashboard_port: int
    dashboard_token: str | None
    dashboard_token_file: pathlib.Path | None
    dashboard_hosts: tuple[str, ...]
    log_dir: pathlib.Path
    log_format: str
    webhook_url: str | None
    webhook_secret: str | None
    checkpoint_url: str
    checkpoint_keep: int
    category_files: tuple[pathlib.Path, ...]
    noncritical: tuple[str, ...]
    lease_duration: float
    config_file: pathlib.Path | None
    values: Mapping[str, object]
    origins: Mapping[str, str]

    @property
    def external(self) -> bool:
        """Whether the servers are somebody else's, so that nothing is embedded."""
        return any(self.origins[key] not in ("default", "stack") for key in SERVERS)

    @property
    def servers_hint(self) -> str:
        """The command that says more where a server does not answer."""
        return OWN_SERVERS if self.external else EMBEDDED_SERVERS

    @property
    def workers_hint(self) -> str:
        """The command that starts workers, or says why there are none."""
        if self.external:
            return WORKER_LINE
        # A stack that is up already has its workers; its status says what became of them.
        return EMBEDDED_SERVERS if self.origins["queue.redis_url"] == "stack" else "hal9-migrate stack up --detach"

    @property
    def beat_hint(self) -> str:
        """The command that starts the clock of the rounds, or says what became of it."""
        return BEAT_LINE if self.external else EMBEDDED_SERVERS

    def require_flat(self) -> str:
        """Return the flat store's URL.

        Raises:
            errors.NotConfigured: none is known.
        """
        return self._required(self.flat_url, "the flat store", "HAL9_FLAT_URL")

    def require_hier(self) -> str:
        """Return the hierarchical store's URL.

        Raises:
            errors.NotConfigured: none is known.
        """
        return self._required(self.hier_url, "the hierarchical store", "HAL9_HIER_URL")

    def direct_urls(self) -> tuple[str, str]:
        """Return the addresses of the flat and of the hierarchical store that lead to no pooler.

        Raises:
            errors.NotConfigured: none is known.
        """
        return self.flat_direct_url or self.require_flat(), self.hier_direct_url or self.require_hier()

    def require_redis(self) -> str:
        """Return Redis's URL.

        Raises:
            errors.NotConfigured: none is known.
        """
        return self._required(self.redis_url, "the queue", "HAL9_REDIS_URL")

    def _required(self, url: str | None, what: str, variable: str) -> str:
        if url is not None:
            return url
        if self.external:
            # A half of it from a stack would be two systems in one.
            raise errors.NotConfigured(
                f"No address is known for {what}: another server's is set, so a stack that runs here is not used, "
                f"and {variable} is not set.",
                hint=f"set {variable} too, or none of them; hal9-migrate configure show --origin",
            )
        raise errors.NotConfigured(
            f"No address is known for {what}: no stack is running here and {variable} is not set.",
            hint=f"hal9-migrate stack up --detach, or set {variable}",
        )


def default_data_dir() -> pathlib.Path:
    """Return where the embedded servers keep their data when nobody says otherwise."""
    # Root's home is closed to the account PostgreSQL has to run under, so root uses /var/lib.
    if os.geteuid() == 0:
        return pathlib.Path("/var/lib/hal9-migrate")
    base = os.environ.get("XDG_DATA_HOME") or pathlib.Path.home() / ".local" / "share"
    return pathlib.Path(base) / "hal9-migrate"


def load(
    *,
    flags: Mapping[str, object] | None = None,
    config: pathlib.Path | None = None,
    environ: Mapping[str, str],
    stack: bool = True,
) -> Settings:
    """Resolve every setting.

    Args:
        flags: values given on the command line, by key; they win.
        config: the file of ``--config``; without it ``HAL9_CONFIG``, then ``./hal9-migrate.toml``.
        environ: the environment; only the variables named in ``SETTINGS``, those of a secret with ``_FILE`` behind it,
            and ``HAL9_CONFIG`` are read.
        stack: whether what nobody set comes from a running stack; not for one that is about to start.

    Raises:
        errors.InvalidSettings: a file cannot be read, a key is unknown or a value has the wrong form.
    """
    if config is None and environ.get("HAL9_CONFIG"):
        config = pathlib.Path(environ["HAL9_CONFIG"])
    if config is not None and not config.is_file():
        raise errors.InvalidSettings(f"The settings file {config} does not exist.", hint="name another with --config")
    local = config or (LOCAL_CONFIG if LOCAL_CONFIG.is_file() else None)

    values: dict[str, object] = {setting.key: setting.default for setting in SETTINGS}
    origins: dict[str, str] = dict.fromkeys(values, "default")
    values["stack.data_dir"] = str(default_data_dir())

    def put(key: str, value: object, origin: str) -> None:
        values[key] = value
        origins[key] = origin

    layers = [path for path in (SYSTEM_CONFIG if SYSTEM_CONFIG.is_file() else None, local) if path]
    for path in layers:
        for key, value in _read(path).items():
            put(key, value, str(path))
    for setting in SETTINGS:
        if setting.env and environ.get(setting.env):
            put(setting.key, environ[setting.env], f"environment {setting.env}")
        if (file := secret_file(setting, environ)) is not None:
            if environ.get(setting.env or ""):
                raise errors.InvalidSettings(
                    f"{setting.env} and {setting.env}_FILE are both set.", hint="set one of them"
                )
            put(setting.key, _secret(file), f"file {file}")
    for key, value in (flags or {}).items():
        if value is not None:
            put(_BY_KEY[key].key, value, "flag")

    # A running stack only fills what nobody set, its folders too: what a command writes belongs where the workers
    # write. Whoever names another server means another system.
    running = _running_stack(pathlib.Path(str(values["stack.data_dir"]))) if stack else {}
    if all(values[key] in (None, running.get(key)) for key in SERVERS):
        for key, value in running.items():
            if origins[key] == "default":
                put(key, value, "stack")

    def read(key: str, parse: Callable[[str], T]) -> T:
        try:
            return parse(str(values[key]))
        except errors.HAL9Error as error:
            raise errors.InvalidSettings(
                f"{key} cannot be read ({origins[key]}): {error.message}", hint=error.hint
            ) from error

    return Settings(
        flat_url=setting_texts.text(values["stores.flat_url"]),
        hier_url=setting_texts.text(values["stores.hier_url"]),
        flat_direct_url=setting_texts.text(values["stores.flat_direct_url"]),
        hier_direct_url=setting_texts.text(values["stores.hier_direct_url"]),
        connect_timeout=read("stores.connect_timeout", units.parse_duration),
        redis_url=None if values["queue.redis_url"] is None else read("queue.redis_url", setting_texts.address),
        queue_prefix=str(values["queue.prefix"]),
        data_dir=pathlib.Path(str(values["stack.data_dir"])).absolute(),
        workers=read("stack.workers", units.parse_count),
        flower_port=read("stack.flower_port", units.parse_count),
        flower_auth=setting_texts.text(values["stack.flower_auth"]),
        dashboard_address=str(values["dashboard.address"]),
        dashboard_port=read("dashboard.port", units.parse_count),
        dashboard_token=setting_texts.text(values["dashboard.token"]),
        dashboard_token_file=setting_texts.path(values["dashboard.token_file"]),
        dashboard_hosts=tuple(setting_texts.names(values["dashboard.hosts"])),
        log_dir=pathlib.Path(str(values["log.dir"])).absolute(),
        log_format=read("log.format", setting_texts.log_format),
        webhook_url=None if values["alerts.webhook_url"] is None else read("alerts.webhook_url", setting_texts.address),
        webhook_secret=setting_texts.text(values["alerts.webhook_secret"]),
        checkpoint_url=setting_texts.place(
            setting_texts.text(values["checkpoints.url"])
            or str(pathlib.Path(str(values["stack.data_dir"])) / "checkpoints")
        ),
        checkpoint_keep=read("checkpoints.keep", setting_texts.keep),
        category_files=tuple(pathlib.Path(name).absolute() for name in setting_texts.names(values["categories.files"])),
        noncritical=tuple(setting_texts.names(values["client.noncritical"])),
        lease_duration=read("lease.duration", units.parse_duration),
        # Absolute now: a daemon that is about to read it again has left this folder.
        config_file=layers[-1].absolute() if layers else None,
        values=values,
        origins=origins,
    )


def secret_file(setting: Setting, environ: Mapping[str, str]) -> str | None:
    """Return the file that holds a secret's value, as container platforms hand it out: ``HAL9_FLAT_URL_FILE``."""
    name = f"{setting.env}_FILE"
    if not setting.secret or setting.env is None or name in _VARIABLES:
        return None
    return environ.get(name) or None


def _secret(path: str) -> str:
    try:
        with pathlib.Path(path).open(encoding="utf-8") as file:
            # One more than it may be, and no further: a device may have no end.
            found = file.read(_LONGEST_SECRET + 1)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise errors.InvalidSettings(f"The file {path} of a secret cannot be read: {why}.") from None
    if len(found) > _LONGEST_SECRET:
        # A part of a secret would be one that nobody knows.
        raise errors.InvalidSettings(f"The file {path} of a secret is longer than {_LONGEST_SECRET:,} characters.")
    return found.strip()


def shown(setting: Setting, value: object) -> str:
    """Return a value as `configure show` prints it, without its password."""
    if value is None:
        return "(unset)"
    if setting.secret and "://" not in str(value):
        return "***"
    if setting.key == "alerts.webhook_url":
        # Whoever knows the path of such an address may often write there.
        return f"{str(value).partition('://')[0]}://{urllib.parse.urlsplit(str(value)).hostname or ''}/***"
    if isinstance(value, (tuple, list)):
        return ",".join(map(str, value)) or "(none)"
    return safe_text.masked(str(value))


def _read(path: pathlib.Path) -> dict[str, object]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise errors.InvalidSettings(f"The settings file {path} cannot be read: {error}") from error
    flat: dict[str, object] = {}
    for section, body in document.items():
        entries = body.items() if isinstance(body, dict) else [("", body)]
        for name, value in entries:
            key = f"{section}.{name}" if name else section
            if key not in _BY_KEY:
                near = difflib.get_close_matches(key, _BY_KEY, n=1, cutoff=0.5)
                raise errors.InvalidSettings(
                    f"The settings file {path} has an unknown key, {key}.",
                    hint=f"did you mean {near[0]}?" if near else "hal9-migrate configure show lists every key",
                )
            if isinstance(value, dict) or (isinstance(value, list) and not isinstance(_BY_KEY[key].default, tuple)):
                raise errors.InvalidSettings(f"{key} of the settings file {path} is neither a text nor a number.")
            flat[key] = value
    return flat


def _running_stack(data_dir: pathlib.Path) -> dict[str, object]:
    try:
        document = json.loads((data_dir / STACK_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    found = document.get("settings") if isinstance(document, dict) else None
    return {key: value for key, value in found.items() if key in _BY_KEY} if isinstance(found, dict) else {}
