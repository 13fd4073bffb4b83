"""``python -m hal9mig.cli``."""

from hal9mig.cli.main import run

run()
