"""Alembic's entry into the history of schema ``flat``."""

from hal9mig.stores.migrations import environment

environment.run("flat")
