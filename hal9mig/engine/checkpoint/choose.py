"""Which checkpoint is meant: by its name, the beginning of it, or ``latest``, which depends on what for."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence

from hal9mig import errors
from hal9mig.engine.checkpoint.manifest import Manifest

LATEST = "latest"
#: The label of one that is taken before another is restored: what only undoes that is nothing to go back to.
SAFETY = "safety"
#: Names that an error lists.
_MOST_LISTED = 8
_LIST = "hal9-migrate state list-checkpoints"


def find(manifests: Sequence[Manifest], text: str) -> Manifest:
    """Return the checkpoint of this name, or the only one that begins so; ``latest`` is the newest.

    Raises:
        errors.NotFound: there is none, or several.
    """
    if text == LATEST:
        if not manifests:
            raise errors.NotFound("There is no checkpoint.", hint="hal9-migrate state checkpoint --full-backup")
        return max(manifests, key=lambda one: one.taken_at)
    for one in manifests:
        if one.name == text:
            return one
    begun = [one for one in manifests if text and one.name.startswith(text)]
    if len(begun) == 1:
        return begun[0]
    if begun:
        raise errors.NotFound(f"{text!r} is the beginning of several checkpoints: {_listed(begun)}.", hint=_LIST)
    there = f"; there is {_listed(manifests)}" if manifests else "; there is none at all"
    raise errors.NotFound(f"There is no checkpoint {text!r}{there}.", hint=_LIST)


def for_rollback(
    manifests: Sequence[Manifest], text: str, slugs: Sequence[str], current: Mapping[str, datetime.datetime | None]
) -> Manifest:
    """Return the checkpoint to go back to.

    Args:
        current: when the present migration of each category began; None where there is none. ``latest`` is older
            than all of them: a newer one would be a checkpoint of what is to be undone.

    Raises:
        errors.NotFound: there is none.
        errors.NotRestorable: it holds no data, or not these categories.
    """
    began = [moment for slug in slugs if (moment := current.get(slug)) is not None]
    before = f" from before {min(began):%Y-%m-%d %H:%M:%S} UTC, when their migration began," if began else ""
    return _chosen(manifests, text, slugs, began=began, purpose=f"{before} to go back to")


def for_recovery(manifests: Sequence[Manifest], text: str, slugs: Sequence[str]) -> Manifest:
    """Return the checkpoint to recover these categories from; ``latest`` is the newest that holds them, of any time.

    Raises: as ``for_rollback``.
    """
    return _chosen(manifests, text, slugs, began=(), purpose=" to recover from")


def _chosen(
    manifests: Sequence[Manifest], text: str, slugs: Sequence[str], *, began: Sequence[datetime.datetime], purpose: str
) -> Manifest:
    if text != LATEST:
        return _restorable(find(manifests, text), slugs)
    # A newer one of some category alone, as of neuron states before theirs, is none for all of them.
    found = [
        one
        for one in manifests
        if one.restorable and one.verified and one.label != SAFETY and one.covers(slugs)
        and all(one.taken_at < moment for moment in began)
    ]  # fmt: skip
    if not found:
        raise errors.NotFound(f"There is no verified full checkpoint of {', '.join(slugs)}{purpose}.", hint=_LIST)
    return max(found, key=lambda one: one.taken_at)


def _restorable(one: Manifest, slugs: Sequence[str]) -> Manifest:
    if not one.restorable:
        raise errors.NotRestorable(
            f"Checkpoint {one.name} is a marker: it holds counts and digests, and not the data.", hint=_LIST
        )
    if not one.covers(slugs):
        missing = [slug for slug in slugs if slug not in one.scope]
        raise errors.NotRestorable(
            f"Checkpoint {one.name} holds {', '.join(one.scope)}, and not {', '.join(missing)}.",
            hint=" ".join(["add", *(f"--category {slug}" for slug in one.scope)]),
        )
    return one


def _listed(manifests: Sequence[Manifest]) -> str:
    names = [one.name for one in manifests[:_MOST_LISTED]]
    more = len(manifests) - len(names)
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")
