"""Alembic's entry into the history of schema ``hal9cap``, which stands in both stores."""

from hal9mig.stores.migrations import environment

environment.run("hal9cap")
