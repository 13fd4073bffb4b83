"""One check by itself: opened, run, and kept."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from hal9mig import client
from hal9mig.checks.subject import Subject
from hal9mig.engine.desk import Desk
from hal9mig.engine.system import System
from hal9mig.ledger import check_results
from hal9mig.ledger.check_results import CheckOutcome


@contextlib.contextmanager
def subject(system: System, slug: str, *, sample: int, seed: int) -> Iterator[Subject]:
    """Open a category in both stores for a block.

    Raises:
        errors.UnknownCategory: it is not declared.
    """
    desk = Desk(system)
    try:
        with client.connect(system.settings, application_name="hal9-migrate check") as opened, desk.trusted():
            yield Subject(
                system=system, client=opened, desk=desk, category=system.category(slug), sample=sample, seed=seed
            )
    finally:
        desk.clear()


def run(
    system: System,
    slug: str,
    check: Callable[[Subject], CheckOutcome],
    *,
    command: str,
    actor: str,
    sample: int = 200,
    seed: int = 1,
) -> CheckOutcome:
    """Run one check of a category, keep what it found, and return it.

    Args:
        command: the command that asks for it, without the program's name.

    Raises:
        errors.GateClosed: the write mode is being switched, or a restore is under way.
        errors.Unreachable: a store does not answer.
    """
    with subject(system, slug, sample=sample, seed=seed) as opened:
        outcome = check(opened)
    with system.ledger.begin() as session:
        check_results.add(session, outcome, command=command, actor=actor)
    return outcome
