"""What the histories have in common: alembic's environment, and SQL that stands in a file of its own."""

from __future__ import annotations

import pathlib

from alembic import context, op

from hal9mig import errors


def run(schema: str) -> None:
    """Apply a history on the connection that ``hal9mig.stores.schema`` hands over, in its transaction.

    Nothing here configures logging: that is the program's, not a migration's.

    Raises:
        errors.HAL9Error: alembic was started by itself, without a connection.
    """
    connection = context.config.attributes.get("connection")
    if connection is None:
        raise errors.HAL9Error("These migrations run through the program only.", hint="hal9-migrate db upgrade")
    context.configure(connection=connection, version_table_schema=schema, transaction_per_migration=False)
    with context.begin_transaction():
        context.run_migrations()


def execute_beside(migration: str) -> None:
    """Execute the ``.sql`` file that stands beside a migration under the same name."""
    statements = pathlib.Path(migration).with_suffix(".sql").read_text(encoding="utf-8")
    # Without parameters the driver leaves % and : alone.
    op.get_bind().execution_options(no_parameters=True).exec_driver_sql(statements)
