"""The compiled splitting and transforming of tuples does what its plain description says."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal9mig import errors
from hal9mig.categories import native, wire
from hal9mig.categories.declaration import Category, Column, Computed, Element, Explode, Pass, Role, Source, Target
from hal9mig.categories.transform import Transform

_WIDTHS = {"uuid": 16, "bigint": 8, "boolean": 1, "real": 4}


@st.composite
def tuples(draw: st.DrawFn) -> tuple[tuple[str, ...], list[bytes]]:
    """Types and a tuple of them: NULLs, empty values and long ones."""
    types = draw(st.lists(st.sampled_from([*_WIDTHS, "text", "real[]", "jsonb", "inet"]), min_size=1, max_size=12))
    fields = []
    for name in types:
        width = _WIDTHS.get(name)
        data = st.binary(min_size=width or 0, max_size=width or 300)
        fields.append(draw(st.just(wire.NULL) | data.map(wire.field)))
    return tuple(types), fields


@given(tuples())
def test_a_tuple_comes_apart_into_its_fields(given_tuple: tuple[tuple[str, ...], list[bytes]]) -> None:
    types, fields = given_tuple
    row = len(fields).to_bytes(2) + b"".join(fields)
    assert wire.split(row, len(types)) == fields


@pytest.mark.parametrize(
    "row", [wire.field(b"a"), b"\0\2" + wire.field(b"12345678") + wire.field(b"a") + b"more", b"\0\1" + wire.NULL]
)
def test_a_tuple_of_another_form_is_refused(row: bytes) -> None:
    with pytest.raises(errors.HAL9Error, match="is not of the 2 columns"):
        wire.split(row, 2)


def _values() -> st.SearchStrategy[object]:
    numbers = st.integers(-(2**15), 2**15) | st.integers(-(2**31), 2**31) | st.integers(-(2**63), 2**63)
    uuids = st.uuids().map(str)
    spellings = st.sampled_from([str.upper, "{{{}}}".format, "{}\n".format, lambda text: text.replace("-", "")])
    misspelled = st.builds(lambda text, spell: spell(text), uuids, spellings)
    texts = st.text() | st.text("\ud800a") | uuids | misspelled
    return st.none() | st.booleans() | numbers | st.floats() | st.floats(width=32) | texts | st.uuids() | st.binary()


@given(st.sampled_from([*native.KINDS, "numeric", "bytea", "jsonb", "date"]), _values())
def test_a_value_is_written_as_its_codec_writes_it(kind: str, value: object) -> None:
    """Whatever a function may return for a column: the same bytes, or a refusal of the record."""
    built = Transform(
        Category(
            slug="values", title="Values",
            source=Source(schema="flat", table="values", columns=(Column("id", "bigint"),), key=("id",)),
            targets=(
                Target(schema="hier", table="owners", role=Role.ROOT, columns=(Pass("id", "id"),), key=("id",),
                       owner=("id",)),
                Target(schema="hier", table="values", role=Role.PART, key=("id",), owner=("id",),
                       columns=(Pass("id", "id"), Element("value", kind)),
                       explode=Explode(lambda _: [(value,)], ("id",))),
            ),
            rebuild="SELECT id FROM hier.owners WHERE RANGE(id)",
        )
    )  # fmt: skip
    key = wire.codec("bigint").encode(1)
    output = built.apply([[key]])
    try:
        field = wire.NULL if value is None else wire.codec(kind).encode(value)
    except Exception:
        assert [rejection.index for rejection in output.rejections] == [0]
        assert output.rows == [0, 0]
    else:
        assert output.rejections == []
        assert b"".join(output.pieces[1]) == b"\0\2" + key + field


@pytest.mark.parametrize(
    "text",
    [
        str(uuid.UUID(int=10 << 64)).upper(), uuid.UUID(int=1).hex, f"{{{uuid.UUID(int=1)}}}", f"{uuid.UUID(int=1)}\n",
        "", "00000000-0000-0000-0000-00000000000g", "00000000-0000-0000-0000+000000000000",
    ],
)  # fmt: skip
def test_a_uuid_in_another_spelling_is_refused(text: str) -> None:
    """It would not come back the same."""
    with pytest.raises(errors.RecordRejected, match="no uuid as PostgreSQL prints it"):
        wire.codec("uuid").encode(text)


def _category() -> Category:
    def parts(text: str, number: int | None) -> list[tuple[object, object]]:
        if text == "refuse":
            raise errors.RecordRejected("Not this one.")
        return [(place, None if letter == "-" else letter) for place, letter in enumerate(text)]

    return Category(
        slug="letters",
        title="Letters",
        source=Source(
            schema="flat",
            table="words",
            columns=(Column("id", "bigint"), Column("word", "text"), Column("number", "integer")),
            key=("id",),
        ),
        targets=(
            Target(
                schema="hier",
                table="kinds",
                role=Role.SHARED,
                columns=(Computed("kind", "text", lambda number: "none" if number is None else "some", ("number",)),),
                key=("kind",),
            ),
            Target(
                schema="hier",
                table="words",
                role=Role.ROOT,
                columns=(
                    Pass("id", "id"),
                    Computed("twice", "integer", lambda number: None if number is None else number * 2, ("number",)),
                ),
                key=("id",),
                owner=("id",),
            ),
            Target(
                schema="hier",
                table="letters",
                role=Role.PART,
                columns=(Element("place", "integer"), Pass("id", "id"), Element("letter", "text")),
                key=("id", "place"),
                owner=("id",),
                explode=Explode(parts, ("word", "number")),
            ),
        ),
        rebuild="SELECT id FROM hier.words WHERE RANGE(id)",
    )


def _record(number: int, word: str, value: int | None) -> list[bytes]:
    integer = wire.codec("integer").encode
    return [
        wire.codec("bigint").encode(number),
        wire.field(word.encode()),
        wire.NULL if value is None else integer(value),
    ]


def _rows(pieces: list[bytes], types: tuple[str, ...]) -> list[tuple[object, ...]]:
    data = b"".join(pieces)
    found, start = [], 0
    while start < len(data):
        values: list[object] = []
        assert int.from_bytes(data[start : start + 2]) == len(types)
        start += 2
        for name in types:
            length = int.from_bytes(data[start : start + 4], signed=True)
            start += 4
            values.append(None if length < 0 else wire.codec(name).decode(data[start : start + length]))
            start += max(0, length)
        found.append(tuple(values))
    return found


class TestTransform:
    def test_each_table_gets_its_tuples(self) -> None:
        built = Transform(_category())
        output = built.apply([_record(1, "a-c", 5), _record(2, "", None), _record(3, "x", None)])
        assert output.rejections == []
        assert output.rows == [2, 3, 4]
        assert built.writers[2].columns == ("id", "place", "letter")
        assert _rows(output.pieces[0], ("text",)) == [("some",), ("none",)]
        assert _rows(output.pieces[1], ("bigint", "integer")) == [(1, 10), (2, None), (3, None)]
        assert _rows(output.pieces[2], ("bigint", "integer", "text")) == [
            (1, 0, "a"), (1, 1, None), (1, 2, "c"), (3, 0, "x"),
        ]  # fmt: skip

    def test_a_refused_record_leaves_nothing_and_disturbs_nobody(self) -> None:
        output = Transform(_category()).apply(
            [_record(1, "a", 1), _record(2, "refuse", 2), _record(3, "b", 2**30), _record(4, "c", None)]
        )
        assert [(rejection.index, str(rejection.error)) for rejection in output.rejections] == [
            (1, "Not this one."),
            (2, f"{2**31} does not fit its column: 'i' format requires -2147483648 <= number <= 2147483647"),
        ]
        assert output.rows == [2, 2, 2]
        assert [row[0] for row in _rows(output.pieces[2], ("bigint", "integer", "text"))] == [1, 4]

    def test_a_record_with_a_field_too_few_is_refused(self) -> None:
        output = Transform(_category()).apply([_record(1, "a", 1)[:2]])
        assert [rejection.index for rejection in output.rejections] == [0]
        assert output.rows == [0, 0, 0]

    def test_what_a_function_gives_is_kept_by_its_field(self) -> None:
        """A computed value may be had for the asking again: a function gives the same for the same field."""
        built = Transform(_category())
        twice = [built.apply([_record(number, "a", number % 3) for number in range(50)]) for _ in range(2)]
        assert _rows(twice[0].pieces[1], ("bigint", "integer")) == [(n, 2 * (n % 3)) for n in range(50)]
        assert twice[0].pieces == twice[1].pieces
