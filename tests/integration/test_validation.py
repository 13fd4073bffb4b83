"""The named checks of ``state validate``: each passes on equal stores, and fails when real data is broken."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import pytest

from hal9mig.checks import validation
from hal9mig.checks.validation import Effort, Head
from hal9mig.ledger.check_results import CheckOutcome, CheckVerdict
from hal9mig.model import StoreName
from tests.support import live_state, servers
from tests.support.live_state import CONFIGURATION, NEURONS, SESSIONS, World, session
from tests.support.verify_bench import Bench, keyed

METADATA = "metadata"
PASSED, FAILED, SKIPPED = CheckVerdict.PASSED, CheckVerdict.FAILED, CheckVerdict.SKIPPED
KEY = "00000000-0000-0000-0000-00000000000{}"


@pytest.fixture
def world(stores: servers.Stores, stack_env: dict[str, str]) -> Iterator[World]:
    with live_state.opened(stores, stack_env) as opened:
        yield opened


def checked(
    world: World, category: str, heads: Collection[Head] = (Head.CONTINUITY, Head.INTEGRITY), **effort: object
) -> dict[str, CheckOutcome]:
    """Run checks of a category and return their outcomes by name."""
    found = validation.validate(
        world.system,
        [world.system.category(category)],
        heads,
        effort=Effort(**effort),  # type: ignore[arg-type]
        actor="test",
    )
    return {one.name: one for one in found}


def verdicts(found: dict[str, CheckOutcome]) -> dict[str, CheckVerdict]:
    return {name: one.verdict for name, one in found.items()}


def failed(found: dict[str, CheckOutcome]) -> set[str]:
    return {name for name, one in found.items() if one.verdict is FAILED}


def test_equal_stores_pass_in_every_category(world: World) -> None:
    world.load()
    world.migrate()
    for category in world.system.registry.ordered():
        found = checked(world, category.slug, list(Head), bound=1000.0)
        # Metadata has neither foreign keys nor parts, which is nothing to pass.
        skipped = {"integrity:references"} if category.slug == METADATA else set()
        assert {name for name, one in found.items() if one.verdict is not PASSED} == skipped, found
        assert ("integrity:chain" in found) == (category.slug == METADATA)
    with world.system.ledger.begin() as opened:
        assert validation.failures(opened, world.system.registry.ordered()) == (26, [])


def test_what_has_nothing_to_look_at_is_skipped(world: World) -> None:
    """Neither an empty store nor one of which nothing is migrated passes anything that compares."""
    assert set(verdicts(checked(world, SESSIONS, list(Head))).values()) == {SKIPPED}
    assert set(verdicts(checked(world, METADATA, list(Head))).values()) == {SKIPPED}
    world.load()
    for category in (SESSIONS, METADATA):
        found = checked(world, category, list(Head))
        constraints = {"integrity:constraints"} | ({"integrity:references"} if category == SESSIONS else set())
        assert {name for name, one in found.items() if one.verdict is not SKIPPED} == constraints
        assert not failed(found)


def test_a_session_is_broken_by_another_user_token_or_expiry(world: World) -> None:
    with world.client() as client:
        for number in range(4):
            client.put(SESSIONS, session(KEY.format(number), "here"))
    world.migrate(SESSIONS)
    assert not failed(checked(world, SESSIONS))
    for change in ("user_id = 'user 9'", "token_hash = 'stolen'", "expires_at = 'infinity'"):
        world.hier_sql("INSERT INTO hier.users VALUES ('user 9') ON CONFLICT DO NOTHING")
        world.hier_sql("CREATE TABLE IF NOT EXISTS public.kept AS SELECT * FROM hier.sessions")
        world.hier_sql(f"UPDATE hier.sessions SET {change} WHERE session_id = %s", KEY.format(2))
        found = checked(world, SESSIONS)
        assert failed(found) == {"continuity", "integrity:digests"}
        assert KEY.format(2) in found["continuity"].detail
        assert "state diff --category user-sessions" in found["continuity"].next_command
        world.hier_sql(
            "UPDATE hier.sessions s SET user_id = k.user_id, token_hash = k.token_hash, expires_at = k.expires_at "
            "FROM public.kept k WHERE k.session_id = s.session_id"
        )
    assert not failed(checked(world, SESSIONS))


def test_a_lost_session_and_one_too_many(world: World) -> None:
    with world.client() as client:
        client.put(SESSIONS, session(KEY.format(1), "one"))
    world.migrate(SESSIONS)
    world.hier_sql("DELETE FROM hier.sessions")
    assert failed(checked(world, SESSIONS)) == {"continuity", "integrity:references", "integrity:digests"}
    world.hier_sql("DELETE FROM hier.session_attributes")
    assert failed(checked(world, SESSIONS)) == {"continuity", "integrity:digests"}
    world.flat_sql("DELETE FROM flat.user_sessions")
    assert not failed(checked(world, SESSIONS))
    world.hier_sql("INSERT INTO hier.users VALUES ('user 1') ON CONFLICT DO NOTHING")
    world.hier_sql(
        "INSERT INTO hier.sessions VALUES (%s, 'user 1', 't', NULL, NULL, true, now(), now(), NULL, 1)", KEY.format(1)
    )
    assert failed(checked(world, SESSIONS)) == {"integrity:digests"}


def test_a_write_on_its_way_is_no_difference(world: World) -> None:
    world.only(SESSIONS)
    with world.client() as client:
        client.put(SESSIONS, session(KEY.format(1), "one"))
        client.put(SESSIONS, session(KEY.format(2), "one"))
        world.switch.enable()
        world.migrate(SESSIONS)
        world.drain()
    world.flat_sql(
        "UPDATE flat.user_sessions SET token_hash = 'new', version = version + 1 WHERE session_id = %s", KEY.format(1)
    )
    found = checked(world, SESSIONS)
    assert not failed(found)
    assert found["continuity"].measured["written_meanwhile"] == 1
    world.drain()
    assert checked(world, SESSIONS)["continuity"].measured["written_meanwhile"] == 0


def test_after_the_switch_the_hierarchical_store_is_asked(world: World) -> None:
    world.only(CONFIGURATION)
    world.load(0.0002, CONFIGURATION)
    world.prepare(over=True)
    assert not failed(checked(world, CONFIGURATION))
    world.flat_sql("ALTER TABLE flat.configuration DISABLE TRIGGER USER")
    world.flat_sql("UPDATE flat.configuration SET value = '\"other\"'")
    assert failed(checked(world, CONFIGURATION)) == {"continuity", "integrity:digests"}


def test_constraints_and_references(world: World) -> None:
    world.load(0.0002, SESSIONS, NEURONS)
    world.migrate(SESSIONS, NEURONS)
    world.hier_sql("ALTER TABLE hier.units ADD CONSTRAINT small CHECK (activation < -5) NOT VALID")
    found = checked(world, NEURONS)["integrity:constraints"]
    assert found.verdict is FAILED
    assert "small is not validated" in found.detail
    assert "rows break small" in found.detail
    world.hier_sql("DELETE FROM hier.units WHERE unit_id = (SELECT unit_id FROM hier.units LIMIT 1)")
    assert "1 records have parts" in checked(world, NEURONS)["integrity:references"].detail
    world.hier_sql(
        "ALTER TABLE hier.sessions DROP CONSTRAINT sessions_user_id_fkey; DELETE FROM hier.users; "
        "ALTER TABLE hier.sessions ADD FOREIGN KEY (user_id) REFERENCES hier.users NOT VALID"
    )
    assert failed(checked(world, SESSIONS)) == {"integrity:constraints", "integrity:references"}
    world.hier_sql("ALTER TABLE hier.session_attributes RENAME TO gone")
    found_all = checked(world, SESSIONS, list(Head))
    assert failed(found_all) == {"integrity:constraints"}
    assert set(verdicts(found_all).values()) == {FAILED, SKIPPED}


class TestChain:
    """The audit trail's first broken link is named, whichever store has it."""

    @pytest.fixture
    def entries(self, world: World) -> list[int]:
        world.load(0.0002, METADATA)
        world.migrate(METADATA)
        return [number for (number,) in world.hier_sql("SELECT id FROM hier.audit_events ORDER BY id")]

    def chain(self, world: World) -> CheckOutcome:
        return checked(world, METADATA)["integrity:chain"]

    @pytest.mark.parametrize("at", [0, 3, -1])
    def test_an_entry_that_was_lost(self, world: World, entries: list[int], at: int) -> None:
        assert self.chain(world).measured["hierarchical_entries"] == len(entries)
        world.hier_sql("DELETE FROM hier.audit_events WHERE id = %s", entries[at])
        found = self.chain(world)
        assert found.verdict is FAILED
        assert f"entry {entries[at]} in the {StoreName.HIERARCHICAL} store only" in found.detail

    def test_an_entry_that_was_changed(self, world: World, entries: list[int]) -> None:
        world.hier_sql(
            'UPDATE hier.audit_events SET payload = payload || \'{"actor": "HAL"}\' WHERE id = ANY(%s)', entries[2:4]
        )
        assert f"entry {entries[2]} in the hierarchical store only" in self.chain(world).detail

    def test_broken_before_the_move(self, world: World, entries: list[int]) -> None:
        for run, table in ((world.flat_sql, "flat.operational_metadata"), (world.hier_sql, "hier.audit_events")):
            run(f'UPDATE {table} SET payload = payload || \'{{"actor": "HAL"}}\' WHERE id = %s', entries[1])
        found = self.chain(world)
        assert found.verdict is FAILED
        assert f"entry {entries[1]} in both stores" in found.detail


def test_reads_that_take_too_long(world: World) -> None:
    """No store reads in a ten-thousandth of the other's time, which is a bound as good as any."""
    world.load(0.0002, CONFIGURATION)
    world.migrate(CONFIGURATION)
    slow = checked(world, CONFIGURATION, [Head.PERFORMANCE], bound=0.0001, sla=0.0)["performance:read"]
    assert slow.verdict is FAILED
    noise = checked(world, CONFIGURATION, [Head.PERFORMANCE], bound=0.0001, sla=60_000.0)["performance:read"]
    assert noise.verdict is PASSED
    assert "within the SLA of 60000 ms" in noise.detail
    found = checked(world, CONFIGURATION, [Head.PERFORMANCE], bound=1000.0)["performance:read"]
    assert found.verdict is PASSED
    assert found.measured["flat_p50_ms"] <= found.measured["flat_p95_ms"]


def test_a_category_of_somebodys_own(open_bench: Callable[..., Bench]) -> None:
    """It has the generic checks, of its declaration."""
    bench = open_bench(keyed(("id", "integer"), ("part", "text")))
    for run in (bench.flat, bench.hier):
        run("CREATE TABLE public.keyed (id integer, part text, value text, PRIMARY KEY (id, part))")
        run("INSERT INTO public.keyed SELECT n, 'p/' || n, 'v' FROM generate_series(1, 9) n")
    bench.covered("keyed")
    assert [one.name for one in validation.checks_of(bench.system.category("keyed"))] == [
        "continuity", "integrity:constraints", "integrity:references", "integrity:digests", "performance:read",
    ]  # fmt: skip
