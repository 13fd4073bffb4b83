"""A key's one text, and the types a key may be of."""

from __future__ import annotations

import datetime
import decimal
import pathlib
import re
import uuid

import pytest

from hal9mig import errors
from hal9mig.categories import keys, wire

D = decimal.Decimal


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [("bigint", -5, "-5"), ("text", "a'b", "a'b"), ("uuid", uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
     ("numeric", D("1.50"), "1.5"), ("numeric", D("100.00"), "100"), ("numeric", D("0.00"), "0"),
     ("numeric", D("100"), "100"), ("character(5)", "ab   ", "ab"), ("date", datetime.date(99, 1, 2), "0099-01-02")],
)  # fmt: skip
def test_a_key_has_one_text(kind: str, value: object, text: str) -> None:
    """So that a key is named alike by the ledger, the quarantine and a query."""
    assert keys.text(kind, wire.codec(kind).encode(value)) == text


def test_a_key_that_was_noted_in_another_spelling_is_the_same_one() -> None:
    """As a journal or a quarantine from before may hold it."""
    noted = ("1.00", "ab  ", " c ", "NaN", "10")
    assert keys.canonical(("numeric(9,2)", "character(4)", "text", "numeric", "decimal"), noted) == (
        "1", "ab", " c ", "NaN", "10",
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["double precision", "real", "interval", "jsonb", "public.citext", "bytea", "text[]"])
def test_a_type_without_one_text_cannot_be_a_key(kind: str) -> None:
    """Two of one key would not exclude each other."""
    assert "cannot be a key" in (keys.refusal(kind) or "")
    if kind == "double precision":
        with pytest.raises(errors.InvalidCategory):
            keys.text(kind, wire.codec(kind).encode(0.1))


@pytest.mark.parametrize("kind", sorted(keys.KEY_TYPES))
def test_a_type_of_the_list_can_be_a_key_where_its_texts_are_told_apart(kind: str) -> None:
    """A nondeterministic collation takes two texts for one."""
    assert keys.refusal(kind) is None
    assert "nondeterministic" in (keys.refusal(kind, deterministic=False) or "")


def test_the_documented_list_is_the_true_one() -> None:
    """What is promised is what is checked."""
    page = (pathlib.Path(__file__).parents[2] / "docs" / "categories.md").read_text()
    found = re.search(r"Keys may be of type (.*?), and of several columns", page, re.DOTALL)
    assert found is not None
    named = re.split(r",\s+|\s+or\s+", found[1])
    assert sorted(map(wire.canonical_type, named)) == sorted(keys.KEY_TYPES)
