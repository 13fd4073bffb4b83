"""A model of one record and a restore of both its stores, small enough to try every interleaving of it.

A writer of the application, appliers of the ruling store's journal, switches that are ordered meanwhile, and a worker
that swaps both stores as ``hal9mig/engine/checkpoint/swap.py`` does, and may be killed before any step. PostgreSQL's
part: a transaction's locks end with it; what two databases commit, they commit one after the other. A switch is one
step here: what may come between its own is tried by ``switch_model``.

Values are numbers: 1 is the flat store's at the checkpoint, what the application writes is larger. What was written
last since the first store was swapped, or else the checkpoint's, has to be in both stores at the end.

``explore`` returns the states that are wrong: at rest with another value somewhere, or stuck.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Literal

from tests.convergence import interleavings

Side = Literal["flat", "hier"]
#: The flat store's value at the checkpoint, and the number of the line that the journal may have had of it.
THEN, LINE_THEN = 1, 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
    """The lines of a restore that can be left out, to see that the model notices."""

    ruling_store_first: bool = True
    holds_the_other: bool = True
    hold_outlives_a_crash: bool = True
    waits_for_appliers: bool = True
    notes_with_the_swap: bool = True
    restores_the_journal: bool = True
    restored_lines_are_new: bool = True
    both_ready_before_the_first_commits: bool = True
    goes_on_once_one_is_swapped: bool = True
    switch_asks_for_the_hold: bool = True
    asks_whether_it_was_restored: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Store:
    """A store: its record, its journal's lines by number, whether something holds appliers off, and who has it.

    Attributes:
        restores: how many it has been through.
    """

    value: int = 0
    restores: int = 0
    journal: frozenset[int] = frozenset()
    hold: bool = False
    noted: bool = False
    #: Taken by the restore's open transaction: its tables are locked, and its fence is closed.
    locked: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Applier:
    """An applier: its next step, the lines it took and of whom, and what it has read.

    Attributes:
        restores: how many its target had been through when it took the lines.
    """

    step: str = "take"
    restores: int = 0
    source: Side = "flat"
    taken: frozenset[int] = frozenset()
    read: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class State:
    """Everything.

    Attributes:
        behind: whether the hierarchical store was behind at the checkpoint, and the flat journal has the line.
        apart: whether it rules by now all the same; what was not written since stays apart until somebody decides.
        ruling: the store that rules; ``orders`` are those that are to, one after another.
        refusing: whether the second store cannot be swapped, for as long as somebody uses its tables; ``for_good``.
        cancelled: whether the run was ended by an order; ``may_cancel`` that one is still to come.
        truth: the value that both stores have to hold at the end; ``since`` a store was swapped.
    """

    flat: Store
    hier: Store
    behind: bool = True
    apart: bool = False
    ruling: Side = "flat"
    orders: tuple[Side, ...] = ()
    writes: int = 1
    written: int = 1
    lines: int = 10
    appliers: tuple[Applier, ...] = (Applier(),)
    step: str = "begin"
    order: tuple[Side, ...] = ()
    refusing: bool = False
    for_good: bool = False
    may_cancel: bool = False
    cancelled: bool = False
    truth: int = 0
    since: bool = False
    kills: int = 0


_put = dataclasses.replace


def explore(start: State, rules: Rules, *, first: bool = False) -> tuple[int, list[State]]:
    """Return how many states can be reached, and those that are wrong; ``first`` stops at one of these."""

    def following(state: State) -> list[State]:
        return [
            *_writer(state), *_appliers(state, rules), *_switch(state, rules), *_restore(state, rules), *_others(state),
        ]  # fmt: skip

    def wrong(state: State, rests: bool) -> bool:
        return rests and not _right(state)

    return interleavings.walk(start, following, lambda state: _kills(state, rules), wrong, first=first)


def _right(state: State) -> bool:
    if state.step != "end" or state.writes or state.orders:
        return False
    if state.apart and state.truth == THEN:
        return (state.flat.value, state.hier.value) == (THEN, THEN - 1) and not state.hier.journal
    alike = state.flat.value == state.hier.value == state.truth
    if state.apart:
        return alike and not state.hier.journal
    return alike and not state.flat.journal and not state.hier.hold and not state.flat.hold


def _store(state: State, side: Side) -> Store:
    return state.flat if side == "flat" else state.hier


def _with(state: State, side: Side, **more: object) -> State:
    return _put(state, **{side: _put(_store(state, side), **more)})


def _other(side: Side) -> Side:
    return "hier" if side == "flat" else "flat"


def _writer(state: State) -> Iterator[State]:
    """One transaction of the application, which waits where the tables are being replaced."""
    side = state.ruling
    store = _store(state, side)
    if state.writes and not store.locked:
        value = state.written + 1
        moved = _with(state, side, value=value, journal=store.journal | {state.lines})
        yield _put(moved, writes=state.writes - 1, written=value, lines=state.lines + 1, truth=value)


def _appliers(state: State, rules: Rules) -> Iterator[State]:
    for place in range(len(state.appliers)):
        if (moved := _applier(state, place, rules)) is not None:
            yield moved


def _applier(state: State, place: int, rules: Rules) -> State | None:
    one = state.appliers[place]

    def goes(applier: Applier, moved: State = state) -> State:
        return _put(moved, appliers=(*state.appliers[:place], applier, *state.appliers[place + 1 :]))

    if one.step == "take":
        lines = _store(state, state.ruling).journal
        held = _store(state, _other(state.ruling)).hold
        # It would be refused at the fence again and again, which leads nowhere new.
        restores = _store(state, _other(state.ruling)).restores
        taken = Applier(step="fence", source=state.ruling, taken=lines, restores=restores)
        return goes(taken) if lines and not held else None
    target = _other(one.source)
    store = _store(state, target)
    if one.step == "fence":
        if store.locked and rules.waits_for_appliers:
            return None
        late = rules.asks_whether_it_was_restored and store.restores != one.restores
        return goes(Applier() if target == state.ruling or store.hold or late else _put(one, step="read"))
    if one.step == "read":
        # It has the key until it commits. A source whose tables are being replaced is waited for.
        source = _store(state, one.source)
        taken = any(other.step == "commit" for other in state.appliers)
        return None if source.locked or taken else goes(_put(one, step="commit", read=source.value))
    if one.step == "commit":
        return None if store.locked else goes(_put(one, step="prune"), _with(state, target, value=one.read))
    source = _store(state, one.source)
    return goes(Applier(), _with(state, one.source, journal=source.journal - one.taken))


def _applying(state: State, side: Side) -> bool:
    return any(_other(one.source) == side and one.step in ("read", "commit") for one in state.appliers)


def _switch(state: State, rules: Rules) -> Iterator[State]:
    """Both stores change roles: nobody is in flight, all is applied, and no restore is under way in either."""
    if not state.orders:
        return
    left, entered = state.ruling, _other(state.ruling)
    if _applying(state, entered) or state.flat.locked or state.hier.locked:
        return
    if _store(state, entered).hold and (rules.switch_asks_for_the_hold or _store(state, left).journal):
        return
    moved = state
    if _store(state, left).journal:
        moved = _with(state, entered, value=_store(state, left).value)
    moved = _with(moved, left, journal=frozenset())
    yield _put(moved, ruling=entered, orders=state.orders[1:])


def _others(state: State) -> Iterator[State]:
    """Who uses the second store's tables lets go of them; somebody may cancel the run."""
    if state.refusing and not state.for_good:
        yield _put(state, refusing=False)
    if state.may_cancel:
        yield _put(state, may_cancel=False, cancelled=True)


def _swapped(state: State) -> list[Side]:
    sides: list[Side] = ["flat", "hier"]
    return [side for side in sides if _store(state, side).noted]


def _restore(state: State, rules: Rules) -> Iterator[State]:
    if state.step == "begin":
        done = _swapped(state)
        if state.cancelled and not (done and rules.goes_on_once_one_is_swapped):
            # Whoever clears up lets appliers in again.
            yield _put(_with(_with(state, "flat", hold=False), "hier", hold=False), step="end")
        elif len(done) == 2:
            yield _put(state, step="end")
        else:
            first = state.ruling if rules.ruling_store_first else _other(state.ruling)
            both: tuple[Side, ...] = (first, _other(first))
            order = tuple(side for side in both if side not in done)
            moved = state
            if not done and rules.holds_the_other:
                moved = _with(state, order[1], hold=True)
            yield _put(moved, step="lock", order=order)
    elif state.step == "lock":
        if state.ruling != (state.order[0] if rules.ruling_store_first else _other(state.order[0])) and (
            len(state.order) == 2
        ):
            yield _put(state, step="begin")  # a switch came in between
            return
        ready = state.order if rules.both_ready_before_the_first_commits else state.order[:1]
        if rules.waits_for_appliers and any(_applying(state, side) for side in ready):
            return
        if state.refusing and len(ready) == len(state.order):
            if state.cancelled:
                yield _put(state, step="begin")
            return
        moved = state
        for side in ready:
            moved = _with(moved, side, locked=True)
        yield _put(moved, step="commit")
    elif state.step == "commit":
        side = state.order[0]
        store = _store(state, side)
        if not store.locked:
            if (rules.waits_for_appliers and _applying(state, side)) or state.refusing:
                return
            yield _with(state, side, locked=True)
            return
        yield _commit(state, side, rules)


def _commit(state: State, side: Side, rules: Rules) -> State:
    """Commit one store's swap: its tables, its journal, its note, and the end of what holds appliers off."""
    lines = frozenset[int]()
    number = state.lines
    if side == "flat" and state.behind and rules.restores_the_journal:
        lines = frozenset({number if rules.restored_lines_are_new else LINE_THEN})
    value = THEN - 1 if side == "hier" and state.behind else THEN
    moved = _with(
        state, side, value=value, journal=lines, hold=False, locked=False, noted=rules.notes_with_the_swap,
        restores=_store(state, side).restores + 1,
    )  # fmt: skip
    moved = _put(moved, lines=number + 1, order=state.order[1:], since=True)
    if not state.since:
        moved = _put(moved, truth=THEN)
    if not moved.order:
        return _put(moved, step="end")
    return moved


def _kills(state: State, rules: Rules) -> Iterator[State]:
    """The worker is killed: what it has not committed is undone, and another takes the batch."""
    if not state.kills:
        return
    if state.step not in ("begin", "end"):
        freed = _put(state, step="begin", order=(), kills=state.kills - 1)
        for side in ("flat", "hier"):
            freed = _with(freed, side, locked=False)
            if not rules.hold_outlives_a_crash:
                freed = _with(freed, side, hold=False)
        yield freed
    for place, one in enumerate(state.appliers):
        if one.step != "take":
            appliers = (*state.appliers[:place], Applier(), *state.appliers[place + 1 :])
            yield _put(state, appliers=appliers, kills=state.kills - 1)
