"""What a restore did, put together from its batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from hal9mig import model
from hal9mig.engine.checkpoint import save
from hal9mig.engine.checkpoint.manifest import CategoryDigest
from hal9mig.engine.checkpoint.types import Damage, Restored, Untouched
from hal9mig.ledger.run_options import KeptOptions


def collect(run: model.Run, done: Sequence[Mapping[str, Any]]) -> Restored:
    """Return what a restore's batches add up to so far."""
    tables: dict[str, int] = {}
    damages: list[Damage] = []
    measured: dict[tuple[str, str], dict[str, CategoryDigest]] = {}
    swapped: Mapping[str, Any] = {}
    resolved: Mapping[str, Any] = {}
    for batch in done:
        result, subject = batch["result"] or {}, str(batch["subject"])
        if batch["status"] != model.BatchStatus.DONE:
            continue
        if batch["kind"] == "load":
            store, table, _ = save.parted(subject)
            # The journals and the quarantine are put back as well, and are no state of the application's.
            if not table.startswith(("hal9cap.", "hal9mig.")):
                name = f"{store} {table}"
                tables[name] = tables.get(name, 0) + int(result["rows"])
            damages += msgspec.convert(result.get("damages", []), list[Damage])
        elif batch["kind"] == "measure":
            store, slug, when = subject.split(" ")
            measured.setdefault((slug, store), {})[when] = CategoryDigest(**result)
        elif batch["kind"] == "swap":
            swapped = result
        elif batch["kind"] == "resolve":
            resolved = result
    return Restored(
        name=KeptOptions.of(run.options).checkpoint,
        tables=list(tables.items()),
        untouched=[
            Untouched(category=slug, store=store, before=both["before"], after=both["after"])
            for (slug, store), both in measured.items()
            if len(both) == 2
        ],
        damages=damages,
        quarantined=int(resolved.get("quarantined", 0)),
        offered=int(resolved.get("offered", 0)),
        brought=int(resolved.get("brought", 0)),
        mode_then=str(swapped.get("mode_then", "")),
        mode_now=str(swapped.get("mode_now", "")),
        seconds=float(swapped.get("seconds", 0.0)),
        next_steps=_next_steps(swapped, resolved),
    )


def _next_steps(swapped: Mapping[str, Any], resolved: Mapping[str, Any]) -> list[str]:
    steps = []
    if resolved.get("quarantined"):
        steps.append("hal9-migrate quarantine list")
    if resolved.get("offered"):
        steps.append("hal9-migrate quarantine retry --all")
    then, now = swapped.get("mode_then"), swapped.get("mode_now")
    if (then != now and then == "flat-only") or (then != now and then == "dual-write" and now == "hierarchical-only"):
        steps.append("hal9-migrate mode flat-only")
    return steps or ["hal9-migrate state verify"]
