"""The registry: which categories there are, built in and of one's own, and what is wrong with a file of them."""

from __future__ import annotations

import pathlib

import pytest

from hal9mig import errors
from hal9mig.categories import registry

ACCOUNTS = pathlib.Path(__file__).parent.parent / "categories" / "accounts.py"


def test_a_file_adds_a_category() -> None:
    found = registry.load([ACCOUNTS])
    assert found.get("accounts").title == "Bank Accounts"
    assert found.origins["accounts"] == str(ACCOUNTS)
    assert found.ordered()[-1].slug == "accounts"


@pytest.mark.parametrize(
    ("names", "slugs"),
    [
        ([], ["user-sessions", "neuron-states", "learning-data", "configuration", "metadata"]),
        (["all"], ["user-sessions", "neuron-states", "learning-data", "configuration", "metadata"]),
        (["metadata", "user-sessions"], ["user-sessions", "metadata"]),
        (["operational-metadata, metadata", "neuron-states"], ["neuron-states", "metadata"]),
    ],
)
def test_they_are_selected_by_name_by_alias_or_all(names: list[str], slugs: list[str]) -> None:
    assert [category.slug for category in registry.builtin().select(names)] == slugs


def test_an_unknown_name_gets_a_suggestion_and_the_list() -> None:
    for wrong in (["neuron_states"], ["all", "neuron-state"]):
        with pytest.raises(errors.UnknownCategory, match="Did you mean neuron-states") as raised:
            registry.builtin().select(wrong)
        assert "user-sessions, neuron-states" in (raised.value.hint or "")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x = (", "line 1 cannot be loaded: SyntaxError"),
        ("\nimport nothing_of_this_name", "line 2 cannot be loaded: ModuleNotFoundError"),
        ("x = 1", "declares no Category"),
        (
            "from hal9mig.categories import sessions\nimport dataclasses\n"
            "C = dataclasses.replace(sessions.CATEGORY, order=9)",
            "'user-sessions' is taken twice: built in and",
        ),
        (
            "from hal9mig.categories import sessions\nimport dataclasses\n"
            "C = dataclasses.replace(sessions.CATEGORY, slug='x', aliases=('metadata',))",
            "'metadata' is taken twice: built in and",
        ),
        (
            "from hal9mig.categories import sessions\nimport dataclasses\n"
            "C = dataclasses.replace(sessions.CATEGORY, slug='Wrong Name')",
            "the slug must be lower-case",
        ),
    ],
    ids=["syntax", "import", "empty", "slug twice", "alias twice", "contradiction"],
)
def test_a_file_that_is_wrong_is_refused_by_name(tmp_path: pathlib.Path, text: str, sentence: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(errors.InvalidCategory, match=sentence) as raised:
        registry.load([path])
    assert str(path) in raised.value.message


def test_a_missing_file_is_refused_by_name(tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.InvalidCategory, match=r"gone\.py does not exist"):
        registry.load([tmp_path / "gone.py"])


def test_a_file_may_import_a_built_in_category(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from __future__ import annotations\nimport dataclasses\nfrom hal9mig.categories.sessions import CATEGORY\n"
        "OTHER = dataclasses.replace(CATEGORY, slug='other')\n"
        "@dataclasses.dataclass\nclass Own:\n    x: int = 1\n"
    )
    assert len(registry.load([path]).ordered()) == 6


def test_a_changed_file_is_read_again(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "mine.py"
    for slug in ("one", "two"):
        path.write_text(
            "import dataclasses\nfrom hal9mig.categories.sessions import CATEGORY\n"
            f"OTHER = dataclasses.replace(CATEGORY, slug='{slug}')\n"
        )
        assert slug in registry.load([path]).categories
