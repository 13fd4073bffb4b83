"""What the fuzzer once found, and what it begins from, tried again: ``make fuzz`` looks for more."""

from __future__ import annotations

import pathlib

import pytest

from tests.fuzz.table import FOUND, TARGETS, Target

_FOUND = [(one, path) for one in TARGETS for path in sorted((FOUND / one.name).glob("*"))]


@pytest.mark.parametrize(("target", "path"), _FOUND, ids=[f"{one.name}-{path.name}" for one, path in _FOUND])
def test_what_was_found_is_no_more(target: Target, path: pathlib.Path) -> None:
    target.run(path.read_bytes())


@pytest.mark.parametrize("target", TARGETS, ids=[one.name for one in TARGETS])
def test_what_it_begins_from_is_sound(target: Target) -> None:
    for seed in (b"", *target.seeds()):
        target.run(seed)


def test_every_find_has_its_target() -> None:
    assert {path.name for path in FOUND.glob("*")} <= {one.name for one in TARGETS}
