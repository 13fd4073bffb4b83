"""Tells drift from lag, a key at a time, in either direction.

Four looks, in this order: at the side that rules, at its journal, at the other side, and at the side
that rules again. A record that is the same at the first and the last look was last written before the
first. That write was journalled; its key is not in the journal any more; and a key leaves the journal
only after it was applied and committed. So the third look had to find it, and what it did not find
is missing for another reason than that it is still on its way, however far behind applying is.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Sequence

from hal9mig import errors, model
from hal9mig.categories.declaration import Category
from hal9mig.categories.filters import Filter
from hal9mig.engine.compare import digest, keystream, orphans
from hal9mig.engine.compare.keystream import Query
from hal9mig.ledger import drifts, runs
from hal9mig.ledger.database import Session
from hal9mig.ledger.drifts import Cause
from hal9mig.ledger.verify_results import Kind
from hal9mig.stores import capture, projection
from hal9mig.stores.connection import Connection

_LOOK = 1000  # keys looked at together
_EVERYTHING = Filter(text="")


class State(enum.Enum):
    """What a key was found to be."""

    #: Both stores have the same, or neither has any.
    AGREES = enum.auto()
    #: Its last write waits in the journal, or came while it was looked at: nothing can be said.
    LAGS = enum.auto()
    #: No migration has taken it yet.
    PENDING = enum.auto()
    #: It differs, and applying will not change that.
    DRIFTS = enum.auto()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a key was found to be, and how it differs where it drifts.

    Attributes:
        held: the record is in quarantine.
        source, target: each side's version of the record; None where it has none or the category keeps none.
    """

    key: model.Key
    state: State
    kind: Kind | None = None
    held: bool = False
    source: int | None = None
    target: int | None = None

    @property
    def newer(self) -> bool:
        """Whether the side that follows is ahead of the one that rules."""
        return self.source is not None and self.target is not None and self.target > self.source


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sides:
    """Both stores as the write mode has them, with an open connection to each.

    Attributes:
        state: the write mode and epoch of all this; what is found under another one is void.
        covered: over the flat table, whether a record counts as migrated.
    """

    category: Category
    state: capture.State
    flat: Connection
    hier: Connection
    covered: Query

    @property
    def forward(self) -> bool:
        """Whether the flat store rules."""
        return self.state.mode.ruling is model.StoreName.FLAT

    @property
    def source(self) -> Connection:
        """The store that rules."""
        return self.flat if self.forward else self.hier

    def require_same(self) -> None:
        """Check that the write mode is what it was.

        Raises:
            errors.StaleEpoch: it has been switched since.
        """
        now = capture.state(self.hier)
        self.hier.rollback()
        if now != self.state:
            raise errors.StaleEpoch(f"The write mode was {self.state.mode} and is {now.mode} now.")


def sides(session: Session, category: Category, state: capture.State, *, flat: Connection, hier: Connection) -> Sides:
    """Return both sides of a category; to be called before the first look, since coverage only grows."""
    covered = digest.TRUE
    if state.mode.ruling is model.StoreName.FLAT:
        covered = digest.covered(category, runs.covers(session, category.slug))
    return Sides(category=category, state=state, flat=flat, hier=hier, covered=covered)


def judge(both: Sides, keys: Sequence[model.Key]) -> list[Verdict]:
    """Return what each key is found to be.

    Raises:
        errors.StaleEpoch: the write mode was switched meanwhile.
        psycopg2.Error: a store failed.
    """
    found: list[Verdict] = []
    wanted = list(dict.fromkeys(keys))
    for start in range(0, len(wanted), _LOOK):
        found += _judge(both, wanted[start : start + _LOOK])
    both.require_same()
    return found


def _judge(both: Sides, keys: Sequence[model.Key]) -> list[Verdict]:
    look_at_source, look_at_target = (_flat, _hier) if both.forward else (_hier, _flat)
    before = look_at_source(both, keys)
    waiting = capture.waiting(both.source, both.category.slug, keys)
    target = look_at_target(both, keys)
    rootless = _rootless(both, keys)
    after = look_at_source(both, keys)
    held = _held(both, keys)
    return [
        _verdict(
            both, key, before.get(key, []), after.get(key, []), target.get(key, []),
            waits=key in waiting, rootless=key in rootless, held=key in held,
        )
        for key in keys
    ]  # fmt: skip


def _verdict(
    both: Sides,
    key: model.Key,
    before: Sequence[_Seen],
    source: Sequence[_Seen],
    target: Sequence[_Seen],
    *,
    waits: bool,
    rootless: bool,
    held: bool,
) -> Verdict:
    flat, hier = (source, target) if both.forward else (target, source)
    hashes = [one.hash for one in source]
    if hashes == [one.hash for one in target] and not rootless:
        return Verdict(key=key, state=State.AGREES, held=held)
    if waits or [one.hash for one in before] != hashes:
        return Verdict(key=key, state=State.LAGS)
    kind = Kind.EXTRA if not flat else Kind.MISMATCH if hier else Kind.MISSING
    if kind is Kind.MISSING and not held and not flat[0].covered:
        return Verdict(key=key, state=State.PENDING)
    return Verdict(
        key=key, state=State.DRIFTS, kind=kind, held=held, source=_version(source), target=_version(target)
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Seen:
    hash: int
    covered: bool
    version: int | None


def _version(seen: Sequence[_Seen]) -> int | None:
    return seen[0].version if seen else None


def _flat(both: Sides, keys: Sequence[model.Key]) -> dict[model.Key, list[_Seen]]:
    rows = projection.flat_rows(both.category, projection.Keys(keys=keys), _EVERYTHING)
    return _look(both.flat, both.category, rows, both.covered)


def _hier(both: Sides, keys: Sequence[model.Key]) -> dict[model.Key, list[_Seen]]:
    rows = projection.rebuilt_rows(both.category, projection.Keys(keys=keys))
    return _look(both.hier, both.category, rows, digest.FALSE)


def _look(connection: Connection, category: Category, rows: Query, covered: Query) -> dict[model.Key, list[_Seen]]:
    version = f"s.{category.source.version}" if category.source.version else "NULL::bigint"
    found: dict[model.Key, list[_Seen]] = {}
    with connection, connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {projection.record_hash(category, 's')}, coalesce({covered[0]}, false), {version}, "
            f"{projection.key_texts(category)} {rows[0]}",
            [*covered[1], *rows[1]],
        )
        for hash_, is_covered, number, *key in cursor.fetchall():
            found.setdefault(tuple(key), []).append(_Seen(hash_, is_covered, number))
    return found


def _rootless(both: Sides, keys: Sequence[model.Key]) -> set[model.Key]:
    """Return the keys of which the target holds parts without their root; where it rules, that is its own affair."""
    query = orphans.query(both.category, projection.Keys(keys=keys)) if both.forward else None
    if query is None:
        return set()
    with both.hier, both.hier.cursor() as cursor:
        return {row.text for row in keystream.collect(cursor, both.category, query)}


def _held(both: Sides, keys: Sequence[model.Key]) -> set[model.Key]:
    with both.hier, both.hier.cursor() as cursor:
        cursor.execute(
            "SELECT key FROM hal9mig.quarantine WHERE status = 'held' AND category = %s AND key = ANY(%s::jsonb[])",
            (both.category.slug, drifts.texts(keys)),
        )
        return {tuple(key) for (key,) in cursor.fetchall()}


# Causes


def causes(session: Session, both: Sides, found: Iterable[Verdict], *, lately: float) -> dict[model.Key, Cause]:
    """Return why each key drifts, as far as can be told.

    Args:
        lately: seconds within which applying a key counts as the likely cause.
    """
    drifting = [verdict for verdict in found if verdict.state is State.DRIFTS]
    keys = [verdict.key for verdict in drifting]
    if not keys:
        return {}
    # What was repaired lately was marked by that, and not by a write.
    applied = set(drifts.marked_lately(session, both.category.slug, seconds=lately, limit=100_000))
    applied -= set(drifts.repairs(session, both.category.slug, keys))
    changed = _transform_changed(session, both.category)
    return {verdict.key: _cause(verdict, late=verdict.key in applied, changed=changed) for verdict in drifting}


def _cause(verdict: Verdict, *, late: bool, changed: bool) -> Cause:
    if verdict.held:
        return Cause.QUARANTINE
    if verdict.kind is Kind.MISMATCH and verdict.source is not None and verdict.source == verdict.target and changed:
        return Cause.TRANSFORM_CHANGED
    if verdict.kind is Kind.MISMATCH and verdict.target is not None and verdict.target >= (verdict.source or 0):
        return Cause.FOREIGN_WRITE
    if late:
        return Cause.LATE_APPLY
    return Cause.FOREIGN_WRITE if verdict.kind is Kind.EXTRA else Cause.MISSED_CAPTURE


def _transform_changed(session: Session, category: Category) -> bool:
    """Whether the newest migration had another version of the transform."""
    newest = runs.find(session, kind=model.RunKind.MIGRATE, category=category.slug, limit=1)
    version = newest[0].options.get("transform_version") if newest else None
    return version is not None and version != category.transform_version


def target_record(both: Sides, key: model.Key) -> str | None:
    """Return what the side that follows has of a record, as JSON text."""
    scope = projection.Keys(keys=[key])
    rows = projection.rebuilt_rows(both.category, scope)
    if not both.forward:
        rows = projection.flat_rows(both.category, scope, _EVERYTHING)
    target = both.hier if both.forward else both.flat
    with target, target.cursor() as cursor:
        cursor.execute(f"SELECT row_to_json(s)::text {rows[0]} LIMIT 1", rows[1])
        row = cursor.fetchone()
    return None if row is None else str(row[0])
