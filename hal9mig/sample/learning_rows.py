"""Learning data: labelled prototypes and noisy examples of them, each with the gradients it gave.

The first records are the prototypes themselves, of kind ``prototype``; the others, of kind
``example``, are a prototype plus a little noise, and ``meta.label`` says which. The prototype nearest
to an example is always its own. The gradients are those of the linear loss that
``hal9mig.categories.learning`` states, so that they can be computed again from pattern and meta.
"""

from __future__ import annotations

import array
import functools
import random
import struct
from collections.abc import Iterator

import msgspec

from hal9mig.categories import learning, neurons, wire
from hal9mig.sample import fields
from hal9mig.sample.shape import NOW_MICROS, Shape

_SLUG = learning.CATEGORY.slug
#: Values of a pattern, outputs of the layer and at most so many prototypes: about 10 KB a record.
WIDTH = 48
GAIN = 0.125
_NOISE = 0.2
_YEAR = 365 * 86400 * 1_000_000


def classes(shape: Shape) -> int:
    """Return how many prototypes there are: fewer where there would be no examples left."""
    return min(WIDTH, max(1, shape.records(_SLUG) // 2))


@functools.lru_cache(maxsize=WIDTH)
def prototype(seed: int, number: int) -> tuple[float, ...]:
    """Return the values of a prototype."""
    rng = random.Random(f"{seed}:prototype:{number}")
    return tuple(rng.random() * 2 - 1 for _ in range(WIDTH))


def rows(shape: Shape, chunk: int) -> Iterator[bytes]:
    """Yield the tuples of a chunk of ``flat.learning_data``."""
    rng = shape.rng(_SLUG, chunk)
    head = fields.columns(len(learning.CATEGORY.source.columns))
    kinds = {kind: fields.text(kind) for kind in ("prototype", "example")}
    count, units = classes(shape), shape.records(neurons.CATEGORY.slug)
    for number in shape.span(_SLUG, chunk):
        label = number if number < count else int(rng.random() * count)
        noise = 0.0 if number < count else _NOISE
        drawn = rng.random
        # Through 32 bits first: the gradients must follow from what is stored.
        pattern = array.array("f", [value + noise * (drawn() * 2 - 1) for value in prototype(shape.seed, label)])
        terms = learning.linear_gradients(pattern.tolist(), outputs=WIDTH, gain=GAIN, target=label)
        optimiser = msgspec.msgpack.encode(
            {"name": "adam", "step": rng.getrandbits(16), "lr": 0.001, "betas": [0.9, 0.999]}
        )
        meta = (
            f'{{"label": "glyph-{label:02d}", "class": {label}, "outputs": {WIDTH}, "gain": {GAIN}, '
            f'"loss": "linear-mse", "epoch": {rng.getrandbits(7)}}}'
        )
        yield b"".join(
            (
                head,
                wire.field(shape.identity("pattern", number)),
                wire.field(shape.identity("neuron", int(rng.random() * units))),
                kinds["prototype" if number < count else "example"],
                fields.reals(struct.pack(f"!{WIDTH}f", *pattern), WIDTH),
                wire.field(learning.pack(list(terms.items()), optimiser)),
                fields.jsonb(meta),
                fields.timestamp(8, NOW_MICROS - 1 - int(rng.random() * _YEAR)),
                fields.bigint(1 + rng.getrandbits(3)),
            )
        )
