"""Binary COPY: tuples taken apart and put together, single values, and keys as texts; without a server.

What a server makes of it is in ``tests/property/test_wire_and_server.py``.
"""

from __future__ import annotations

import datetime
import decimal
import math
import struct
import uuid

import pytest

from hal9mig import errors
from hal9mig.categories import wire

D = decimal.Decimal
UTC = datetime.UTC


def tuple_of(*fields: bytes) -> bytes:
    """Return a tuple as it stands in a binary COPY."""
    return len(fields).to_bytes(2) + b"".join(fields)


class TestTuples:
    @pytest.mark.parametrize(
        "fields",
        [[], [b""], [wire.NULL], [wire.field(b"")], [wire.field(b"a"), wire.NULL, wire.field(b"\0" * 300), wire.NULL]],
        ids=["none", "nothing", "null", "empty", "several"],
    )
    def test_come_apart_as_they_were(self, fields: list[bytes]) -> None:
        """NULL, empty and long fields keep their length words."""
        fields = [field for field in fields if field]
        assert wire.split(tuple_of(*fields), len(fields)) == fields

    def test_of_another_width_are_refused(self) -> None:
        """A result with other columns than were asked for is no data."""
        with pytest.raises(errors.HAL9Error, match="of 2 fields and 10 bytes is not of the 3"):
            wire.split(tuple_of(wire.NULL, wire.NULL), 3)

    def test_are_found_in_the_messages_of_a_copy(self) -> None:
        """The first carries the header, the last is the trailer."""
        row = tuple_of(wire.field(b"x"))
        assert wire.rows_of(wire.HEADER + row) == row
        assert wire.rows_of(row) == row
        assert wire.rows_of(wire.TRAILER) is None
        assert wire.rows_of(wire.HEADER) is None
        assert wire.rows_of(wire.HEADER + wire.TRAILER) is None

    def test_make_a_whole_document(self) -> None:
        """Header, pieces, trailer."""
        assert wire.document([b"one", b"two"]) == wire.HEADER + b"onetwo" + b"\xff\xff"


VALUES = {
    "boolean": [True, False],
    "smallint": [-(2**15), 0, 2**15 - 1],
    "integer": [-(2**31), 0, 2**31 - 1],
    "bigint": [-(2**63), 0, 2**63 - 1],
    "real": [0.0, -0.0, 1.5, math.inf, -math.inf, 3.4028234663852886e38, 1.401298464324817e-45],
    "double precision": [0.0, -0.0, 0.1, math.inf, 1.7976931348623157e308, 5e-324],
    "text": ["", "a", "\U0001f596\n\t\\", "x" * 100_000],
    "bytea": [b"", b"\0\xff" * 1000],
    "uuid": [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)],
    "jsonb": [
        None, True, [], {}, "", 1, 2**70, D("1.50"), D("1E+400"), D("7" * 9000), {"a": [1, {"": None}], "\u2028": "ß"},
    ],
    "date": [datetime.date.min, datetime.date(1999, 12, 31), datetime.date(2000, 1, 1), datetime.date.max],
    "timestamp": [datetime.datetime.min, datetime.datetime(2000, 1, 1), datetime.datetime.max],
    "timestamptz": [
        datetime.datetime(1999, 12, 31, 23, 59, 59, 999999, UTC), datetime.datetime(9999, 1, 1, 0, 0, 0, 1, UTC),
    ],
    "numeric": [D(text) for text in (
        "0", "0.00", "1", "-1", "10000", "9999", "0.0001", "0.00001", "123456789.000100", "-99999999.99999999",
        "1" + "0" * 50, "0." + "0" * 50 + "1", "7" * 9000, "-0." + "7" * 9000, "Infinity", "-Infinity",
    )],
    "real[]": [[], [1.5], [None], [None, -0.0, math.inf]],
    "text[]": [[], ["", None, "NULL", '"{}']],
}  # fmt: skip


class TestValues:
    @pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, values in VALUES.items() for value in values])
    def test_come_back_as_they_were(self, kind: str, value: object) -> None:
        """Also the sign of zero and the trailing zeros of a numeric."""
        codec = wire.codec(kind)
        field = codec.encode(value)
        assert int.from_bytes(field[:4]) == len(field) - 4
        back = codec.decode(field[4:])
        assert repr(back) == repr(value)

    def test_nan_comes_back(self) -> None:
        """It equals nothing, so it is tried apart."""
        assert math.isnan(wire.codec("real").decode(wire.codec("real").encode(math.nan)[4:]))
        assert wire.codec("numeric").decode(wire.codec("numeric").encode(D("NaN"))[4:]).is_nan()

    @pytest.mark.parametrize(
        ("kind", "value"),
        [("smallint", 2**15), ("integer", -(2**31) - 1), ("bigint", 2**63), ("real", 1e39), ("integer", "1"),
         ("text", 1), ("text", b"a"), ("uuid", "1234")],
    )  # fmt: skip
    def test_that_do_not_fit_are_rejected_or_raise(self, kind: str, value: object) -> None:
        """Never cut, wrapped or made into something else: the record is held back."""
        with pytest.raises((errors.RecordRejected, ValueError)):
            wire.codec(kind).encode(value)

    @pytest.mark.parametrize("kind", ["timestamp", "timestamptz"])
    @pytest.mark.parametrize("micros", [2**63 - 1, -(2**63), 2**62], ids=["infinity", "-infinity", "year 148,000"])
    def test_times_that_python_does_not_have_are_rejected(self, kind: str, micros: int) -> None:
        """A column that may hold them has to pass through."""
        with pytest.raises(errors.RecordRejected):
            wire.codec(kind).decode(micros.to_bytes(8, signed=True))

    @pytest.mark.parametrize(
        ("kind", "text"),
        [("jsonb", b"\x01" + b"[" * 100_000), ("json", b"[1e99999999999999999999]")],
        ids=["depth", "exponent"],
    )
    def test_documents_that_python_does_not_have_are_rejected(self, kind: str, text: bytes) -> None:
        """As times are."""
        with pytest.raises(errors.RecordRejected):
            wire.codec(kind).decode(text)

    def test_a_number_that_would_fill_the_memory_is_rejected(self) -> None:
        """Before it is written out."""
        for text in ("1E+999999999", "1E-999999999"):
            with pytest.raises(errors.RecordRejected, match="longer than a numeric"):
                wire.codec("numeric").encode(D(text))

    def test_times_of_any_zone_mean_the_same_instant(self) -> None:
        """The server keeps no zone."""
        zone = datetime.timezone(datetime.timedelta(hours=-7))
        given = datetime.datetime(2024, 2, 29, 12, tzinfo=zone)
        assert wire.codec("timestamptz").decode(wire.codec("timestamptz").encode(given)[4:]) == given

    def test_json_text_is_taken_as_it_is(self) -> None:
        """Bytes are JSON already: no number is parsed on the way."""
        assert wire.codec("jsonb").encode(b"1.500") == wire.field(b"\x011.500")
        assert wire.codec("json").encode(memoryview(b"[1e400]")) == wire.field(b"[1e400]")

    def test_arrays_of_several_dimensions_are_rejected(self) -> None:
        """Python's lists would lose the bounds."""
        head = struct.pack("!iiI", 2, 0, 700) + struct.pack("!ii", 1, 1) * 2 + b"\0\0\0\x04\0\0\0\0"
        with pytest.raises(errors.RecordRejected):
            wire.codec("real[]").decode(head)

    @pytest.mark.parametrize("kind", ["inet", "interval", "point", "inet[]", "real[][]"])
    def test_of_other_types_can_only_pass_through(self, kind: str) -> None:
        """A declaration that computes with them is refused when it is read."""
        with pytest.raises(errors.InvalidCategory):
            wire.codec(kind)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [("int", "integer"), ("INT8", "bigint"), ("float4[]", "real[]"), ("varchar(20)", "character varying"),
     ("numeric(10, 2)", "numeric"), ("timestamp(3) with time zone", "timestamp with time zone"),
     ("timestamptz", "timestamp with time zone"), ("double  precision", "double precision"), ("bpchar", "character"),
     ("character(84)", "character"), ("inet", "inet")],
)  # fmt: skip
def test_a_type_has_one_name(written: str, canonical: str) -> None:
    """As PostgreSQL prints it, whatever the declaration calls it."""
    assert wire.canonical_type(written) == canonical
