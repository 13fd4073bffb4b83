"""``hal9-cli``: the one command of another product's name that the migration's runbook uses.

Where HAL9's own ``hal9-cli`` is installed too, the one that comes first on the path runs; without this one,
``hal9-migrate ux-test`` does the same.
"""

from __future__ import annotations

import sys
from typing import NoReturn

from hal9mig import errors
from hal9mig.cli import main
from hal9mig.cli.console import Console


def run() -> NoReturn:
    """Run ``ux-test``, and say of anything else whose it is."""
    words = sys.argv[1:]
    if words[:1] == ["ux-test"]:
        main.run(words)
    Console().say("error: This hal9-cli comes with hal9-migrate and knows ux-test only; the rest is HAL9's own.")
    Console().say("  hint: hal9-migrate ux-test --help")
    sys.exit(errors.EXIT_OK if words in (["--help"], ["-h"]) else errors.EXIT_USAGE)


if __name__ == "__main__":
    run()
