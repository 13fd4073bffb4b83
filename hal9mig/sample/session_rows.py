"""User sessions: about three for each user, about 60 % of them active."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

from hal9mig.categories import sessions, wire
from hal9mig.sample import fields
from hal9mig.sample.shape import NOW_MICROS, Shape

_SLUG = sessions.CATEGORY.slug
_DAY = 86400 * 1_000_000
_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_5) AppleWebKit/605.1.15 (KHTML, like Gecko) Safari/605.1.15",
    "hal9-cli/1.4.2 (linux; amd64)",
    "pod-terminal/9000",
)
_LOCALES = ("en_US", "en_GB", "de_DE", "ja_JP", "fr_FR", "ru_RU")
_NAMES = ("Dave", "Frank", "Élodie", "Zoë", "大輔", "Наталья", "O'Neill", 'Ann "Pod" Lee')
_PAGES = ("/", "/pods", "/pods/7/telemetry", "/crew", "/mission/log", "/settings/voice")
_IPV4 = b"\x02\x20\x00\x04"
_IPV6 = b"\x03\x80\x00\x10"


def rows(shape: Shape, chunk: int) -> Iterator[bytes]:
    """Yield the tuples of a chunk of ``flat.user_sessions``."""
    rng = shape.rng(_SLUG, chunk)
    users = max(1, shape.records(_SLUG) // 3)
    head = fields.columns(len(sessions.CATEGORY.source.columns))
    for number in shape.span(_SLUG, chunk):
        active = rng.random() < 0.6
        created = NOW_MICROS - 1 - int(rng.random() * 400 * _DAY)
        seen = created + int(rng.random() * (NOW_MICROS - created))
        # Active sessions last for years: a trial next year must not find all of them expired.
        expires = seen + (30 * _DAY if not active else (3650 + rng.getrandbits(9)) * _DAY)
        token = hashlib.sha256(b"%d:token:%d" % (shape.seed, number)).hexdigest()
        yield b"".join(
            (
                head,
                wire.field(shape.identity("session", number)),
                fields.text(f"user-{int(rng.random() * users):06d}"),
                fields.text(token),
                _address(rng),
                fields.NULL if rng.random() < 0.05 else fields.text(_AGENTS[rng.getrandbits(2)]),
                b"\0\0\0\1\1" if active else b"\0\0\0\1\0",
                fields.jsonb(_data(rng)),
                fields.timestamp(8, created),
                fields.timestamp(8, seen),
                fields.NULL if rng.random() < 0.02 else fields.timestamp(8, expires),
                fields.bigint(1 + rng.getrandbits(5)),
            )
        )


def _address(rng: random.Random) -> bytes:
    draw = rng.random()
    if draw < 0.05:
        return fields.NULL
    if draw < 0.15:
        return wire.field(_IPV6 + b"\x20\x01\x0d\xb8" + rng.randbytes(12))
    return wire.field(_IPV4 + b"\x0a" + rng.randbytes(3))


def _data(rng: random.Random) -> str:
    name = _NAMES[rng.getrandbits(3)].replace('"', '\\"')
    parts = [
        f'"name": "{name}"',
        f'"locale": "{_LOCALES[rng.getrandbits(8) % 6]}"',
        f'"theme": "{("dark", "light")[rng.getrandbits(1)]}"',
        f'"visits": {rng.getrandbits(10)}',
        f'"last_page": "{_PAGES[rng.getrandbits(8) % 6]}"',
    ]
    if rng.random() < 0.3:
        items = ", ".join(f'{{"id": {rng.getrandbits(20)}, "score": {rng.random():.4f}}}' for _ in range(3))
        parts.append(f'"recent": [{items}]')
    if rng.random() < 0.2:
        parts.append('"voice": {"enabled": true, "pitch": null}')
    # One in a hundred has nothing at all.
    return f"{{{', '.join(parts)}}}" if rng.random() >= 0.01 else "{}"
