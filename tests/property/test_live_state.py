"""Any order of writes, copying, applying, switching and damage on the real code leaves both stores equal at rest."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias
from unittest import mock

import hypothesis
import psycopg2
import psycopg2.extensions
import pytest
from hypothesis import stateful
from hypothesis import strategies as st

from hal9mig import model
from hal9mig.engine.switch import gate
from hal9mig.engine.transfer import copier, follower
from hal9mig.ledger import quarantine, runs
from hal9mig.stores import capture
from hal9mig.stores.write_mode import Mode
from tests.support import comparison, live_state, servers
from tests.support.live_state import SESSIONS, World

KEYS = [f"00000000-0000-4000-8000-{number:012d}" for number in range(6)]
Cursor: TypeAlias = psycopg2.extensions.cursor
Write: TypeAlias = tuple[str, str, str, int]
#: What is done to one key, or to two of them; the number makes it another value than the last one.
writes = st.tuples(
    st.sampled_from(("put", "put", "delete", "rename", "swap")),
    st.sampled_from(KEYS),
    st.sampled_from(KEYS),
    st.integers(0, 19),
)
numbers = st.integers(0, 19)
bursts = st.lists(writes, min_size=1, max_size=4)

FULL = [("put", key, key, number) for number, key in enumerate(KEYS)]
_TABLES = "hier.session_attributes, hier.sessions, hier.users"
_LEDGER = "hal9mig.runs, hal9mig.batches, hal9mig.marks, hal9mig.quarantine, hal9mig.sweeps, hal9mig.certificates"


def flat_write(cursor: Cursor, write: Write) -> None:
    """Write to the flat store as an application does that has no notion of versions."""
    kind, one, other, number = write
    if kind == "put":
        cursor.execute(
            "INSERT INTO flat.user_sessions SELECT %s, %s, %s, NULL, NULL, true, %s, now(), now(), NULL, %s "
            "ON CONFLICT (session_id) DO UPDATE SET data = excluded.data, token_hash = excluded.token_hash, "
            "user_id = excluded.user_id, version = excluded.version",
            (one, f"user {number}", f"token {number % 12}", f'{{"note": {number}, "more": []}}', number),
        )
    elif kind == "delete":
        cursor.execute("DELETE FROM flat.user_sessions WHERE session_id = %s", (one,))
    elif kind == "rename":
        cursor.execute("UPDATE flat.user_sessions SET session_id = %s WHERE session_id = %s", (other, one))
    elif one != other:
        swap(cursor, "flat.user_sessions", one, other)


def hier_write(cursor: Cursor, write: Write) -> None:
    """Write to the hierarchical store, each table by itself."""
    kind, one, other, number = write
    if kind == "put":
        hier_write(cursor, ("delete", one, other, number))
        cursor.execute("INSERT INTO hier.users VALUES (%s) ON CONFLICT DO NOTHING", (f"user {number}",))
        cursor.execute(
            "INSERT INTO hier.sessions SELECT %s, %s, %s, NULL, NULL, true, now(), now(), NULL, %s",
            (one, f"user {number}", f"token {number % 12}", number),
        )
        cursor.execute(
            "INSERT INTO hier.session_attributes VALUES (%s, 'note', %s), (%s, 'more', '[]')", (one, str(number), one)
        )
    elif kind == "delete":
        cursor.execute("DELETE FROM hier.session_attributes WHERE session_id = %s", (one,))
        cursor.execute("DELETE FROM hier.sessions WHERE session_id = %s", (one,))
    elif kind == "rename":
        for table in ("sessions", "session_attributes"):
            cursor.execute(f"UPDATE hier.{table} SET session_id = %s WHERE session_id = %s", (other, one))
    elif one != other:
        swap(cursor, "hier.sessions", one, other)


def swap(cursor: Cursor, table: str, one: str, other: str) -> None:
    """Let two sessions swap their tokens."""
    cursor.execute(f"SELECT session_id::text, token_hash FROM {table} WHERE session_id IN (%s, %s)", (one, other))
    tokens: Mapping[str, str] = dict(cursor.fetchall())
    if len(tokens) == 2:
        for key, token in ((one, "none's"), (other, tokens[one]), (one, tokens[other])):
            cursor.execute(f"UPDATE {table} SET token_hash = %s WHERE session_id = %s", (token, key))


class Stores(stateful.RuleBasedStateMachine):
    """Both stores under everything that happens to them; the run ends at rest, where they are compared."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.world.hier_sql(
            f"{capture.APPLY}; TRUNCATE {_TABLES}; TRUNCATE {_LEDGER} CASCADE; TRUNCATE hal9cap.journal; "
            "UPDATE hal9mig.mode SET mode = 'flat-only', epoch = 1, target = NULL, step = NULL; "
            "SELECT setval('hal9cap.state', 4)"
        )
        self.world.flat_sql(
            f"{capture.APPLY}; TRUNCATE flat.user_sessions; TRUNCATE hal9cap.journal; SELECT setval('hal9cap.state', 4)"
        )
        self.flat = psycopg2.connect(self.world.stores.flat_url)
        self.hier = psycopg2.connect(self.world.stores.hier_url)
        self.mode = Mode.FLAT_ONLY
        self.copying: int | None = None  # the run under way
        self.counts = False  # whether it was begun under capture
        self.covered = False  # whether one that was has ended
        self.damaged: set[str] = set()
        #: What the application has: the ruling store's content, kept apart from every store.
        self.expected = self.content()

    @stateful.initialize(
        burst=st.sampled_from((FULL[:0], FULL[:3], FULL)), how=st.sampled_from(("", "captured", "copied", "copied"))
    )
    def begins(self, burst: list[Write], how: str) -> None:
        """With or without records, capture, and a copy: what a later copy brings hides what was not captured."""
        self.application_writes(burst)
        if how:
            self.enabled()
        if how == "copied":
            self.copy_begins()
            while self.copying is not None:
                self.batch()

    @property
    def side(self) -> model.StoreName:
        return self.mode.ruling

    def content(self) -> dict[tuple[str, ...], bytes]:
        """Return the ruling store's records."""
        category = self.world.system.category(SESSIONS)
        if self.side is model.StoreName.FLAT:
            return comparison.flat_rows(self.world.stores, category)
        return comparison.hierarchical_rows(self.world.stores, category)

    def write(self, burst: list[Write]) -> None:
        """Make writes in one transaction of the ruling store; one that it refuses is not made."""
        connection, make = (
            (self.flat, flat_write) if self.side is model.StoreName.FLAT else (self.hier, hier_write)
        )  # fmt: skip
        with contextlib.suppress(psycopg2.errors.UniqueViolation), connection, connection.cursor() as cursor:
            for write in burst:
                make(cursor, write)

    @stateful.rule(burst=bursts)
    def application_writes(self, burst: list[Write]) -> None:
        assert self.content() == self.expected
        self.write(burst)
        self.expected = self.content()

    @stateful.precondition(lambda self: self.copying is None and self.mode is not Mode.HIERARCHICAL_ONLY)
    @stateful.rule()
    def copy_begins(self) -> None:
        self.copying, self.counts = self.world.start(SESSIONS), self.mode is Mode.DUAL_WRITE
        self.batch()  # which plans the others

    @stateful.precondition(lambda self: self.copying is not None)
    @stateful.rule(burst=bursts, applied=st.booleans())
    def copy_goes_on(self, burst: list[Write], applied: bool) -> None:
        """A batch, and between its reading and its writing the application writes, and that may be applied."""
        self.copy_with(lambda _: burst, applied=applied)

    @stateful.precondition(lambda self: self.copying is not None)
    @stateful.rule(kind=st.sampled_from(("put", "delete", "rename", "swap")), at=st.integers(0, 1), number=numbers)
    def copy_meets_a_write_of_what_it_has_read(self, kind: str, at: int, number: int) -> None:
        """The application writes a record that has been read and not been written, and that is applied first."""
        self.copy_with(lambda keys: [(kind, keys[at % len(keys)], keys[-1], number)], applied=True)

    def copy_with(self, writing: Callable[[list[str]], list[Write]], *, applied: bool) -> None:
        """Copy a batch; before its first step is written the application writes, knowing the step's keys."""
        original, left = copier.Copier._write, [writing]
        transform = self.world.system.transform(SESSIONS)

        def late(work: copier.Copier, step: Any) -> None:
            if left and step.records:
                self.write(left.pop()([transform.key(fields)[0] for fields in step.records]))
                if applied:
                    self.world.follow()
            original(work, step)

        with mock.patch.object(copier.Copier, "_write", late):
            self.batch()
        self.expected = self.content()

    def batch(self) -> None:
        """Work the next batch."""
        if self.copying is None or self.world.batch(self.copying):
            return
        with self.world.system.ledger.begin() as session:
            assert runs.get(session, self.copying).status is model.RunStatus.SUCCEEDED
        self.covered, self.copying = self.covered or self.counts, None

    @stateful.rule(burst=bursts)
    def applied_and_written_at_once(self, burst: list[Write]) -> None:
        """The journal is applied, and before its rows are taken out the application writes the same keys again."""
        original = capture.prune

        def late(*arguments: Any) -> None:
            self.write(burst)
            original(*arguments)

        with mock.patch.object(capture, "prune", late):
            self.follow_once()
        self.expected = self.content()

    @stateful.rule(burst=bursts)
    def applied_and_compacted_at_once(self, burst: list[Write]) -> None:
        """So it is, and the journal is compacted before that."""
        original = capture.prune

        def late(*arguments: Any) -> None:
            self.write(burst)
            self.compacted()
            original(*arguments)

        with mock.patch.object(capture, "prune", late):
            self.follow_once()
        self.expected = self.content()

    def follow_once(self) -> None:
        """Apply one chunk."""
        with mock.patch.object(follower, "TURN", 0.0):
            self.world.follow()

    @stateful.rule()
    def applied(self) -> None:
        self.world.follow()

    @stateful.rule()
    def compacted(self) -> None:
        for connection in (self.flat, self.hier):
            capture.compact(connection)

    @stateful.precondition(lambda self: self.mode is not Mode.FLAT_ONLY and not self.damaged)
    @stateful.rule(write=writes)
    def somebody_damages_the_other_store(self, write: Write) -> None:
        """What follows is written past everything."""
        connection, make = (
            (self.hier, hier_write) if self.side is model.StoreName.FLAT else (self.flat, flat_write)
        )  # fmt: skip
        with contextlib.suppress(psycopg2.errors.UniqueViolation), connection, connection.cursor() as cursor:
            cursor.execute(capture.APPLY)
            make(cursor, write)
        self.damaged |= {write[1], write[2]}

    @stateful.precondition(lambda self: self.damaged)
    @stateful.rule()
    def repaired(self) -> None:
        desk = self.world.desk
        keys = [(key,) for key in sorted(self.damaged)]
        flat, hier = desk.flat("repair"), desk.hier("repair")
        before = follower.restores(flat, hier, self.side)
        follower.apply(self.world.system, flat, hier, self.side, SESSIONS, keys, restores=before)
        self.damaged.clear()

    @stateful.precondition(lambda self: self.mode is Mode.FLAT_ONLY)
    @stateful.rule()
    def enabled(self) -> None:
        assert self.world.switch.enable().changed
        self.mode = Mode.DUAL_WRITE

    @stateful.precondition(lambda self: self.mode is Mode.DUAL_WRITE and self.covered)
    @stateful.rule()
    def switched_over(self) -> None:
        while self.copying is not None:
            self.batch()
        self.repaired()
        self.world.switch.leave_flat(lambda: gate.evidence(self.world.system, (), actor="test"))
        self.mode = Mode.HIERARCHICAL_ONLY

    @stateful.precondition(lambda self: self.mode is not Mode.FLAT_ONLY)
    @stateful.rule()
    def switched_back(self) -> None:
        if self.mode is Mode.HIERARCHICAL_ONLY:
            self.repaired()
        else:
            # It follows no more, so what is damaged now is nobody's to repair until it does again.
            self.covered = self.covered and not self.damaged
        assert self.world.switch.return_to_flat().discarded == 0
        self.mode = Mode.FLAT_ONLY

    def teardown(self) -> None:
        try:
            self.at_rest()
        finally:
            self.flat.close()
            self.hier.close()

    def at_rest(self) -> None:
        """Go to dual-write, copy what is not, apply what waits, and compare."""
        if self.mode is Mode.FLAT_ONLY:
            self.enabled()
        if not self.covered and self.mode is Mode.DUAL_WRITE:
            while self.copying is not None:
                self.batch()
            self.copy_begins()
        while self.copying is not None:
            self.batch()
        if self.damaged:
            self.repaired()
        while self.world.waiting(self.side):
            self.world.follow()
        self.world.assert_equal()
        assert self.content() == self.expected
        with self.world.system.ledger.begin() as session:
            assert not quarantine.counts(session)


@pytest.fixture
def world(stores: servers.Stores, tmp_path: pathlib.Path) -> Iterator[World]:
    with live_state.opened(stores, servers.environ(stores, tmp_path)) as opened:
        opened.only(SESSIONS)
        opened.configure(batch_size="3", checkpoint_interval="2")
        yield opened


@pytest.mark.parametrize("examples", [5, pytest.param(40, marks=pytest.mark.long)])
def test_both_stores_are_equal_at_rest(world: World, examples: int) -> None:
    machine: Callable[[], Stores] = type("Machine", (Stores,), {"world": world})
    stateful.run_state_machine_as_test(
        machine,
        settings=hypothesis.settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(hypothesis.HealthCheck),
        ),
    )


def test_each_meeting_by_itself(world: World) -> None:
    """What chance may take long to find: one write that meets one copy, or one turn of applying."""
    machine: Callable[[], Stores] = type("Machine", (Stores,), {"world": world})
    for kind in ("put", "delete", "rename", "swap"):
        for at in (0, 1):
            made = machine()
            # Of a higher version than what the copy meets, then of a lower one.
            made.begins([("put", key, key, 7 + number) for number, key in enumerate(KEYS)], "captured")
            made.copy_begins()
            made.copy_meets_a_write_of_what_it_has_read(kind, at, 19 * at)
            made.teardown()
    for meet in (lambda made: made.applied_and_written_at_once, lambda made: made.applied_and_compacted_at_once):
        made = machine()
        made.begins(FULL, "copied")
        made.application_writes([("put", KEYS[0], KEYS[0], 18)])
        meet(made)([("put", KEYS[0], KEYS[0], 19)])
        made.teardown()
