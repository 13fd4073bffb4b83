"""hal9-migrate: moves live application state from a flat to a hierarchical PostgreSQL store."""

__version__ = "0.1.0"
