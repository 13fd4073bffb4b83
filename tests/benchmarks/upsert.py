"""The peer that a team would write first: SQLAlchemy Core, rows as dictionaries, upserts in batches of 1,000.

Run as ``upsert.py LOW HIGH LIMIT``; prints its rows and seconds as JSON.
"""

from __future__ import annotations

import decimal
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, insert

BATCH = 1000


def transform(
    row: Any, listed: Sequence[dict[str, Any]]
) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
    """Return a row's unit, what it has learned, and its connections, which are given decoded."""
    unit = {
        "unit_id": row.neuron_id,
        "layer": row.layer,
        "kind": row.neuron_type,
        "activation": row.activation,
        "attention_focus": row.context,
        "working_memory": row.memory,
        "processing_mode": "async" if row.is_async else "sync",
        "avg_response_time": row.avg_response_time,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "source_version": row.version,
    }
    learning = {
        "unit_id": row.neuron_id,
        "weights": row.weights,
        "biases": row.biases,
        "learning_rate": row.learning_rate,
        "momentum": 0.9 if row.momentum is None else row.momentum,
        "momentum_given": row.momentum is not None,
    }
    connections = [
        {
            "unit_id": row.neuron_id,
            "ordinal": ordinal,
            "target_id": connection["target"],
            "connection_type": connection["conn_type"],
            "weight": connection["weight"],
            "weight_exact": _exact(connection["weight"]),
        }
        for ordinal, connection in enumerate(listed, start=1)
    ]
    return unit, learning, connections


def _exact(weight: float | decimal.Decimal) -> decimal.Decimal | None:
    """Return a weight whose last zeros a double does not keep; of one that was decoded as a float nothing is known."""
    if isinstance(weight, decimal.Decimal) and "." in (given := format(weight, "f")) and given.endswith("0"):
        return weight
    return None


def targets(engine: sa.Engine) -> tuple[sa.Table, sa.Table, sa.Table]:
    """Return the tables of units, of what they have learned, and of their connections."""
    metadata = sa.MetaData()
    # Otherwise None in a jsonb column is written as JSON's null, and not as NULL.
    documents = [sa.Column(name, JSONB(none_as_null=True)) for name in ("attention_focus", "working_memory")]
    return (
        sa.Table("units", metadata, *documents, schema="hier", autoload_with=engine),
        sa.Table("unit_learning", metadata, schema="hier", autoload_with=engine),
        sa.Table("unit_connections", metadata, schema="hier", autoload_with=engine),
    )


def engine(url: str, **options: Any) -> sa.Engine:
    """Return the engine of a database; psycopg2 whatever SQLAlchemy would take."""
    return sa.create_engine(url.replace("postgresql://", "postgresql+psycopg2://"), **options)


def upsert(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows, and update those that are there."""
    if not rows:
        return
    statement = insert(table)
    keys = [column.name for column in table.primary_key]
    changed = {column.name: statement.excluded[column.name] for column in table.columns if column.name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed), rows)


def main() -> None:
    """Copy a part of the table."""
    low, high, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
    source, target = engine(os.environ["BENCH_SOURCE"]), engine(os.environ["BENCH_TARGET"])
    flat = sa.Table("neuron_states", sa.MetaData(), schema="flat", autoload_with=source)
    units, learning, connections = targets(target)
    wanted = sa.select(flat).where(flat.c.neuron_id.between(low, high)).order_by(flat.c.neuron_id).limit(limit)
    started, count = time.monotonic(), 0
    with source.connect() as reading, target.connect() as writing:
        for rows in reading.execution_options(yield_per=BATCH).execute(wanted).partitions():
            made = [transform(row, row.connections) for row in rows]
            upsert(writing, units, [unit for unit, _, _ in made])
            upsert(writing, learning, [learned for _, learned, _ in made])
            upsert(writing, connections, [one for _, _, several in made for one in several])
            writing.commit()
            count += len(made)
    sys.stdout.write(json.dumps({"rows": count, "seconds": time.monotonic() - started}) + "\n")


if __name__ == "__main__":
    main()
