"""Learning data: one wide row becomes a pattern under its unit and the gradients under the pattern.

The flat payload is MessagePack, ``{"gradients": [[name, bin], ...], "optimiser": any}``. The gradients
become rows, the optimiser's state stays the bytes it was. The rebuild query makes MessagePack again;
a payload that it would not give back byte for byte is rejected here, while it can still be told.

A record whose ``meta.loss`` is ``linear-mse`` says how its gradients came about, so that they can be
computed again from what is stored: the loss 0.5 * ||W x - y||^2 of a linear layer, where x is the
pattern, W[i][j] is ``meta.gain`` where j mod ``meta.outputs`` is i and 0 elsewhere, and y is 1 at
``meta.class`` and 0 elsewhere. With the residual r = W x - y the gradient of the weights is the outer
product r x^T, row by row, and that of the bias is r; both as little-endian 32-bit floats.
"""

from __future__ import annotations

import array
import math
import sys
from collections.abc import Iterable, Sequence

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


class _Payload(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    gradients: list[tuple[str, bytes]]
    optimiser: msgspec.Raw


_decode = msgspec.msgpack.Decoder(_Payload).decode
_encode = msgspec.msgpack.Encoder().encode


def pack(gradients: Sequence[tuple[str, bytes]], optimiser: bytes) -> bytes:
    """Return the canonical payload of gradients and of an optimiser's state that is MessagePack already."""
    return _encode({"gradients": gradients, "optimiser": msgspec.Raw(optimiser)})


def unpack(payload: bytes) -> tuple[list[tuple[str, bytes]], bytes]:
    """Return the gradients of a payload and the MessagePack of its optimiser's state.

    Raises:
        errors.RecordRejected: it is no payload, or not in the one form that can be rebuilt.
    """
    try:
        decoded = _decode(payload)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise errors.RecordRejected(f"payload is no {{gradients, optimiser}} in MessagePack: {error}") from None
    optimiser = bytes(decoded.optimiser)
    if pack(decoded.gradients, optimiser) != payload:
        raise errors.RecordRejected("payload is not in the canonical order and encoding, so it could not be rebuilt.")
    return decoded.gradients, optimiser


def gradients(payload: bytes | None) -> Iterable[tuple[int, str, bytes]]:
    """Return ordinal, name and packed values of each gradient; none for no payload.

    Raises:
        errors.RecordRejected: it is no payload, or a name cannot be text.
    """
    if payload is None:
        return ()
    rows = []
    for ordinal, (name, values) in enumerate(unpack(payload)[0], start=1):
        if "\0" in name:
            raise errors.RecordRejected(f"The name of gradient {ordinal} holds a zero byte, which text cannot.")
        rows.append((ordinal, name, values))
    return rows


def optimiser(payload: bytes | None) -> bytes | None:
    """Return the MessagePack of the optimiser's state; None, and only then, for no payload.

    Raises:
        errors.RecordRejected: it is no payload.
    """
    return None if payload is None else unpack(payload)[1]


def linear_gradients(pattern: Sequence[float], *, outputs: int, gain: float, target: int) -> dict[str, bytes]:
    """Return the packed gradients of the linear loss that the module's docstring states."""
    # fsum rounds once, so that the sum does not depend on an order or on Python's version.
    residual = [gain * math.fsum(pattern[row::outputs]) for row in range(outputs)]
    residual[target] -= 1.0
    return {
        "weight": _packed([term * value for term in residual for value in pattern]),
        "bias": _packed(residual),
    }


def _packed(values: Sequence[float]) -> bytes:
    packed = array.array("f", values)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


# A map of two, and the names of its members.
_GRADIENTS = b"\x82\xa9gradients".hex()
_OPTIMISER = b"\xa9optimiser".hex()
_REBUILD = f"""
SELECT p.pattern_id, p.unit_id AS neuron_id, p.kind, p.pattern,
       CASE WHEN p.optimiser IS NOT NULL THEN
            '\\x{_GRADIENTS}'::bytea || coalesce(g.packed, hier.msgpack_array(0))
            || '\\x{_OPTIMISER}'::bytea || p.optimiser
       END AS payload,
       p.meta, p.recorded_at, p.source_version AS version
  FROM hier.patterns AS p
  LEFT JOIN (
       SELECT i.pattern_id,
              hier.msgpack_array(count(*)::integer)
              || string_agg(hier.msgpack_array(2) || hier.msgpack_str(i.name) || hier.msgpack_bin(i.gradient),
                            ''::bytea ORDER BY i.ordinal) AS packed
         FROM hier.pattern_gradients AS i
        WHERE RANGE(i.pattern_id)
        GROUP BY i.pattern_id
  ) AS g ON g.pattern_id = p.pattern_id
 WHERE RANGE(p.pattern_id)
"""

CATEGORY = Category(
    slug="learning-data",
    title="Learning Data",
    order=3,
    source=Source(
        schema="flat",
        table="learning_data",
        columns=(
            Column("pattern_id", "uuid"),
            Column("neuron_id", "uuid"),
            Column("kind", "text"),
            Column("pattern", "real[]"),
            Column("payload", "bytea"),
            Column("meta", "jsonb"),
            Column("recorded_at", "timestamptz"),
            Column("version", "bigint"),
        ),
        key=("pattern_id",),
        version="version",
    ),
    targets=(
        Target(
            schema="hier",
            table="patterns",
            role=Role.ROOT,
            columns=(
                Pass("pattern_id", "pattern_id"),
                Pass("unit_id", "neuron_id"),
                Pass("kind", "kind"),
                Pass("pattern", "pattern"),
                Pass("meta", "meta"),
                Computed("optimiser", "bytea", optimiser, ("payload",), as_bytes=True),
                Pass("recorded_at", "recorded_at"),
                Pass("source_version", "version"),
            ),
            key=("pattern_id",),
            owner=("pattern_id",),
            version="source_version",
        ),
        Target(
            schema="hier",
            table="pattern_gradients",
            role=Role.PART,
            columns=(
                Pass("pattern_id", "pattern_id"),
                Element("ordinal", "integer"),
                Element("name", "text"),
                Element("gradient", "bytea"),
            ),
            key=("pattern_id", "ordinal"),
            owner=("pattern_id",),
            explode=Explode(gradients, ("payload",), as_bytes=True),
        ),
    ),
    rebuild=_REBUILD,
    filters={
        "pattern_id": FilterField("pattern_id", "uuid"),
        "neuron_id": FilterField("neuron_id", "uuid"),
        "kind": FilterField("kind", "text"),
        "recorded_at": FilterField("recorded_at", "timestamptz"),
    },
)
