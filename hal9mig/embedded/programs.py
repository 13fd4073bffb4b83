"""The commands of the workers, the beat, Flower and the dashboard, and the environment they read."""

from __future__ import annotations

import dataclasses
import http.client
import os
import pathlib
import signal
import sys
from collections.abc import Mapping

from hal9mig import settings
from hal9mig.embedded import files
from hal9mig.embedded.process import LOOPBACK
from hal9mig.embedded.supervisor import Program, Steps

MARK = "HAL9_STACK"
FLOWER_AUTH = "HAL9_FLOWER_AUTH"
_SERVERS = frozenset(setting.env for setting in settings.SETTINGS if setting.key in settings.SERVERS)
#: Where a server that listens on every address, or on a name of loopback's, is found from here.
_HERE = {"0.0.0.0": LOOPBACK, "::": "::1", "localhost": LOOPBACK}
# Warm: the running batch ends. Cold: it is given back. Either way the ledger knows.
_WORKER_STEPS: Steps = ((signal.SIGTERM, 15.0), (signal.SIGQUIT, 5.0))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Addresses:
    """Where the servers are, and how Flower and the dashboard are entered.

    Attributes:
        dashboard_token: None where it stands in a file that the settings name.
    """

    flat_url: str
    hier_url: str
    redis_url: str
    flower_port: int
    flower_auth: str
    dashboard_port: int
    dashboard_token: str | None


class Programs:
    """Makes the programs of one stack.

    Args:
        resolved: the settings of the stack.
        addresses: its servers.
        environ: the environment they start from.
    """

    def __init__(self, resolved: settings.Settings, addresses: Addresses, environ: Mapping[str, str]) -> None:
        self._settings = resolved
        self._data_dir = resolved.data_dir
        self._addresses = addresses
        self.env = _environment(resolved, addresses, environ)

    def worker(self, number: int) -> Program:
        """Return one worker of one process."""
        name = f"worker{number}"
        return self._program(
            name,
            # One process each, so that `kill -9` of a worker takes one batch with it and no more.
            "workers", "--name", name,
            ready=" ready.", steps=_WORKER_STEPS,
        )  # fmt: skip

    def beat(self) -> Program:
        """Return the beat."""
        return self._program("beat", "beat", ready="beat: Starting")

    def flower(self) -> Program:
        """Return Flower; it has to start after the workers, or its list of workers stays empty."""
        port = self._addresses.flower_port
        conf = files.config_file("flowerconfig.py")
        command = ("celery", "-A", "workers.app", "flower", f"--conf={conf}", f"--address={LOOPBACK}", f"--port={port}")
        program = self._program("flower", *command, ready="")
        program.address = f"http://{LOOPBACK}:{port}"
        program.is_ready = lambda text: _answers(port, "/healthcheck")
        program.env = {**self.env, FLOWER_AUTH: self._addresses.flower_auth}
        return program

    def dashboard(self) -> Program:
        """Return the dashboard."""
        resolved, port = self._settings, self._addresses.dashboard_port
        host = _HERE.get(resolved.dashboard_address, resolved.dashboard_address)
        # A stack's own servers are in what it writes down: so the page's hints are those of a stack.
        env = {name: value for name, value in self.env.items() if resolved.external or name not in _SERVERS}
        env |= {
            "HAL9_DASHBOARD_ADDRESS": resolved.dashboard_address,
            "HAL9_DASHBOARD_PORT": str(port),
            "HAL9_DASHBOARD_HOSTS": ",".join(resolved.dashboard_hosts),
        }
        if self._addresses.dashboard_token is not None:
            env["HAL9_DASHBOARD_TOKEN"] = self._addresses.dashboard_token
        elif resolved.dashboard_token_file is not None:
            env["HAL9_DASHBOARD_TOKEN_FILE"] = str(resolved.dashboard_token_file)
        return Program(
            name="dashboard",
            command=[sys.executable, "-m", "hal9mig.cli", "dashboard"],
            env=env,
            log=log_of(self._data_dir, "dashboard"),
            cwd=self._data_dir,
            is_ready=lambda text: _answers(port, "/healthz", host),
            address=f"http://{f'[{host}]' if ':' in host else host}:{port}",
        )

    def _program(self, name: str, *command: str, ready: str, steps: Steps = ((signal.SIGTERM, 10.0),)) -> Program:
        return Program(
            name=name,
            command=[sys.executable, "-m", *command],
            env=self.env,
            log=log_of(self._data_dir, name),
            cwd=self._data_dir,
            is_ready=lambda text: ready in text,
            steps=steps,
        )


def log_of(data_dir: pathlib.Path, name: str) -> pathlib.Path:
    """Return the log file of a child."""
    return data_dir / "logs" / f"{name.replace(' ', '-')}.log"


def shared(resolved: settings.Settings, addresses: Addresses) -> dict[str, object]:
    """Return what a stack writes down, by key, so that commands of this machine work with its servers and folders."""
    return {
        "stores.flat_url": addresses.flat_url,
        "stores.hier_url": addresses.hier_url,
        "queue.redis_url": addresses.redis_url,
        "queue.prefix": resolved.queue_prefix,
        "stack.flower_port": addresses.flower_port,
        "stack.flower_auth": addresses.flower_auth,
        "dashboard.port": addresses.dashboard_port,
        **({} if addresses.dashboard_token is None else {"dashboard.token": addresses.dashboard_token}),
        "log.dir": str(resolved.log_dir),
        "checkpoints.url": resolved.checkpoint_url,
        "checkpoints.keep": resolved.checkpoint_keep,
        "categories.files": list(map(str, resolved.category_files)),
        "client.noncritical": list(resolved.noncritical),
        "lease.duration": f"{resolved.lease_duration:g}s",
    }


def _environment(resolved: settings.Settings, addresses: Addresses, environ: Mapping[str, str]) -> Mapping[str, str]:
    known = {setting.env for setting in settings.SETTINGS if setting.env}
    known |= {f"{setting.env}_FILE" for setting in settings.SETTINGS if setting.secret}
    env = {name: value for name, value in environ.items() if name not in known}
    env |= {
        "HAL9_FLAT_URL": addresses.flat_url,
        "HAL9_HIER_URL": addresses.hier_url,
        "HAL9_REDIS_URL": addresses.redis_url,
        "HAL9_QUEUE_PREFIX": resolved.queue_prefix,
        "HAL9_DATA_DIR": str(resolved.data_dir),
        "HAL9_LOG_DIR": str(resolved.log_dir),
        "HAL9_LOG_FORMAT": resolved.log_format,
        "HAL9_CHECKPOINT_URL": resolved.checkpoint_url,
        "HAL9_CHECKPOINT_KEEP": str(resolved.checkpoint_keep),
        "HAL9_NONCRITICAL": ",".join(resolved.noncritical),
        "HAL9_CATEGORIES": ",".join(map(str, resolved.category_files)),
        "HAL9_LEASE": f"{resolved.lease_duration:g}s",
        # By this mark the next stack finds what a killed supervisor left running.
        MARK: str(resolved.data_dir),
        "PYTHONUNBUFFERED": "1",
    }
    if resolved.webhook_url:
        env["HAL9_WEBHOOK_URL"] = resolved.webhook_url
    if resolved.webhook_secret:
        env["HAL9_WEBHOOK_SECRET"] = resolved.webhook_secret
    if resolved.config_file:
        env["HAL9_CONFIG"] = str(resolved.config_file)
    # In a checkout nothing is installed; the children work elsewhere and must find the packages.
    if (files.PROJECT / "pyproject.toml").is_file():
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(files.PROJECT), environ.get("PYTHONPATH")]))
    return env


def _answers(port: int, path: str, host: str = LOOPBACK) -> bool:
    # Not urllib: it would ask a proxy of the environment for our own loopback.
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
