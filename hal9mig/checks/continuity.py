"""Continuity: what was there for a user before the move is there after it, read as an application reads it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hal9mig import model
from hal9mig.checks.subject import Subject
from hal9mig.client.values import Record
from hal9mig.ledger.check_results import CheckOutcome, CheckVerdict
from hal9mig.model import StoreName

#: Broken keys that a finding names.
_NAMED = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Promise:
    """What a category's users count on.

    Attributes:
        nouns: what its records are called.
        fields: the columns that must stay as they are; none is all of them.
        holds: whether the promise is made for a record at all, as it is for a session only until it expires.
        reached: the keys of records that another way than by key no longer leads to.
    """

    nouns: str = "records"
    fields: tuple[str, ...] = ()
    holds: Callable[[Record], bool] = lambda _: True
    reached: Callable[[Subject, Sequence[tuple[model.Key, Record]]], list[model.Key]] = lambda _, __: []

    def kept(self, record: Record | None) -> Any:
        """Return what must stay of a record; None of none."""
        if record is None:
            return None
        return [record[name] for name in self.fields or record]


def check(subject: Subject, promise: Promise) -> CheckOutcome:
    """Read a sample through the client and from both stores, and compare what was promised."""
    keys = subject.drawn(subject.sample)
    read: list[tuple[model.Key, Record]] = []
    unlike: list[model.Key] = []
    for key in keys:
        if len(read) == subject.sample:
            break
        ruling = subject.client.get(subject.category.slug, _key(key))
        if ruling is None:
            # Drawn a moment ago: deleted since, or it is not what an application finds by its key.
            unlike.append(key)
        elif promise.holds(ruling):
            read.append((key, ruling))
            if not _same(promise, [ruling, *(subject.read(side, key) for side in StoreName)]):
                unlike.append(key)
    unlike += [key for key in promise.reached(subject, read) if key not in unlike]
    broken = subject.drifted(unlike)
    moving = len(unlike) - len(broken)
    figures: dict[str, object] = {
        "read": len(read),
        "broken": len(broken),
        "written_meanwhile": moving,
        "seed": subject.seed,
    }
    if broken:
        return subject.outcome(
            "continuity",
            CheckVerdict.FAILED,
            f"{len(broken):,} of {len(keys):,} {promise.nouns} are not the same in both stores: {named(broken)}",
            figures | {"keys": ["/".join(key) for key in broken[:100]]},
            f"hal9-migrate state diff --category {subject.category.slug} --verbose",
        )
    if len(read) <= moving:
        why = "there are none" if not keys else "each is being written" if moving else "none of them is valid now"
        detail = f"no migrated {promise.nouns} to look at: {why}"
        return subject.outcome("continuity", CheckVerdict.SKIPPED, detail, figures)
    told = f"; {moving:,} were written meanwhile" if moving else ""
    what = ", ".join(promise.fields) or "every field"
    detail = f"{len(read):,} {promise.nouns} keep {what} in both stores{told}"
    return subject.outcome("continuity", CheckVerdict.PASSED, detail, figures)


def named(keys: Iterable[model.Key]) -> str:
    """Return the first few keys as a finding names them."""
    listed = ["/".join(key) for key in keys]
    more = f" and {len(listed) - _NAMED:,} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more


def _same(promise: Promise, records: Sequence[Record | None]) -> bool:
    first = promise.kept(records[0])
    return all(promise.kept(one) == first for one in records[1:])


def _key(key: model.Key) -> Any:
    return key[0] if len(key) == 1 else key
