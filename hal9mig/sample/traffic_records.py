"""The records that traffic writes: of HAL9's shape, each made by a seeded generator."""

from __future__ import annotations

import datetime
import hashlib
import random
import struct
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from hal9mig.categories import configuration, learning, metadata, neurons, sessions
from hal9mig.client.values import Record

SESSIONS = sessions.CATEGORY.slug
NEURONS = neurons.CATEGORY.slug
LEARNING = learning.CATEGORY.slug
CONFIGURATION = configuration.CATEGORY.slug
METADATA = metadata.CATEGORY.slug
CATEGORIES = (SESSIONS, NEURONS, LEARNING, CONFIGURATION, METADATA)

_START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
#: The column in which a record of traffic's says so.
_MAKER = {
    SESSIONS: "user_id",
    NEURONS: "neuron_type",
    LEARNING: "kind",
    CONFIGURATION: "updated_by",
    METADATA: "source",
}
#: Ids of metadata from here on are traffic's; sample data has smaller ones at any scale.
_FIRST_ID = 1 << 40


def fresh_key(slug: str, owner: str, number: int) -> Any:
    """Return a key that nobody but its owner uses."""
    digest = hashlib.blake2b(f"{owner}:{slug}:{number}".encode(), digest_size=16).digest()
    if slug == CONFIGURATION:
        return f"traffic.{owner.replace(':', '.')}.key{number % 7}.{number}"
    if slug == METADATA:
        return _FIRST_ID + int.from_bytes(digest[:5])
    return str(uuid.UUID(bytes=digest, version=4))


def made(slug: str, key: Any, rng: random.Random, targets: Sequence[str]) -> Record:
    """Return a new record of a key; ``targets`` are neurons that it may refer to."""
    match slug:
        case "user-sessions":
            return {"session_id": key} | _session(rng)
        case "neuron-states":
            return {"neuron_id": key, "created_at": _moment(rng)} | _neuron(rng, targets)
        case "learning-data":
            neuron = rng.choice(targets) if targets else key
            return {"pattern_id": key, "neuron_id": neuron, "kind": "traffic"} | _pattern(rng)
        case "configuration":
            return {"key": key} | _setting(rng)
    return {"id": key, "type": rng.choice(("metrics", "logs", "traces"))} | _entry(rng)


def changed(slug: str, record: Mapping[str, Any], rng: random.Random, targets: Sequence[str]) -> Record:
    """Return a record with another content, as an application would change it."""
    rest = {name: value for name, value in record.items() if name != "version"}
    match slug:
        case "user-sessions":
            keep = {"token_hash": rest["token_hash"], "created_at": rest["created_at"]}
            return rest | _session(rng) | keep
        case "neuron-states":
            return rest | _neuron(rng, targets)
        case "learning-data":
            # The pattern and its gradients belong together, and meta may say how; only what is loose changes.
            meta = {**rest["meta"], "seen": rng.getrandbits(20)} if isinstance(rest["meta"], dict) else rest["meta"]
            return rest | {"meta": meta, "recorded_at": _moment(rng)}
        case "configuration":
            return rest | _setting(rng)
    # Another type is another table in the hierarchical store.
    kind = rng.choice(("metrics", "logs", "traces")) if rng.random() < 0.2 else rest["type"]
    return rest | _entry(rng) | {"type": kind}


def writable(slug: str, record: Mapping[str, Any]) -> bool:
    """Whether traffic may take a record that was there before.

    The audit chain is not its to break, and what traffic has made may be another process's.
    """
    if slug == METADATA and record["type"] == "audit":
        return False
    return not str(record[_MAKER[slug]]).startswith("traffic")


def deletable(slug: str) -> bool:
    """Whether traffic may delete records that were there before: others refer to neurons."""
    return slug != NEURONS


def token(rng: random.Random) -> str:
    """Return a token that no other session has."""
    return rng.getrandbits(256).to_bytes(32).hex()


def _session(rng: random.Random) -> Record:
    seen = _moment(rng)
    data: Record = {"name": rng.choice(("Dave", "Zoë", "大輔", 'Ann "Pod" Lee')), "visits": rng.getrandbits(10)}
    if rng.random() < 0.5:
        data["recent"] = [{"id": rng.getrandbits(20), "score": rng.getrandbits(12) / 16}, None]
    return {
        "user_id": f"traffic-{rng.getrandbits(6)}",
        "token_hash": token(rng),
        "ip_address": None if rng.random() < 0.1 else f"10.{rng.getrandbits(8)}.{rng.getrandbits(8)}.1",
        "user_agent": None if rng.random() < 0.1 else "hal9-traffic/1",
        "active": rng.random() < 0.6,
        "data": data,
        "created_at": seen - datetime.timedelta(days=1),
        "last_seen_at": seen,
        "expires_at": None if rng.random() < 0.1 else seen + datetime.timedelta(days=3650),
    }


def _neuron(rng: random.Random, targets: Sequence[str]) -> Record:
    connections = [
        {"target": rng.choice(targets), "weight": rng.getrandbits(10) / 64, "conn_type": "lateral"}
        for _ in range(rng.getrandbits(2) if targets else 0)
    ]
    return {
        "layer": rng.choice(neurons.LAYERS),
        "neuron_type": "traffic",
        "activation": _real(rng),
        "weights": [_real(rng) for _ in range(8)],
        "biases": [_real(rng), rng.choice((-0.0, float("inf"), float("nan")))],
        "learning_rate": _real(rng),
        "momentum": rng.choice((None, 0.5, 0.0)),
        "connections": connections,
        "memory": rng.choice((None, {}, {"ticks": rng.getrandbits(16)})),
        "context": rng.choice((None, {"focus": "mission"})),
        "avg_response_time": None if rng.random() < 0.3 else _real(rng),
        "is_async": rng.random() < 0.5,
        "updated_at": _moment(rng),
    }


def _pattern(rng: random.Random) -> Record:
    gradients = [(f"layer{place}", rng.randbytes(16)) for place in range(rng.getrandbits(2))]
    return {
        "pattern": [_real(rng) for _ in range(8)],
        "payload": None if rng.random() < 0.2 else learning.pack(gradients, b"\x80"),  # the optimiser: an empty map
        "meta": {"source": "traffic"},
        "recorded_at": _moment(rng),
    }


def _setting(rng: random.Random) -> Record:
    number, text = rng.getrandbits(40), f"{rng.getrandbits(8)}s"
    value: Any = rng.choice((number, text, rng.random() < 0.5, [1, None, "x"], {"a": {}}))
    return {"value": value, "updated_by": "traffic", "updated_at": _moment(rng)}


def _entry(rng: random.Random) -> Record:
    payload = {"name": "traffic.writes", "value": rng.getrandbits(16), "message": "a write", "level": "info"}
    return {"source": "traffic", "payload": payload, "recorded_at": _moment(rng)}


def _moment(rng: random.Random) -> datetime.datetime:
    return _START + datetime.timedelta(microseconds=rng.getrandbits(44))


def _real(rng: random.Random) -> float:
    return float(struct.unpack("f", struct.pack("f", rng.uniform(-1, 1)))[0])
