"""Restores that are killed at a step: a checkpoint of stores in one mode, which are spoilt and restored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hal9mig import model
from hal9mig.engine.checkpoint import restore, steps
from hal9mig.engine.checkpoint.keeper import Keeper
from hal9mig.engine.checkpoint.swap import Swap
from hal9mig.engine.transfer import follower
from hal9mig.ledger import batches
from hal9mig.stores import shadow
from hal9mig.stores.write_mode import Mode
from tests.support import checkpoint_runs
from tests.support.checkpoint_runs import Keeping
from tests.support.migration_driver import connected

FLAT, HIER = model.StoreName.FLAT, model.StoreName.HIERARCHICAL
NAME = "before"


class Killed(BaseException):
    """What no code catches, as a SIGKILL: only the servers undo what was not committed."""


class World:
    """A checkpoint of stores in one mode, and what they held then."""

    def __init__(self, keeping: Keeping, mode: Mode):
        self.keeping = keeping
        self.driver = keeping.driver
        self.mode = mode
        self.ruling = mode.ruling
        self.other = HIER if mode.ruling is FLAT else FLAT
        self.before = checkpoint_runs.both(keeping.driver)

    def url(self, store: model.StoreName) -> str:
        return self.driver.stores.flat_url if store is FLAT else self.driver.stores.hier_url

    def ask(self, store: model.StoreName, query: str) -> list[tuple[Any, ...]]:
        with connected(self.url(store)) as cursor:
            cursor.execute(query)
            return list(cursor.fetchall()) if cursor.description else []

    def spoil(self) -> None:
        """Write to the ruling store, as an application that has gone wrong; what is captured is brought over."""
        if self.ruling is FLAT:
            self.ask(FLAT, "UPDATE flat.user_sessions SET user_agent = 'spoilt'")
            self.ask(FLAT, "DELETE FROM flat.neuron_states WHERE layer <> 'protocol'")
            self.ask(FLAT, "DELETE FROM flat.configuration WHERE key <> (SELECT min(key) FROM flat.configuration)")
        else:
            self.ask(HIER, "UPDATE hier.sessions SET user_agent = 'spoilt'")
            self.ask(HIER, "UPDATE hier.units SET activation = 0.625")
            self.ask(HIER, "DELETE FROM hier.config_values WHERE path <> (SELECT min(path) FROM hier.config_values)")
        self.follow()

    def write(self, agent: str) -> None:
        """Write one record of the ruling store, as its application."""
        table = "flat.user_sessions" if self.ruling is FLAT else "hier.sessions"
        self.ask(
            self.ruling,
            f"UPDATE {table} SET user_agent = '{agent}' "
            f"WHERE session_id = (SELECT session_id FROM {table} ORDER BY session_id LIMIT 1)",
        )

    def written(self, agent: str) -> list[int]:
        """Return how many records of each store were written so."""
        count = "SELECT count(*) FROM {} WHERE user_agent = '" + agent + "'"
        tables = ((FLAT, "flat.user_sessions"), (HIER, "hier.sessions"))
        return [self.ask(store, count.format(table))[0][0] for store, table in tables]

    def follow(self) -> follower.Followed:
        """Apply what waits in the ruling store's journal."""
        flat, hier = self.driver.desk.flat("follow"), self.driver.desk.hier("follow")
        return follower.follow(self.driver.system, flat, hier, self.ruling, seconds=30)

    def waiting(self) -> int:
        return int(self.ask(self.ruling, "SELECT count(*) FROM hal9cap.journal")[0][0])

    def held(self) -> list[bool]:
        """Return whether each store is kept from being applied to."""
        return [bool(self.ask(store, "SELECT * FROM hal9cap.hold")) for store in (FLAT, HIER)]

    def shadows(self) -> list[bool]:
        """Return whether each store has shadow tables."""
        query = "SELECT 1 FROM pg_namespace WHERE nspname LIKE 'hal9\\_shadow%'"
        return [bool(self.ask(store, query)) for store in (FLAT, HIER)]

    def begin(self) -> int:
        """Start restoring and return the run's number."""
        return self.keeping.checkpoints.rollback(self.keeping.checkpoints.plan_restore(NAME)).id

    def status(self, run_id: int) -> model.RunStatus:
        return self.driver.run(run_id).status

    def look(self) -> None:
        """Do what a keeper does."""
        Keeper(self.driver.system, "keeper").look()

    def bury(self, run_id: int) -> None:
        """Have the ledger notice that the worker is dead."""
        self.driver.desk.clear()
        for one in self.driver.batches(run_id) + self.plan_of(run_id):
            if one["status"] == "leased":
                seq, attempt = one["seq"], one["attempt"]
                batches.expire_crashed(self.driver.system.ledger, run_id=run_id, seq=seq, attempt=attempt)

    def plan_of(self, run_id: int) -> list[dict[str, Any]]:
        with self.driver.system.ledger.begin() as session:
            return [dict(one) for one in batches.listing(session, run_id) if one["kind"] == "plan"]

    def work(self, run_id: int) -> model.Run:
        """Work a run to its end, however often the worker is killed."""
        while True:
            try:
                return self.driver.work(run_id)
            except Killed:
                self.bury(run_id)

    def until_killed(self, run_id: int) -> None:
        """Work a run until the worker is killed."""
        with pytest.raises(Killed):
            self.driver.work(run_id)
        self.bury(run_id)

    def assert_restored(self, run_id: int) -> None:
        run = self.driver.run(run_id)
        assert run.status is model.RunStatus.SUCCEEDED, run.reason
        assert checkpoint_runs.both(self.driver) == self.before
        self.assert_clean()

    def assert_clean(self) -> None:
        assert self.held() == [False, False]
        assert self.shadows() == [False, False]
        with self.driver.system.ledger.begin() as session:
            assert not session.execute("SELECT count(*) FROM hal9mig.shadows").scalar_one()


Act = Callable[[], None]


def once(act: Act, *, skip: int = 0) -> Act:
    """Return what acts one time only, after so many calls."""
    left = [skip + 1]

    def step() -> None:
        left[0] -= 1
        if not left[0]:
            act()

    return step


def kill() -> None:
    """Die as a worker that is killed."""
    raise Killed


def at(patch: pytest.MonkeyPatch, owner: Any, name: str, act: Act, *, after: bool = False) -> None:
    """Have a step of the product do something before, or after, it is taken."""
    step = owner[name] if isinstance(owner, dict) else getattr(owner, name)

    def taken(*args: Any, **values: Any) -> Any:
        if not after:
            act()
        result = step(*args, **values)
        if after:
            act()
        return result

    if isinstance(owner, dict):
        patch.setitem(owner, name, taken)
    else:
        patch.setattr(owner, name, taken)


#: Each step of a restore: who takes it, whether the worker dies before or after it, and at which time it is taken.
STEPS = {
    "before the first shadows": (shadow, "prepare", False, 0),
    "with the first shadows uncommitted": (shadow, "prepare", True, 0),
    "between the stores' shadows": (shadow, "prepare", False, 1),
    "with all shadows and no plan": (restore, "_planned", False, 0),
    "with a chunk claimed": (shadow, "claim", True, 1),
    "with a chunk loaded and uncommitted": (shadow, "settle", True, 2),
    "with a chunk loaded and not noted": (batches, "conclude", False, 4),
    "with indexes uncommitted": (shadow, "index", True, 1),
    "before the foreign keys": (shadow, "constrain", False, 1),
    "while it is proven": (steps.STEPS, "prove", False, 1),
    "before the hold": (Swap, "_hold", False, 0),
    "with the hold": (Swap, "_hold", True, 0),
    "with switches and appliers kept out": (Swap, "_alone", True, 0),
    "with one store swapped and uncommitted": (Swap, "_one", True, 0),
    "with both swapped and uncommitted": (Swap, "_one", True, 1),
    "before the first commit": (Swap, "_commit", False, 0),
    "between the commits": (Swap, "_commit", True, 0),
    "after the second commit": (Swap, "_commit", True, 1),
    "before the end is noted": (Swap, "_end", False, 0),
    "after the end is noted": (Swap, "_end", True, 0),
}
