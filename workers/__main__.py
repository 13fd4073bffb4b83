"""``python -m workers``: a worker without what Celery's own command loads beside it, such as Flower and a shell.

That is a fifth of a worker's memory and half of its start. ``celery -A workers.app worker`` starts the same one, with
every option that Celery has.
"""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Sequence

from hal9mig import errors


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m workers", description="Start a worker.")
    parser.add_argument("--name", default="worker", metavar="NAME", help="differs on each host; default: worker")
    parser.add_argument("--concurrency", type=int, default=1, metavar="N", help="pool processes; default: 1")
    parser.add_argument("--loglevel", default="INFO", metavar="LEVEL", help="default: INFO")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Work until told to end; return the exit code.

    Args:
        given: the options; by default those of the process.
    """
    options = _arguments(given)
    try:
        # Late: how it is called can be asked where nothing is set.
        from workers.app import app
    except errors.HAL9Error as error:
        sys.stderr.write(f"error: {error.message}\n" + (f"  hint: {error.hint}\n" if error.hint else ""))
        return error.exit_code
    worker = app.Worker(
        hostname=f"{options.name}@{socket.gethostname()}", concurrency=options.concurrency, loglevel=options.loglevel,
        without_gossip=True, without_mingle=True,
    )  # fmt: skip
    worker.start()
    return int(worker.exitcode or 0)


if __name__ == "__main__":
    sys.exit(main())
