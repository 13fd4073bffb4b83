"""Continuity: what the application could reach by its key before, it reaches after, with the same values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hal9mig import model
from hal9mig.categories.declaration import Category
from hal9mig.checks import sample
from hal9mig.client import Client
from hal9mig.engine.system import System
from hal9mig.ledger.check_results import CheckOutcome, CheckVerdict

NAME = "continuity"
#: What has to be the same for a category's records to go on as they were; of others, every column.
_PROMISED: Mapping[str, tuple[str, ...]] = {
    "user-sessions": ("user_id", "token_hash", "expires_at", "active"),
}
_MOST_NAMED = 3


def check(system: System, client: Client, category: Category, *, count: int, seed: int) -> CheckOutcome:
    """Read a sample of records as the application does, and from each store, and compare what was promised.

    Args:
        count: records; seed: which ones.
    """
    wanted = sample.keys(system, category, count, seed=seed)
    with sample.opened(system) as desk:
        found = sample.judged(system, desk, category, wanted)
        broken = {one.key: f"{one.kind} in the other store" for one in found.drifting}
        suspects = unequal(client, category, found.both)
        # One that was written between two reads is no break: what the judge finds wrong, or finds the same and
        # reads still show otherwise, is.
        again = sample.judged(system, desk, category, list(suspects)) if suspects else None
    if again is not None:
        still = unequal(client, category, again.both)
        broken |= {key: why for key, why in suspects.items() if key in still}
        broken |= {one.key: f"{one.kind} in the other store" for one in again.drifting}
    measured = {"sampled": len(wanted), "both": len(found.both), "pending": found.pending, "broken": len(broken)}
    if broken:
        named = "; ".join(f"{'/'.join(key)}: {why}" for key, why in list(broken.items())[:_MOST_NAMED])
        return CheckOutcome(
            category=category.slug, name=NAME, verdict=CheckVerdict.FAILED, measured=measured,
            detail=f"{len(broken)} of {len(wanted):,} sampled records are not what they were: {named}",
            next_command=f"hal9-migrate state diff --category {category.slug} --verbose",
        )  # fmt: skip
    if not found.both:
        return CheckOutcome(
            category=category.slug, name=NAME, verdict=CheckVerdict.SKIPPED, measured=measured,
            detail="there are no records" if not wanted else f"none of {len(wanted):,} sampled records is migrated yet",
            next_command="" if not wanted else f"hal9-migrate state migrate --category {category.slug}",
        )  # fmt: skip
    what = " and ".join(_PROMISED.get(category.slug, ("every column",)))
    return CheckOutcome(
        category=category.slug, name=NAME, verdict=CheckVerdict.PASSED, measured=measured,
        detail=f"{what} of {len(wanted):,} sampled records: {found.told}",
    )  # fmt: skip


def unequal(client: Client, category: Category, keys: Sequence[model.Key]) -> dict[model.Key, str]:
    """Return which records read differently through the client and from the two stores, with the columns that do."""
    found = {}
    for key in keys:
        records = [next(iter(client.fetch(side, category.slug, [key])), None) for side in model.StoreName]
        here = next(filter(None, records), None)
        if here is not None:
            # By the key's own values, as an application has them.
            records.append(client.get(category.slug, [here[name] for name in category.key]))
        if any(record is None for record in records):
            found[key] = "not there in each reading"
            continue
        names = _PROMISED.get(category.slug, category.source.names)
        differing = [name for name in names if len({str(one[name]) for one in records if one}) > 1]
        if differing:
            found[key] = f"{', '.join(differing)} differ"
    return found
