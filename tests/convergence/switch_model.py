"""A model of one record and the switches between its two stores, small enough to try every interleaving of it.

Writers that aim at either store, appliers of the ruling store's journal, and a switch, each of which may be killed
or stand still before any step. PostgreSQL's part: a lock that is shared or exclusive; a mode that is read as it is at
this instant. The truth is what was acknowledged last.

``explore`` returns the states that are wrong: at rest with a store that rules and does not hold the truth, or with a
follower that differs, or stuck.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Literal

from tests.convergence import interleavings

Side = Literal["flat", "hier"]
Mode = Literal["flat-only", "dual-write", "hierarchical-only", "closed"]
#: The modes of a store in which the application may write it.
_TAKES = {"flat": ("flat-only", "dual-write"), "hier": ("hierarchical-only",)}
#: The modes of a store in which nobody applies to it.
_RULES_ITSELF = {"flat": ("flat-only", "dual-write"), "hier": ("hierarchical-only", "closed")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
    """The lines of the switch that can be left out, to see that the model notices."""

    barrier_waits_for_writers: bool = True
    writer_asks_behind_the_barrier: bool = True
    drains_behind_the_barrier: bool = True
    closes_before_it_opens: bool = True
    applier_holds_the_fence: bool = True
    applier_asks_who_rules: bool = True
    switch_closes_the_fence: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Store:
    """A store: its record's value, its journal's lines, its mode; whether its barrier and its fence are closed."""

    value: int = 0
    journal: frozenset[int] = frozenset()
    mode: Mode
    barrier: bool = False
    fence: bool = False
    key: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Writer:
    """A writer of the application: how many writes it has left, its next step, and where."""

    left: int
    step: str = "aim"
    side: Side = "flat"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Applier:
    """An applier; the switch has one of its own behind the barrier."""

    step: str = "take"
    source: Side = "flat"
    taken: frozenset[int] = frozenset()
    read: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class State:
    """Everything; ``orders`` are the modes that are still to be switched to, the first of them under way."""

    flat: Store
    hier: Store
    orders: tuple[Mode, ...]
    writers: tuple[Writer, ...]
    appliers: tuple[Applier, ...]
    step: str = "begin"
    drain: Applier | None = None
    truth: int = 0
    written: int = 0
    kills: int = 0


Change = Callable[..., State]
_put = dataclasses.replace


def explore(start: State, rules: Rules, *, first: bool = False) -> tuple[int, list[State]]:
    """Return how many states can be reached, and those that are wrong; ``first`` stops at one of these."""

    def following(state: State) -> list[State]:
        return [*_writers(state, rules), *_appliers(state, rules), *_switch(state, rules)]

    return interleavings.walk(start, following, _kills, lambda state, rests: rests and not _right(state), first=first)


def _right(state: State) -> bool:
    if state.orders or any(one.left for one in state.writers):
        return False
    if state.hier.mode == "hierarchical-only":
        return state.truth == state.hier.value == state.flat.value and not state.hier.journal
    follows = state.flat.mode == "flat-only" or (state.hier.value == state.truth and not state.flat.journal)
    return state.truth == state.flat.value and follows


def _store(state: State, side: Side) -> Store:
    return state.flat if side == "flat" else state.hier


def _with(state: State, side: Side, **more: object) -> State:
    return _put(state, **{side: _put(_store(state, side), **more)})


def _other(side: Side) -> Side:
    return "hier" if side == "flat" else "flat"


def _writers(state: State, rules: Rules) -> Iterator[State]:
    for place, one in enumerate(state.writers):
        for side in ("flat", "hier") if one.step == "aim" and one.left else (one.side,):
            changed = _writer(state, one, side, rules)  # type: ignore[arg-type]
            if changed is not None:
                moved, writer = changed
                yield _put(moved, writers=(*state.writers[:place], writer, *state.writers[place + 1 :]))


def _writer(state: State, one: Writer, side: Side, rules: Rules) -> tuple[State, Writer] | None:
    store = _store(state, side)
    takes = store.mode in _TAKES[side]
    if one.step == "aim":
        # What it knows of the mode may be as old as it likes: it may aim at either.
        if not one.left or (not takes and rules.writer_asks_behind_the_barrier):
            return None
        if not rules.writer_asks_behind_the_barrier:
            return (state, _put(one, step="lock", side=side)) if takes else None
        return state, _put(one, step="lock", side=side)
    if one.step == "lock":
        return None if store.barrier else (state, _put(one, step="ask"))
    if one.step == "ask":
        refused = rules.writer_asks_behind_the_barrier and not takes
        return state, _put(one, step="aim" if refused else "commit")
    value = state.written + 1
    moved = _with(state, side, value=value, journal=store.journal | {value})
    return _put(moved, truth=value, written=value), Writer(left=one.left - 1)


def _in_flight(state: State, side: Side) -> bool:
    return any(one.side == side and one.step in ("ask", "commit") for one in state.writers)


def _appliers(state: State, rules: Rules) -> Iterator[State]:
    for place, one in enumerate(state.appliers):
        changed = _applier(state, one, f"applier {place}", rules)
        if changed is not None:
            moved, applier = changed
            yield _put(moved, appliers=(*state.appliers[:place], applier, *state.appliers[place + 1 :]))


def _applier(state: State, one: Applier, name: str, rules: Rules) -> tuple[State, Applier] | None:
    if one.step == "take":
        if state.hier.mode not in ("dual-write", "hierarchical-only"):
            return None
        side: Side = "hier" if state.hier.mode == "hierarchical-only" else "flat"
        lines = _store(state, side).journal
        return (state, Applier(step="fence", source=side, taken=lines)) if lines else None
    target = _other(one.source)
    store = _store(state, target)
    if one.step == "fence":
        if store.fence:
            return None
        if rules.applier_asks_who_rules and store.mode in _RULES_ITSELF[target]:
            return state, Applier()
        return state, _put(one, step="lock")
    if one.step == "lock":
        return None if store.key else (_with(state, target, key=name), _put(one, step="read"))
    if one.step == "read":
        return state, _put(one, step="commit", read=_store(state, one.source).value)
    if one.step == "commit":
        return _with(state, target, value=one.read, key=None), _put(one, step="prune")
    journal = _store(state, one.source).journal - one.taken
    return _with(state, one.source, journal=journal), Applier()


def _applying(state: State, side: Side, rules: Rules) -> bool:
    mine = [one for one in state.appliers if _other(one.source) == side]
    return rules.applier_holds_the_fence and any(one.step in ("lock", "read", "commit") for one in mine)


def _switch(state: State, rules: Rules) -> Iterator[State]:
    if not state.orders:
        return
    order = state.orders[0]
    left: Side = "hier" if order == "flat-only" else "flat"
    entered = _other(left)
    if state.step == "begin":
        if order == "dual-write":
            # What was written since the way back stands in the journal, which was filled all the time.
            yield _put(_with(state, "hier", mode=order), step="enable")
        elif order == "hierarchical-only" and state.hier.mode == order:
            yield _put(_with(state, "flat", mode=order), orders=state.orders[1:])
        elif order == "flat-only" and state.hier.mode != "hierarchical-only":
            yield _put(state, step="fence of the return")
        else:
            yield _put(state, step="barrier" if rules.drains_behind_the_barrier else "drain")
    elif state.step == "enable":
        yield _put(_with(state, "flat", mode=order), orders=state.orders[1:], step="begin")
    elif state.step == "fence of the return":
        if not _applying(state, "flat", rules):
            yield _put(
                _with(_with(state, "hier", mode=order), "flat", mode=order), orders=state.orders[1:], step="begin"
            )
    elif state.step == "barrier":
        if not (rules.barrier_waits_for_writers and _in_flight(state, left)):
            following = "drain" if rules.drains_behind_the_barrier else "fence"
            yield _put(_with(state, left, barrier=True), step=following)
    elif state.step == "drain":
        yield from _drain(state, left, entered, rules)
    elif state.step == "fence":
        if not (rules.switch_closes_the_fence and _applying(state, entered, rules)):
            closed = _with(state, entered, fence=rules.switch_closes_the_fence)
            yield _put(closed, step="close" if rules.closes_before_it_opens else "open")
    elif state.step == "close":
        yield _put(_with(state, left, mode="closed"), step="open" if rules.closes_before_it_opens else "end")
    elif state.step == "open":
        following = "end" if rules.closes_before_it_opens else "close"
        yield _put(_with(state, entered, mode=order), step=following)
    elif state.step == "end":
        ended = _with(_with(state, entered, fence=False), left, mode=order, barrier=False)
        yield _put(ended, orders=state.orders[1:], step="begin")


def _drain(state: State, left: Side, entered: Side, rules: Rules) -> Iterator[State]:
    """Apply the journal of the side that is left; it holds its locks as any applier does."""
    if state.drain is None:
        lines = _store(state, left).journal
        if lines:
            yield _put(state, drain=Applier(step="lock", source=left, taken=lines))
        else:
            yield _put(state, step="fence" if rules.drains_behind_the_barrier else "barrier")
        return
    changed = _applier(state, state.drain, "switch", rules)
    if changed is not None:
        moved, applier = changed
        yield _put(moved, drain=None if applier.step == "take" else applier)


def _kills(state: State) -> Iterator[State]:
    """A process that is killed loses its locks and what it has not committed; a switch is begun again."""
    if not state.kills:
        return
    fewer = _put(state, kills=state.kills - 1)
    if state.step != "begin":
        freed = fewer
        for side in ("flat", "hier"):
            key = _store(state, side).key
            freed = _with(freed, side, barrier=False, fence=False, key=None if key == "switch" else key)
        yield _put(freed, step="begin", drain=None)
    for place, one in enumerate(state.appliers):
        if one.step != "take":
            target, name = _other(one.source), f"applier {place}"
            key = _store(state, target).key
            freed = _with(fewer, target, key=None if key == name else key)
            yield _put(freed, appliers=(*state.appliers[:place], Applier(), *state.appliers[place + 1 :]))
