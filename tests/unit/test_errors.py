"""The error tree: sentences, codes, and no secret in any of them."""

from __future__ import annotations

import inspect
import re

import pytest

from hal9mig import errors, safe_text
from hal9mig.cli.commands import help

TREE = [
    found for _, found in inspect.getmembers(errors, inspect.isclass) if issubclass(found, errors.HAL9Error)
]  # fmt: skip


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_every_error_says_a_sentence_and_has_a_code(kind: type[errors.HAL9Error]) -> None:
    error = kind()
    assert re.fullmatch(r"[A-Z].*\.", error.message)
    assert str(error) == error.message
    assert re.fullmatch(r"[A-Z]+(_[A-Z]+)*", kind.code)
    assert kind.exit_code in help.EXIT_CODES


def test_codes_are_unique() -> None:
    assert len({kind.code for kind in TREE}) == len(TREE)


def test_every_exit_code_is_explained() -> None:
    named = {value for name, value in vars(errors).items() if name.startswith("EXIT_") and isinstance(value, int)}
    assert named == set(help.EXIT_CODES)


def test_a_hint_given_wins_over_the_usual_one() -> None:
    assert errors.SchemaBehind().hint == "hal9-migrate db upgrade"
    assert errors.SchemaBehind(hint="wait").hint == "wait"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://hal9:s3cret@db:5432/x", "postgresql://hal9:***@db:5432/x"),
        ("postgresql+psycopg2://hal9:s3cret@db/x", "postgresql+psycopg2://hal9:***@db/x"),
        ("redis://:s3cret@127.0.0.1:6379/0", "redis://:***@127.0.0.1:6379/0"),
        ("rediss://u:s3cret@h/0 and redis://:s3cret@h/1", "rediss://u:***@h/0 and redis://:***@h/1"),
        ("postgresql://u:s3@cr:et@h/x", "postgresql://u:***@h/x"),
        ("host=h password=s3cret user=u", "host=h password=*** user=u"),
        ("password = 's3 cret' user=u", "password = *** user=u"),
        ("postgresql://u@h/x", "postgresql://u@h/x"),
        ("http://127.0.0.1:5555", "http://127.0.0.1:5555"),
        ("see https://example.org/a:b@c", "see https://example.org/a:b@c"),
        ("", ""),
    ],
)
def test_secrets_are_masked(text: str, shown: str) -> None:
    assert safe_text.masked(text) == shown


def test_an_error_masks_its_message_and_its_context() -> None:
    error = errors.StoreUnreachable("cannot reach postgresql://u:s3cret@h/x", url="redis://:s3cret@h", tries=3)
    assert "s3cret" not in error.message
    assert error.context == {"url": "redis://:***@h", "tries": "3"}
