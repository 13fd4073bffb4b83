"""Alembic's entry into the history of schema ``hal9mig``, the ledger."""

from hal9mig.stores.migrations import environment

environment.run("hal9mig")
