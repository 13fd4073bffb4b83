"""What the server sends: tuples, fields, and the records made of them."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import functools
import json
import struct

from hal9mig import errors
from hal9mig.categories import keys, metadata, registry, wire
from hal9mig.categories.transform import Transform
from hal9mig.engine.compare import field_diff
from tests.fuzz.drawn import Drawn

#: Types whose every data of this length is a value; None: of any length.
_WHOLE = {
    "bigint": 8, "integer": 4, "smallint": 2, "date": 4, "timestamp with time zone": 8, "bytea": None, "uuid": 16,
    "timestamp without time zone": 8,
}  # fmt: skip


@functools.cache
def _transforms() -> list[Transform]:
    return [Transform(category) for category in registry.builtin().ordered()]


def tuples(data: bytes) -> None:
    """Take a tuple apart; together its fields are the tuple again."""
    count = data[1] if len(data) > 1 else 0
    with contextlib.suppress(errors.HAL9Error):
        fields = wire.split(data, count)
        assert data[:2] + b"".join(fields) == data
    wire.rows_of(data)


def values(data: bytes) -> None:
    """Read a value of a type that may have any bytes, write it again, and make it a key's text."""
    drawn = Drawn(data)
    kind = drawn.one_of(sorted(_WHOLE))
    length = _WHOLE[kind]
    sent = drawn.rest() if length is None else drawn.taken(length).ljust(length, b"\0")
    with contextlib.suppress(errors.RecordRejected):
        found = wire.codec(kind).decode(sent)
        assert wire.codec(kind).encode(found) == wire.field(sent)
        if kind in keys.KEY_TYPES:
            text = keys.text(kind, wire.field(sent))
            assert keys.canonical([kind], [text]) == (text,)


def numerics(data: bytes) -> None:
    """Read a numeric as the server may send it, write it again, and make it a key's text."""
    drawn = Drawn(data)
    scale, weight = drawn.number(64), drawn.number(80) - 40
    if drawn.number(8) == 0:
        weight *= 50  # up to some thousand digits
    digits = [drawn.number(10000) for _ in range(drawn.number(24))]
    # The server keeps no zeros at either end, and no digits beyond the scale.
    while digits and digits[0] == 0:
        digits.pop(0)
        weight -= 1
    while digits and digits[-1] == 0:
        digits.pop()
    scale = max(scale, 4 * (len(digits) - weight - 1)) if digits else scale
    sent = struct.pack("!HhHH", len(digits), weight if digits else 0, 0x4000 if digits and data[0] & 1 else 0, scale)
    sent += struct.pack(f"!{len(digits)}H", *digits)
    found = wire.codec("numeric").decode(sent)
    assert isinstance(found, decimal.Decimal)
    assert wire.codec("numeric").encode(found) == wire.field(sent)
    text = keys.text("numeric", wire.field(sent))
    assert keys.canonical(["numeric"], [text]) == (text,)
    assert decimal.Decimal(text) == found


def documents(data: bytes) -> None:
    """Read a JSON document as the server may send it: a value that is written as it was, or a refusal."""
    text = data.decode("utf-8", "ignore")
    try:
        json.loads(text, parse_int=str, parse_float=str)
        text.encode()
    except ValueError:
        return  # the server has no such document
    except RecursionError:
        pass
    codec = wire.codec("jsonb")
    with contextlib.suppress(errors.RecordRejected):
        found = codec.decode(b"\x01" + text.encode())
        if "NaN" not in text and "Infinity" not in text and "\\u" not in text:
            assert codec.decode(codec.encode(found)[4:]) == found
    field_diff._json("document", text, text + " ")


def records(data: bytes) -> None:
    """Transform records of arbitrary fields: each gives tuples or its reason, and disturbs no other."""
    drawn = Drawn(data)
    transform = drawn.one_of(_transforms())
    width = len(transform.category.source.columns)
    made = []
    for _ in range(1 + drawn.number(3)):
        fields = [_field(drawn, transform, place) for place in range(width)]
        made.append(fields)
    output = transform.apply(made)
    assert all(0 <= one.index < len(made) for one in output.rejections)
    for place in range(len(transform.writers)):
        document = output.document(place)
        assert document.startswith(wire.HEADER)
        assert document.endswith(wire.TRAILER)


def _field(drawn: Drawn, transform: Transform, place: int) -> bytes:
    kind = wire.canonical_type(transform.category.source.columns[place].type)
    match drawn.number(6):
        case 0:
            return wire.NULL
        case 1:
            return wire.field(drawn.taken(drawn.number(40)))
    length = _WHOLE.get(kind) or {"real": 4, "double precision": 8, "boolean": 1}.get(kind)
    if length:
        return wire.field(drawn.taken(length).ljust(length, b"\0"))
    if kind == "jsonb":
        texts = ("{}", "null", "[]", '{"a": {"b": [1, null]}}', "1" * 5000, '"x"', drawn.text())
        return wire.field(b"\x01" + drawn.one_of(texts).encode("utf-8", "ignore"))
    if kind.endswith("[]"):
        elements = [None if drawn.number(4) == 0 else drawn.number(1 << 32) / 7 for _ in range(drawn.number(4))]
        with contextlib.suppress(errors.RecordRejected):
            return wire.codec("real[]").encode(elements)
    return wire.field(drawn.text().encode("utf-8", "ignore"))


def audit_chain(data: bytes) -> None:
    """Walk along an audit chain whose entries are any documents."""
    texts = data.decode("utf-8", "ignore").split("\n")
    found = metadata.verify_audit_chain((number, text) for number, text in enumerate(texts))
    assert found.entries == len(texts)


def times(data: bytes) -> None:
    """Read a moment's text again out of the text of a key."""
    sent = Drawn(data).taken(8).ljust(8, b"\0")
    with contextlib.suppress(errors.RecordRejected):
        text = keys.text("timestamp with time zone", wire.field(sent))
        assert wire.codec("timestamptz").encode(datetime.datetime.fromisoformat(text)) == wire.field(sent)
