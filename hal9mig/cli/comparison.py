"""Comparing both stores: starting the runs, waiting for them, and saying what they found."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from hal9mig import errors, model
from hal9mig.cli import run_result, wait
from hal9mig.cli.invocation import Invocation

if TYPE_CHECKING:
    from hal9mig.categories.declaration import Category
    from hal9mig.engine.compare.verify_report import CategoryVerdict


def _two_stores(context: click.Context, parameter: click.Parameter, value: str | None) -> bool:
    """Whether stores were named; only both of them can be."""
    if value is None:
        return False
    names = [name.strip() for name in value.split(",")]
    valid = " and ".join(model.StoreName)
    for name in names:
        if name not in list(model.StoreName):
            raise errors.UsageError(f"There is no store {name!r}.", hint=f"the stores are {valid}")
    if len(names) != 2 or len(set(names)) != 2:
        option = parameter.opts[0]
        raise errors.UsageError(
            f"{option} takes two different stores, not {value!r}.", hint=f"{option} {','.join(model.StoreName)}"
        )
    return True


stores = click.option(
    "--compare", "--systems", "named", metavar="A,B", callback=_two_stores,
    help="The two stores.  [default: flat,hierarchical]",
)  # fmt: skip


def compare(
    call: Invocation,
    categories: Sequence[Category],
    *,
    filter: str,
    deep: bool,
    timeout: float | None,
    limit: int = 1000,
) -> Sequence[CategoryVerdict]:
    """Compare categories on the workers and return what was found for each.

    Args:
        deep: note which fields of a record differ.
        timeout: seconds to wait.
        limit: most differences of a category to return.

    Raises:
        errors.HAL9Error: as ``Coordinator.verify``; or a run did not come to its end.
    """
    from hal9mig.categories import filters
    from hal9mig.engine.compare import verify_report

    for category in categories:
        filters.parse(category, filter)
    started: list[model.Run] = []
    try:
        for category in categories:
            started.append(call.coordinator.verify(category.slug, filter=filter, deep=deep))
    except errors.HAL9Error:
        # Nobody would wait for the ones before it.
        for run in started:
            with contextlib.suppress(errors.HAL9Error):
                call.coordinator.cancel(run.id)
        raise
    ended = wait.for_end(call, started, timeout=timeout)
    for run in ended:
        problem = run_result.problem(run)
        if problem is not None and not isinstance(problem, errors.RecordsQuarantined):
            raise problem
    with call.system.ledger.begin() as session:
        return [
            verify_report.collect(session, category, run.id, limit=limit)
            for category, run in zip(categories, ended, strict=True)
        ]


def problem(found: Sequence[CategoryVerdict]) -> errors.HAL9Error | None:
    """Return the error that differences amount to, None without one."""
    wrong = [one for one in found if not one.consistent]
    if not wrong:
        return None
    names = ", ".join(one.category for one in wrong)
    if all(one.differing == one.quarantined for one in wrong):
        return errors.RecordsQuarantined(f"The two stores differ in records that are in quarantine: {names}.")
    return errors.DifferencesFound(
        f"The two stores differ: {names}.",
        hint=f"hal9-migrate state diff --category {','.join(one.category for one in wrong)} --verbose",
    )
