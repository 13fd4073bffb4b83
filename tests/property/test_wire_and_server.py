"""Our codecs and PostgreSQL's own agree on every value: in both directions, byte for byte."""

from __future__ import annotations

import datetime
import decimal
import io
from collections.abc import Iterator

import psycopg2.extensions
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hal9mig.categories import wire
from hal9mig.embedded.postgres import Cluster
from hal9mig.stores.connection import Cursor

#: What a text of PostgreSQL can hold: any code point but zero and the surrogates.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
_DECIMALS = st.decimals(allow_nan=False, allow_infinity=False).filter(lambda value: abs(value.adjusted()) < 300)
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | TEXTS
    | _DECIMALS.filter(lambda value: value.as_tuple().exponent > -300),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
_ARRAYS = {
    "boolean",
    "bytea",
    "bigint",
    "integer",
    "text",
    "real",
    "double precision",
    "numeric",
    "uuid",
    "timestamptz",
}
SCALARS: dict[str, st.SearchStrategy[object]] = {
    "boolean": st.booleans(),
    "bytea": st.binary(max_size=300),
    "smallint": st.integers(-(2**15), 2**15 - 1),
    "integer": st.integers(-(2**31), 2**31 - 1),
    "bigint": st.integers(-(2**63), 2**63 - 1),
    "text": TEXTS,
    "character varying": TEXTS,
    "real": st.floats(width=32),
    "double precision": st.floats(),
    "numeric": _DECIMALS | st.sampled_from([decimal.Decimal(text) for text in ("NaN", "Infinity", "-Infinity")]),
    "uuid": st.uuids(),
    "date": st.dates(),
    "timestamp": st.datetimes().map(lambda value: value.replace(fold=0)),
    "timestamptz": st.datetimes(timezones=st.just(datetime.UTC)).map(lambda value: value.replace(fold=0)),
    "json": _JSON,
    "jsonb": _JSON,
}
TYPES = SCALARS | {f"{kind}[]": st.lists(st.none() | SCALARS[kind], max_size=5) for kind in sorted(_ARRAYS)}


@pytest.fixture(scope="module")
def cursor(flat_cluster: Cluster) -> Iterator[Cursor]:
    """A session with a temporary table for each type."""
    connection = psycopg2.connect(flat_cluster.url("postgres"))
    connection.autocommit = True
    with connection.cursor() as opened:
        opened.execute("SET TIME ZONE 'UTC'; SET extra_float_digits = 1")
        for number, kind in enumerate(TYPES):
            opened.execute(f"CREATE TEMPORARY TABLE t{number} (n integer, ours {kind})")
        yield opened
    connection.close()


def literal(kind: str, value: object) -> object:
    """Return a value as psycopg2 hands it to the server in text, so that the server reads it itself."""
    if kind in ("json", "jsonb"):
        return as_json(value)
    if value is None:
        return None
    if isinstance(value, list):
        return [literal(kind.removesuffix("[]"), item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    return repr(value) if isinstance(value, float) else str(value)


def as_json(value: object) -> str:
    """Return a value as JSON text, every digit of a number kept and every letter spelt as a number."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{as_json(name)}:{as_json(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(as_json, value)) + "]"
    if isinstance(value, str):
        units = value.encode("utf-16-be")
        return '"' + "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2)) + '"'
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


@pytest.mark.parametrize("kind", TYPES)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_value_is_the_same_to_both(cursor: Cursor, kind: str, data: st.DataObject) -> None:
    """What we write the server prints as the same value that it reads from text; what it sends we read,
    and what we make of that again is what it sent.
    """
    values = data.draw(st.lists(TYPES[kind], min_size=1, max_size=8))
    table = f"t{list(TYPES).index(kind)}"
    codec = wire.codec(kind)
    number = wire.codec("integer").encode
    tuples = [b"\0\2" + number(at) + codec.encode(value) for at, value in enumerate(values)]
    cursor.execute(f"TRUNCATE {table}")
    cursor.copy_expert(f"COPY {table} FROM STDIN (FORMAT binary)", io.BytesIO(wire.document(tuples)))

    given_as = "decode(%s, 'hex')" if kind == "bytea" else f"%s::{kind}"
    if kind == "bytea[]":
        given_as = "ARRAY(SELECT decode(h, 'hex') FROM unnest(%s::text[]) WITH ORDINALITY AS u (h, n) ORDER BY n)"
    for at, value in enumerate(values):
        cursor.execute(f"SELECT ours::text, ({given_as})::text FROM {table} WHERE n = {at}", (literal(kind, value),))
        ((ours, theirs),) = cursor.fetchall()
        assert ours == theirs or kind == "json"

    sent: list[bytes] = []
    collector = type("Collector", (), {"write": lambda self, message: sent.append(wire.rows_of(message))})()
    cursor.copy_expert(f"COPY (SELECT ours FROM {table} ORDER BY n) TO STDOUT (FORMAT binary)", collector)
    fields = [wire.split(row, 1)[0] for row in sent if row is not None]
    assert len(fields) == len(values)
    for field, value in zip(fields, values, strict=True):
        back = codec.decode(field[4:])
        # NaN equals nothing, and a numeric knows no negative zero; all else is the same to the last digit.
        assert repr(back) == repr(value) or back == value
        if not kind.startswith(("json", "numeric")):
            assert codec.encode(back) == field
