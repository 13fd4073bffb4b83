"""Which checkpoints are kept, and which need not be."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Mapping, Sequence

from hal9mig import errors
from hal9mig.engine.checkpoint import choose
from hal9mig.engine.checkpoint.manifest import Manifest


def prunable(
    manifests: Sequence[Manifest], keep: int, current: Mapping[str, datetime.datetime | None] | None = None
) -> list[str]:
    """Return the checkpoints that need not be kept.

    These are full ones beyond the newest ``keep``, those that were taken for safety beyond as many, and markers
    and safety ones that are older than all full ones that are kept. With ``keep`` 0 everything is kept. Always
    kept are, of each category and of those that were kept together, the newest verified full one and the one
    that a rollback would choose.

    Args:
        current: as for ``choose.for_rollback``.
    """
    newest = sorted(manifests, key=lambda one: one.taken_at, reverse=True)
    # One for safety is taken just before another is restored, which may be the oldest of all.
    if keep <= 0 or not newest or newest[0].label == choose.SAFETY:
        return []
    full = [one for one in newest if one.restorable and one.label != choose.SAFETY]
    safety = [one for one in newest if one.restorable and one.label == choose.SAFETY]
    markers = [one for one in newest if not one.restorable]
    oldest = full[keep - 1].taken_at if len(full) >= keep else None
    wanted = {one.name for one in (*full[:keep], *safety[:keep], *markers) if oldest is None or one.taken_at >= oldest}
    for slugs in {one.scope for one in full} | {(slug,) for one in full for slug in one.scope}:
        for moments in ({}, current or {}):
            with contextlib.suppress(errors.NotFound):
                wanted.add(choose.for_rollback(full, choose.LATEST, slugs, moments).name)
    return [one.name for one in newest if one.name not in wanted]
