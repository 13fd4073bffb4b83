"""Compares everything now, at an operator's word: the same ranges and the same judgement as the rounds."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Generator, Iterator, Sequence

from hal9mig import errors, model
from hal9mig.categories.declaration import Category
from hal9mig.engine.compare import judge
from hal9mig.engine.compare.judge import Sides
from hal9mig.engine.desk import Desk
from hal9mig.engine.reconcile import alarm_rules, reconciler
from hal9mig.engine.reconcile.alarm_rules import Waiting
from hal9mig.engine.reconcile.repair import Mender, Outcome, RepairPolicy
from hal9mig.engine.system import System
from hal9mig.ledger import instants, rounds, sweeps
from hal9mig.stores import capture
from hal9mig.stores.capture import Mode, State
from hal9mig.stores.connection import Connection

#: Seconds after which a pass lets others look: each such slice is a round, and goes on where the last one stopped.
_SLICE = 10.0
#: Seconds to wait for a round that is under way.
_PATIENCE = 120.0
#: Passes after which what still turns up is left: somebody makes it as fast as it is repaired.
_MOST_PASSES = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a pass is in a category."""

    category: str
    number: int
    compared: int
    found: int
    ended: bool


@dataclasses.dataclass(kw_only=True)
class Tally:
    """What was found in a category: records of the last pass, the outcome of each key, and whether it was clean."""

    compared: int = 0
    outcomes: dict[model.Key, Outcome] = dataclasses.field(default_factory=dict)
    clean: bool = False


class FullPass:
    """Passes over whole categories, on this process's connections.

    Attributes:
        found: by category, what there was.
        mode: the write mode all of it is about.
    """

    def __init__(
        self,
        system: System,
        desk: Desk,
        categories: Sequence[Category],
        *,
        insist: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._system = system
        self._desk = desk
        self._categories = categories
        self._insist = insist
        self._clock = clock
        self._sleep = sleep
        self._state = self._read_state()
        self.found: dict[str, Tally] = {category.slug: Tally() for category in categories}

    @property
    def mode(self) -> Mode:
        """The write mode."""
        return self._state.mode

    @property
    def outcomes(self) -> list[Outcome]:
        """What became of every record that drifted."""
        return [outcome for tally in self.found.values() for outcome in tally.outcomes.values()]

    def run(self, policy: RepairPolicy) -> Generator[Progress, None, None]:
        """Compare every category, repair as the policy says, and look again where something was found.

        Raises:
            errors.StaleEpoch: the write mode was switched meanwhile.
            errors.Refused: a round that is under way does not end.
            psycopg2.Error, errors.Unreachable: a server failed.
        """
        for category in self._categories:
            for number in range(1, _MOST_PASSES + 1):
                yield from self._pass(category, policy, number)
                tally = self.found[category.slug]
                if tally.clean or not any(one.repaired for one in tally.outcomes.values()):
                    break

    def settle(
        self, policy: RepairPolicy, category: Category, keys: Sequence[model.Key], *, chosen: bool = False
    ) -> Sequence[Outcome]:
        """Judge keys anew and repair them as the policy says, or all that an operator has ``chosen``."""
        with self._round() as (number, done):
            found = self._mender(policy, number, chosen=chosen).settle(self.sides(category), keys)
            done.outcomes += found
        tally = self.found[category.slug]
        agreeing = set(keys) - {one.key for one in found}
        tally.outcomes = {key: one for key, one in tally.outcomes.items() if key not in agreeing}
        tally.outcomes |= {one.key: one for one in found}
        return found

    def sides(self, category: Category) -> Sides:
        """Return both sides of a category."""
        with self._system.ledger.begin() as session:
            return judge.sides(session, category, self._state, flat=self._flat, hier=self._hier)

    def waiting(self) -> Waiting:
        """Return what waits in the ruling store's journal."""
        return alarm_rules.waiting(self._hier if self._state.mode is Mode.HIERARCHICAL_ONLY else self._flat)

    def _pass(self, category: Category, policy: RepairPolicy, number: int) -> Generator[Progress, None, None]:
        slug, tally = category.slug, self.found[category.slug]
        with self._system.ledger.begin() as session:
            sweeps.begin(session, slug)
        tally.compared = 0
        ended, differing = False, 0
        while not ended:
            with self._round() as (id, done):
                work = reconciler.Round(
                    self._system, self._desk, self._state, self._mender(policy, id), clock=self._clock, done=done
                )
                ends = self._clock() + _SLICE
                while not ended and self._clock() < ends:
                    before, known = done.compared, len(done.outcomes)
                    ended = work.range(category)
                    tally.compared += done.compared - before
                    differing += reconciler.differing(done.outcomes[known:])
                    tally.outcomes |= {one.key: one for one in done.outcomes[known:]}
                    yield Progress(
                        category=slug, number=number, compared=tally.compared, found=len(tally.outcomes), ended=ended
                    )
        tally.clean = differing == 0

    @contextlib.contextmanager
    def _round(self) -> Iterator[tuple[int, reconciler.Done]]:
        """Be the one who does a round, for the length of a block."""
        done, began = reconciler.Done(), self._clock()
        with contextlib.ExitStack() as stack:
            guard = stack.enter_context(self._system.ledger.begin())
            until = began + _PATIENCE
            while not rounds.lock(guard):
                if self._clock() > until:
                    raise errors.Refused("A round of the reconciler is under way and does not end.", hint="try again")
                self._sleep(0.1)
            with self._system.ledger.begin() as session:
                number = rounds.begin(session)
            began = self._clock()
            try:
                yield number, done
            finally:
                done.seconds = self._clock() - began
                reconciler.end(self._system, number, done, self.waiting())

    def _mender(self, policy: RepairPolicy, number: int, *, chosen: bool = False) -> Mender:
        # Somebody waits for it, so it waits for the budget.
        return Mender(
            self._system, policy=policy, round=number, insist=self._insist, chosen=chosen, patience=60.0
        )  # fmt: skip

    @property
    def _flat(self) -> Connection:
        return self._desk.flat("reconcile")

    @property
    def _hier(self) -> Connection:
        return self._desk.hier("reconcile")

    def _read_state(self) -> State:
        state = capture.state(self._hier)
        self._hier.rollback()
        if state.mode is Mode.CLOSED:
            raise errors.Refused("The write mode is being switched.", hint="hal9-migrate mode")
        with self._system.ledger.begin() as session:
            reason = instants.standstill(session)
        if reason:
            raise errors.Refused(f"The stores are not to be repaired now: {reason}.", hint="hal9-migrate mode")
        return state
