"""Alembic's entry into the history of schema ``hier``."""

from hal9mig.stores.migrations import environment

environment.run("hier")
