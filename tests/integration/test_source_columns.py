"""No column of the source is left behind without a word."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from hal9mig import errors
from hal9mig.categories.declaration import Column
from hal9mig.engine.coordinator import Coordinator, MigrateOrder
from hal9mig.engine.reconcile import alarm_rules, reconciler
from hal9mig.engine.switch import gate
from hal9mig.engine.switch.switch import Switch
from hal9mig.ledger import raised_alarms
from hal9mig.stores import category_check
from tests.support import migration_driver, servers, verify_bench
from tests.support.verify_bench import Bench, keyed


def problems(bench: Bench) -> list[str]:
    flat, hier = bench.desk.flat("test"), bench.desk.hier("test")
    with flat, hier:
        return category_check.problems(bench.system.category("keyed"), flat, hier)


@pytest.fixture
def bench(open_bench: Callable[..., Bench]) -> Bench:
    made = open_bench(keyed(("id", "integer")))
    for run in (made.flat, made.hier):
        run("CREATE TABLE public.keyed (id integer PRIMARY KEY, value text)")
    assert problems(made) == []
    return made


UNDECLARED = (
    "flat store: public.keyed.extra is not declared, and would be left behind: declare it, or name it in "
    'ignored=("extra",)'
)


def test_one_that_was_forgotten_is_refused_before_anything_starts(bench: Bench) -> None:
    bench.flat("ALTER TABLE public.keyed ADD COLUMN extra text")
    assert problems(bench) == [UNDECLARED]
    coordinator = Coordinator(bench.system, actor="test")
    for start in (lambda: coordinator.plan(MigrateOrder(category="keyed")), lambda: coordinator.verify("keyed")):
        with pytest.raises(errors.SchemaMismatch, match=r"public\.keyed\.extra is not declared"):
            start()


def test_one_that_comes_while_live_is_told_and_keeps_the_gate_shut(bench: Bench) -> None:
    Switch(bench.system, actor="test").enable()
    bench.flat("ALTER TABLE public.keyed ADD COLUMN extra text")
    (found,) = [one for one in gate.look(bench.system) if one.name == "declaration of keyed"]
    assert (found.holds, found.evidence) == (False, UNDECLARED)
    assert reconciler.round_(bench.system, bench.desk) is not None
    with bench.system.ledger.begin() as session:
        (alarm,) = [one for one in raised_alarms.find(session, open=True) if one.name == alarm_rules.UNDECLARED]
    assert UNDECLARED in alarm.message


def test_generated_ones_and_those_left_out_by_name_are_none_of_it(bench: Bench) -> None:
    bench.flat("ALTER TABLE public.keyed ADD COLUMN twice integer GENERATED ALWAYS AS (id * 2) STORED, ADD extra text")
    category = bench.system.category("keyed")
    source = dataclasses.replace(category.source, ignored=("extra",))
    flat, hier = bench.desk.flat("test"), bench.desk.hier("test")
    with flat, hier:
        assert category_check.problems(dataclasses.replace(category, source=source), flat, hier) == []
        gone = dataclasses.replace(
            source, ignored=("extra", "other"), columns=(*source.columns, Column("more", "text"))
        )
        found = category_check.problems(dataclasses.replace(category, source=gone), flat, hier)
    assert "flat store: public.keyed.other is to be ignored, and is not there" in found
    assert "flat store: public.keyed.more is missing" in found


@pytest.mark.parametrize(
    ("kind", "told"), [("interval", "'24 hours' equals '1 day'"), ("numeric", ""), ("numeric(10,2)", ""), ("text", "")]
)
def test_a_key_of_which_two_texts_are_one_is_refused(open_bench: Callable[..., Bench], kind: str, told: str) -> None:
    made = open_bench(keyed(("id", kind)))
    for run in (made.flat, made.hier):
        run(f"CREATE TABLE public.keyed (id {kind} PRIMARY KEY, value text)")
    found = "; ".join(problems(made))
    assert told in found if told else found == ""


def test_a_key_under_a_nondeterministic_collation_is_refused(
    open_bench: Callable[..., Bench], stores: servers.Stores
) -> None:
    made = open_bench(keyed(("id", "text")))
    made.flat('CREATE COLLATION loose FROM "C"')
    made.flat("CREATE TABLE public.keyed (id text COLLATE loose PRIMARY KEY, value text)")
    made.hier("CREATE TABLE public.keyed (id text PRIMARY KEY, value text)")
    assert problems(made) == []
    # Not every build has ICU, which alone makes such collations.
    with migration_driver.connected(stores.flat_cluster.admin_url(stores.flat_url.rpartition("/")[2])) as admin:
        admin.execute("UPDATE pg_collation SET collisdeterministic = false WHERE collname = 'loose'")
    assert "has a nondeterministic collation, so two texts can be one key" in "; ".join(problems(made))


def test_a_row_that_the_rebuild_query_does_not_bring_back_is_missing(open_bench: Callable[..., Bench]) -> None:
    """However whole the tables are: it is what the way back would lose."""
    category = keyed(("id", "integer"))
    made = open_bench(dataclasses.replace(category, rebuild=f"{category.rebuild} AND k.value <> 'lost'"))
    for run in (made.flat, made.hier):
        run("CREATE TABLE public.keyed (id integer PRIMARY KEY, value text)")
    made.flat("INSERT INTO public.keyed VALUES (1, 'kept'), (2, 'lost'), (3, NULL)")
    Switch(made.system, actor="test").enable()
    made.migrate("keyed", tuning={"validation-mode": "off"})
    assert made.hier("SELECT count(*) FROM public.keyed") == [(3,)]
    found = made.verify("keyed")
    assert verify_bench.summary(found) == {"missing": {"2", "3"}}
    assert not found.consistent
    assert reconciler.round_(made.system, made.desk) is not None
    (clean,) = [one for one in gate.look(made.system) if one.name == "clean pass over keyed"]
    assert not clean.holds
