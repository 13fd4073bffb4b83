"""The mutants fit the code as it is: a rule that is written another way is not left out by a line that is gone."""

from __future__ import annotations

import pathlib

import pytest

from tests.mutants.mutants import MUTANTS, Mutant

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize("mutant", MUTANTS, ids=[one.rule for one in MUTANTS])
def test_its_line_is_there_once(mutant: Mutant) -> None:
    text = (ROOT / mutant.path).read_text()
    assert text.count(mutant.old) == 1
    for node in mutant.tests:
        path, *names = node.split("::")
        assert all(name in (ROOT / path).read_text() for name in names)


@pytest.mark.parametrize("mutant", MUTANTS, ids=[one.rule for one in MUTANTS])
def test_its_rule_is_listed(mutant: Mutant) -> None:
    assert f"\n- {mutant.rule}\n" in (ROOT / "docs/correctness.md").read_text()
