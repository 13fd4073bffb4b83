"""Edge values: what a store may hold and a careless tool loses. Every one of them can be migrated.

A record is given by the columns that differ from an ordinary one, as PostgreSQL would print them;
None is NULL. The keys include the lowest and the highest of their type.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator, Mapping

import msgspec

from hal9mig.categories import configuration, learning, metadata, neurons, sessions
from hal9mig.categories.declaration import Category
from hal9mig.sample import metadata_rows
from hal9mig.sample.shape import Shape

Values = Mapping[str, str | bytes | None]

_TIME = "2025-06-01 12:00:00.123456+00"
_LOWEST = "00000000-0000-0000-0000-000000000000"
_HIGHEST = "ffffffff-ffff-ffff-ffff-ffffffffffff"
#: Two million letters: a value far beyond a page, and beyond what is read at one go.
LARGE = 2 * 1024 * 1024
_FLOATS = (
    "{NaN,Infinity,-Infinity,-0,0,1e-45,-1e-45,1.17549435e-38,3.4028235e+38,-3.4028235e+38,0.1,0.33333334,16777216}"
)
_NUMBERS = (
    '{"huge": 123456789012345678901234567890.12345678901234567890, "tiny": 1e-400, "power": 1e400, '
    '"trailing": 1.500, "negative": -0.0, "int": 9223372036854775808}'
)
_UNICODE = (
    '{"": "empty name", "ключ": "значение", "日本": "発見", "emoji": "🖖🏽", "control": "\\u0001\\t\\n\\"\\\\", '
    '"line": "\\u2028", "quote\'": "O\'Neill", "a.b": {"c": [[], {}, null, [null]]}, "rtl": "שלום"}'
)


def rows(shape: Shape, category: Category) -> Iterator[Values]:
    """Yield the edge records of a category; none for one that is not HAL9's."""
    ordinary, edges = {
        sessions.CATEGORY.slug: (_SESSION, _sessions),
        neurons.CATEGORY.slug: (_NEURON, _neurons),
        learning.CATEGORY.slug: (_PATTERN, _patterns),
        configuration.CATEGORY.slug: (_KEY, _keys),
        metadata.CATEGORY.slug: (_ENTRY, _entries),
    }[category.slug]
    for number, edge in enumerate(edges(shape), start=1):
        row: dict[str, str | bytes | None] = {**ordinary, **edge}
        key = category.source.key[0]
        if key not in edge:
            row[key] = f"ed9e0000-0000-4000-8000-{number:012d}"
        if category is sessions.CATEGORY:
            row.setdefault("token_hash", f"edge-{number}")
        yield row


_SESSION: Values = {
    "user_id": "edge", "ip_address": None, "user_agent": None, "active": "true", "data": "{}",
    "created_at": _TIME, "last_seen_at": _TIME, "expires_at": None, "version": "1",
}  # fmt: skip
_NEURON: Values = {
    "layer": "cognitive", "neuron_type": "predictor", "activation": "0.5", "weights": "{0.5}", "biases": "{}",
    "learning_rate": "0.01", "momentum": None, "connections": "[]", "memory": None, "context": None,
    "avg_response_time": None, "is_async": "false", "created_at": _TIME, "updated_at": _TIME, "version": "1",
}  # fmt: skip
_PATTERN: Values = {
    "neuron_id": _LOWEST, "kind": "edge", "pattern": "{}", "payload": None, "meta": "{}",
    "recorded_at": _TIME, "version": "1",
}  # fmt: skip
_KEY: Values = {"value": "null", "updated_by": "edge", "updated_at": _TIME, "version": "1"}
_ENTRY: Values = {"type": "logs", "source": "edge", "payload": "{}", "recorded_at": _TIME, "version": "1"}


def _sessions(shape: Shape) -> Iterator[Values]:
    yield {"session_id": _LOWEST, "user_id": "", "user_agent": ""}
    yield {"session_id": _HIGHEST, "expires_at": "infinity", "created_at": "-infinity"}
    yield {"data": _NUMBERS}
    yield {"data": _UNICODE, "user_id": "пользователь 🖖", "user_agent": "tab\tquote'back\\slash\nline"}
    yield {"created_at": "4714-11-24 00:00:00+00 BC", "last_seen_at": "294276-12-31 23:59:59.999999+00"}
    yield {"created_at": "1999-12-31 23:59:59.999999+00", "last_seen_at": "2000-01-01 00:00:00.000001+00"}
    yield {"ip_address": "::ffff:1.2.3.4", "version": "9223372036854775807"}
    yield {"ip_address": "10.0.0.0/8", "version": "-9223372036854775808"}
    yield {"data": json.dumps({"n" * 2000: 1, "large": "x" * LARGE})}


def _neurons(shape: Shape) -> Iterator[Values]:
    yield {"neuron_id": _LOWEST, "weights": _FLOATS, "biases": "{}", "activation": "NaN", "momentum": "NaN"}
    yield {"neuron_id": _HIGHEST, "activation": "-0", "learning_rate": "Infinity", "momentum": "-0"}
    yield {"momentum": "0.9"}
    yield {"momentum": None, "memory": "null", "context": "[]"}
    yield {"weights": "{NULL,1,NULL}", "biases": "{NULL}"}
    yield {"weights": "{{1,2},{3,4}}", "biases": "[0:1]={1,2}"}
    yield {"memory": _NUMBERS, "context": _UNICODE, "created_at": "infinity", "updated_at": "-infinity"}
    yield {"connections": json.dumps([_link(_HIGHEST, weight) for weight in _WEIGHTS])}
    yield {"connections": json.dumps([_link(_LOWEST, 1, 'тип "x"\\')]), "neuron_type": "", "is_async": "true"}
    yield {"connections": json.dumps([_link(_LOWEST, 0.5) for _ in range(2000)])}
    yield {"memory": json.dumps({"large": "y" * LARGE})}
    yield {"weights": "{" + ",".join(["0.1"] * 100_000) + "}", "avg_response_time": "1e-45"}


_WEIGHTS = (0, 1, -1, 0.1, 1e300, -1e300, 5e-324, 1.7976931348623157e308, 2**53, 0.30000000000000004)


def _link(target: str, weight: float, kind: str = "forward") -> dict[str, object]:
    return {"target": target, "weight": weight, "conn_type": kind}


def _patterns(shape: Shape) -> Iterator[Values]:
    nil = msgspec.msgpack.encode(None)
    floats = struct.pack("<5f", float("nan"), float("inf"), float("-inf"), -0.0, 1e-45)
    yield {"pattern_id": _LOWEST, "pattern": _FLOATS}
    yield {"pattern_id": _HIGHEST, "payload": learning.pack([], nil)}
    yield {"payload": learning.pack([("", b""), ("вес", floats), ("n" * 31, floats), ("n" * 32, b"\0")], nil)}
    yield {
        "payload": learning.pack(
            [("n" * 255, b"\xff" * 255), ("n" * 256, b"\xff" * 256)], msgspec.msgpack.encode([1, {}])
        )
    }
    # Not canonical itself, but the optimiser's bytes stay what they are: 1 as a 64-bit number.
    yield {"payload": learning.pack([("a", b"")] * 15, b"\xcf" + (1).to_bytes(8))}
    yield {"payload": learning.pack([("a", b"b")] * 16, msgspec.msgpack.encode(0.1)), "meta": _NUMBERS}
    yield {"payload": learning.pack([("w", b"\1" * 65535), ("w", b"\2" * 65536)], nil), "meta": _UNICODE}
    large = random.Random(f"{shape.seed}:large").randbytes(LARGE)
    yield {"payload": learning.pack([("large", large)], msgspec.msgpack.encode({"state": large[:1000]}))}
    yield {"recorded_at": "infinity", "kind": ""}


def _keys(shape: Shape) -> Iterator[Values]:
    for key in ("", ".", "..", "edge", "edge.", "edge..leaf", ".edge", "edge.leaf", "edge.leaf.deeper", "EDGE", "Ünï"):
        yield {"key": key, "value": json.dumps(key)}
    yield {"key": "edge." + ".".join("x" * 200), "value": _NUMBERS}
    yield {"key": "edge.ключ.日本.🖖", "value": _UNICODE}
    yield {"key": "edge.%s.'quote'.\\back", "value": "-0.0", "updated_at": "infinity", "updated_by": ""}
    yield {"key": "edge.large", "value": json.dumps("z" * LARGE)}
    yield {"key": "edge.null", "value": "null"}


def _entries(shape: Shape) -> Iterator[Values]:
    # Beside the numbered entries, and never an audit entry, which would have to join the chain.
    first = metadata_rows.after(shape)
    payloads = ("{}", "[]", "null", '"text"', "1e400", _NUMBERS, _UNICODE, json.dumps({"message": "m" * LARGE}))
    for number, payload in enumerate(payloads):
        yield {"id": str(first + number), "payload": payload}
    yield {"id": "-9223372036854775808", "type": "metrics", "payload": '{"name": null, "value": "no number"}'}
    yield {"id": "9223372036854775807", "type": "metrics", "payload": '{"name": "n", "value": 1e400}'}
    yield {"id": "0", "type": "traces", "payload": '{"trace_id": 7, "span_id": {}}', "recorded_at": "infinity"}
    yield {"id": "-1", "type": "traces", "payload": json.dumps({"trace_id": "t" * 10_000}), "source": ""}
