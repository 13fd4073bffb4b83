"""Columns of domain types, declared by the domain's name or by what it is made of."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hal9mig.categories.declaration import Category, Column, Pass, Role, Source, Target
from hal9mig.stores import category_check
from tests.support.verify_bench import Bench, summary

MADE = """
CREATE DOMAIN posint AS integer CHECK (value > 0);
CREATE DOMAIN small AS posint CHECK (value < 1000);
CREATE DOMAIN code AS text;
CREATE TABLE domains (id small PRIMARY KEY, pos posint, name code);
"""


def domains(key: str, pos: str, name: str) -> Category:
    return Category(
        slug="domains",
        title="Domains",
        source=Source(
            schema="public",
            table="domains",
            columns=(Column("id", key), Column("pos", pos), Column("name", name)),
            key=("id",),
        ),
        targets=(
            Target(
                schema="public",
                table="domains",
                role=Role.ROOT,
                columns=(Pass("id", "id"), Pass("pos", "pos"), Pass("name", "name")),
                key=("id",),
                owner=("id",),
            ),
        ),
        rebuild="SELECT a.id, a.pos, a.name FROM public.domains a WHERE RANGE(a.id)",
    )


@pytest.mark.parametrize(
    "types", [("integer", "posint", "code"), ("integer", "integer", "text"), ("integer", "small", "text")]
)
def test_they_are_migrated_and_compared(open_bench: Callable[..., Bench], types: tuple[str, str, str]) -> None:
    bench = open_bench(domains(*types))
    for run in (bench.flat, bench.hier):
        run(MADE)
    bench.flat("INSERT INTO domains SELECT n, n * 2, 'name ' || n FROM generate_series(1, 300) AS n")
    flat, hier = bench.desk.flat("test"), bench.desk.hier("test")
    with flat, hier:
        assert category_check.problems(bench.system.category("domains"), flat, hier) == []
    bench.migrate("domains")
    assert bench.hier("SELECT count(*), sum(pos) FROM domains") == bench.flat("SELECT count(*), sum(pos) FROM domains")
    assert bench.verify("domains").consistent
    bench.hier("UPDATE domains SET pos = 7 WHERE id = 100")
    found = bench.verify("domains")
    assert (found.mismatches, found.differences[0].key) == (1, ("100",)), summary(found)


def test_another_type_is_told(open_bench: Callable[..., Bench]) -> None:
    bench = open_bench(domains("integer", "bigint", "posint"))
    for run in (bench.flat, bench.hier):
        run(MADE)
    flat, hier = bench.desk.flat("test"), bench.desk.hier("test")
    with flat, hier:
        found = "; ".join(category_check.problems(bench.system.category("domains"), flat, hier))
    assert "flat store: public.domains.pos is integer, not bigint" in found
    assert "flat store: public.domains.name is text, not integer" in found
