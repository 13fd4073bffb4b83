"""The graph that units and their connections are, as SQL over either store, a range of units at a time.

Both stores give a connection the same columns, whether it is an element of a jsonb array or a row of its
own: ``unit``, ``layer`` and ``covered`` of the unit it starts from, ``known`` (that unit is there),
``ordinal`` from 1, ``target``, ``kind``, ``weight`` as the text of the number as given, and ``there`` of the
unit it leads to: NULL where there is none, false where no migration has taken it yet. A unit without
connections is one row, whose ordinal is NULL. A target that is no UUID is NULL.
"""

from __future__ import annotations

import dataclasses

from hal9mig import model
from hal9mig.categories import neurons
from hal9mig.engine.compare import digest
from hal9mig.engine.compare.judge import Sides
from hal9mig.engine.compare.keystream import Query
from hal9mig.stores import projection
from hal9mig.stores.connection import Connection, Cursor

#: Units and connections of a range, at most, but for a single unit's connections beyond that.
UNITS, CONNECTIONS = 5_000, 100_000
_CATEGORY = neurons.CATEGORY
FLAT = _CATEGORY.source.qualified
(_ROOT,) = _CATEGORY.roots
UNIT_TABLE = _ROOT.qualified
CONNECTION_TABLE = next(target.qualified for target in _CATEGORY.targets if target.explode)
#: The connections of alias ``s`` of the flat table; what is no list has none that can be walked.
LISTED = "CASE WHEN jsonb_typeof(s.connections) = 'array' THEN s.connections ELSE '[]'::jsonb END"
#: What PostgreSQL reads as a UUID; versions before 16 cannot be asked.
_UUID = "([0-9a-f]{4}-?){7}[0-9a-f]{4}"
_LIKE = "-".join("_" * length for length in (8, 4, 4, 4, 12))
#: The weight of alias ``c`` of the hierarchical table, as the number was given.
WEIGHT = "coalesce(c.weight_exact, c.weight::text::numeric)::text"


@dataclasses.dataclass(frozen=True, kw_only=True)
class GraphSide:
    """One store's part in the graph; ``covered`` says over alias ``s`` of its units what counts as migrated."""

    store: model.StoreName
    connection: Connection
    covered: Query

    @property
    def flat(self) -> bool:
        """Whether it is the flat store."""
        return self.store is model.StoreName.FLAT


def parts(both: Sides) -> tuple[GraphSide, GraphSide]:
    """Return the store that rules, and the one that follows; only of the first some may not be migrated yet."""
    flat = GraphSide(store=model.StoreName.FLAT, connection=both.flat, covered=both.covered)
    hier = GraphSide(store=model.StoreName.HIERARCHICAL, connection=both.hier, covered=digest.TRUE)
    return (flat, hier) if both.forward else (hier, flat)


def bound(side: GraphSide, after: model.Key | None) -> model.Key | None:
    """Return the last unit of the range that begins after a unit; None where fewer are left.

    Raises:
        psycopg2.Error: the store failed.
    """
    tables = [(FLAT, "k.neuron_id", "k.neuron_id", UNITS)]
    if not side.flat:
        tables = [
            (UNIT_TABLE, "k.unit_id", "k.unit_id", UNITS),
            (CONNECTION_TABLE, "k.unit_id", "k.unit_id, k.ordinal", CONNECTIONS),
        ]
    found = []
    with side.connection, side.connection.cursor() as cursor:
        for table, name, order, most in tables:
            where, values = projection.Bounds(after=after).sql(_CATEGORY, [name])
            cursor.execute(
                f"SELECT {name}::text FROM {table} k WHERE {where} ORDER BY {order} OFFSET %s LIMIT 1",
                [*values, most - 1],
            )
            found += cursor.fetchall()
    return min(found)[:1] if found else None


def target(element: str) -> str:
    """Return the expression of the unit that an element of a flat list leads to; NULL where it says no UUID."""
    text = f"{element}->>'target'"
    # First what nearly all are, without a regular expression, which takes several times as long.
    usual = f"{text} LIKE '{_LIKE}' AND translate({text}, '0123456789abcdefABCDEF', '') = '----'"
    return f"CASE WHEN {usual} OR {text} ~* '^({_UUID}|[{{]{_UUID}[}}])$' THEN ({text})::uuid END"


def units(side: GraphSide, scope: projection.Scope, layer: str | None) -> Query:
    """Return the units of a scope as ``unit``, ``layer`` and ``covered``."""
    table, name = (FLAT, "neuron_id") if side.flat else (UNIT_TABLE, "unit_id")
    where, values = scope.sql(_CATEGORY, [f"s.{name}"])
    covered, more = side.covered
    query = (
        f"(SELECT s.{name} AS unit, s.layer, coalesce({covered}, false) AS covered "
        f"FROM {table} s WHERE {where} AND (%s::text IS NULL OR s.layer = %s))"
    )
    return query, [*more, *values, layer, layer]


def connections(side: GraphSide, scope: projection.Scope, layer: str | None) -> Query:
    """Return the connections of a scope's units, with the columns that this module's first lines tell of."""
    covered, more = side.covered
    if side.flat:
        where, values = scope.sql(_CATEGORY, ["s.neuron_id"])
        # LIMIT 1 keeps the planner from joining with the whole table for each range of it, and OFFSET 0 from
        # working out a target again in each place where it is used, which would take most of the time.
        query = (
            "(SELECT u.unit, u.layer, u.covered, true AS known, e.ordinal, t.target, "
            "e.value->>'conn_type' AS kind, e.value->>'weight' AS weight, r.there "
            f"FROM (SELECT s.neuron_id AS unit, s.layer, coalesce({covered}, false) AS covered, {LISTED} AS listed "
            f"FROM {FLAT} s WHERE {where} AND (%s::text IS NULL OR s.layer = %s) OFFSET 0) u "
            "LEFT JOIN LATERAL jsonb_array_elements(u.listed) WITH ORDINALITY e (value, ordinal) ON true "
            f"LEFT JOIN LATERAL (SELECT {target('e.value')} AS target OFFSET 0) t ON true "
            f"LEFT JOIN LATERAL (SELECT coalesce({covered}, false) AS there FROM {FLAT} s "
            "WHERE s.neuron_id = t.target LIMIT 1) r ON true)"
        )
        return query, [*more, *values, layer, layer, *more]
    within, first = scope.sql(_CATEGORY, ["s.unit_id"])
    where, second = scope.sql(_CATEGORY, ["c.unit_id"])
    query = (
        "(SELECT coalesce(u.unit_id, e.unit_id) AS unit, u.layer, true AS covered, u.unit_id IS NOT NULL AS known, "
        "e.ordinal, e.target, e.kind, e.weight, r.there "
        f"FROM (SELECT s.unit_id, s.layer FROM {UNIT_TABLE} s WHERE {within}) u "
        "FULL JOIN (SELECT c.unit_id, c.ordinal::bigint, c.target_id AS target, c.connection_type AS kind, "
        f"{WEIGHT} AS weight FROM {CONNECTION_TABLE} c WHERE {where}) e ON e.unit_id = u.unit_id "
        f"LEFT JOIN LATERAL (SELECT true AS there FROM {UNIT_TABLE} s WHERE s.unit_id = e.target LIMIT 1) r ON true "
        "WHERE %s::text IS NULL OR u.layer = %s)"
    )
    return query, [*first, *second, layer, layer]


def hashed(rows: Query, *, deep: bool) -> Query:
    """Return connections with ``pair`` and ``whole``, hashes that are equal for equal ones, and ``mark``, which
    tells their place too, and with ``deep`` their kind and weight.
    """
    pair = "hash_record_extended(row(d.unit, d.target), 0)"
    # By their bytes: how a text is compared must not depend on the database.
    whole = 'hash_record_extended(row(d.unit, d.target, d.kind COLLATE "C", d.weight COLLATE "C"), 0)'
    mark = f"hash_record_extended(row({whole if deep else pair}, d.ordinal), 0)"
    present = "CASE WHEN d.target IS NOT NULL THEN"
    return (
        f"(SELECT d.*, {present} {pair} END AS pair, {present} {whole} END AS whole, "
        f"CASE WHEN d.ordinal IS NOT NULL THEN {mark} END AS mark FROM {rows[0]} d OFFSET 0)",
        rows[1],
    )


def reachable(side: GraphSide, entrance: str) -> Query:
    """Return the query of how many units a signal can reach, along connections of any length.

    A breadth-first search by a recursive query: UNION keeps each unit once, so that a circle ends.

    Args:
        entrance: the layer where signals enter.
    """
    if side.flat:
        leads = (
            f"SELECT {target('e')} FROM reached r CROSS JOIN LATERAL (SELECT {LISTED} AS listed FROM {FLAT} s "
            "WHERE s.neuron_id = r.unit OFFSET 0) s CROSS JOIN LATERAL jsonb_array_elements(s.listed) e"
        )
        table, name = FLAT, "neuron_id"
    else:
        leads = (
            "SELECT c.target_id FROM reached r CROSS JOIN LATERAL "
            f"(SELECT c.target_id FROM {CONNECTION_TABLE} c WHERE c.unit_id = r.unit OFFSET 0) c"
        )
        table, name = UNIT_TABLE, "unit_id"
    return (
        f"WITH RECURSIVE reached (unit) AS (SELECT {name} FROM {table} WHERE layer = %s UNION {leads}) "
        f"SELECT count(*) FROM reached r JOIN {table} s ON s.{name} = r.unit",
        [entrance],
    )


def execute(cursor: Cursor, query: Query) -> None:
    """Run a query with what reading ranges needs set for its transaction."""
    cursor.execute(digest.SESSION)
    cursor.execute(*query)
