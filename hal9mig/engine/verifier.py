"""Compares a range of keys in both stores: digests of both sides at once, down to records and fields.

The databases do the work: each sums the hashes of its canonical records, and only a range whose sums
differ is looked at record by record. Both directions count, as the ranges of a run follow one upon
the other without a gap and are open at both ends.

Only a difference that stands is one. The application goes on writing, and the two servers share no
snapshot, so what differs is looked at a second time: the target first and the source after it. A
source that is what it was at the first look was so in between, so a target that is still other then
differs; a source that has changed proves nothing, and is counted as moving.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from hal9mig import model
from hal9mig.categories import filters
from hal9mig.engine import digest, fields, keystream, orphans, probe
from hal9mig.engine.keystream import Cursor, Pair, Query, Row, Stream
from hal9mig.engine.system import System
from hal9mig.engine.tally import MODULUS, Tally
from hal9mig.ledger import batches, database, differences, runs
from hal9mig.ledger.database import Session
from hal9mig.ledger.differences import Difference, FieldDifference, Kind
from hal9mig.stores import projection
from hal9mig.stores.connection import Connection

#: Seconds between the two looks at what differs.
SETTLE = 0.3
#: Differences of each kind that a batch lists; it counts them all.
MOST_LISTED = 1000
#: Records of a range above which it is cut: what differs in one is held in memory until its second look.
_STEP = 50_000
_LOOK = 1000  # records looked at a second time in one query
_EVERYTHING = filters.Filter(text="")
# Ranges are narrow and compiling takes longer than reading one; sorts of keys should not touch the disk.
_SESSION = "SET LOCAL jit = off; SET LOCAL work_mem = '64MB'; SET LOCAL max_parallel_workers_per_gather = 0"
# Of a range within one bucket of its histogram, and of one in a table without statistics, the planner
# expects a single record, and would read the parts of all records anew for each of them.
_RANGE = f"{_SESSION}; SET LOCAL enable_nestloop = off"
T = TypeVar("T")
_ORPHANED = (FieldDifference(field="root", flat=None, hier="only parts without their root are left"),)


def verify_batch(
    system: System,
    held: batches.Lease,
    *,
    flat: Connection,
    session: Session,
    settle: float = SETTLE,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Compare a leased batch's range and note the outcome; False when stop was asked for in between.

    Args:
        flat: a connection outside a transaction.
        session: the connection to the target and the ledger, outside a transaction.
        settle: seconds between the two looks at what differs.

    Raises:
        errors.LeaseLost: another worker has it now; nothing of the step was noted.
        errors.ServersIncomparable: the two servers hash differently.
        psycopg2.Error: a server failed.
    """
    return Verifier(system, held, flat=flat, session=session, settle=settle, sleep=sleep).run()


class Verifier:
    """Compares one leased batch; make one for each lease."""

    def __init__(
        self,
        system: System,
        held: batches.Lease,
        *,
        flat: Connection,
        session: Session,
        settle: float,
        sleep: Callable[[float], None],
    ):
        self._held = held
        self._lease = system.settings.lease_duration
        self._category = system.category(held.category)
        self._filter = filters.parse(self._category, held.filter)
        self._deep = bool(held.options.get("deep", True))
        self._flat = flat
        self._session = session
        self._settle = settle
        self._sleep = sleep
        self._covered: Query = digest.FALSE
        self._tally = Tally()
        self._listed: dict[Kind, int] = dict.fromkeys(Kind, 0)
        self._started = time.monotonic()

    def run(self) -> bool:
        """Compare step by step; see ``verify_batch``."""
        self._begin()
        after = self._held.cursor or self._held.after
        while True:
            started = time.monotonic()
            bound = self._bound(after)
            scope = projection.Bounds(after=after, upto=bound or self._held.upto, bytewise=True)
            found: list[Difference] = []
            step = self._compare(scope, found)
            self._orphans(scope, step, found)
            step.seconds = time.monotonic() - started
            step.check()
            self._tally.add(step)
            if self._note(scope, found, last=bound is None):
                after = scope.upto
                continue
            return bound is None

    def _begin(self) -> None:
        """Read what earlier attempts have found and what counts as migrated, and clear what is begun anew."""
        held = self._held
        with self._session.begin():
            if held.cursor is None:
                differences.clear(self._session, run_id=held.run_id, seq=held.seq)
            else:
                earlier = differences.partial(self._session, run_id=held.run_id, seq=held.seq)
                document = dict(earlier or {})
                listed = document.pop("listed", {})
                self._tally = Tally.from_document(document) if document else Tally()
                self._listed |= {Kind(kind): count for kind, count in listed.items()}
            # Before the first look at the source: what is migrated in between is found on both sides,
            # and what is not yet cannot be taken for missing.
            self._covered = digest.covered(self._category, runs.covers(self._session, held.category))
            probe.require_alike(self._flat, self._connection)

    @property
    def _connection(self) -> Connection:
        connection = self._session.connection.driver_connection
        assert isinstance(connection, Connection)
        return connection

    def _note(self, scope: projection.Bounds, found: Sequence[Difference], *, last: bool) -> bool:
        """Write a step's outcome to the ledger; whether to take another step."""
        held, tally = self._held, self._tally
        listed = {str(kind): count for kind, count in self._listed.items()}
        progress = batches.Progress(
            cursor=scope.upto or scope.after,
            records=tally.flat - tally.quarantined,
            quarantined=tally.quarantined,
            bytes=0,
            digest=tally.flat_digest - (MODULUS if tally.flat_digest >= MODULUS // 2 else 0),
        )
        result = database.json_text(tally.document() | {"listed": listed})
        # One transaction, and `advance` fences it: what a worker found after losing its lease is not noted.
        with self._session.begin():
            standing = batches.advance(self._session, held, progress, lease=self._lease, result=result)
            differences.add(self._session, found, run_id=held.run_id, seq=held.seq)
            if last:
                batches.finish(self._session, held, seconds=time.monotonic() - self._started)
        return not last and standing.go_on

    # Where to cut

    def _bound(self, after: model.Key | None) -> model.Key | None:
        """Return the key up to which to compare at once, None for the rest of the range.

        The planner has cut the range by flat records as they were; it may hold any number of others.
        """
        scope = projection.Bounds(after=after, upto=self._held.upto, bytewise=True)
        found: list[Row] = []
        with self._flat.cursor() as cursor:
            rows = projection.flat_rows(self._category, scope, _EVERYTHING)
            found += keystream.collect(cursor, self._category, self._offset(rows))
        self._flat.rollback()
        with self._session.begin(), self._connection.cursor() as cursor:
            for root in self._category.roots:
                names = [f"r.{name}" for name in root.owner]
                where, params = scope.sql(self._category, names)
                aliased = ", ".join(f"{name} AS {key}" for name, key in zip(names, self._category.key, strict=True))
                rows = f"FROM (SELECT {aliased} FROM {root.qualified} r WHERE {where}) s", params
                found += keystream.collect(cursor, self._category, self._offset(rows))
        return min(found, key=lambda row: row.key).text if found else None

    def _offset(self, rows: Query) -> Query:
        keys = ", ".join(f"s.{name}" for name in self._category.key)
        order = projection.key_order(self._category, "s", bytewise=True)
        return (
            f"SELECT {keys}, {projection.key_texts(self._category)}, 0::bigint, false, false {rows[0]} "
            f"ORDER BY {order} OFFSET %s LIMIT 1",
            [*rows[1], _STEP],
        )

    # The comparison of one range

    def _compare(self, scope: projection.Bounds, found: list[Difference]) -> Tally:
        flat, hier = self._both_digests(scope)
        if (flat.count, flat.total) == (hier.count, hier.total):
            verified, pending, total = flat.count, 0, flat.total
        elif (flat.covered, flat.covered_total) == (hier.count, hier.total):
            verified, pending, total = flat.covered, flat.count - flat.covered, flat.covered_total
        else:
            return self._record_by_record(scope, found)
        return Tally(
            flat=flat.count, hier=hier.count, verified=verified, pending=pending,
            flat_digest=total % MODULUS, hier_digest=hier.total % MODULUS,
        )  # fmt: skip

    def _both_digests(self, scope: projection.Bounds) -> tuple[digest.Digest, digest.Digest]:
        with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="flat digest") as pool:
            flat = pool.submit(self._flat_digest, scope)
            try:
                with self._session.begin(), self._connection.cursor() as cursor:
                    cursor.execute(_RANGE)
                    hier = digest.read(cursor, self._category, self._hier_rows(scope), digest.FALSE)
            except BaseException:
                self._flat.cancel()
                raise
            return flat.result(), hier

    def _flat_digest(self, scope: projection.Bounds) -> digest.Digest:
        with self._flat.cursor() as cursor:
            cursor.execute(_RANGE)
            rows = projection.flat_rows(self._category, scope, self._filter)
            found = digest.read(cursor, self._category, rows, self._covered)
        self._flat.rollback()
        return found

    def _hier_rows(self, scope: projection.Scope) -> Query:
        rows, params = projection.rebuilt_rows(self._category, scope)
        condition, more = self._filter.sql("s")
        return f"{rows} WHERE {condition}", [*params, *more]

    def _record_by_record(self, scope: projection.Bounds, found: list[Difference]) -> Tally:
        tally = Tally()
        suspects: list[Pair] = []
        for pair in self._first_look(scope, tally):
            if pair.flat is not None and not pair.hier and not pair.flat.covered:
                tally.flat += 1
                tally.pending += 1
            else:
                suspects.append(pair)
        if self._filter.conditions:
            suspects = list(self._with_hidden(suspects))
        if suspects:
            self._sleep(self._settle)
        for some in _portions(suspects):
            self._second_look(some, tally, found)
        return tally

    def _first_look(self, scope: projection.Bounds, tally: Tally) -> Iterator[Pair]:
        category = self._category
        flat_query = keystream.select(
            category, projection.flat_rows(category, scope, self._filter), covered=self._covered, chosen=digest.TRUE,
            ordered=True,
        )  # fmt: skip
        hier_query = keystream.select(
            category, self._hier_rows(scope), covered=digest.FALSE, chosen=digest.TRUE, ordered=True
        )
        with self._session.begin():
            for connection in (self._flat, self._connection):
                with connection.cursor() as cursor:
                    cursor.execute(_RANGE)
            with (
                Stream(self._flat, category, flat_query, name="flat") as flat,
                Stream(self._connection, category, hier_query, name="hierarchical") as hier,
            ):
                yield from keystream.merge(iter(flat), iter(hier), lambda row: tally.alike(row.hash))
        self._flat.rollback()

    def _with_hidden(self, suspects: Sequence[Pair]) -> Iterator[Pair]:
        """Yield the suspects with the source's rows that the filter hides: there, but with another value in it."""
        for some in _portions(suspects):
            keys = [pair.row.text for pair in some if pair.flat is None]
            found = {}
            if keys:
                rows = projection.flat_rows(self._category, projection.Keys(keys=keys), _EVERYTHING)
                query = keystream.select(self._category, rows, covered=digest.FALSE, chosen=digest.FALSE, ordered=False)
                with self._flat.cursor() as cursor:
                    found = {row.key: row for row in keystream.collect(cursor, self._category, query)}
                self._flat.rollback()
            for pair in some:
                yield pair if pair.flat is not None else Pair(found.get(pair.row.key), pair.hier)

    def _second_look(self, suspects: Sequence[Pair], tally: Tally, found: list[Difference]) -> None:
        """Decide records that differed: by their keys alone, so that a filter on what differs hides nothing."""
        category = self._category
        scope = projection.Keys(keys=[pair.row.text for pair in suspects])
        condition = self._filter.sql("s")
        mismatched: list[model.Key] = []
        with self._session.begin(), self._connection.cursor() as hier_cursor:
            hier_cursor.execute(_SESSION)
            rows = projection.rebuilt_rows(category, scope)
            query = keystream.select(category, rows, covered=digest.FALSE, chosen=condition, ordered=False)
            hier = _by_key(keystream.collect(hier_cursor, category, query))
            quarantined = self._quarantined(hier_cursor, scope)
            with self._flat.cursor() as flat_cursor:
                flat_cursor.execute(_SESSION)
                rows = projection.flat_rows(category, scope, _EVERYTHING)
                query = keystream.select(category, rows, covered=self._covered, chosen=condition, ordered=False)
                flat = _by_key(keystream.collect(flat_cursor, category, query))
                for pair in suspects:
                    key = pair.row.key
                    now = Pair(next(iter(flat.get(key, ())), None), hier.get(key, ()))
                    kind = tally.judge(pair, now, held=key in quarantined)
                    if kind is None or not self._listing(kind, tally):
                        continue
                    if kind is Kind.MISMATCH and self._deep:
                        mismatched.append(pair.row.text)
                    else:
                        found.append(Difference(key=pair.row.text, kind=kind))
                details = dict(fields.differing(flat_cursor, hier_cursor, category, mismatched))
        self._flat.rollback()
        found += [Difference(key=key, kind=Kind.MISMATCH, fields=details.get(key, ())) for key in mismatched]

    def _orphans(self, scope: projection.Bounds, tally: Tally, found: list[Difference]) -> None:
        """Count as extra what is left in the target of records that neither store has."""
        category = self._category
        query = orphans.query(category, scope)
        if query is None or self._filter.conditions:
            return  # without a root nothing tells whether the filter would take them
        with self._session.begin():
            with self._connection.cursor() as cursor:
                cursor.execute(_RANGE)
            with Stream(self._connection, category, query, name="hierarchical") as stream:
                for some in _portions(iter(stream)):
                    scope_of_some = projection.Keys(keys=[row.text for row in some])
                    rows = projection.flat_rows(category, scope_of_some, _EVERYTHING)
                    with self._flat.cursor() as flat_cursor:
                        present = keystream.collect(
                            flat_cursor,
                            category,
                            keystream.select(category, rows, covered=digest.FALSE, chosen=digest.FALSE, ordered=False),
                        )
                    self._flat.rollback()
                    # Where the source has the record, the target lacks it, and that has been counted.
                    there = {row.key for row in present}
                    for row in some:
                        if row.key not in there:
                            tally.orphan()
                            if self._listing(Kind.EXTRA, tally):
                                found.append(Difference(key=row.text, kind=Kind.EXTRA, fields=_ORPHANED))

    def _listing(self, kind: Kind, tally: Tally) -> bool:
        if self._listed[kind] >= MOST_LISTED:
            tally.unlisted += 1
            return False
        self._listed[kind] += 1
        return True

    def _quarantined(self, cursor: Cursor, scope: projection.Keys) -> set[tuple[Any, ...]]:
        """Return which of these keys are held back, compared as values and not as the texts they were noted in."""
        category = self._category
        columns = ", ".join(
            f"(q.key->>{at})::{column.type} AS {column.name}" for at, column in enumerate(category.source.key_columns)
        )
        where, params = scope.sql(category, [f"s.{name}" for name in category.key])
        keys = ", ".join(f"s.{name}" for name in category.key)
        # Materialised: keys of other categories must not be cast to this one's types.
        rows = keystream.collect(
            cursor,
            category,
            (
                f"WITH q AS MATERIALIZED (SELECT key FROM hal9mig.quarantine WHERE status = 'held' AND category = %s) "
                f"SELECT {keys}, {projection.key_texts(category)}, 0::bigint, false, false "
                f"FROM (SELECT {columns} FROM q) s WHERE {where}",
                [category.slug, *params],
            ),
        )
        return {row.key for row in rows}


def _portions(items: Iterable[T]) -> Iterator[Sequence[T]]:
    remaining = iter(items)
    while some := list(itertools.islice(remaining, _LOOK)):
        yield some


def _by_key(rows: Iterable[Row]) -> dict[tuple[Any, ...], list[Row]]:
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(row.key, []).append(row)
    return found
