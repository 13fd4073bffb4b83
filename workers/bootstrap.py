"""What a pool process owns: made after the fork, because connections must not cross one."""

from __future__ import annotations

import gc
import os
import socket
from typing import Any

from celery import signals

from hal9mig.engine.desk import Desk
from hal9mig.engine.system import System
from workers.app import SETTINGS


class _Process:
    """This process's system and connections; a pool child makes its own."""

    def __init__(self) -> None:
        self._pid = 0
        self._system: System | None = None
        self._desk: Desk | None = None

    def open(self) -> tuple[System, Desk]:
        """Return the system and the connections of the running process."""
        # A fork since the last call: what is inherited belongs to the parent and is left alone.
        if self._system is None or self._desk is None or self._pid != os.getpid():
            self._pid = os.getpid()
            self._system = System(SETTINGS, role=f"worker {os.getpid()}@{socket.gethostname()}")
            self._desk = Desk(self._system)
        return self._system, self._desk


process = _Process()


def worker_name(hostname: str | None) -> str:
    """Return the name under which a worker is known in the ledger."""
    return hostname or f"worker@{socket.gethostname()}"


@signals.worker_before_create_process.connect
def _before_fork(**_: Any) -> None:
    # A collection writes into each object that it looks at, and what is written to is not shared any more.
    gc.collect()
    gc.freeze()


@signals.worker_process_init.connect
def _after_fork(**_: Any) -> None:
    process.open()
