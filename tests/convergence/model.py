"""A model of one record between both stores, small enough to try every interleaving of it.

It has the steps that docs/correctness.md argues about, each atomic as the database makes it: a writer
of the source whose triggers journal, a copier that reads long before it writes, and appliers (the
follower's lanes, a client's dual write and a repair are all this). Every process but the writer may
be killed before any step. PostgreSQL's part is modelled as: locks that block, uncommitted rows whose
unique key blocks other writers of the key but that a delete or a read does not see.

``explore`` walks all reachable states, and returns the ones that are wrong: at rest with stores that
differ, or stuck.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from tests.convergence import interleavings

#: A record's value: its version. Deleting and inserting again starts a new, lower version.
Value = int | None
COPIER = "copier"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
    """The lines of the protocol that can be left out, to see that the model notices."""

    copier_looks_for_marks: bool = True
    applier_marks_first: bool = True
    delete_waits_for_copies: bool = True
    lock_before_read: bool = True
    prune_after_apply: bool = True


@dataclasses.dataclass(frozen=True)
class Applier:
    """An applier: the next step, the journal entries it took, what it has read."""

    step: str = "take"
    taken: frozenset[int] = frozenset()
    read: Value = None
    rounds: int = 0


@dataclasses.dataclass(frozen=True)
class State:
    """Everything; ``uncommitted`` is the one writer that holds the key's row, with what it wrote."""

    source: Value
    ops: tuple[str, ...]
    written: int = 0
    journal: frozenset[int] = frozenset()
    target: Value = None
    uncommitted: tuple[str, Value] | None = None
    marked: bool = False  # since the copier began to read
    key_lock: str | None = None
    copy_shared: bool = False
    copier: str = "read"
    copier_read: Value = None
    appliers: tuple[Applier, ...] = ()
    kills: int = 0


def explore(start: State, rules: Rules, *, first: bool = False) -> tuple[int, list[State]]:
    """Return how many states can be reached, and those that are wrong; ``first`` stops at one of these."""

    def following(state: State) -> list[State]:
        return [*_writer(state), *_copier(state, rules), *_appliers(state, rules)]

    def wrong(state: State, rests: bool) -> bool:
        return rests and (state.target != state.source or not _at_rest(state))

    return interleavings.walk(start, following, _kills, wrong, first=first)


def _at_rest(state: State) -> bool:
    idle = all(one.step in ("take", "ended") for one in state.appliers)
    return not state.ops and state.copier == "ended" and not state.journal and idle


def _writer(state: State) -> Iterator[State]:
    if not state.ops:
        return
    op, *rest = state.ops
    value: Value
    if op == "delete":
        value = None
    elif op == "insert":
        value = 1
    else:
        value = (state.source or 0) + 1 if op == "update" else (state.source or 0)
    # The row and its journal entry become visible together: one transaction of the application.
    yield dataclasses.replace(
        state,
        source=value if op != "touch" else (state.source or 0) + 100,
        ops=tuple(rest),
        written=state.written + 1,
        journal=state.journal | {state.written},
    )


def _copier(state: State, rules: Rules) -> Iterator[State]:
    if state.copier == "read":
        # The claim, and then the read: a mark counts when it is made after the claim.
        yield dataclasses.replace(state, copier="share", copier_read=state.source, marked=False)
    elif state.copier == "share":
        yield dataclasses.replace(state, copier="write", copy_shared=True)
    elif state.copier == "write" and state.uncommitted is None:
        newer = state.target is None or (state.copier_read or 0) > state.target
        mine = (COPIER, state.copier_read) if state.copier_read is not None and newer else None
        yield dataclasses.replace(state, copier="look", uncommitted=mine)
    elif state.copier == "look":
        leave = state.marked and rules.copier_looks_for_marks
        held = state.uncommitted if not leave else None
        yield dataclasses.replace(
            state, copier="commit", uncommitted=held if state.uncommitted and state.uncommitted[0] == COPIER
            else state.uncommitted,
        )  # fmt: skip
    elif state.copier == "commit":
        mine = state.uncommitted is not None and state.uncommitted[0] == COPIER
        yield dataclasses.replace(
            state,
            copier="ended",
            copy_shared=False,
            target=state.uncommitted[1] if mine and state.uncommitted else state.target,
            uncommitted=None if mine else state.uncommitted,
        )


def _appliers(state: State, rules: Rules) -> Iterator[State]:
    for place, one in enumerate(state.appliers):
        for changed, applier in _applier(state, one, f"applier {place}", rules):
            appliers = (*state.appliers[:place], applier, *state.appliers[place + 1 :])
            yield dataclasses.replace(changed, appliers=appliers)


def _applier(state: State, one: Applier, name: str, rules: Rules) -> Iterator[tuple[State, Applier]]:
    move = dataclasses.replace
    if one.step == "take":
        if state.journal:
            journal = state.journal if rules.prune_after_apply else frozenset()
            yield move(state, journal=journal), move(one, step="mark", taken=state.journal)
    elif one.step == "mark":
        yield move(state, marked=state.marked or rules.applier_marks_first), move(one, step="lock")
    elif one.step == "lock":
        if not rules.lock_before_read:
            yield state, move(one, step="write", read=state.source)
        elif state.key_lock is None:
            yield move(state, key_lock=name), move(one, step="read")
    elif one.step == "read":
        yield state, move(one, step="write", read=state.source)
    elif one.step == "write":
        if one.read is None:
            # A delete goes on in a second transaction; the first one ends here with its lock.
            lock = None if state.key_lock == name else state.key_lock
            yield move(state, key_lock=lock), move(one, step="wait for copies")
        elif state.uncommitted is None:
            yield move(state, uncommitted=(name, one.read)), move(one, step="commit")
    elif one.step == "wait for copies":
        # It has the copy lock for a moment, and lets it go: a copy that comes after that finds the mark.
        if not rules.delete_waits_for_copies or not state.copy_shared:
            yield state, move(one, step="lock again")
    elif one.step == "lock again":
        if state.key_lock is None:
            yield move(state, key_lock=name), move(one, step="read again")
    elif one.step == "read again":
        yield state, move(one, step="delete", read=state.source)
    elif one.step == "delete":
        if one.read is not None:
            if state.uncommitted is None:
                yield move(state, uncommitted=(name, one.read)), move(one, step="commit")
        elif state.target is None:
            # Nothing to see: an uncommitted row of another transaction does not stop a delete.
            yield state, move(one, step="commit")
        elif state.uncommitted is None:
            yield move(state, uncommitted=(name, None)), move(one, step="commit")
    elif one.step == "commit":
        mine = state.uncommitted is not None and state.uncommitted[0] == name
        yield (
            move(
                state,
                target=state.uncommitted[1] if mine and state.uncommitted else state.target,
                uncommitted=None if mine else state.uncommitted,
                key_lock=None if state.key_lock == name else state.key_lock,
            ),
            move(one, step="prune"),
        )
    elif one.step == "prune":
        yield move(state, journal=state.journal - one.taken), Applier()


def _kills(state: State) -> list[State]:
    """A process that is killed loses what it has not committed, and its locks; it starts again."""
    if not state.kills:
        return []
    killed = []
    if state.copier not in ("read", "ended"):
        mine = state.uncommitted is not None and state.uncommitted[0] == COPIER
        killed.append(
            dataclasses.replace(
                state,
                copier="read",
                copy_shared=False,
                uncommitted=None if mine else state.uncommitted,
                kills=state.kills - 1,
            )
        )
    for place, one in enumerate(state.appliers):
        if one.step == "take":
            continue
        name = f"applier {place}"
        mine = state.uncommitted is not None and state.uncommitted[0] == name
        killed.append(
            dataclasses.replace(
                state,
                uncommitted=None if mine else state.uncommitted,
                key_lock=None if state.key_lock == name else state.key_lock,
                appliers=(*state.appliers[:place], Applier(), *state.appliers[place + 1 :]),
                kills=state.kills - 1,
            )
        )
    return killed
