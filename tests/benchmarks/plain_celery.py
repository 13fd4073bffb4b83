"""The peer that a team would write: Celery, SQLAlchemy Core, a task for each 1,000 rows, upserts.

``celery -A tests.benchmarks.plain_celery worker`` works; ``python -m tests.benchmarks.plain_celery`` plans, sends,
waits, and prints rows and seconds as JSON.
"""

from __future__ import annotations

import decimal
import functools
import json
import os
import sys
import time

import celery
import sqlalchemy as sa

from tests.benchmarks.upsert import BATCH, engine, targets, transform, upsert

app = celery.Celery("plain", broker=os.environ["BENCH_REDIS"], backend=os.environ["BENCH_REDIS"])
app.conf.update(
    # A batch that a dying worker had is given to another; its upserts may be done twice.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
)


@functools.cache
def _source() -> tuple[sa.Engine, sa.Table]:
    opened = engine(os.environ["BENCH_SOURCE"])
    return opened, sa.Table("neuron_states", sa.MetaData(), schema="flat", autoload_with=opened)


@functools.cache
def _target() -> tuple[sa.Engine, tuple[sa.Table, sa.Table, sa.Table]]:
    # Without it an upsert of many rows goes out row by row; it is the fastest that SQLAlchemy has for that.
    opened = engine(os.environ["BENCH_TARGET"], executemany_mode="values_plus_batch")
    return opened, targets(opened)


@app.task(name="copy", autoretry_for=(sa.exc.OperationalError,), retry_backoff=True, max_retries=5)
def copy(low: str, high: str) -> int:
    """Copy the rows between two keys, both included, in one transaction; return how many."""
    (source, flat), (target, (units, learning, connections)) = _source(), _target()
    # As text, because a float does not keep all that a weight may say.
    columns = [sa.cast(one, sa.Text).label(one.name) if one.name == "connections" else one for one in flat.columns]
    wanted = sa.select(*columns).where(flat.c.neuron_id.between(low, high)).order_by(flat.c.neuron_id)
    with source.connect() as reading:
        rows = reading.execute(wanted).all()
    made = [transform(row, json.loads(row.connections, parse_float=decimal.Decimal)) for row in rows]
    with target.begin() as writing:
        upsert(writing, units, [unit for unit, _, _ in made])
        upsert(writing, learning, [learned for _, learned, _ in made])
        upsert(writing, connections, [one for _, _, several in made for one in several])
    return len(made)


def ranges() -> list[tuple[str, str]]:
    """Return the first and the last key of each batch."""
    opened, flat = _source()
    key = flat.c.neuron_id
    numbered = sa.select(
        sa.cast(key, sa.Text).label("key"), ((sa.func.row_number().over(order_by=key) - 1) // BATCH).label("batch")
    ).subquery()
    ends = sa.select(sa.func.min(numbered.c.key), sa.func.max(numbered.c.key)).group_by(numbered.c.batch)
    with opened.connect() as reading:
        return [(low, high) for low, high in reading.execute(ends.order_by(numbered.c.batch))]


def main() -> None:
    """Have the workers copy the whole table."""
    started = time.monotonic()
    sent = celery.group(copy.s(low, high) for low, high in ranges()).apply_async()
    rows = sum(sent.get(timeout=1800))
    sys.stdout.write(json.dumps({"rows": rows, "seconds": time.monotonic() - started}) + "\n")


if __name__ == "__main__":
    main()
