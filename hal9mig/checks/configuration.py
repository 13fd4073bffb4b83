"""The configuration of the application: exported, and compared key by key; secrets are masked by their names."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hal9mig import model
from hal9mig.categories import configuration, filters
from hal9mig.checks.subject import Subject
from hal9mig.client import connections
from hal9mig.client.hierarchical import HierarchicalSide
from hal9mig.client.sides import FlatSide, Side
from hal9mig.client.values import Record
from hal9mig.engine.compare.judge import Judgement
from hal9mig.engine.system import System
from hal9mig.ledger.check_results import CheckOutcome, CheckVerdict
from hal9mig.stores import projection, write_mode

NAME = "compare"
MASK = "***"
_SLUG = configuration.CATEGORY.slug
#: Records that are read at a time.
_PAGE = 500
#: What a segment of a key, or a member of a value, is called whose value is nobody's business.
_SECRET = re.compile(r"(passw|passphrase|secret|token|credential|api[_-]?key|private[_-]?key|access[_-]?key)", re.I)


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeyDifference:
    """A key that is not the same in both stores; None is a key that is not there. Secrets are masked."""

    key: str
    flat: Any
    hier: Any


def ruling(system: System) -> model.StoreName:
    """Return the store that rules."""
    with contextlib.closing(system.flat()) as flat:
        return write_mode.state(flat).mode.ruling


def export(system: System, store: model.StoreName, *, prefix: str = "", secrets: bool = False) -> dict[str, Any]:
    """Return the keys of a store, by name, each with its value, by whom and when it was set, and its version.

    Args:
        prefix: only this key and those below it; empty is all.
        secrets: show the values of keys and members whose names say that they are secret.
    """
    found = {}
    for record in _records(system, store):
        key = str(record["key"])
        if not prefix or key == prefix or key.startswith(f"{prefix}."):
            shown = _plain({name: value for name, value in record.items() if name != "key"})
            shown["value"] = record["value"] if secrets else masked(key, record["value"])
            found[key] = shown
    return found


def _records(system: System, store: model.StoreName) -> Iterator[Record]:
    """Yield the records of one store, whether it rules or not; each page is as it is when it is read."""
    category, flat = system.category(_SLUG), store is model.StoreName.FLAT
    side: Side = FlatSide() if flat else HierarchicalSide(system.transform)
    url = system.settings.require_flat() if flat else system.settings.require_hier()
    pool = connections.pool(
        str(store), url, application_name=system.role, connect_timeout=system.settings.connect_timeout, idle=1
    )
    after: model.Key | None = None
    try:
        while True:
            with pool.taken() as connection, connection.cursor() as cursor:
                keys = side.keys(cursor, category, after, _PAGE)
                found = side.read(cursor, category, projection.Keys(keys=keys), filters.EVERYTHING) if keys else []
            yield from found
            if len(keys) < _PAGE:
                return
            after = keys[-1]
    finally:
        pool.clear()


def _plain(record: Record) -> dict[str, Any]:
    """Return a record's values as JSON has them."""
    return {name: value if isinstance(value, (int, float, bool, str, list, dict, type(None))) else str(value)
            for name, value in record.items()}  # fmt: skip


def masked(key: str, value: Any) -> Any:
    """Return a key's value with everything masked that its own name, or a member's, calls a secret."""
    if _SECRET.search(key):
        return MASK
    if isinstance(value, Mapping):
        return {name: masked(str(name), member) for name, member in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [masked("", member) for member in value]
    return value


def compare(subject: Subject) -> tuple[CheckOutcome, Sequence[KeyDifference]]:
    """Compare every key of both stores, in value and type, by whom and when, and its version.

    What differs is looked at again by the judge: a write on its way is no difference.
    """
    flat, hier = (export(subject.system, store, secrets=True) for store in model.StoreName)
    suspects = [key for key in sorted(flat.keys() | hier.keys()) if flat.get(key) != hier.get(key)]
    verdicts = subject.judged([(key,) for key in suspects])
    drifting = [key[0] for key, one in verdicts.items() if one.state is Judgement.DRIFTS]
    differences = [
        KeyDifference(key=key, flat=_shown(key, flat.get(key)), hier=_shown(key, hier.get(key))) for key in drifting
    ]
    pending = sum(one.state is Judgement.PENDING for one in verdicts.values())
    same = len(flat.keys() | hier.keys()) - len(suspects)
    measured = {"keys": len(flat), "same": same, "differing": len(drifting), "pending": pending}
    if differences:
        detail = f"{len(differences)} of {len(flat.keys() | hier.keys())} keys differ"
        command = f"hal9-migrate state diff --category {_SLUG} --verbose"
        return subject.outcome(NAME, CheckVerdict.FAILED, detail, measured, command), differences
    if not flat and not hier:
        return subject.outcome(NAME, CheckVerdict.SKIPPED, "there is no configuration", measured), ()
    if pending and not same:
        detail = f"none of {len(flat)} keys is migrated yet"
        command = f"hal9-migrate state migrate --category {_SLUG} --atomic --verify-each"
        return subject.outcome(NAME, CheckVerdict.SKIPPED, detail, measured, command), ()
    more = f", {pending} not migrated yet" if pending else ""
    return subject.outcome(NAME, CheckVerdict.PASSED, f"{same} keys are the same in both stores{more}", measured), ()


def _shown(key: str, entry: Mapping[str, Any] | None) -> Any:
    return None if entry is None else {**entry, "value": masked(key, entry["value"])}
