"""Neurons in five layers, whose connections form one graph across them."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

from hal9mig.categories import neurons
from hal9mig.sample import fields
from hal9mig.sample.shape import NOW_MICROS, Shape, uuid_text

_SLUG = neurons.CATEGORY.slug
_KINDS = (
    ("sensor", "receptor", "filter"),
    ("router", "codec", "gateway"),
    ("associator", "predictor", "memory"),
    ("planner", "scheduler", "arbiter"),
    ("reasoner", "critic", "self-model"),
)
_FOCUS = ("vision", "speech", "navigation", "life-support", "mission", "crew", "chess", "antenna")
_LEARNING_RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
_YEAR = 365 * 86400 * 1_000_000

_real = struct.Struct("!if").pack
_TUPLE = fields.columns(len(neurons.CATEGORY.source.columns)) + b"\0\0\0\x10"
_BOOLEANS = (b"\0\0\0\1\0", b"\0\0\0\1\1")


class _Wiring:
    """Where connections of a layer's neurons may lead: type, first number and count of each direction."""

    def __init__(self, layers: tuple[range, ...], place: int):
        own = layers[place]
        above = layers[place + 1] if place + 1 < len(layers) else range(0)
        below = layers[place - 1] if place > 0 else range(0)
        self.lateral = ("lateral", own.start, len(own)) if len(own) > 1 else None
        self.forward = ("forward", above.start, len(above)) if above else self.lateral
        self.backward = ("backward", below.start, len(below)) if below else self.lateral

    def directions(self, rng: random.Random, count: int) -> Iterator[tuple[str, int, int]]:
        # The first goes forward, so that a signal gets on from every neuron that is connected at all.
        draws = [0.0] + [rng.random() for _ in range(count - 1)]
        for draw in draws[:count]:
            wanted = self.forward if draw < 0.70 else self.backward if draw < 0.85 else self.lateral
            chosen = wanted or self.forward or self.backward
            if chosen is not None:
                yield chosen


def rows(shape: Shape, chunk: int) -> Iterator[bytes]:
    """Yield the tuples of a chunk of ``flat.neuron_states``."""
    rng = shape.rng(_SLUG, chunk)
    random_, getrandbits = rng.random, rng.getrandbits
    layers = shape.layers
    wirings = [_Wiring(layers, place) for place in range(len(layers))]
    heads = [
        [fields.text(layer) + fields.text(kind) for kind in _KINDS[place]] for place, layer in enumerate(neurons.LAYERS)
    ]
    place = 0
    for number in shape.span(_SLUG, chunk):
        while number >= layers[place].stop:
            place += 1
        bits = getrandbits(32)
        created = NOW_MICROS - 1 - int(random_() * _YEAR)
        updated = created + int(random_() * (NOW_MICROS - created))
        yield b"".join(
            (
                _TUPLE,
                shape.identity("neuron", number),
                heads[place][bits % 3],
                _real(4, random_()),
                fields.random_reals(rng, 24 + (bits >> 8 & 15)),
                fields.random_reals(rng, 2 + (bits >> 12 & 3)),
                _real(4, _LEARNING_RATES[(bits >> 14) % 5]),
                _momentum(bits >> 17 & 7, rng),
                fields.jsonb(_connections(shape, wirings[place], number, rng)),
                _memory(bits >> 20 & 3, rng),
                _context(bits >> 22 & 7, place),
                fields.NULL if bits >> 25 & 3 == 0 else _real(4, random_() * 250),
                _BOOLEANS[bits >> 27 & 1],
                fields.timestamp(8, created),
                fields.timestamp(8, updated),
                fields.bigint(1 + (bits >> 28)),
            )
        )


def _connections(shape: Shape, wiring: _Wiring, number: int, rng: random.Random) -> str:
    listed = []
    # As many as eight coins show heads: none to eight, four on average.
    for kind, first, count in wiring.directions(rng, rng.getrandbits(8).bit_count()):
        target = first + int(rng.random() * count)
        if target == number:
            target = first + (target - first + 1) % count
        weight = (rng.getrandbits(21) - 1_048_576) / 1_000_000
        text = uuid_text(shape.identity("neuron", target))
        listed.append(f'{{"target": "{text}", "weight": {weight!r}, "conn_type": "{kind}"}}')
    return f"[{', '.join(listed)}]"


def _momentum(draw: int, rng: random.Random) -> bytes:
    # None in a quarter; the default given on purpose in an eighth, which is not the same thing.
    if draw < 2:
        return fields.NULL
    return _real(4, neurons.DEFAULT_MOMENTUM if draw == 2 else rng.random())


def _memory(draw: int, rng: random.Random) -> bytes:
    if draw == 0:
        return fields.NULL
    if draw == 1:
        return fields.jsonb("{}")
    return fields.jsonb(f'{{"ticks": {rng.getrandbits(16)}, "trace": [{rng.random():.3f}, {rng.random():.3f}]}}')


def _context(draw: int, place: int) -> bytes:
    return fields.NULL if draw < 3 else fields.jsonb(f'{{"focus": "{_FOCUS[(draw + place) % 8]}"}}')
