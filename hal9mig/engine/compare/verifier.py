"""Compares a range of keys in both stores: digests of both sides at once, down to records and fields.

The databases do the work: each sums the hashes of its canonical records, in one pass for each of many
parts of a range, and only a part whose sums differ is looked at record by record. Both directions count,
as the ranges of a run follow one upon the other without a gap and are open at both ends.

The application goes on writing, and the two servers share no snapshot: what differs is looked at a
second time, see ``judge``.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Sequence

from hal9mig import errors, model
from hal9mig.categories import filters, identifiers
from hal9mig.engine import pace
from hal9mig.engine.compare import digest, hash_probe, judge, keystream
from hal9mig.engine.compare.keystream import Pair, Query, Stream
from hal9mig.engine.compare.suspects import DifferenceListing, Suspects
from hal9mig.engine.compare.tally import MODULUS, Tally
from hal9mig.engine.system import System
from hal9mig.ledger import batches, database, tuning, verify_results
from hal9mig.ledger.database import Session
from hal9mig.ledger.run_options import VerifyOptions
from hal9mig.ledger.verify_results import Difference, DifferenceKind
from hal9mig.stores import capture, projection, write_mode
from hal9mig.stores.connection import Connection

#: Seconds between the first digest and the second look at what differs while the journal holds something: what is
#: on its way arrives meanwhile, and need not be counted as moving. What is said of a record does not rest on it,
#: see ``judge``.
SETTLE = 0.3
#: Records of a part of a range, which has sums of its own. More of them cost the digest more, and less the
#: looks at those that differ; a sum for each costs a tenth of one for all.
_PART = 128
#: Parts of a range above which it is cut: what differs in one is held in memory until its second look. Where an
#: application is to feel little of it there are rests between, and it is cut so that each takes as long as it should.
_STEP, _GENTLE_STEP = 400, 80


def verify_batch(
    system: System,
    held: batches.Lease,
    tuned: tuning.Tuning,
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
    return Verifier(system, held, tuned, flat=flat, session=session, settle=settle, sleep=sleep).run()


class Verifier:
    """Compares one leased batch; make one for each lease."""

    def __init__(
        self,
        system: System,
        held: batches.Lease,
        tuned: tuning.Tuning,
        *,
        flat: Connection,
        session: Session,
        settle: float,
        sleep: Callable[[float], None],
    ):
        self._held = held
        self._tuned = tuned
        self._most = _PART * (_STEP if tuned.max_impact is None else _GENTLE_STEP)
        self._lease = system.settings.lease_duration
        self._category = system.category(held.category)
        self._filter = filters.parse(self._category, held.filter)
        self._deep = VerifyOptions.of(held.options).deep
        self._flat = flat
        self._session = session
        self._settle = settle
        self._sleep = sleep
        self._covered: Query = digest.FALSE
        self._tally = Tally()
        self._listed: dict[DifferenceKind, int] = dict.fromkeys(DifferenceKind, 0)
        self._started = time.monotonic()
        self._waited = 0.0  # seconds of a step in which nothing was done

    def run(self) -> bool:
        """Compare step by step; see ``verify_batch``."""
        self._begin()
        after = self._held.cursor or self._held.after
        while True:
            started, self._waited = time.monotonic(), 0.0
            bound, edges = self._bound(after)
            scope = projection.Bounds(after=after, upto=bound or self._held.upto, bytewise=True)
            step, listing = self._step(scope, edges)
            step.seconds = time.monotonic() - started
            step.check()
            self._tally.add(step)
            self._listed = listing.listed
            worked = step.seconds - self._waited
            if not self._note(scope, listing.found, last=bound is None, worked=worked):
                return bound is None
            if self._tuned.max_impact is not None:
                self._most = _PART * pace.sized(self._most // _PART, worked, most=_STEP)
            after = scope.upto

    def _begin(self) -> None:
        """Read what earlier attempts have found, and clear what is begun anew."""
        held = self._held
        with self._session.begin():
            if held.cursor is None:
                verify_results.clear(self._session, run_id=held.run_id, seq=held.seq)
            else:
                earlier = verify_results.partial(self._session, run_id=held.run_id, seq=held.seq)
                document = dict(earlier or {})
                listed = document.pop("listed", {})
                self._tally = Tally.from_document(document) if document else Tally()
                self._listed |= {DifferenceKind(kind): count for kind, count in listed.items()}
        hash_probe.require_alike(self._flat, self._connection)

    def _step(self, scope: projection.Bounds, edges: Sequence[model.Key]) -> tuple[Tally, DifferenceListing]:
        """Compare a range, and anew when the write mode is switched meanwhile: then another side may rule."""
        while True:
            state = write_mode.state(self._connection)
            self._connection.rollback()
            with self._session.begin():
                both = judge.sides(self._session, self._category, state, flat=self._flat, hier=self._connection)
            self._covered = both.covered
            suspects = Suspects(both=both, chosen=self._filter, deep=self._deep)
            listing = DifferenceListing(listed=dict(self._listed))
            with contextlib.suppress(errors.StaleEpoch):
                tally = self._compare(scope, edges, suspects, listing)
                suspects.orphans(scope, tally, listing)
                both.require_same()
                return tally, listing

    @property
    def _connection(self) -> Connection:
        return self._session.connection

    def _note(self, scope: projection.Bounds, found: Sequence[Difference], *, last: bool, worked: float) -> bool:
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
            verify_results.add(self._session, found, run_id=held.run_id, seq=held.seq)
            if last:
                batches.finish(self._session, held, seconds=time.monotonic() - self._started)
        return not last and pace.go_on(standing, self._tuned, worked)

    # Where to cut

    def _bound(self, after: model.Key | None) -> tuple[model.Key | None, Sequence[model.Key]]:
        """Return the key up to which to compare at once, None for the rest of the range, and where its parts begin.

        The planner has cut the range by flat records as they were; it may hold any number of others.
        """
        scope = projection.Bounds(after=after, upto=self._held.upto, bytewise=True)
        with self._flat.cursor() as cursor:
            rows = projection.flat_rows(self._category, scope, filters.EVERYTHING)
            marked = keystream.collect(cursor, self._category, self._every(rows, _PART))
        self._flat.rollback()
        found = [row for row in marked if row.hash == self._most]
        with self._session.begin(), self._connection.cursor() as cursor:
            for root in self._category.roots:
                names = identifiers.each(root.owner, "r")
                where, params = scope.sql(self._category, names)
                aliased = projection.as_key(self._category, root.owner, "r")
                rows = f"FROM (SELECT {aliased} FROM {root.qualified} r WHERE {where}) s", params
                found += keystream.collect(cursor, self._category, self._every(rows, self._most))
        bound = min(found, key=lambda row: row.key) if found else None
        return bound and bound.text, [row.text for row in marked if bound is None or row.key < bound.key]

    def _every(self, rows: Query, count: int) -> Query:
        """Return the query of each record that follows ``count`` others, up to a step's end, with their number."""
        names = identifiers.listed(self._category.key, "s")
        order = projection.key_order(self._category, "s", bytewise=True)
        return (
            f"SELECT {names}, {projection.key_texts(self._category)}, s.above, false, false "
            f"FROM (SELECT s.*, row_number() OVER (ORDER BY {order}) - 1 AS above "
            f"FROM (SELECT {names} {rows[0]} ORDER BY {order} LIMIT %s) s) s "
            f"WHERE s.above > 0 AND s.above %% %s = 0",
            [*rows[1], self._most + 1, count],
        )

    # The comparison of one range

    def _compare(
        self, scope: projection.Bounds, edges: Sequence[model.Key], suspects: Suspects, listing: DifferenceListing
    ) -> Tally:
        began = time.monotonic()
        tally = Tally()
        differing: list[projection.Bounds] = []
        parts = zip(itertools.pairwise([None, *edges, None]), *self._both_digests(scope, edges), strict=True)
        for (start, before), flat, hier in parts:
            alike = _alike(flat, hier)
            if alike is not None:
                tally.add(alike)
            elif differing and differing[-1].before == start:
                differing[-1] = dataclasses.replace(differing[-1], before=before)
            else:
                differing.append(dataclasses.replace(scope, start=start, before=before))
        if differing:
            self._record_by_record(differing, suspects, tally, listing, began)
        return tally

    def _both_digests(
        self, scope: projection.Bounds, edges: Sequence[model.Key]
    ) -> tuple[Sequence[digest.Digest], Sequence[digest.Digest]]:
        with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="flat digest") as pool:
            flat = pool.submit(self._flat_digest, scope, edges)
            try:
                with self._session.begin(), self._connection.cursor() as cursor:
                    cursor.execute(digest.RANGE)
                    hier = digest.parted(cursor, self._category, self._hier_rows(scope), digest.FALSE, edges)
            except BaseException:
                self._flat.cancel()
                raise
            return flat.result(), hier

    def _flat_digest(self, scope: projection.Bounds, edges: Sequence[model.Key]) -> Sequence[digest.Digest]:
        with self._flat.cursor() as cursor:
            cursor.execute(digest.RANGE)
            rows = projection.flat_rows(self._category, scope, self._filter)
            found = digest.parted(cursor, self._category, rows, self._covered, edges)
        self._flat.rollback()
        return found

    def _hier_rows(self, scope: projection.Scope) -> Query:
        rows, params = projection.rebuilt_rows(self._category, scope, hashed=True)
        condition, more = self._filter.sql("s")
        return f"{rows} WHERE {condition}", [*params, *more]

    def _record_by_record(
        self,
        scopes: Sequence[projection.Bounds],
        suspects: Suspects,
        tally: Tally,
        listing: DifferenceListing,
        began: float,
    ) -> None:
        differing: list[Pair] = []
        for pair in self._first_look(scopes, tally):
            if pair.flat is not None and not pair.hier and not pair.flat.covered:
                tally.flat += 1
                tally.pending += 1
            else:
                differing.append(pair)
        differing = list(suspects.unhidden(differing))
        if differing:
            # Where no write waits to be applied nothing will have arrived by then.
            behind = capture.rows(suspects.both.source, most=1)
            pause = max(0.0, self._settle - (time.monotonic() - began)) if behind else 0.0
            self._sleep(pause)
            self._waited += pause
        suspects.decide(differing, tally, listing)

    def _first_look(self, scopes: Sequence[projection.Bounds], tally: Tally) -> Iterator[Pair]:
        category = self._category
        with self._session.begin():
            for connection in (self._flat, self._connection):
                with connection.cursor() as cursor:
                    cursor.execute(digest.RANGE)
            for scope in scopes:
                flat_query = keystream.select(
                    category, projection.flat_rows(category, scope, self._filter), covered=self._covered,
                    chosen=digest.TRUE, ordered=True,
                )  # fmt: skip
                hier_query = keystream.select(
                    category, self._hier_rows(scope), covered=digest.FALSE, chosen=digest.TRUE, ordered=True
                )
                with (
                    Stream(self._flat, category, flat_query, name="flat") as flat,
                    Stream(self._connection, category, hier_query, name="hierarchical") as hier,
                ):
                    yield from keystream.merge(iter(flat), iter(hier), lambda row: tally.alike(row.hash))
        self._flat.rollback()


def _alike(flat: digest.Digest, hier: digest.Digest) -> Tally | None:
    """Return what two digests prove, None where they differ."""
    if (flat.count, flat.total) == (hier.count, hier.total):
        verified, pending, total = flat.count, 0, flat.total
    elif (flat.covered, flat.covered_total) == (hier.count, hier.total):
        verified, pending, total = flat.covered, flat.count - flat.covered, flat.covered_total
    else:
        return None
    return Tally(
        flat=flat.count, hier=hier.count, verified=verified, pending=pending,
        flat_digest=total % MODULUS, hier_digest=hier.total % MODULUS,
    )  # fmt: skip
