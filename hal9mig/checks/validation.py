"""The named checks of the categories: run, and kept in the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hal9mig import client as application
from hal9mig import errors
from hal9mig.categories.declaration import Category
from hal9mig.checks import continuity, integrity, performance
from hal9mig.client import Client
from hal9mig.engine.system import System
from hal9mig.ledger import check_results
from hal9mig.ledger.check_results import CheckOutcome

TESTS = (continuity.NAME, integrity.NAME, performance.NAME)
COMMAND = "state validate"


def tests(text: str) -> list[str]:
    """Return the tests that a list names, each once.

    Raises:
        errors.UsageError: there is none of a name.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in TESTS:
            raise errors.UsageError(f"There is no test {name!r}.", hint=f"the tests are {', '.join(TESTS)}")
    if not names:
        raise errors.UsageError("--tests names none.", hint=f"the tests are {', '.join(TESTS)}")
    return list(dict.fromkeys(names))


def run(
    system: System, categories: Sequence[Category], names: Sequence[str], *, count: int, seed: int, actor: str
) -> Iterator[CheckOutcome]:
    """Run tests of categories and yield what each found, kept already.

    Args:
        count: records that a test samples; seed: which ones.

    Raises:
        errors.Unreachable: a store does not answer.
    """
    with application.connect(system.settings, application_name="hal9-migrate checks") as client:
        for category in categories:
            for name in names:
                outcome = _one(system, client, category, name, count=count, seed=seed)
                with system.ledger.begin() as session:
                    check_results.add(session, outcome, command=COMMAND, actor=actor)
                yield outcome


def _one(system: System, client: Client, category: Category, name: str, *, count: int, seed: int) -> CheckOutcome:
    if name == continuity.NAME:
        return continuity.check(system, client, category, count=count, seed=seed)
    if name == integrity.NAME:
        return integrity.check(system, category, count=count, seed=seed)
    return performance.check(system, client, category, count=min(count, 50), seed=seed)
