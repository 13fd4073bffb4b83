"""The rules that are left out, one in each mutant: where its line is, what stands there instead, what notices."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

_LIVE_KEYS = "tests/acceptance/test_live_keys.py"
_MEETINGS = "tests/property/test_live_state.py::test_each_meeting_by_itself"
_HELD = "tests/acceptance/test_switch_held.py"
_SWITCH = "tests/acceptance/test_switch.py"
_SLOW = "tests/integration/test_client_switches.py::test_who_was_slow_since_before_a_switch_writes_nothing_over_what_came_after"
_BETWEEN = "tests/integration/restores/test_between_the_swaps.py::TestBetween"
_EVERY_STEP = "tests/integration/restores/test_every_step.py::TestEveryStep"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mutant:
    """One change of one file that leaves a rule out.

    Attributes:
        rule: what no longer holds, as a sentence of docs/correctness.md would say it.
        old, new: the line as it is, which stands in the file once, and what replaces it.
        tests: node ids, of which at least one has to fail.
    """

    rule: str
    path: str
    old: str
    new: str
    tests: Sequence[str]


MUTANTS = (
    Mutant(
        rule="a delete is journalled",
        path="hal9mig/stores/capture_triggers.py",
        old="        {journal} old_rows;",
        new="        PERFORM 1;",
        tests=[_LIVE_KEYS],
    ),
    Mutant(
        rule="a key that changes is journalled as it was and as it is",
        path="hal9mig/stores/capture_triggers.py",
        old="        {once} (TABLE old_rows UNION ALL TABLE new_rows) AS both_rows;",
        new="        {journal} new_rows;",
        tests=["tests/integration/test_capture_partitions.py::test_a_key_that_changes_is_journalled_as_it_was_and_as_it_is"],
    ),
    Mutant(
        rule="a writer's trigger holds its lock until the transaction ends",
        path="hal9mig/stores/capture_triggers.py",
        old="        AND pg_catalog.pg_advisory_xact_lock_shared(pg_catalog.hashtextextended('hal9cap writers', 0)) IS NOT NULL;",
        new="        AND true;",
        tests=[f"{_SWITCH}::TestHeldUp"],
    ),
    Mutant(
        rule="a transaction that names an older epoch is refused",
        path="hal9mig/stores/capture_triggers.py",
        old="            OR epoch OPERATOR(pg_catalog.=) (state OPERATOR(pg_catalog./) 4)::pg_catalog.text);",
        new="            OR true);",
        tests=["tests/integration/test_client_switches.py::test_a_stale_epoch_is_refused_by_the_database"],
    ),
    Mutant(
        rule="a journal row is deleted by its own number, and not by its key",
        path="hal9mig/stores/capture.py",
        old='cursor.execute("DELETE FROM hal9cap.journal WHERE id = ANY(%s::bigint[])", (ids,))',
        new='cursor.execute("DELETE FROM hal9cap.journal WHERE key IN '
        '(SELECT key FROM hal9cap.journal WHERE id = ANY(%s::bigint[]))", (ids,))',
        tests=[_MEETINGS, _LIVE_KEYS],
    ),
    Mutant(
        rule="what a shortened journal leaves of a key is a new row",
        path="hal9mig/stores/capture.py",
        old='"WHERE id IN (SELECT id FROM part JOIN many USING (category, key)) FOR UPDATE SKIP LOCKED), "\n'
        '                "gone AS (DELETE FROM hal9cap.journal j USING free f WHERE j.id = f.id "\n'
        '                "RETURNING j.category, j.key, j.at), "\n'
        '                "kept AS (INSERT INTO hal9cap.journal (category, key, at) SELECT category, key, min(at) FROM gone "\n',
        new='"WHERE id IN (SELECT id FROM part JOIN many USING (category, key)) AND id NOT IN (SELECT min(id) FROM part '
        'GROUP BY category, key) FOR UPDATE SKIP LOCKED), "\n'
        '                "gone AS (DELETE FROM hal9cap.journal j USING free f WHERE j.id = f.id "\n'
        '                "RETURNING j.category, j.key, j.at), "\n'
        '                "kept AS (INSERT INTO hal9cap.journal (category, key, at) SELECT category, key, min(at) FROM gone WHERE false "\n',
        tests=["tests/acceptance/test_journal.py"],
    ),
    Mutant(
        rule="an apply marks its keys first",
        path="hal9mig/engine/transfer/applier.py",
        old="            marks.mark(self._session, slug, wanted)",
        new="            pass",
        tests=[_LIVE_KEYS],
    ),
    Mutant(
        rule="a copy looks for marks after it has written",
        path="hal9mig/engine/transfer/copier.py",
        old="        marked = marks.since(self._session, self._category.slug, self._held.claimed_at)",
        new="        marked: set[model.Key] = set()",
        tests=[_LIVE_KEYS],
    ),
    Mutant(
        rule="a delete waits for the copies in flight",
        path="hal9mig/engine/transfer/applier.py",
        old="            marks.wait_for_copies(self._session, slug)",
        new="            pass",
        tests=[_LIVE_KEYS, _MEETINGS],
    ),
    Mutant(
        rule="a key is locked before the source is read",
        path="hal9mig/engine/transfer/applier.py",
        old="        self._exchange.lock(cursor, keys)\n        cursor.execute(capture.APPLY)\n"
        "        present = self._target.read(keys)",
        new="        cursor.execute(capture.APPLY)\n        present = self._target.read(keys)\n"
        "        self._exchange.lock(cursor, keys)",
        tests=["tests/integration/test_key_text.py::test_the_last_write_wins_in_whatever_spelling"],
    ),
    Mutant(
        rule="what was rejected is taken out of the target",
        path="hal9mig/engine/transfer/applier.py",
        old="        self._target.delete(cursor, list(outcome.rejected))",
        new="        pass",
        tests=[_LIVE_KEYS, "tests/integration/test_records.py"],
    ),
    Mutant(
        rule="a batch's line is fenced by the lease's attempt",
        path="hal9mig/ledger/sql/batches.sql",
        old=" WHERE b.run_id = %(run_id)s AND b.seq = %(seq)s AND b.attempt = %(attempt)s AND b.owner = %(owner)s\n"
        "   AND b.status = 'leased'\nRETURNING (SELECT",
        new=" WHERE b.run_id = %(run_id)s AND b.seq = %(seq)s\nRETURNING (SELECT",
        tests=["tests/integration/test_ledger.py::TestLease"],
    ),
    Mutant(
        rule="unique values: all that take part are read anew, as of one moment",
        path="hal9mig/engine/transfer/exchange.py",
        old="            fresh = side.read(wanted)",
        new="            fresh = {**together, **side.read([key for key in strangers if key not in apart])}",
        tests=[_LIVE_KEYS],
    ),
    Mutant(
        rule="unique values: one that was committed after the look for its holder is looked for again",
        path="hal9mig/engine/transfer/exchange.py",
        old="                    if calm:\n                        raise",
        new="                    raise",
        tests=[_LIVE_KEYS],
    ),
    Mutant(
        rule="unique values: who is undone by the server begins anew",
        path="hal9mig/engine/transfer/exchange.py",
        old="                if self._undone > _MOST_UNDONE:\n                    raise",
        new="                raise",
        tests=["tests/unit/test_exchange.py"],
    ),
    Mutant(
        rule="unique values: a holder beyond what is brought along is taken out",
        path="hal9mig/engine/transfer/exchange.py",
        old="                apart |= side.waiting(strangers)",
        new="                pass",
        tests=[_LIVE_KEYS],
    ),
    Mutant(
        rule="unique values: who holds none that is needed stays",
        path="hal9mig/engine/transfer/exchange.py",
        old="            side.delete(cursor, [key for key in found if key in apart])",
        new="            side.delete(cursor, sorted(apart))",
        tests=[_LIVE_KEYS],
    ),
    Mutant(
        rule="an apply asks, behind the target's fence, whether the target rules",
        path="hal9mig/engine/transfer/applier.py",
        old="        fence.hold(cursor, model.StoreName.HIERARCHICAL, restores=self._restores)",
        new="        pass",
        tests=[_SLOW],
    ),
    Mutant(
        rule="so does an apply of the way back",
        path="hal9mig/engine/transfer/returner.py",
        old="            fence.hold(cursor, model.StoreName.FLAT, restores=self._restores)",
        new="            pass",
        tests=[_SLOW],
    ),
    Mutant(
        rule="an apply holds the fence until it commits",
        path="hal9mig/engine/transfer/fence.py",
        old='        f"SELECT pg_advisory_xact_lock_shared({_FENCE})",',
        new='        "SELECT 1",',
        tests=[f"{_HELD}::TestFrozenApplier"],
    ),
    Mutant(
        rule="a switch closes the fence before it opens the target",
        path="hal9mig/engine/switch/switch.py",
        old="                with fence.closed(hier, patience=PATIENCE):",
        new="                with contextlib.nullcontext():",
        tests=[f"{_HELD}::TestFrozenApplier"],
    ),
    Mutant(
        rule="a switch waits for the writers in flight",
        path="hal9mig/stores/barrier.py",
        old='            cursor.execute(f"SELECT pg_advisory_lock({_WRITERS})")',
        new='            cursor.execute("SELECT 1")',
        tests=[f"{_SWITCH}::TestHeldUp"],
    ),
    Mutant(
        rule="writers are kept out by a session that no pooler lends to others",
        path="hal9mig/stores/barrier.py",
        old="        require_own(cursor)\n",
        new="",
        tests=["tests/integration/test_pooler.py::test_no_lock_that_outlasts_a_transaction_is_taken_in_a_session_that_is_lent"],
    ),
    Mutant(
        rule="what is left is applied behind the barrier",
        path="hal9mig/engine/switch/switch.py",
        old="                self._drain(model.StoreName.FLAT)\n",
        new="                pass\n",
        tests=[f"{_SWITCH}::TestKilled", f"{_SWITCH}::TestEpochs"],
    ),
    Mutant(
        rule="the side that is left is closed before the other is opened",
        path="hal9mig/engine/switch/switch.py",
        old='                    self._set(flat, "closed", WriteState(mode=Mode.CLOSED, epoch=epoch))\n'
        '                    self._note(line, Mode.HIERARCHICAL_ONLY, "closed", carried=document)\n'
        '                    self._set(hier, "open", new)\n',
        new='                    self._note(line, Mode.HIERARCHICAL_ONLY, "closed", carried=document)\n'
        '                    self._set(hier, "open", new)\n'
        '                    self._set(flat, "closed", WriteState(mode=Mode.CLOSED, epoch=epoch))\n',
        tests=[f"{_SWITCH}::TestKilled"],
    ),
    Mutant(
        rule="on the way back, what is refused stays in the journal",
        path="hal9mig/engine/transfer/follower.py",
        old="            kept = set(applied.rejected) if side is model.StoreName.HIERARCHICAL else set()",
        new="            kept: set[model.Key] = set()",
        tests=[f"{_SWITCH}::TestForced"],
    ),
    Mutant(
        rule="a pair of snapshots is taken while the target's fence is closed",
        path="hal9mig/engine/checkpoint/instant.py",
        old="with contextlib.closing(_target(system, ruling)) as target, fence.closed(target, patience=PATIENCE):",
        new="with contextlib.closing(_target(system, ruling)):",
        tests=["tests/integration/restores/test_late_appliers.py::test_no_pair_is_taken_while_a_write_is_being_applied"],
    ),
    Mutant(
        rule="between the two swaps of a restore nothing is applied",
        path="hal9mig/engine/checkpoint/swap.py",
        old="            capture.hold(connection, reason)",
        new="            pass",
        tests=[_BETWEEN],
    ),
    Mutant(
        rule="the ruling store is swapped first",
        path="hal9mig/engine/checkpoint/swap.py",
        old="key=lambda store: store is not now.ruling)",
        new="key=lambda store: store is now.ruling)",
        tests=[_BETWEEN],
    ),
    Mutant(
        rule="each store notes a restore with the swap itself",
        path="hal9mig/engine/checkpoint/swap.py",
        old="            restore_notes.note(cursor.connection, self._mark)",
        new="            pass",
        tests=[_EVERY_STEP],
    ),
    Mutant(
        rule="a switch asks, behind the target's fence, whether a restore is yet to come there",
        path="hal9mig/engine/transfer/fence.py",
        old="            reason = capture.held(connection)\n            connection.commit()",
        new="            reason = None",
        tests=[f"{_BETWEEN}::test_no_switch_passes"],
    ),
    Mutant(
        rule="an apply asks, behind the target's fence, whether a restore came since its keys were looked up",
        path="hal9mig/engine/transfer/fence.py",
        old="    if restores is not None and restore_notes.count(cursor.connection) != restores:",
        new="    if False:",
        tests=["tests/integration/restores/test_late_appliers.py"],
    ),
    Mutant(
        rule="a restore that has been through one store goes on, whatever its run was told",
        path="hal9mig/engine/checkpoint/keeper.py",
        old="            if restore.half_done(session, run_id, flat, hier):",
        new="            if False:",
        tests=[f"{_BETWEEN}::test_one_that_is_cancelled_goes_on"],
    ),
    Mutant(
        rule="a write to the side that does not rule is refused",
        path="hal9mig/stores/capture_triggers.py",
        old="(state OPERATOR(pg_catalog.%) 4) OPERATOR(pg_catalog.{operator}) {number} AND (",
        new="true AND (",
        tests=["tests/integration/test_capture_partitions.py::test_after_the_switch_it_is_refused_as_through_the_parent"],
    ),
    Mutant(
        rule="a partition has triggers of its own",
        path="hal9mig/stores/capture_triggers.py",
        old="        for member in family:",
        new="        for member in family[:1]:",
        tests=["tests/integration/test_capture_partitions.py::test_a_write_to_a_part_is_journalled_once"],
    ),
    Mutant(
        rule="the triggers fire for every session",
        path="hal9mig/stores/capture_triggers.py",
        old='        cursor.execute(f"ALTER TABLE ONLY {member.name} ENABLE ALWAYS TRIGGER {name}")',
        new="        pass",
        tests=["tests/integration/test_capture_partitions.py::test_a_writer_with_the_role_of_a_replica_is_seen"],
    ),
    Mutant(
        rule="what is imported from a file is of the hash that the flat store has now",
        path="hal9mig/engine/pattern_files/origin.py",
        old="        if known != fingerprint or group < self._group:",
        new="        if group < self._group:",
        tests=["tests/integration/test_pattern_files_live.py::test_files_that_are_old_overwrite_nothing"],
    ),
)  # fmt: skip
