"""The script ``hal9-cli``: only ``ux-test``, for the runbook's sake; the rest of that name is another product's."""

from __future__ import annotations

import sys
from typing import NoReturn

from hal9mig import errors
from hal9mig.cli import main


def run() -> NoReturn:
    """Run ``ux-test``, and refuse anything else with exit code 2."""
    words = sys.argv[1:]
    if words[:1] == ["ux-test"]:
        main.run(words)
    sys.stderr.write(
        "error: This hal9-cli belongs to hal9-migrate and has only ux-test; every other command is another product's.\n"
        "  hint: hal9-cli ux-test --help; docs/validation.md says how to take this script away\n"
    )
    sys.exit(errors.EXIT_USAGE)


if __name__ == "__main__":
    run()
