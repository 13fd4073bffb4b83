"""How far each category is: what its runs have written, and what of its flat table is covered by now."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from hal9mig import model
from hal9mig.categories.declaration import Category
from hal9mig.engine import standstill
from hal9mig.engine.standstill import Problem
from hal9mig.ledger import mode, quarantine, runs, sweeps
from hal9mig.ledger.database import Session
from hal9mig.ledger.mode import ModeLine
from hal9mig.ledger.sweeps import Sweep
from hal9mig.settings import Settings
from hal9mig.stores.store_size import Records

_MOST_RUNS = 10_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class CategoryStanding:
    """A category as the ledger knows it."""

    category: Category
    last: model.Run | None
    migrated: int
    followed: bool
    flat: Records | None
    held: int

    @property
    def covered(self) -> int:
        """How many of the flat records are in the other store, or will be without another migration."""
        if self.flat is None or not self.followed:
            return self.migrated
        return max(0, self.flat.count - self.held)


def read(
    session: Session, categories: Sequence[Category], sizes: Mapping[str, Records | None]
) -> list[CategoryStanding]:
    """Return where each category stands.

    Args:
        sizes: how many records each flat table holds, as ``store_size.records`` gives them; one that is missing is
            not known.
    """
    line = mode.read(session)
    newest = runs.find(session, kind=model.RunKind.MIGRATE, limit=_MOST_RUNS)
    held = quarantine.counts(session)
    passes = sweeps.find(session)
    return [_standing(category, newest, sizes.get(category.slug), held, line, passes) for category in categories]


def migrated(own: Sequence[model.Run]) -> int:
    """Return how many records a category's runs have written, the newest run first.

    A complete run without a filter has seen every record, so it says it all. Without one the newest run of
    each filter counts, since a repeated one writes the same records again.
    """
    by_filter: dict[str, model.Run] = {}
    for run in own:
        if not run.filter and run.status is model.RunStatus.SUCCEEDED:
            return run.done_records - run.quarantined
        by_filter.setdefault(run.filter, run)
    return sum(run.done_records - run.quarantined for run in by_filter.values())


def followed(own: Sequence[model.Run], line: ModeLine, swept: Sweep | None) -> bool:
    """Whether everything of a category was migrated, and nothing written since can have been missed.

    Before capture was on a write leaves no trace: a run that began earlier counts only once a whole pass after it
    has found nothing.
    """
    whole = [run for run in own if not run.filter and run.status is model.RunStatus.SUCCEEDED]
    if not whole or line.mode == "flat-only":
        return False
    # Past the gate everything is covered, or it would have stayed shut.
    if line.mode == "hierarchical-only" or whole[0].created_at >= line.since:
        return True
    clean = None if swept is None else swept.clean_from
    return clean is not None and clean >= line.since and clean >= (whole[0].finished_at or line.since)


def next_steps(
    resolved: Settings, still: Sequence[Problem], standings: Sequence[CategoryStanding], slots: int
) -> list[str]:
    """Return the commands to go on with.

    Args:
        still: what stands still.
        slots: how many batches the live workers take at once.
    """
    steps = standstill.commands(still)
    if not slots and resolved.workers_hint not in steps:
        steps.append(resolved.workers_hint)
    steps += [f"hal9-migrate quarantine list --category {one.category.slug}" for one in standings if one.held]
    waiting = [one.category.slug for one in standings if one.last is None and one.flat and one.flat.count]
    return steps + [f"hal9-migrate state migrate --category {slug}" for slug in waiting[:1]]


def document(one: CategoryStanding) -> dict[str, object]:
    """Return it as it stands in a JSON document."""
    return {
        "category": one.category.slug,
        "title": one.category.title,
        "last_run": one.last.id if one.last else None,
        "status": str(one.last.status) if one.last else None,
        "migrated": one.migrated,
        "covered": one.covered,
        "flat_records": one.flat.count if one.flat else None,
        "flat_records_exact": one.flat.exact if one.flat else None,
        "quarantined": one.held,
        "finished_at": one.last.finished_at if one.last else None,
    }


def _standing(
    category: Category,
    newest: Sequence[model.Run],
    flat: Records | None,
    held: Mapping[str, int],
    line: ModeLine,
    passes: Mapping[str, Sweep],
) -> CategoryStanding:
    own = [run for run in newest if run.category == category.slug]
    standing = [run for run in own if run.undone_at is None]
    return CategoryStanding(
        category=category,
        last=own[0] if own else None,
        migrated=migrated(standing),
        followed=followed(standing, line, passes.get(category.slug)),
        flat=flat,
        held=held.get(category.slug, 0),
    )
