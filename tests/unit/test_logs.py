"""How a line is printed."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from hal9mig import logs


@pytest.fixture
def written() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    stream = io.StringIO()
    logger = logging.getLogger("hal9 test")
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    logger.propagate = False
    yield logger, stream
    logger.removeHandler(handler)


def test_secrets_are_masked_in_both_forms(written: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = written
    for how in (logs.TEXT, logs.JSON):
        logs.shape(logger, how)
        logger.warning("lost %s", "postgresql://hal9:geheim@db/x")
        try:
            raise ValueError("password=geheim")
        except ValueError:
            logger.exception("failed")
    assert "geheim" not in stream.getvalue()
    text, _, documents = stream.getvalue().partition("{")
    assert text.count("***") == 3
    first, second = (json.loads(line) for line in ("{" + documents).splitlines())
    assert (first["message"], "password=***" in second["exception"]) == ("lost postgresql://hal9:***@db/x", True)


def test_a_document_says_what_it_is_about(written: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = written
    logs.shape(logger, logs.JSON)
    logs.shape(logger, logs.JSON)  # once more is no harm
    with logs.about(run=7, correlation=""), logs.about(batch=2):
        logger.warning("a line\nof two")
    logger.warning("nothing\x1b[2J")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["run"], first["batch"], first["message"]) == (7, 2, "a line\nof two")
    assert "correlation" not in first
    assert "run" not in second
    assert "\x1b" not in stream.getvalue()


def test_a_word_is_one_word(monkeypatch: pytest.MonkeyPatch) -> None:
    logs.correlation.cache_clear()
    monkeypatch.setenv(logs.VARIABLE, "ticket 47\n11; DROP")
    assert logs.correlation() == "ticket4711DROP"
    logs.correlation.cache_clear()
    monkeypatch.delenv(logs.VARIABLE)
    assert logs.correlation() == logs.correlation() != ""
    logs.correlation.cache_clear()
