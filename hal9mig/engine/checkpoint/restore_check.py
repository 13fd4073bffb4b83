"""Whether a checkpoint can be restored here and now; every refusal says what stands in the way."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from hal9mig import errors, model
from hal9mig.categories.declaration import Category
from hal9mig.engine.checkpoint import restore
from hal9mig.engine.checkpoint.manifest import Manifest
from hal9mig.engine.system import System
from hal9mig.ledger import mode
from hal9mig.stores import schema, table_dependents, write_mode

_FLAT, _HIER = model.StoreName.FLAT, model.StoreName.HIERARCHICAL


def require_same(system: System, made: Manifest, slugs: Sequence[str]) -> None:
    now = {
        state.name: state.current
        for state in schema.status(system.settings.require_flat(), system.settings.require_hier())
    }
    other = [
        f"{name} was at {then} and is at {now.get(name)}"
        for name, then in made.schemas.items()
        if name.split(" ")[0] in ("flat", "hier") and now.get(name) != then
    ]
    if other:
        raise errors.CheckpointStale(
            f"Checkpoint {made.name} was taken at another revision of the schema: {'; '.join(other)}."
        )
    versions = made.positions.get("transforms", {})
    changed = [slug for slug in slugs if versions.get(slug) not in (None, system.category(slug).transform_version)]
    if changed:
        raise errors.CheckpointStale(
            f"Checkpoint {made.name} was taken with another version of the transform of {', '.join(changed)}."
        )


def require_replaceable(system: System, made: Manifest, chosen: Sequence[Category]) -> list[str]:
    refills: list[str] = []
    for store in (_FLAT, _HIER):
        with contextlib.closing(system.store(store)) as opened:
            places = restore.places(opened, store, made, chosen)
            tables = [place.relation for place in places if place.table.role != "ledger"]
            found = table_dependents.dependents(opened, tables)
        stuck = [one for one in found if not one.refill]
        if stuck:
            raise errors.Refused(
                f"{stuck[0].relation.qualified} cannot be replaced: {'; '.join(one.what for one in stuck)}.",
                hint="drop it for the time of the restore, and make it again afterwards",
            )
        refills += sorted({one.relation.qualified for one in found})
    return refills


def require_mode(made: Manifest, line: mode.ModeLine) -> list[str]:
    """Raise where the write mode does not allow it; return what to warn of where it does."""
    then, now = write_mode.Mode(made.mode), write_mode.Mode(line.mode)
    if line.target is not None:
        raise errors.Refused(f"A switch to {line.target} is half way.", hint="hal9-migrate mode")
    if then.ruling is model.StoreName.HIERARCHICAL and now.ruling is model.StoreName.FLAT:
        waiting = sum(table.rows for table in made.tables if table.table == "journal" and table.store == _HIER)
        if waiting:
            raise errors.Refused(
                f"Checkpoint {made.name} was taken in mode {then}, with {waiting} writes that the flat store did not "
                f"have yet; in mode {now} they would be lost.",
                hint="choose another checkpoint, or go to hierarchical-only first",
            )
    if then.ruling is not now.ruling:
        return [f"it was taken in mode {then}, and the mode is {now}: go to {then} afterwards"]
    return []
