"""The grammar of ``--filter``: what is read, what is refused, and that values never become SQL."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal9mig import errors
from hal9mig.categories import filters, metadata, neurons, sessions

SESSIONS, METADATA = sessions.CATEGORY, metadata.CATEGORY


@pytest.mark.parametrize(
    ("text", "sql", "values"),
    [
        ("", "TRUE", []),
        ("active=true", 's."active" = %s::boolean', ["true"]),
        (" active = true ", 's."active" = %s::boolean', ["true"]),
        ("user_id != bob", 's."user_id" <> %s::text', ["bob"]),
        ("user-id=bob", 's."user_id" = %s::text', ["bob"]),
        ("created_at>=2024-01-01", 's."created_at" >= %s::timestamptz', ["2024-01-01"]),
        ("created_at<2024-01-01,active=false", 's."created_at" < %s::timestamptz AND s."active" = %s::boolean',
         ["2024-01-01", "false"]),
        ("user_id='a, b'", 's."user_id" = %s::text', ["a, b"]),
        ('user_id="o\'neill" , active=true', 's."user_id" = %s::text AND s."active" = %s::boolean',
         ["o'neill", "true"]),
        ("user_id=''", 's."user_id" = %s::text', [""]),
        ("user_id in a|b |c", 's."user_id" = ANY(%s::text[])', [["a", "b", "c"]]),
        ("user_id=a=b", 's."user_id" = %s::text', ["a=b"]),
        ("user_id=in", 's."user_id" = %s::text', ["in"]),
    ],
)  # fmt: skip
def test_conditions_become_a_predicate_with_parameters(text: str, sql: str, values: list[object]) -> None:
    """Values are cast to the field's type by the server."""
    assert filters.parse(SESSIONS, text).sql("s") == (sql, values)


@pytest.mark.parametrize(
    "text",
    ["active", "active=", "=true", "active true", "active=true,,user_id=b", "'active'=true", "a b=c", "user_id in",
     "(active=true)", "user_id like a%"],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(text: str) -> None:
    """With the fields there are, before anything is done; never is a part of it dropped."""
    with pytest.raises(errors.InvalidFilter) as caught:
        filters.parse(SESSIONS, text)
    assert "user_id" in str(caught.value.hint)


def test_an_unknown_field_is_told_with_its_neighbour() -> None:
    """A slip of the finger costs one look."""
    with pytest.raises(errors.InvalidFilter, match="did you mean 'active'"):
        filters.parse(SESSIONS, "actve=true")
    with pytest.raises(errors.InvalidFilter, match="no filter field 'weights'"):
        filters.parse(neurons.CATEGORY, "weights=1")


@given(st.text())
def test_a_value_is_only_ever_a_parameter(value: str) -> None:
    """Whatever is in it, the SQL stays the same, or the filter is refused."""
    try:
        sql, values = filters.parse(SESSIONS, f"user_id={value}").sql("s")
    except errors.InvalidFilter:
        return
    assert set(sql.split(" AND ")) <= {
        f's."{name}" {operator} %s::{field.type}'
        for name, field in SESSIONS.filters.items()
        for operator in ("=", "<>", "<", "<=", ">", ">=")
    } | {f's."{name}" = ANY(%s::{field.type}[])' for name, field in SESSIONS.filters.items()}
    assert len(values) == sql.count("%s")


def test_types_are_a_filter_of_the_category_that_has_them() -> None:
    """And no other's."""
    text = filters.with_types(METADATA, "metrics, logs,")
    assert filters.parse(METADATA, text).sql("s") == ('s."type" = ANY(%s::text[])', [["metrics", "logs"]])
    with pytest.raises(errors.ConflictingFlags):
        filters.with_types(SESSIONS, "metrics")
