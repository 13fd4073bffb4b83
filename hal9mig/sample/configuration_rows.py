"""Configuration keys: a tree with values at its leaves, and at a few of its inner nodes too."""

from __future__ import annotations

import random
from collections.abc import Iterator

from hal9mig.categories import configuration, neurons
from hal9mig.sample import fields
from hal9mig.sample.shape import NOW_MICROS, Shape

_SLUG = configuration.CATEGORY.slug
_DAY = 86400 * 1_000_000
#: The first keys, with inner nodes that hold a value themselves, and a secret.
_FIXED = (
    ("features.search", "true"),
    ("features.search.fuzzy", '{"enabled": true, "distance": 2}'),
    ("services.api.timeout", '"30s"'),
    ("services.mail.password", '"correct horse battery staple"'),
    ("mission.name", '"Discovery One"'),
    ("mission.crew", '["Dave", "Frank", null]'),
    ("ui.title.日本語", '"発見号"'),
    ("services", '{"owner": "ops"}'),
)
_PEOPLE = ("dave", "frank", "ops", "deploy-bot", "chandra")
_PARTS = ("threshold", "decay", "window", "enabled", "budget", "schedule")


def rows(shape: Shape, chunk: int) -> Iterator[bytes]:
    """Yield the tuples of a chunk of ``flat.configuration``."""
    rng = shape.rng(_SLUG, chunk)
    head = fields.columns(len(configuration.CATEGORY.source.columns))
    for number in shape.span(_SLUG, chunk):
        key, value = _FIXED[number] if number < len(_FIXED) else (_key(number), _value(number, rng))
        yield b"".join(
            (
                head,
                fields.text(key),
                fields.jsonb(value),
                fields.text(_PEOPLE[rng.getrandbits(8) % 5]),
                fields.timestamp(8, NOW_MICROS - 1 - int(rng.random() * 200 * _DAY)),
                fields.bigint(1 + rng.getrandbits(4)),
            )
        )


def _key(number: int) -> str:
    group, part = divmod(number, len(_PARTS))
    layer = neurons.LAYERS[group % len(neurons.LAYERS)]
    return f"layers.{layer}.groups.{group // len(neurons.LAYERS)}.{_PARTS[part]}"


def _value(number: int, rng: random.Random) -> str:
    match _PARTS[number % len(_PARTS)]:
        case "threshold" | "decay":
            return f"{rng.random():.6f}"
        case "window":
            return f'{{"size": {1 + rng.getrandbits(10)}, "unit": "ms"}}'
        case "enabled":
            return ("true", "false", "null")[rng.getrandbits(8) % 3]
        case "budget":
            return str(rng.getrandbits(40))
        case _:
            return f'["{rng.getrandbits(3):02d}:00", "{12 + rng.getrandbits(3):02d}:30"]'
