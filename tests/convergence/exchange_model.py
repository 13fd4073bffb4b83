"""A model of unique values that pass between records, small enough to try every interleaving of it.

Several keys, a writer that moves values between them, and appliers that take the keys of their lane and bring
them over as ``hal9mig/engine/transfer/exchange.py`` does. PostgreSQL's part: a value that another transaction
has written and not committed makes who needs it wait; committed, it is a violation; a circle of two who wait is
broken by ending one of them. Keys are numbers, values too, and each value belongs to one key at the source.

``explore`` returns the states that are wrong: a record in quarantine, which
none deserves, at rest with stores that differ, or stuck.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping

from tests.convergence import interleavings

#: What each key holds, by its number; a key that is not there has no record.
Rows = tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
    """The lines of the exchange that can be left out, to see that the model notices."""

    reads_all_anew: bool = True
    looks_again: bool = True
    leaves_what_is_not_needed: bool = True
    locks_before_it_reads_anew: bool = True
    begins_anew_after_a_circle: bool = True
    #: How often the keys may grow before holders are only taken out.
    growths: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Applier:
    """An applier: its next step, its keys, what it has read, and what it has written and not committed.

    ``own`` are the keys it took, ``wanted`` those it locks from the beginning; ``gone``, ``out`` and ``put`` the rows
    that are no more at the source, that it has deleted, and that it has written; ``held`` is for quarantine.
    """

    lane: int
    step: str = "take"
    taken: frozenset[int] = frozenset()
    own: frozenset[int] = frozenset()
    wanted: frozenset[int] = frozenset()
    locked: frozenset[int] = frozenset()
    needed: frozenset[int] = frozenset()
    read: Rows = ()
    gone: frozenset[int] = frozenset()
    out: frozenset[int] = frozenset()
    put: Rows = ()
    held: frozenset[int] = frozenset()
    apart: frozenset[int] = frozenset()
    grown: int = 0
    calm: bool = False
    merging: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class State:
    """Everything; the journal's lines are pairs of their number and the key."""

    source: Rows
    target: Rows
    ops: tuple[Rows, ...]
    written: int = 0
    journal: frozenset[tuple[int, int]] = frozenset()
    quarantine: frozenset[int] = frozenset()
    appliers: tuple[Applier, ...] = ()
    kills: int = 0


#: Returns the state in which an applier has become another.
Goes = Callable[..., State]


def explore(start: State, rules: Rules, *, first: bool = False) -> tuple[int, list[State]]:
    """Return how many states can be reached, and those that are wrong; ``first`` stops at one of these."""

    def following(state: State) -> list[State]:
        return [*_writer(state), *_appliers(state, rules)] or [*_circles(state, rules)]

    def wrong(state: State, rests: bool) -> bool:
        unequal = rests and (state.target != state.source or bool(state.ops or state.journal))
        return unequal or bool(state.quarantine)

    return interleavings.walk(start, following, _kills, wrong, first=first)


def _rows(found: Mapping[int, int]) -> Rows:
    return tuple(sorted(found.items()))


def _writer(state: State) -> Iterator[State]:
    if not state.ops:
        return
    now = dict(state.source)
    after = dict(state.ops[0])
    changed = sorted(key for key in {*now, *after} if now.get(key) != after.get(key))
    lines = {(state.written + at, key) for at, key in enumerate(changed)}
    yield dataclasses.replace(
        state, source=state.ops[0], ops=state.ops[1:], written=state.written + len(changed),
        journal=state.journal | lines,
    )  # fmt: skip


def _appliers(state: State, rules: Rules) -> Iterator[State]:
    for place in range(len(state.appliers)):
        if (moved := _applier(state, place, rules)) is not None:
            yield moved


def _applier(state: State, place: int, rules: Rules) -> State | None:
    one = state.appliers[place]
    others = [other for at, other in enumerate(state.appliers) if at != place]

    def goes(applier: Applier, **more: object) -> State:
        appliers = (*state.appliers[:place], applier, *state.appliers[place + 1 :])
        return dataclasses.replace(state, appliers=appliers, **more)  # type: ignore[arg-type]

    def free(key: int) -> bool:
        return all(key not in other.locked for other in others)

    move = dataclasses.replace
    if one.step == "take":
        lines = {(line, key) for line, key in state.journal if key % len(state.appliers) == one.lane}
        if not lines:
            return None
        keys = frozenset(key for _, key in lines)
        return goes(move(one, step="lock", taken=frozenset(line for line, _ in lines), own=keys, wanted=keys))
    if one.step == "lock":
        missing = sorted(one.wanted - one.locked)
        if not missing:
            return goes(move(one, step="read"))
        return goes(move(one, locked=one.locked | {missing[0]})) if free(missing[0]) else None
    if one.step == "read":
        read = {key: value for key, value in state.source if key in one.wanted}
        gone = one.wanted - set(read)
        return goes(move(one, step="put", read=_rows(read), gone=gone, out=gone, put=(), merging=True))
    if one.step == "put":
        return _put(state, one, others, rules, goes)
    if one.step == "look":
        return _look(state, one, rules, goes)
    if one.step == "lock holders":
        missing = sorted(one.needed - one.locked) if rules.locks_before_it_reads_anew else []
        if missing:
            return goes(move(one, locked=one.locked | {missing[0]})) if free(missing[0]) else None
        return goes(move(one, step="read again"))
    if one.step == "read again":
        apart = one.apart
        if one.grown >= rules.growths:
            apart |= one.needed & {key for _, key in state.journal}
        keys = frozenset(key for key, _ in one.read) | (one.needed - apart)
        fresh = {key: value for key, value in state.source if key in keys}
        if not rules.reads_all_anew:
            fresh |= {key: value for key, value in one.read if key not in one.needed}
        calm = not one.needed and _rows(fresh) == one.read
        out = one.gone | (keys - set(fresh))
        return goes(move(one, step="look", read=_rows(fresh), calm=calm, gone=out, out=out | set(fresh), apart=apart))
    if one.step == "commit":
        after = {key: value for key, value in state.target if key not in one.out} | dict(one.put)
        held = (state.quarantine - {key for key, _ in one.put} - (one.out - one.held)) | one.held
        done = move(one, step="prune", locked=frozenset(), out=frozenset(), put=())
        return goes(done, target=_rows({k: v for k, v in after.items() if k not in one.held}), quarantine=held)
    if one.step == "prune":
        journal = frozenset(line for line in state.journal if line[0] not in one.taken)
        return goes(Applier(lane=one.lane), journal=journal)
    raise AssertionError(one.step)


def _put(state: State, one: Applier, others: list[Applier], rules: Rules, goes: Goes) -> State | None:
    """Write the next row: it waits for who has its value uncommitted, and meets who has it committed."""
    move = dataclasses.replace
    there = {key for key, _ in one.put}
    left = [(key, value) for key, value in one.read if key not in there and key not in one.held]
    if not left:
        return goes(move(one, step="commit"))
    key, value = left[0]
    for other in others:
        theirs = {row for row, had in state.target if had == value and row in other.out}
        if theirs or any(had == value for _, had in other.put):
            return None
    taken = [row for row, had in state.target if had == value and row != key and row not in one.out]
    mine = [row for row, had in one.put if had == value]
    if not taken and not mine:
        return goes(move(one, put=_rows(dict(one.put) | {key: value}), out=one.out | {key}))
    if one.merging:
        # The statement is undone, and the exchange begins.
        return goes(move(one, step="look", put=(), out=one.gone | {row for row, _ in one.read}, merging=False))
    if one.calm or not rules.looks_again:
        return goes(move(one, held=one.held | {key}))
    return goes(move(one, step="read again", put=(), needed=frozenset()))


def _look(state: State, one: Applier, rules: Rules, goes: Goes) -> State:
    """Look for the holders of the values that are needed, among what is committed."""
    move = dataclasses.replace
    values = {value for _, value in one.read}
    found = frozenset(key for key, had in state.target if had in values and key not in one.out)
    out = one.out | (found & one.apart if rules.leaves_what_is_not_needed else one.apart)
    needed = found - one.apart
    if not needed:
        return goes(move(one, step="put", out=out, needed=needed))
    if not needed <= one.locked and one.grown < rules.growths:
        anew = Applier(lane=one.lane, step="lock", taken=one.taken, own=one.own, wanted=one.wanted | needed)
        return goes(move(anew, grown=one.grown + 1))
    return goes(move(one, step="lock holders", needed=needed))


def _circles(state: State, rules: Rules) -> Iterator[State]:
    """Nobody can go on: the server ends one of those who wait, which begins anew with its keys."""
    for place, one in enumerate(state.appliers):
        if one.step not in ("take",):
            anew = Applier(lane=one.lane, step="lock", taken=one.taken, own=one.own, wanted=one.wanted, grown=one.grown)
            if not rules.begins_anew_after_a_circle:
                anew = Applier(lane=one.lane, step="prune", taken=one.taken)
            yield dataclasses.replace(state, appliers=(*state.appliers[:place], anew, *state.appliers[place + 1 :]))


def _kills(state: State) -> Iterator[State]:
    """An applier that is killed loses what it has not committed, and its locks."""
    if not state.kills:
        return
    for place, one in enumerate(state.appliers):
        if one.step != "take":
            appliers = (*state.appliers[:place], Applier(lane=one.lane), *state.appliers[place + 1 :])
            yield dataclasses.replace(state, appliers=appliers, kills=state.kills - 1)
