"""Random flat records: every value as PostgreSQL reads it from text, None for NULL.

``tame`` records are those that the hierarchical tables can hold exactly; ``wild`` ones may be any that the
flat tables take, such as connections that are no list, or a payload that is no MessagePack.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import msgspec
from hypothesis import strategies as st

from hal9mig.categories import learning, metadata
from tests.property.test_wire_and_server import TEXTS

Value = str | bytes | None
Row = Mapping[str, Value]
Values = st.SearchStrategy[Value]

SHORT = TEXTS.map(lambda text: text[:20])
REAL = st.floats(width=32).map(repr)
REALS = st.lists(st.none() | REAL, max_size=6).map(
    lambda items: "{" + ",".join("NULL" if item is None else item for item in items) + "}"
)
TIMES = st.sampled_from(["infinity", "-infinity", "4714-11-24 00:00:00+00 BC", "294276-12-31 23:59:59.999999+00"]) | (
    st.datetimes().map(lambda value: f"{value.isoformat()}+00")
)
BOOLEANS = st.sampled_from(["true", "false"])
VERSIONS = st.integers(-(2**63), 2**63 - 1).map(str)
NUMBERS = st.sampled_from(
    ["0", "-0.0", "1.500", "1e400", "1e-400", "123456789012345678901234567890.000000001", "9223372036854775808"]
) | st.floats(allow_nan=False, allow_infinity=False).map(repr)
JSON = st.recursive(
    st.sampled_from(["null", "true", "false", '""', "[]", "{}"]) | NUMBERS | SHORT.map(json.dumps),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]")
        | st.dictionaries(SHORT.map(json.dumps), inner, max_size=3).map(
            lambda items: "{" + ",".join(f"{name}:{value}" for name, value in items.items()) + "}"
        )
    ),
    max_leaves=6,
)
OBJECTS = st.dictionaries(SHORT.map(json.dumps), JSON, max_size=4).map(
    lambda items: "{" + ",".join(f"{name}:{value}" for name, value in items.items()) + "}"
)
ADDRESSES = st.ip_addresses().map(str) | st.sampled_from(["10.0.0.0/8", "::1/128", "1.2.3.4/31"])


def _or_null(values: Values) -> Values:
    return st.none() | values


# Below 2^53, where PostgreSQL's shortest text of a double is Python's too.
_WEIGHTS = st.floats(-(2.0**53), 2.0**53).map(repr) | st.sampled_from(["1", "-3", "1e300", "5e-324", "1000", "0"])
_CONNECTIONS = st.lists(
    st.tuples(st.uuids(), _WEIGHTS, SHORT).map(
        lambda link: f'{{"target":"{link[0]}","weight":{link[1]},"conn_type":{json.dumps(link[2])}}}'
    ),
    max_size=4,
).map(lambda items: f"[{','.join(items)}]")
_STATES = st.none() | st.lists(st.integers(0, 2**40) | st.floats() | SHORT, max_size=3) | st.dictionaries(SHORT, REAL)
_PAYLOADS = st.builds(
    lambda gradients, state: learning.pack(gradients, msgspec.msgpack.encode(state)),
    st.lists(st.tuples(SHORT, st.binary(max_size=40)), max_size=4),
    _STATES,
)

TAME: Mapping[str, Mapping[str, Values]] = {
    "user-sessions": {
        "session_id": st.uuids().map(str),
        "user_id": SHORT,
        "token_hash": st.uuids().map(str),
        "ip_address": _or_null(ADDRESSES),
        "user_agent": _or_null(TEXTS),
        "active": BOOLEANS,
        "data": OBJECTS,
        "created_at": TIMES,
        "last_seen_at": TIMES,
        "expires_at": _or_null(TIMES),
        "version": VERSIONS,
    },
    "neuron-states": {
        "neuron_id": st.uuids().map(str),
        "layer": SHORT,
        "neuron_type": SHORT,
        "activation": REAL,
        "weights": REALS,
        "biases": REALS,
        "learning_rate": REAL,
        "momentum": _or_null(REAL | st.just("0.9")),
        "connections": _CONNECTIONS,
        "memory": _or_null(JSON),
        "context": _or_null(JSON),
        "avg_response_time": _or_null(REAL),
        "is_async": BOOLEANS,
        "created_at": TIMES,
        "updated_at": TIMES,
        "version": VERSIONS,
    },
    "learning-data": {
        "pattern_id": st.uuids().map(str),
        "neuron_id": st.uuids().map(str),
        "kind": SHORT,
        "pattern": REALS,
        "payload": _or_null(_PAYLOADS),
        "meta": JSON,
        "recorded_at": TIMES,
        "version": VERSIONS,
    },
    "configuration": {
        "key": st.lists(SHORT, min_size=1, max_size=5).map(".".join),
        "value": JSON,
        "updated_by": SHORT,
        "updated_at": TIMES,
        "version": VERSIONS,
    },
    "metadata": {
        "id": VERSIONS,
        "type": st.sampled_from(sorted(metadata.TABLES)),
        "source": SHORT,
        "payload": JSON,
        "recorded_at": TIMES,
        "version": VERSIONS,
    },
}
#: Of sessions and of the configuration every record can be held.
WILD: Mapping[str, Mapping[str, Values]] = {
    "neuron-states": TAME["neuron-states"] | {"connections": JSON | _CONNECTIONS},
    "learning-data": TAME["learning-data"]
    | {"payload": st.binary(max_size=20) | _PAYLOADS.map(lambda one: one + b"\0")},
    "metadata": TAME["metadata"] | {"type": SHORT | st.sampled_from(sorted(metadata.TABLES))},
}


def records(columns: Mapping[str, Values]) -> st.SearchStrategy[Row]:
    """Return a strategy for whole records."""
    return st.fixed_dictionaries(dict(columns))
