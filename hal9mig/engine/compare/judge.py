"""Whether a record really differs: the one judge that comparisons, rounds, full passes and repairs all ask.

Four looks, in this order: at the side that rules, at its journal, at the other side, and at the side
that rules again. A record that is the same at the first and the last look was last written before the
first. That write was journalled; its key is not in the journal any more; and a key leaves the journal
only after it was applied and committed. So the third look had to find it, and what it did not find
is missing for another reason than that it is still on its way, however far behind applying is.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hal9mig import errors, model
from hal9mig.categories import identifiers
from hal9mig.categories import keys as key_texts
from hal9mig.categories.declaration import Category
from hal9mig.categories.filters import EVERYTHING, Filter
from hal9mig.engine.compare import digest, keystream, orphans
from hal9mig.engine.compare.keystream import Query, Row
from hal9mig.ledger import drifts, runs
from hal9mig.ledger.database import Session
from hal9mig.ledger.drifts import Cause
from hal9mig.ledger.run_options import MigrateOptions
from hal9mig.ledger.verify_results import DifferenceKind
from hal9mig.stores import capture, projection, write_mode
from hal9mig.stores.connection import Connection

_LOOK = 1000  # keys looked at together
#: What a look finds, by the key's value: two texts may be one key, in rows of before that was refused.
Seen = Mapping[tuple[Any, ...], Sequence[Row]]
#: A record's version at the side that rules and at the other; None where there is none.
Versions = tuple[int | None, int | None]


class Judgement(enum.Enum):
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
        flat, hier: what each store had at the last look.
    """

    key: model.Key
    state: Judgement
    kind: DifferenceKind | None = None
    held: bool = False
    flat: Row | None = None
    hier: Sequence[Row] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sides:
    """Both stores as the write mode has them, with an open connection to each.

    Attributes:
        state: the write mode and epoch of all this; what is found under another one is void.
        covered: over the flat table, whether a record counts as migrated.
    """

    category: Category
    state: write_mode.WriteState
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
        now = write_mode.state(self.hier)
        self.hier.rollback()
        if now != self.state:
            raise errors.StaleEpoch(f"The write mode was {self.state.mode} and is {now.mode} now.")

    def look(self, keys: Sequence[model.Key], *, flat: bool, chosen: Filter = EVERYTHING) -> Seen:
        """Return what one store has of these keys, in a transaction of its own.

        Args:
            chosen: what a row's ``chosen`` tells of.
        """
        scope = projection.Keys(keys=keys)
        rows = (
            projection.flat_rows(self.category, scope, EVERYTHING)
            if flat
            else projection.rebuilt_rows(self.category, scope, hashed=True)
        )
        query = keystream.select(
            self.category, rows, covered=self.covered if flat else digest.FALSE, chosen=chosen.sql("s"), ordered=False
        )
        found: dict[tuple[Any, ...], list[Row]] = {}
        connection = self.flat if flat else self.hier
        with connection, connection.cursor() as cursor:
            cursor.execute(digest.SESSION)
            for row in keystream.collect(cursor, self.category, query):
                found.setdefault(row.key, []).append(row)
        return found


def sides(
    session: Session, category: Category, state: write_mode.WriteState, *, flat: Connection, hier: Connection
) -> Sides:
    """Return both sides of a category; to be called before the first look, since coverage only grows.

    What is migrated in between is then found on both sides, and what is not yet cannot be taken for missing.
    """
    covered = digest.TRUE
    if state.mode.ruling is model.StoreName.FLAT:
        covered = digest.covered(category, runs.covers(session, category.slug))
    return Sides(category=category, state=state, flat=flat, hier=hier, covered=covered)


def judge(
    both: Sides, keys: Sequence[model.Key], *, before: Seen | None = None, chosen: Filter = EVERYTHING
) -> list[Verdict]:
    """Return what each key is found to be.

    Args:
        before: the first look at the side that rules, where somebody has taken it already.
        chosen: as for ``Sides.look``.

    Raises:
        errors.StaleEpoch: the write mode was switched meanwhile.
        psycopg2.Error: a store failed.
    """
    found: list[Verdict] = []
    kinds = [column.type for column in both.category.source.key_columns]
    wanted = list(dict.fromkeys(key_texts.canonical(kinds, key) for key in keys))
    for start in range(0, len(wanted), _LOOK):
        found += _judge(both, wanted[start : start + _LOOK], before, chosen)
    both.require_same()
    return found


def _judge(both: Sides, keys: Sequence[model.Key], before: Seen | None, chosen: Filter) -> list[Verdict]:
    if before is None:
        before = both.look(keys, flat=both.forward, chosen=chosen)
    waiting = capture.waiting(both.source, both.category.slug, keys)
    target = both.look(keys, flat=not both.forward, chosen=chosen)
    rootless = _rootless(both, keys)
    source = both.look(keys, flat=both.forward, chosen=chosen)
    held = _held(both, keys)
    values = {row.text: value for seen in (before, target, source) for value, rows in seen.items() for row in rows}
    found = []
    for key in keys:
        value = values.get(key, ())
        now = source.get(value, ())
        flat, hier = (now, target.get(value, ())) if both.forward else (target.get(value, ()), now)
        found.append(
            _verdict(
                key, flat, hier, held=key in held, rootless=key in rootless,
                moves=key in waiting or _hashes(before.get(value, ())) != _hashes(now),
            )
        )  # fmt: skip
    return found


def _verdict(
    key: model.Key, flat: Sequence[Row], hier: Sequence[Row], *, moves: bool, rootless: bool, held: bool
) -> Verdict:
    state, kind = Judgement.DRIFTS, None
    if _hashes(flat) == _hashes(hier) and not rootless:
        state = Judgement.AGREES
    elif moves:
        state = Judgement.LAGS
    else:
        kind = DifferenceKind.EXTRA if not flat else DifferenceKind.MISMATCH if hier else DifferenceKind.MISSING
        if kind is DifferenceKind.MISSING and not held and not flat[0].covered:
            state, kind = Judgement.PENDING, None
    return Verdict(key=key, state=state, kind=kind, held=held, flat=next(iter(flat), None), hier=hier)


def _hashes(rows: Sequence[Row]) -> list[int]:
    return sorted(row.hash for row in rows)


def _rootless(both: Sides, keys: Sequence[model.Key]) -> set[model.Key]:
    """Return the keys of which the target holds parts without their root; where it rules, that is its own affair."""
    query = orphans.query(both.category, projection.Keys(keys=keys)) if both.forward else None
    if query is None:
        return set()
    with both.hier, both.hier.cursor() as cursor:
        return {row.text for row in keystream.collect(cursor, both.category, query)}


def _held(both: Sides, keys: Sequence[model.Key]) -> set[model.Key]:
    """Return which of these keys are in quarantine, however they were spelled when they were noted.

    What is held there may be no key at all, such as what a recovery says of records that are lost without a trace: so
    the server is not asked to take it for one.
    """
    with both.hier, both.hier.cursor() as cursor:
        cursor.execute(
            "SELECT key FROM hal9mig.quarantine WHERE status = 'held' AND category = %s", (both.category.slug,)
        )
        noted = [tuple(key) for (key,) in cursor.fetchall()]
    kinds = [column.type for column in both.category.source.key_columns]
    return {key_texts.canonical(kinds, key) for key in noted}.intersection(keys)


def versions(both: Sides, keys: Sequence[model.Key]) -> dict[model.Key, Versions]:
    """Return each key's version at the side that rules and at the other; None where there is none."""
    column = both.category.source.version
    if column is None or not keys:
        return {}
    scope = projection.Keys(keys=keys)
    sides_ = (
        (both.flat, projection.flat_rows(both.category, scope, EVERYTHING)),
        (both.hier, projection.rebuilt_rows(both.category, scope)),
    )
    found: list[dict[model.Key, int]] = []
    for connection, rows in sides_:
        with connection, connection.cursor() as cursor:
            cursor.execute(
                f"SELECT {identifiers.quoted(column, 's')}, {projection.key_texts(both.category)} {rows[0]}", rows[1]
            )
            found.append({tuple(key): version for version, *key in cursor.fetchall()})
    source, target = found if both.forward else found[::-1]
    return {key: (source.get(key), target.get(key)) for key in keys}


# Causes


def causes(
    session: Session,
    both: Sides,
    found: Iterable[Verdict],
    known: Mapping[model.Key, Versions],
    *,
    lately: float,
) -> dict[model.Key, Cause]:
    """Return why each key drifts, as far as can be told.

    Args:
        known: the ``versions`` of those that drift.
        lately: seconds within which applying a key counts as the likely cause.
    """
    drifting = [verdict for verdict in found if verdict.state is Judgement.DRIFTS]
    keys = [verdict.key for verdict in drifting]
    if not keys:
        return {}
    # What was repaired lately was marked by that, and not by a write.
    applied = set(drifts.marked_lately(session, both.category.slug, seconds=lately, limit=100_000))
    applied -= set(drifts.repairs(session, both.category.slug, keys))
    changed = _transform_changed(session, both.category)
    return {
        one.key: _cause(one, known.get(one.key, (None, None)), late=one.key in applied, changed=changed)
        for one in drifting
    }


def _cause(verdict: Verdict, known: Versions, *, late: bool, changed: bool) -> Cause:
    source, target = known
    if verdict.held:
        return Cause.QUARANTINE
    if verdict.kind is DifferenceKind.MISMATCH and source is not None and source == target and changed:
        return Cause.TRANSFORM_CHANGED
    if verdict.kind is DifferenceKind.MISMATCH and target is not None and target >= (source or 0):
        return Cause.FOREIGN_WRITE
    if late:
        return Cause.LATE_APPLY
    return Cause.FOREIGN_WRITE if verdict.kind is DifferenceKind.EXTRA else Cause.MISSED_CAPTURE


def _transform_changed(session: Session, category: Category) -> bool:
    """Whether the newest migration had another version of the transform."""
    newest = runs.find(session, kind=model.RunKind.MIGRATE, category=category.slug, limit=1)
    version = MigrateOptions.of(newest[0].options).transform_version if newest else None
    return version is not None and version != category.transform_version


def target_record(both: Sides, key: model.Key) -> str | None:
    """Return what the side that follows has of a record, as JSON text."""
    scope = projection.Keys(keys=[key])
    rows = projection.rebuilt_rows(both.category, scope)
    if not both.forward:
        rows = projection.flat_rows(both.category, scope, EVERYTHING)
    target = both.hier if both.forward else both.flat
    with target, target.cursor() as cursor:
        cursor.execute(f"SELECT row_to_json(s)::text {rows[0]} LIMIT 1", rows[1])
        row = cursor.fetchone()
    return None if row is None else str(row[0])
