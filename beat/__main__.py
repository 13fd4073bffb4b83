"""``python -m beat``: the beat without what Celery's own command loads; ``celery -A beat.app beat`` starts the same."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hal9mig import errors


def main(given: Sequence[str] | None = None) -> int:
    """Beat until told to end; return the exit code.

    Args:
        given: the options; by default those of the process.
    """
    argparse.ArgumentParser(prog="python -m beat", description="Start the beat: one for all workers.").parse_args(given)
    try:
        # Late: how it is called can be asked where nothing is set.
        from beat.app import app
    except errors.HAL9Error as error:
        sys.stderr.write(f"error: {error.message}\n" + (f"  hint: {error.hint}\n" if error.hint else ""))
        return error.exit_code
    app.Beat(loglevel="INFO", pidfile="").run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
