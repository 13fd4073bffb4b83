"""A table from PostgreSQL to PostgreSQL by dlt, in the way its documentation says is fast: Arrow, and COPY of CSV.

Run by the Python of an environment that has dlt; prints its seconds as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time

import dlt
from dlt.sources.sql_database import sql_table


def main() -> None:
    """Copy the table; imports do not count."""
    started = time.monotonic()
    pipeline = dlt.pipeline(
        pipeline_name="peer",
        pipelines_dir=os.environ["BENCH_FOLDER"],
        destination=dlt.destinations.postgres(credentials=os.environ["BENCH_TARGET"]),
        dataset_name="flat",
    )
    table = sql_table(
        credentials=os.environ["BENCH_SOURCE"].replace("postgresql://", "postgresql+psycopg2://"),
        schema="flat",
        table="neuron_states",
        backend="pyarrow",
        write_disposition="replace",
    )
    pipeline.run(table, loader_file_format="csv").raise_on_failed_jobs()
    sys.stdout.write(json.dumps({"seconds": time.monotonic() - started}) + "\n")


if __name__ == "__main__":
    main()
