"""Neuron states: one wide row becomes a unit, what it has learned and its connections."""

from __future__ import annotations

import decimal
from collections.abc import Iterable

import msgspec

from hal9mig import errors
from hal9mig.categories.declaration import (
    Category,
    Column,
    Computed,
    Element,
    Explode,
    FilterField,
    Pass,
    Role,
    Source,
    Target,
)

#: The layers, lowest first.
LAYERS = ("substrate", "protocol", "cognitive", "orchestration", "intelligence")
#: What a unit uses for momentum when it was given none.
DEFAULT_MOMENTUM = 0.9


class _Connection(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    target: str
    weight: float
    conn_type: str


class _Weight(msgspec.Struct, gc=False):
    weight: msgspec.Raw


Row = tuple[int, str, str, float, decimal.Decimal | None]
_connections = msgspec.json.Decoder(list[_Connection]).decode
_weights = msgspec.json.Decoder(list[_Weight]).decode


def connections(listed: bytes) -> Iterable[Row]:
    """Return ordinal, target, type, weight and exact weight of each connection in a JSON array.

    The exact weight is None where PostgreSQL prints the double as the number was given. A number that has
    more digits than a double, and no zero at its end, is not looked for: reading back finds it.

    Raises:
        errors.RecordRejected: a connection has a member too many or too few, or one of a wrong form.
    """
    if listed == b"[]":
        return ()
    try:
        decoded = _connections(listed)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise errors.RecordRejected(f"connections is no list of {{target, weight, conn_type}}: {error}") from None
    rows: list[Row] = [(at, one.target, one.conn_type, one.weight, None) for at, one in enumerate(decoded, start=1)]
    # A weight that ends in a zero; jsonb has its members in this order. A double keeps no zeros behind its point.
    if b'0, "conn_type"' in listed:
        return [(*row[:4], exact) for row, exact in zip(rows, _exact_weights(listed), strict=True)]
    return rows


def _exact_weights(listed: bytes) -> Iterable[decimal.Decimal | None]:
    for connection in _weights(listed):
        given = bytes(connection.weight).decode()
        printed = format(decimal.Decimal(repr(float(given))), "f").removesuffix(".0")
        yield None if printed == given else decimal.Decimal(given)


def processing_mode(is_async: bytes) -> str:
    """Return ``async`` or ``sync``."""
    return "async" if is_async == b"\x01" else "sync"


def momentum(given: float | None) -> float:
    """Return the momentum, or the default where none was given."""
    return DEFAULT_MOMENTUM if given is None else given


def momentum_given(given: bytes | None) -> bool:
    """Return whether a momentum was given, so that the default can be told from an equal value."""
    return given is not None


# Left joins: a unit that lost a part is a record that differs, not one that is missing. The connections are written as
# jsonb writes them: its functions take three times as long, and half of the query was that. A double's text has all
# its digits; the cast to numeric alone would keep fifteen. It is a number's text in jsonb too, where it has neither an
# exponent nor a negative zero; what is no number at all is a string there.
_REBUILD = """
SELECT u.unit_id AS neuron_id, u.layer, u.kind AS neuron_type, u.activation, l.weights, l.biases, l.learning_rate,
       CASE WHEN l.momentum_given THEN l.momentum END AS momentum,
       JSONB(coalesce(n.connections, '[]')) AS connections,
       u.working_memory AS memory, u.attention_focus AS context, u.avg_response_time,
       u.processing_mode = 'async' AS is_async, u.created_at, u.updated_at, u.source_version AS version
  FROM hier.units AS u
  LEFT JOIN (
       SELECT p.unit_id, p.weights, p.biases, p.learning_rate, p.momentum, p.momentum_given
         FROM hier.unit_learning AS p
        WHERE RANGE(p.unit_id)
  ) AS l ON l.unit_id = u.unit_id
  LEFT JOIN (
       SELECT c.unit_id, '[' || string_agg(
                  '{"target": "' || c.target_id || '", "weight": '
                  || CASE WHEN c.weight_exact IS NOT NULL THEN to_json(c.weight_exact)::text
                          WHEN abs(c.weight) BETWEEN 1e-4 AND 1e14 THEN c.weight::text
                          ELSE to_json(c.weight::text::numeric)::text END
                  || ', "conn_type": ' || to_json(c.connection_type) || '}', ', ' ORDER BY c.ordinal
              ) || ']' AS connections
         FROM hier.unit_connections AS c
        WHERE RANGE(c.unit_id)
        GROUP BY c.unit_id
  ) AS n ON n.unit_id = u.unit_id
 WHERE RANGE(u.unit_id)
"""

CATEGORY = Category(
    slug="neuron-states",
    title="Neuron States",
    order=2,
    source=Source(
        schema="flat",
        table="neuron_states",
        columns=(
            Column("neuron_id", "uuid"),
            Column("layer", "text"),
            Column("neuron_type", "text"),
            Column("activation", "real"),
            Column("weights", "real[]"),
            Column("biases", "real[]"),
            Column("learning_rate", "real"),
            Column("momentum", "real"),
            Column("connections", "jsonb"),
            Column("memory", "jsonb"),
            Column("context", "jsonb"),
            Column("avg_response_time", "real"),
            Column("is_async", "boolean"),
            Column("created_at", "timestamptz"),
            Column("updated_at", "timestamptz"),
            Column("version", "bigint"),
        ),
        key=("neuron_id",),
        version="version",
    ),
    targets=(
        Target(
            schema="hier",
            table="units",
            role=Role.ROOT,
            columns=(
                Pass("unit_id", "neuron_id"),
                Pass("layer", "layer"),
                Pass("kind", "neuron_type"),
                Pass("activation", "activation"),
                Pass("attention_focus", "context"),
                Pass("working_memory", "memory"),
                Computed("processing_mode", "text", processing_mode, ("is_async",), as_bytes=True),
                Pass("avg_response_time", "avg_response_time"),
                Pass("created_at", "created_at"),
                Pass("updated_at", "updated_at"),
                Pass("source_version", "version"),
            ),
            key=("unit_id",),
            owner=("unit_id",),
            version="source_version",
        ),
        Target(
            schema="hier",
            table="unit_learning",
            role=Role.PART,
            columns=(
                Pass("unit_id", "neuron_id"),
                Pass("weights", "weights"),
                Pass("biases", "biases"),
                Pass("learning_rate", "learning_rate"),
                Computed("momentum", "real", momentum, ("momentum",)),
                Computed("momentum_given", "boolean", momentum_given, ("momentum",), as_bytes=True),
            ),
            key=("unit_id",),
            owner=("unit_id",),
        ),
        Target(
            schema="hier",
            table="unit_connections",
            role=Role.PART,
            columns=(
                Pass("unit_id", "neuron_id"),
                Element("ordinal", "integer"),
                Element("target_id", "uuid"),
                Element("connection_type", "text"),
                Element("weight", "double precision"),
                Element("weight_exact", "numeric"),
            ),
            key=("unit_id", "ordinal"),
            owner=("unit_id",),
            explode=Explode(connections, ("connections",), as_bytes=True),
        ),
    ),
    rebuild=_REBUILD,
    filters={
        "neuron_id": FilterField("neuron_id", "uuid"),
        "layer": FilterField("layer", "text"),
        "neuron_type": FilterField("neuron_type", "text"),
        "is_async": FilterField("is_async", "boolean"),
        "created_at": FilterField("created_at", "timestamptz"),
        "updated_at": FilterField("updated_at", "timestamptz"),
    },
)
