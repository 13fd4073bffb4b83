"""How much there is of everything at a scale, the identities of records, and randomness by chunk."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import hashlib
import random

from hal9mig import errors
from hal9mig.categories import configuration, learning, metadata, neurons, sessions

#: Records of each category at scale 1, in the order of loading.
FULL = {
    sessions.CATEGORY.slug: 100_000,
    neurons.CATEGORY.slug: 1_000_000,
    learning.CATEGORY.slug: 1_000_000,
    configuration.CATEGORY.slug: 1_000,
    metadata.CATEGORY.slug: 400_000,
}
#: Records of a chunk. The rows depend on these numbers: changing one makes other data of the same seed.
CHUNK = {
    sessions.CATEGORY.slug: 5_000,
    neurons.CATEGORY.slug: 5_000,
    learning.CATEGORY.slug: 500,
    configuration.CATEGORY.slug: 1_000,
    metadata.CATEGORY.slug: 10_000,
}
#: Shares of the layers, lowest first: few units think, many sense.
_LAYER_SHARES = (0.40, 0.25, 0.20, 0.10, 0.05)
#: A thousand times HAL9 is 10 TB; more is a slip of the finger.
LARGEST_SCALE = 1000
#: All times lie before this one, as a clock read here would make other data each day.
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
#: The same in PostgreSQL's microseconds since 2000.
NOW_MICROS = int((NOW - datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)).total_seconds()) * 1_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
    """A scale and a seed: everything about the data follows from these two.

    Raises:
        errors.InvalidUnit: the scale is out of bounds.
    """

    scale: float
    seed: int

    def __post_init__(self) -> None:
        if not 0 < self.scale <= LARGEST_SCALE:
            raise errors.InvalidUnit(f"A scale of {self.scale:g} is not above 0 and at most {LARGEST_SCALE}.")

    def records(self, slug: str) -> int:
        """Return how many records a category has; at least one."""
        return max(1, round(FULL[slug] * self.scale))

    def chunks(self, slug: str) -> int:
        """Return into how many chunks a category falls."""
        return -(-self.records(slug) // CHUNK[slug])

    def span(self, slug: str, chunk: int) -> range:
        """Return the numbers of a chunk's records."""
        return range(chunk * CHUNK[slug], min((chunk + 1) * CHUNK[slug], self.records(slug)))

    def rng(self, slug: str, chunk: int) -> random.Random:
        """Return the generator of a chunk; a seed that is text gives the same numbers in every Python 3."""
        return random.Random(f"{self.seed}:{slug}:{chunk}")

    def identity(self, kind: str, number: int) -> bytes:
        """Return the uuid of a thing, as its sixteen bytes; it looks random and can be computed anywhere."""
        digest = bytearray(hashlib.blake2b(b"%d:%s:%d" % (self.seed, kind.encode(), number), digest_size=16).digest())
        digest[6] = digest[6] & 0x0F | 0x40
        digest[8] = digest[8] & 0x3F | 0x80
        return bytes(digest)

    @functools.cached_property
    def layers(self) -> tuple[range, ...]:
        """The numbers of each layer's neurons, lowest first; none is empty once there are five neurons."""
        count = self.records(neurons.CATEGORY.slug)
        ranges, start, share = [], 0, 0.0
        for place, part in enumerate(_LAYER_SHARES):
            share += part
            left = len(_LAYER_SHARES) - place - 1
            stop = count if left == 0 else min(max(round(count * share), start + 1), max(count - left, start))
            ranges.append(range(start, stop))
            start = stop
        return tuple(ranges)


def uuid_text(identity: bytes) -> str:
    """Return a uuid as PostgreSQL prints it."""
    text = identity.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
