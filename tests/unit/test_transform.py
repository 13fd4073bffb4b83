"""A transform compiled from its declaration: what passes, is computed, explodes, is shared, routed or refused."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from hal9mig import errors
from hal9mig.categories import wire
from hal9mig.categories.declaration import (
    Category,
    Column,
    Computed,
    Element,
    Explode,
    Pass,
    Role,
    Source,
    Target,
    TargetColumn,
)
from hal9mig.categories.transform import Output, Transform

SOURCE = Source(
    schema="public",
    table="things",
    columns=(
        Column("id", "bigint"),
        Column("kind", "text"),
        Column("owner", "text"),
        Column("data", "jsonb"),
        Column("version", "bigint"),
    ),
    key=("id",),
    version="version",
)


def root(table: str, *columns: TargetColumn, **options: Any) -> Target:
    """Return a root table that holds the key and the version and these columns."""
    own = (Pass("id", "id"), *columns, Pass("version", "version"))
    return Target(
        schema="h", table=table, role=Role.ROOT, columns=own, key=("id",), owner=("id",), version="version", **options
    )


def category(*targets: Target) -> Category:
    """Return a category with these targets."""
    return Category(
        slug="things", title="Things", source=SOURCE, targets=targets, rebuild="SELECT * FROM h.t WHERE RANGE(t.id)"
    )


def record(number: int, kind: str | None = "a", owner: str | None = "o", data: bytes | None = b"{}") -> list[bytes]:
    """Return a flat record as its fields, and its fingerprint behind them."""
    texts = [wire.NULL if text is None else wire.codec("text").encode(text) for text in (kind, owner)]
    json = wire.NULL if data is None else wire.codec("jsonb").encode(data)
    fingerprint = wire.field(b"\7" * 8)
    return [wire.codec("bigint").encode(number), *texts, json, wire.codec("bigint").encode(1), fingerprint]


def rows(transform: Transform, output: Output, place: int) -> list[dict[str, bytes | None]]:
    """Return a target's tuples, taken apart again: the data of each column, None for NULL."""
    columns = transform.writers[place].columns
    document = output.document(place)
    assert document.startswith(wire.HEADER)
    assert document.endswith(wire.TRAILER)
    found, at = [], len(wire.HEADER)
    while document[at : at + 2] != wire.TRAILER:
        (count,) = struct.unpack_from("!h", document, at)
        assert count == len(columns)
        at += 2
        row: dict[str, bytes | None] = {}
        for name in columns:
            (length,) = struct.unpack_from("!i", document, at)
            row[name] = None if length < 0 else document[at + 4 : at + 4 + length]
            at += 4 + max(0, length)
        found.append(row)
    assert len(found) == output.rows[place]
    return found


def big(number: int) -> bytes:
    """Return the data of a bigint."""
    return number.to_bytes(8, signed=True)


def test_what_passes_keeps_its_bytes() -> None:
    """NULL, empty and any other, under whatever name."""
    transform = Transform(category(root("t", Pass("label", "kind"), Pass("payload", "data"))))
    output = transform.apply([record(1, ""), record(2, None, data=None), record(3, "x", data=b"[1.500]")])
    assert rows(transform, output, 0) == [
        {"id": big(1), "label": b"", "payload": b"\1{}", "version": big(1)},
        {"id": big(2), "label": None, "payload": None, "version": big(1)},
        {"id": big(3), "label": b"x", "payload": b"\1[1.500]", "version": big(1)},
    ]
    assert not output.rejections


@pytest.mark.parametrize(
    ("as_bytes", "given"),
    [(False, (7, "k", {"a": [1]})), (True, (big(7), b"k", b'{"a": [1]}'))],
    ids=["values", "bytes"],
)
def test_what_is_computed_gets_values_or_bytes(as_bytes: bool, given: tuple[object, ...]) -> None:
    """In the order of its sources, None for NULL; and may return None."""
    seen: list[tuple[object, ...]] = []

    def function(*values: object) -> str | None:
        seen.append(values)
        return None if values[1] is None else "made"

    sources = ("id", "kind", "data")
    transform = Transform(category(root("t", Computed("made", "text", function, sources, as_bytes=as_bytes))))
    output = transform.apply([record(7, "k", data=b'{"a": [1]}'), record(7, None, data=None)])
    assert seen == [given, (given[0], None, None)]
    assert [row["made"] for row in rows(transform, output, 0)] == [b"made", None]


def test_one_record_explodes_into_any_number_of_rows() -> None:
    """Each with the record's key; the columns are written in the order that the transform says."""

    def function(data: bytes) -> Iterable[Sequence[object]]:
        return [(number, str(number)) for number in range(len(data) - 2)]

    part = Target(
        schema="h", table="p", role=Role.PART, key=("id", "n"), owner=("id",),
        columns=(Element("n", "integer"), Pass("id", "id"), Element("name", "text")),
        explode=Explode(function, ("data",), as_bytes=True),
    )  # fmt: skip
    transform = Transform(category(root("t"), part))
    output = transform.apply([record(1), record(2, data=b"[12]"), record(3, data=b"[1]")])
    assert [(row["id"], row["n"], row["name"]) for row in rows(transform, output, 1)] == [
        (big(2), b"\0\0\0\0", b"0"), (big(2), b"\0\0\0\1", b"1"), (big(3), b"\0\0\0\0", b"0"),
    ]  # fmt: skip
    assert len(rows(transform, output, 0)) == 3


def test_what_records_share_comes_once_a_step() -> None:
    """However many records have it."""
    shared = Target(schema="h", table="o", role=Role.SHARED, key=("owner",), columns=(Pass("owner", "owner"),))
    transform = Transform(category(shared, root("t")))
    output = transform.apply([record(1, owner="x"), record(2, owner="y"), record(3, owner="x")])
    assert [row["owner"] for row in rows(transform, output, 0)] == [b"x", b"y"]


class TestRouting:
    KINDS = category(root("a", when=("kind", "a")), root("b", when=("kind", "b")))

    def test_each_record_goes_to_the_one_root_of_its_kind(self) -> None:
        """And to no other."""
        transform = Transform(self.KINDS)
        output = transform.apply([record(1, "a"), record(2, "b"), record(3, "a")])
        assert [row["id"] for row in rows(transform, output, 0)] == [big(1), big(3)]
        assert [row["id"] for row in rows(transform, output, 1)] == [big(2)]

    @pytest.mark.parametrize("kind", ["c", "", "A", None])
    def test_a_record_of_no_declared_kind_is_rejected(self, kind: str | None) -> None:
        """Not skipped: somebody has to look at it."""
        transform = Transform(self.KINDS)
        output = transform.apply([record(1, "a"), record(2, kind)])
        assert [rejection.index for rejection in output.rejections] == [1]
        assert output.rows == [1, 0]


class TestRejection:
    """One record that is refused takes nothing of the others with it, and leaves nothing of itself."""

    @pytest.mark.parametrize(
        "error",
        [errors.RecordRejected("not this one"), ZeroDivisionError("not this one"), RecursionError("not this one")],
    )
    def test_of_a_record_leaves_the_others(self, error: Exception) -> None:
        """Wherever in the step it stands, and in whichever of its tables it is refused."""

        def function(data: bytes) -> Iterable[Sequence[object]]:
            yield ("first",)
            if data == b"bad":
                raise error
            yield ("second",)

        shared = Target(schema="h", table="o", role=Role.SHARED, key=("owner",), columns=(Pass("owner", "owner"),))
        part = Target(
            schema="h", table="p", role=Role.PART, key=("id", "name"), owner=("id",),
            columns=(Pass("id", "id"), Element("name", "text")), explode=Explode(function, ("data",), as_bytes=True),
        )  # fmt: skip
        transform = Transform(category(shared, root("t"), part))
        records = [record(1, owner="x"), record(2, owner="only here", data=b"bad"), record(3, owner="y")]
        for order in (records, records[::-1], records[1:] + records[:1]):
            output = transform.apply(order)
            (rejection,) = output.rejections
            assert order[rejection.index] is records[1]
            assert "not this one" in rejection.error.message
            assert {row["owner"] for row in rows(transform, output, 0)} == {b"x", b"y"}
            assert {row["id"] for row in rows(transform, output, 1)} == {big(1), big(3)}
            assert [row["name"] for row in rows(transform, output, 2)] == [b"first", b"second"] * 2

    def test_of_a_value_that_does_not_fit(self) -> None:
        """A result of the wrong type or size is the record's fault, not the batch's."""
        results = {1: 5, 2: 2**40, 3: "five", 4: None}
        column = Computed("n", "integer", lambda number: results[number], ("id",))
        transform = Transform(category(root("t", column)))
        output = transform.apply([record(number) for number in results])
        assert [rejection.index for rejection in output.rejections] == [1, 2]
        assert [row["n"] for row in rows(transform, output, 0)] == [b"\0\0\0\5", None]

    def test_of_rows_with_too_few_or_too_many_elements(self) -> None:
        """Nothing is written into the wrong column."""
        for row in ((), (1, "x", "y")):
            part = Target(
                schema="h", table="p", role=Role.PART, key=("id", "n"), owner=("id",),
                columns=(Pass("id", "id"), Element("n", "integer"), Element("name", "text")),
                explode=Explode(lambda data, row=row: [row], ("data",)),
            )  # fmt: skip
            output = Transform(category(root("t"), part)).apply([record(1)])
            assert len(output.rejections) == 1
            assert output.rows == [0, 0]

    def test_of_all_and_of_none(self) -> None:
        """An empty step is one, too."""
        column = Computed("n", "integer", lambda number: 1 // 0, ("id",))
        transform = Transform(category(root("t", column)))
        assert len(transform.apply([record(1), record(2)]).rejections) == 2
        empty = transform.apply([])
        assert (empty.rows, empty.rejections) == ([0], [])


def test_it_keeps_nothing_between_two_steps() -> None:
    """What a step shares with its records is not left out of the next one."""
    shared = Target(schema="h", table="o", role=Role.SHARED, key=("owner",), columns=(Pass("owner", "owner"),))
    transform = Transform(category(shared, root("t")))
    first, second = transform.apply([record(1)]), transform.apply([record(2)])
    assert rows(transform, first, 0) == rows(transform, second, 0) == [{"owner": b"o"}]


def test_a_key_is_named_by_its_texts_in_key_order() -> None:
    """Which need not be the order of the columns."""
    source = dataclasses.replace(SOURCE, key=("kind", "id"))
    target = Target(
        schema="h", table="t", role=Role.ROOT, key=("kind", "id"), owner=("kind", "id"), version="version",
        columns=(Pass("id", "id"), Pass("kind", "kind"), Pass("version", "version")),
    )  # fmt: skip
    transform = Transform(
        Category(slug="t", title="T", source=source, targets=(target,), rebuild="SELECT 1 WHERE RANGE(t.kind, t.id)")
    )
    assert transform.key(record(-5, "a'b")) == ("a'b", "-5")
