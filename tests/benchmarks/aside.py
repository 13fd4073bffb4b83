"""A database for copies of the flat table by other programs, and what such a copy has kept of it."""

from __future__ import annotations

import psycopg2

from tests.benchmarks.world import Failed, Pair, World, query

#: Its name on the hierarchical server; that of one with the table alone on the flat one, where a program wants that.
DATABASE = "aside"
TABLE = "flat.neuron_states"


def renew(world: World, pair: Pair, *, schema: bool = True) -> None:
    """Make the database anew, with an empty schema ``flat`` or nothing, and write out what is dirty."""
    world.hier.drop_database(DATABASE)
    url = world.hier.create_database(DATABASE)
    if schema:
        with query(url) as cursor:
            cursor.execute("CREATE SCHEMA flat")
    for one in (pair.flat_admin, pair.hier_admin):
        with query(one) as cursor:
            cursor.execute("CHECKPOINT")


def losses(pair: Pair, url: str, table: str = TABLE) -> list[str]:
    """Return what a copy of the flat table lacks; it has to have as many rows.

    Raises:
        Failed: it has not.
    """
    was, now = _types(pair.flat_url, TABLE), _types(url, table)
    rows = _value(url, f"SELECT count(*) FROM {table}") if now else 0
    if rows != pair.rows:
        raise Failed(f"{rows} of {pair.rows} rows arrived")
    found = [f"{was[name]} as {now.get(name, 'nothing')}" for name in was if now.get(name) != was[name]]
    lost = [f"types lost ({', '.join(sorted(set(found)))})"] if found else []
    if not _value(url, f"SELECT count(*) FROM pg_index WHERE indrelid = '{table}'::regclass AND indisprimary"):
        lost.append("no primary key")
    # Where a type has changed, whether its values come back out of what it became.
    digest = ", ".join(f"{name}::{kind}" for name, kind in was.items())
    digest = f"SELECT sum(hash_record_extended(row({digest}), 0))::text FROM "
    try:
        same = _value(pair.flat_url, digest + TABLE) == _value(url, digest + table)
    except psycopg2.Error as error:
        lost.append(f"values do not come back ({str(error).splitlines()[0]})")
    else:
        lost += [] if same else ["values changed"]
    return lost


def _types(url: str, table: str) -> dict[str, str]:
    with query(url) as cursor:
        cursor.execute(
            "SELECT attname AS name, format_type(atttypid, atttypmod) AS kind FROM pg_attribute "
            "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            (table,),
        )
        return {row["name"]: row["kind"] for row in cursor.fetchall()}


def _value(url: str, statement: str) -> object:
    with query(url) as cursor:
        cursor.execute(statement)
        return next(iter(cursor.fetchone().values()))
