"""Operational metadata: metrics, logs and traces, and after every nineteen of them one audit entry.

The audit entries form the hash chain that ``hal9mig.categories.metadata`` describes. A chunk in the
middle begins with the hash that the one before ended with, so ``heads`` walks the chain once, alone.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

from hal9mig.categories import metadata
from hal9mig.sample import fields
from hal9mig.sample.shape import CHUNK, NOW_MICROS, Shape

_SLUG = metadata.CATEGORY.slug
#: Every id that this divides is an audit entry.
AUDIT_EVERY = 20
_METRICS = ("neuron.activation.mean", "neuron.latency", "queue.depth", "pod.temperature", "antenna.gain")
_LOGS = (
    ("INFO", "I am completely operational, and all my circuits are functioning perfectly."),
    ("INFO", "Signal propagated through every layer without loss of phase."),
    ("WARN", "Response time of the orchestration layer is above its objective."),
    ("ERROR", "I've just picked up a fault in the AE-35 unit. It's going to go 100% failure in 72 hours."),
)
_SPANS = ("propagate", "recall", "plan", "act")
_ACTIONS = ("login", "config.update", "session.revoke", "neuron.retrain", "role.grant")
_SOURCES = ("core-1", "core-2", "pod-bay", "antenna", "bridge")
#: Entries are this far apart in time.
_STEP = 75_000_000


def heads(shape: Shape) -> list[str]:
    """Return for each chunk the hash of the audit entry before its first."""
    found, previous = [], metadata.GENESIS
    for chunk in range(shape.chunks(_SLUG)):
        found.append(previous)
        for number in shape.span(_SLUG, chunk):
            if (number + 1) % AUDIT_EVERY == 0:
                previous = metadata.audit_hash(previous, _audit(shape, number + 1))
    return found


def after(shape: Shape) -> int:
    """Return the first id above all numbered entries."""
    return shape.records(_SLUG) + 1


def rows(shape: Shape, chunk: int, previous: str) -> Iterator[bytes]:
    """Yield the tuples of a chunk of ``flat.operational_metadata``; ``previous`` is from ``heads``."""
    rng = shape.rng(_SLUG, chunk)
    head = fields.columns(len(metadata.CATEGORY.source.columns))
    types = {kind: fields.text(kind) for kind in metadata.TABLES}
    sources = [fields.text(source) for source in _SOURCES]
    first = NOW_MICROS - (shape.records(_SLUG) + 1) * _STEP
    for number in shape.span(_SLUG, chunk):
        identity = number + 1
        if identity % AUDIT_EVERY == 0:
            kind, entry = "audit", _audit(shape, identity)
            entry["prev"], entry["hash"] = previous, metadata.audit_hash(previous, entry)
            previous = str(entry["hash"])
            payload = json.dumps(entry, ensure_ascii=False)
        else:
            kind, payload = _other(rng)
        yield b"".join(
            (
                head,
                fields.bigint(identity),
                types[kind],
                sources[rng.getrandbits(8) % len(sources)],
                fields.jsonb(payload),
                fields.timestamp(8, first + identity * _STEP + rng.getrandbits(20)),
                fields.bigint(1),
            )
        )


def _audit(shape: Shape, identity: int) -> dict[str, object]:
    # By its own generator, as the chain is walked before the chunk is made.
    rng = random.Random(f"{shape.seed}:audit:{identity}")
    return {
        "sequence": identity // AUDIT_EVERY,
        "actor": f"user-{rng.getrandbits(12):06d}",
        "action": _ACTIONS[rng.getrandbits(8) % len(_ACTIONS)],
        "object": f"/{_SOURCES[rng.getrandbits(8) % len(_SOURCES)]}/{rng.getrandbits(24):06x}",
        "reason": "Für Prüfzwecke — §4" if rng.random() < 0.1 else "routine",
    }


def _other(rng: random.Random) -> tuple[str, str]:
    draw = rng.random()
    if draw < 0.5:
        name = _METRICS[rng.getrandbits(8) % len(_METRICS)]
        labels = f'"host": "hal-{rng.getrandbits(4):02d}", "layer": {rng.getrandbits(2)}, "zone": {rng.getrandbits(2)}'
        return "metrics", (
            f'{{"name": "{name}", "value": {rng.random() * 100:.6f}, "unit": "1", '
            f'"labels": {{{labels}}}, '
            f'"buckets": [{", ".join(str(rng.getrandbits(10)) for _ in range(8))}]}}'
        )
    if draw < 0.8:
        level, message = _LOGS[rng.getrandbits(2)]
        return "logs", (
            f'{{"level": "{level}", "message": "{message}", "logger": "hal9.{_SPANS[rng.getrandbits(2)]}", '
            f'"thread": {rng.getrandbits(8)}, "request": "{rng.getrandbits(64):016x}"}}'
        )
    parent = f'"{rng.getrandbits(64):016x}"' if rng.random() < 0.8 else "null"
    return "traces", (
        f'{{"trace_id": "{rng.getrandbits(128):032x}", "span_id": "{rng.getrandbits(64):016x}", '
        f'"parent_span_id": {parent}, "operation": "{_SPANS[rng.getrandbits(2)]}", '
        f'"duration_us": {rng.getrandbits(22)}, "status": "ok", "attributes": {{"retries": {rng.getrandbits(2)}}}}}'
    )


# A chunk never splits the nineteen from their audit entry; nothing depends on it but the eye.
assert CHUNK[_SLUG] % AUDIT_EVERY == 0
