"""Fields of a binary COPY, made without a detour over Python values where there are many of them."""

from __future__ import annotations

import random
import struct

from hal9mig.categories import wire
from hal9mig.categories.wire import NULL as NULL

#: A timestamp field, of PostgreSQL's microseconds.
timestamp = struct.Struct("!iq").pack
_short = struct.Struct("!h").pack
_array_head = struct.Struct("!iiiIii").pack
_REAL = 700
# First bytes of floats between 1/128 and 1/2, of both signs, so that any random byte gives one.
_EXPONENTS = bytes((0x3C, 0x3D, 0x3E, 0x3E, 0xBC, 0xBD, 0xBE, 0xBE)) * 32


def columns(count: int) -> bytes:
    """Return the head of a tuple."""
    return _short(count)


def text(value: str) -> bytes:
    """Return a text field."""
    return wire.field(value.encode())


def jsonb(value: str) -> bytes:
    """Return a jsonb field of JSON text."""
    return wire.field(b"\x01" + value.encode())


def bigint(value: int) -> bytes:
    """Return a bigint field."""
    return timestamp(8, value)


def reals(values: bytes, count: int) -> bytes:
    """Return a real[] field of packed big-endian floats."""
    body = bytearray(b"\0\0\0\4\0\0\0\0" * count)
    for place in range(4):
        body[4 + place :: 8] = values[place::4]
    return _array(body, count)


def random_reals(rng: random.Random, count: int) -> bytes:
    """Return a real[] field of random values between 1/128 and 1/2, of both signs, each with all its digits."""
    drawn = rng.randbytes(4 * count)
    body = bytearray(b"\0\0\0\4\0\0\0\0" * count)
    # Whole columns of bytes at once: one slice each instead of a call for every number.
    body[4::8] = drawn[:count].translate(_EXPONENTS)
    body[5::8] = drawn[count : 2 * count]
    body[6::8] = drawn[2 * count : 3 * count]
    body[7::8] = drawn[3 * count :]
    return _array(body, count)


def _array(body: bytes | bytearray, count: int) -> bytes:
    if not count:
        return struct.pack("!iiiI", 12, 0, 0, _REAL)
    return _array_head(20 + len(body), 1, 0, _REAL, count, 1) + body
