"""Verify, the rounds and a repair ask one judge, so that they say the same of one record."""

from __future__ import annotations

from collections.abc import Callable

from hal9mig.engine.compare import judge
from hal9mig.engine.compare.judge import Judgement
from hal9mig.engine.reconcile.repair import Action, Mender, RepairPolicy
from hal9mig.ledger import quarantine
from hal9mig.ledger.drifts import Cause
from hal9mig.stores import write_mode
from tests.support.verify_bench import Bench, keyed, summary


def sides(bench: Bench) -> judge.Sides:
    flat, hier = bench.desk.flat("test"), bench.desk.hier("test")
    state = write_mode.state(hier)
    hier.rollback()
    with bench.system.ledger.begin() as session:
        return judge.sides(session, bench.system.category("keyed"), state, flat=flat, hier=hier)


def test_what_is_held_is_held_for_all_however_its_key_is_spelled(open_bench: Callable[..., Bench]) -> None:
    """A key has one text; rows of before that was so are judged by their value."""
    bench = open_bench(keyed(("id", "numeric")))
    for run in (bench.flat, bench.hier):
        run("CREATE TABLE public.keyed (id numeric PRIMARY KEY, value text)")
    bench.flat("INSERT INTO public.keyed VALUES (1.0, 'a')")
    bench.covered("keyed")
    with bench.system.ledger.begin() as session:
        quarantine.hold(
            session, category="keyed", key=("1.0",), error="x", payload=None, transform_version=1, run_id=None
        )
    bench.flat("UPDATE public.keyed SET id = 1.00 WHERE id = 1")
    assert summary(bench.verify("keyed")) == {"quarantined": {"1"}}
    both = sides(bench)
    (judged,) = judge.judge(both, [("1.00",)])
    assert (judged.state, judged.held) == (Judgement.DRIFTS, True)
    (found,) = Mender(bench.system, policy=RepairPolicy.AUTO).settle(both, [("1.00",)])
    assert (found.cause, found.action) == (Cause.QUARANTINE, Action.LEFT)
    assert bench.hier("SELECT count(*) FROM public.keyed") == [(0,)]
    assert summary(bench.verify("keyed")) == {"quarantined": {"1"}}


def test_each_kind(open_bench: Callable[..., Bench]) -> None:
    bench = open_bench(keyed(("id", "integer")))
    for run in (bench.flat, bench.hier):
        run("CREATE TABLE public.keyed (id integer PRIMARY KEY, value text)")
    bench.flat("INSERT INTO public.keyed VALUES (1, 'same'), (2, 'missing'), (3, 'flat')")
    bench.hier("INSERT INTO public.keyed VALUES (1, 'same'), (3, 'hier'), (4, 'extra')")
    pending = judge.judge(sides(bench), [("2",)])
    assert [one.state for one in pending] == [Judgement.PENDING]
    bench.covered("keyed")
    verified = summary(bench.verify("keyed"))
    judged = {one.key[0]: one for one in judge.judge(sides(bench), [(str(n),) for n in range(1, 6)])}
    assert verified == {"missing": {"2"}, "mismatch": {"3"}, "extra": {"4"}}
    assert {str(one.kind): {key} for key, one in judged.items() if one.state is Judgement.DRIFTS} == verified
    assert [judged[key].state for key in ("1", "5")] == [Judgement.AGREES, Judgement.AGREES]
