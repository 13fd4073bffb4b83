"""A key has one text: two spellings of one key exclude each other, and what is held is held in every spelling."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import psycopg2
import pytest

from hal9mig import errors, model
from hal9mig.categories import keys
from hal9mig.engine.compare import judge
from hal9mig.engine.reconcile.repair import Action, Mender, RepairPolicy
from hal9mig.engine.transfer import applier
from hal9mig.engine.transfer.returner import Returner
from hal9mig.ledger import quarantine
from hal9mig.stores import capture, capture_triggers, category_check, write_mode
from hal9mig.stores.connection import Connection
from hal9mig.stores.write_mode import Mode, WriteState
from tests.support import servers
from tests.support.verify_bench import Bench, keyed, summary

FLAT, HIER = model.StoreName.FLAT, model.StoreName.HIERARCHICAL
#: A key of each type in two spellings, where the type has them.
VALUES = {
    "uuid": ("A0EEBC999C0B4EF8BB6D6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    "text": (" a ", " a "),
    "character": ("a", "a"),
    "character varying": ("a ", "a "),
    "bigint": ("-5", "-05"),
    "integer": ("7", "+7"),
    "smallint": ("7", "07"),
    "numeric": ("1.0", "1.00"),
    "date": ("2026-02-01", "February 1, 2026"),
    "timestamp with time zone": ("2026-02-01 00:00:00.500+00", "2026-02-01 02:00:00.5+02"),
    "timestamp without time zone": ("2026-02-01 00:00:00.500", "2026-02-01 00:00:00.5"),
    "boolean": ("yes", "t"),
}


@pytest.fixture
def made(open_bench: Callable[..., Bench]) -> Callable[[str], Bench]:
    """Makes a table with a key of a type in both stores."""

    def make(kind: str) -> Bench:
        bench = open_bench(keyed(("id", kind)))
        for run in (bench.flat, bench.hier):
            run(f"CREATE TABLE public.keyed (id {kind} PRIMARY KEY, value text)")
        return bench

    return make


def journalled(bench: Bench, side: model.StoreName) -> set[tuple[str, ...]]:
    with contextlib.closing(bench.system.store(side)) as store:
        return {entry.key for entry in capture.entries(store, ["keyed"], limit=100)}


def apply(bench: Bench, found: set[tuple[str, ...]]) -> Any:
    transform = bench.system.transform("keyed")
    with contextlib.closing(bench.system.flat()) as flat, bench.system.ledger.connection() as session:
        return applier.Applier(transform, session=session, flat=flat).apply(sorted(found))


@contextlib.contextmanager
def both(bench: Bench) -> Iterator[tuple[Connection, Connection]]:
    with contextlib.closing(bench.system.flat()) as flat, contextlib.closing(bench.system.hier()) as hier:
        yield flat, hier


def test_every_type_of_the_list_is_tried() -> None:
    """What is added to the list is added here."""
    assert VALUES.keys() == keys.KEY_TYPES


@pytest.mark.parametrize("kind", sorted(VALUES))
def test_a_key_of_every_type_is_captured_applied_and_brought_back_by_one_text(
    made: Callable[[str], Bench], kind: str
) -> None:
    """From the application's spelling to the journal, the other store and back."""
    bench = made("character(3)" if kind == "character" else kind)
    first, again = VALUES[kind]
    category = bench.system.category("keyed")
    with both(bench) as (flat, hier):
        category_check.check_category(category, flat, hier)
        for side, store in ((FLAT, flat), (HIER, hier)):
            store.rollback()
            capture_triggers.install(store, category, side)
        write_mode.set_state(flat, WriteState(mode=Mode.DUAL_WRITE, epoch=2))
    bench.flat("INSERT INTO public.keyed VALUES (%s, 'old')", first)
    bench.flat("UPDATE public.keyed SET id = %s, value = 'new'", again)
    (key,) = journalled(bench, FLAT)
    assert apply(bench, {key}).written == [key]
    assert bench.hier("SELECT id::text, value FROM public.keyed") == bench.flat("SELECT id::text, value FROM keyed")
    bench.covered("keyed")
    assert summary(bench.verify("keyed")) == {}
    with both(bench) as (flat, hier):
        for store in (flat, hier):
            write_mode.set_state(store, WriteState(mode=Mode.HIERARCHICAL_ONLY, epoch=3))
        bench.hier("UPDATE public.keyed SET id = %s, value = 'newest'", first)
        assert journalled(bench, HIER) == {key}
        assert Returner(bench.system.transform("keyed"), flat=flat, hier=hier).apply([key]).written == [key]
    assert bench.hier("SELECT id::text, value FROM public.keyed") == bench.flat("SELECT id::text, value FROM keyed")
    assert [value for (value,) in bench.flat("SELECT value FROM keyed")] == ["newest"]


@pytest.mark.parametrize("second", ["1.0", "1.00"])
def test_the_last_write_wins_in_whatever_spelling(made: Callable[[str], Bench], second: str) -> None:
    """Two appliers of one key exclude each other, though the application has spelled it anew between them."""
    bench = made("numeric")
    bench.flat("INSERT INTO public.keyed VALUES (1.0, 'old')")
    bench.flat(f"UPDATE public.keyed SET id = {second}, value = 'new'")
    later: list[Any] = []
    pool = ThreadPoolExecutor(1)

    read = applier._Target.read

    def slowly(target: Any, keys: Any) -> Any:
        found = read(target, keys)
        if not later:
            bench.flat("UPDATE public.keyed SET value = 'newer'")
            later.append(pool.submit(apply, bench, {(second,)}))
            with contextlib.suppress(TimeoutError):  # it waits for the lock, or is done
                later[0].result(1.5)
        return found

    with pool, mock.patch.object(applier._Target, "read", slowly):
        apply(bench, {("1.0",)})
        later[0].result(20)
    assert bench.hier("SELECT id::text, value FROM public.keyed") == [(second, "newer")]


def test_the_judges_agree_about_what_is_held(made: Callable[[str], Bench]) -> None:
    """A key in quarantine stays there when it is spelled anew, and its retry releases it."""
    bench = made("numeric")
    bench.flat("INSERT INTO public.keyed VALUES (1.0, 'a')")
    bench.covered("keyed")
    transform = bench.system.transform("keyed")
    with bench.system.ledger.begin() as session:
        quarantine.hold(
            session, category="keyed", key=transform.canonical(("1.0",)), error="x", payload=None,
            transform_version=1, run_id=None,
        )  # fmt: skip
    bench.flat("UPDATE public.keyed SET id = 1.00 WHERE id = 1")
    assert summary(bench.verify("keyed")) == {"quarantined": {"1"}}
    category = bench.system.category("keyed")
    with both(bench) as (flat, hier):
        state = write_mode.state(hier)
        hier.rollback()
        with bench.system.ledger.begin() as session:
            sides = judge.sides(session, category, state, flat=flat, hier=hier)
        for spelled in ("1.0", "1.00"):
            (judged,) = judge.judge(sides, [(spelled,)])
            assert (judged.key, judged.held) == (("1",), True)
            (left,) = Mender(bench.system, policy=RepairPolicy.AUTO).settle(sides, [(spelled,)])
            assert (left.action, left.reason) == (Action.LEFT, "held in quarantine")
    assert bench.hier("SELECT count(*) FROM public.keyed") == [(0,)]
    apply(bench, {("1.00",)})
    assert bench.hier("SELECT status FROM hal9mig.quarantine") == [("released",)]
    assert summary(bench.verify("keyed")) == {}


def test_what_is_held_in_a_spelling_from_before_is_released(made: Callable[[str], Bench]) -> None:
    """The quarantine may be older than the rule that a key has one text."""
    bench = made("numeric")
    bench.flat("INSERT INTO public.keyed VALUES (1.0, 'a')")
    with bench.system.ledger.begin() as session:
        quarantine.hold(
            session, category="keyed", key=("1.0",), error="x", payload=None, transform_version=1, run_id=None
        )
    apply(bench, {("1.0",)})
    assert bench.hier("SELECT status FROM hal9mig.quarantine") == [("released",)]


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("double precision", "-0 equals 0"),
        ("interval", "'24 hours' equals '1 day'"),
        ("jsonb", "1.0 equals 1.00"),
        ("text[]", "one text only"),
        ("int4range", "one text only"),
        ("time with time zone", "one text only"),
    ],
)  # fmt: skip
def test_a_key_of_two_texts_is_refused(open_bench: Callable[..., Bench], kind: str, why: str) -> None:
    """With the reason and what to do, on the side that has it."""
    bench = open_bench(keyed(("id", kind)))
    for run in (bench.flat, bench.hier):
        run(f"CREATE TABLE public.keyed (id {kind} PRIMARY KEY, value text)")
    with both(bench) as (flat, hier), pytest.raises(errors.SchemaMismatch) as caught:
        category_check.check_category(bench.system.category("keyed"), flat, hier)
    assert why in caught.value.message
    assert "flat store: public.keyed.id" in caught.value.message
    assert "hierarchical store: public.keyed.id" in caught.value.message
    assert "docs/categories.md" in (caught.value.hint or "")


def test_a_key_under_a_nondeterministic_collation_is_refused(
    open_bench: Callable[..., Bench], stores: servers.Stores
) -> None:
    """Two texts of other bytes are one key there."""
    bench = open_bench(keyed(("id", "text")))
    bench.flat("CREATE TABLE public.keyed (id text PRIMARY KEY, value text)")
    bench.hier(
        'CREATE COLLATION loose FROM "C"; CREATE TABLE public.keyed (id text COLLATE loose PRIMARY KEY, value text)'
    )
    # Only ICU makes such collations, and not every build has it; what is asked is what the server says of one.
    admin = psycopg2.connect(stores.hier_cluster.admin_url(f"hier_{stores.name}"))
    with contextlib.closing(admin), admin, admin.cursor() as cursor:
        cursor.execute("UPDATE pg_collation SET collisdeterministic = false WHERE collname = 'loose'")
    with both(bench) as (flat, hier), pytest.raises(errors.SchemaMismatch) as caught:
        category_check.check_category(bench.system.category("keyed"), flat, hier)
    assert "hierarchical store: public.keyed.id has a nondeterministic collation" in caught.value.message
    assert "flat store" not in caught.value.message
